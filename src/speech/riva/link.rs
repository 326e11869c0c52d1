//! Whether the server is there, found out once for all legs. Who follows it tells of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tonic::Code;

use super::{Inner, status};
use crate::telemetry::metric;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is known of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RivaState {
    /// Nobody has tried yet.
    #[default]
    Untried,
    /// It answers.
    Up,
    /// It does not, or lets nobody in; why.
    Down(String),
}

#[derive(Default)]
pub(super) struct Link {
    state: watch::Sender<RivaState>,
    /// Somebody is looking for it.
    is_sought: AtomicBool,
}

impl Link {
    pub(super) fn watch(&self) -> watch::Receiver<RivaState> {
        self.state.subscribe()
    }

    /// Until something is known, it is believed in.
    pub(super) fn is_up(&self) -> bool {
        !matches!(*self.state.borrow(), RivaState::Down(_))
    }

    /// It has answered.
    pub(super) fn up(&self) {
        let is_news = self.state.send_if_modified(|state| {
            let is_news = *state != RivaState::Up;
            *state = RivaState::Up;
            is_news
        });
        if is_news {
            metric::ASR_REMOTE_UP.set(1.0);
        }
    }

    fn down(&self, reason: String) {
        metric::ASR_REMOTE_UP.set(0.0);
        tracing::debug!(reason, "Riva is out of reach");
        self.state.send_if_modified(|state| {
            let now = RivaState::Down(reason);
            let is_news = *state != now;
            *state = now;
            is_news
        });
    }
}

impl Inner {
    /// It was not there when somebody wanted it.
    pub(super) fn missed(self: &Arc<Self>, reason: String) {
        self.link.down(reason);
        self.look_for();
    }

    /// Ask until it answers.
    pub(super) fn look_for(self: &Arc<Self>) {
        if self.link.is_sought.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(self);
        self.runtime.spawn(async move {
            let mut pause = FIRST_PAUSE;
            // The client may go meanwhile: then nobody needs to know.
            while let Some(inner) = inner.upgrade() {
                match inner.ask().await {
                    // One that has no such method is there as well: its streams will tell.
                    Ok(_) => return inner.found(),
                    Err(refusal) if refusal.code() == Code::Unimplemented => return inner.found(),
                    Err(refusal) => inner.link.down(status::in_words(&refusal, &inner.config)),
                }
                drop(inner);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    fn found(&self) {
        // In this order: whoever misses it from here on has it looked for again.
        self.link.is_sought.store(false, Ordering::Release);
        self.link.up();
    }
}
