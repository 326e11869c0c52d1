//! What no call owns any more is removed from Asterisk, however often that takes.

use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::adoption::Orphan;
use super::ids::ObjectKind;
use crate::asterisk::ari::{AriClient, AriError, HangupReason};
use crate::telemetry::metric;

/// Pause before those that could not be removed are tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// An Asterisk that refuses for minutes is asked twice a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Removes orphans until they are gone.
pub(super) struct Sweeper {
    ari: AriClient,
    tasks: TaskTracker,
    /// Of the present connection.
    over: Mutex<CancellationToken>,
}

impl Sweeper {
    pub(super) fn new(ari: AriClient, tasks: TaskTracker) -> Self {
        Self { ari, tasks, over: Mutex::default() }
    }

    /// Remove `orphans` in this order, each after the reply to the one before; those that cannot be, again after a pause.
    pub(super) fn remove(&self, orphans: Vec<Orphan>) {
        if orphans.is_empty() {
            return;
        }
        let (ari, over) = (self.ari.clone(), self.over.lock().clone());
        self.tasks.spawn(async move { over.run_until_cancelled(sweep(&ari, orphans)).await });
    }

    /// A connection ended or begins: what is left is found when it is compared.
    pub(super) fn give_up(&self) {
        std::mem::take(&mut *self.over.lock()).cancel();
    }

    /// The process ends: what is left is for the next one.
    pub(super) fn stop(&self) {
        self.over.lock().cancel();
    }
}

async fn sweep(ari: &AriClient, mut orphans: Vec<Orphan>) {
    let mut pause = FIRST_PAUSE;
    let mut is_first = true;
    loop {
        let mut left = Vec::new();
        for orphan in orphans {
            let (id, reason) = (&orphan.id, &orphan.reason);
            match remove_one(ari, &orphan).await {
                Ok(()) => {
                    tracing::info!(id, reason, "orphan removed");
                    metric::ORPHANS_REMOVED.add(1);
                    continue;
                }
                Err(error) if is_first => {
                    tracing::warn!(id, reason, %error, "orphan could not be removed; it is tried again");
                }
                Err(error) => tracing::debug!(id, %error, "orphan could still not be removed"),
            }
            left.push(orphan);
        }
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        (orphans, is_first) = (left, false);
    }
}

async fn remove_one(ari: &AriClient, orphan: &Orphan) -> Result<(), AriError> {
    match orphan.kind {
        ObjectKind::Channel => ari.hangup(&orphan.id, HangupReason::Normal).await,
        ObjectKind::Bridge => ari.delete_bridge(&orphan.id).await,
    }
}
