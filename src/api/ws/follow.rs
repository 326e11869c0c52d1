//! Where a subscriber's messages come from.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::close_code;
use serde_json::json;
use tokio::sync::watch;

use crate::api::auth::Principal;
use crate::api::state::AppState;
use crate::calls::directory::CallDirectory;
use crate::calls::event::ENVELOPE_VERSION;
use crate::calls::hub::{CallHead, EventHub, ReadError, StoredEvent};
use crate::clock;
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// A call that waits to be taken up is looked at this often: people do not notice, and a look costs no disk.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What there is to send now.
pub(super) enum Next {
    /// These messages; none if all were filtered out. There may be more at once.
    Messages(Vec<String>),
    /// Nothing until [`Follow::changed`].
    Wait,
    /// Nothing ever again on this connection: the WebSocket's close code, and the reason in words.
    End(u16, &'static str),
}

/// A cursor into events.
pub(super) trait Follow: Send + 'static {
    /// What comes after what was given before.
    fn next(&mut self) -> impl Future<Output = Next> + Send;
    /// Resolves when there may be more; may be dropped at any time.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// The log over all calls, filtered by tenant.
pub(super) struct AllCalls {
    hub: Arc<EventHub>,
    principal: Principal,
    after: u64,
    batch: usize,
    changed: watch::Receiver<u64>,
}

impl AllCalls {
    pub(super) fn new(state: &AppState, principal: Principal, after: u64) -> Self {
        let hub = Arc::clone(&state.hub);
        Self { changed: hub.changed(), hub, principal, after, batch: state.sockets.batch }
    }

    fn gap(&self, missed: u64) -> String {
        let mut gap =
            json!({ "v": ENVELOPE_VERSION, "type": "gap", "time": format!("{:.6}", clock::timestamp()) });
        // How much there is of other tenants is nothing that a tenant may count.
        if self.principal.tenant.is_none() {
            gap["missed"] = missed.into();
        }
        gap.to_string()
    }

    fn may_see(&self, event: &StoredEvent) -> bool {
        event.call_id.is_empty() || self.principal.may_see(&event.tenant)
    }
}

impl Follow for AllCalls {
    async fn next(&mut self) -> Next {
        // Seen before the log is read: what is published in between wakes the reader once more.
        self.changed.mark_unchanged();
        let batch = self.hub.since(self.after, self.batch);
        self.after = batch.next;
        let mut messages = Vec::with_capacity(batch.events.len() + 1);
        if batch.missed > 0 {
            metric::WS_DROPPED.add(batch.missed);
            messages.push(self.gap(batch.missed));
        }
        if batch.events.is_empty() && messages.is_empty() {
            return Next::Wait;
        }
        let visible = batch.events.iter().filter(|event| self.may_see(event));
        messages
            .extend(visible.map(|event| format!("{{\"position\":{},{}", event.position, &event.json[1..])));
        Next::Messages(messages)
    }

    async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// The stream of one call: no gaps, since the journal has what memory has not.
pub(super) struct OneCall {
    hub: Arc<EventHub>,
    directory: Arc<CallDirectory>,
    call_id: String,
    after: u64,
    batch: usize,
    /// `None` for a call that is over, or that an earlier process had and that is not taken up yet.
    head: Option<watch::Receiver<CallHead>>,
    /// When a call that nobody takes up is no longer waited for.
    patience: MediaInstant,
}

impl OneCall {
    pub(super) fn new(state: &AppState, call_id: String, after: u64) -> Self {
        Self {
            hub: Arc::clone(&state.hub),
            directory: Arc::clone(&state.directory),
            call_id,
            after,
            batch: state.sockets.batch,
            head: None,
            patience: clock::now() + state.sockets.taken_up_within,
        }
    }

    /// Whether an earlier process had it and this one has neither taken it up nor ended it. All such are in memory.
    fn is_cut_off(&self) -> bool {
        self.head.is_none() && self.directory.get_recent(&self.call_id).is_some_and(|call| !call.is_ended())
    }

    async fn read(&self) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        if let Some(events) = self.hub.recent_events(&self.call_id, self.after, self.batch) {
            return Ok(events);
        }
        let (hub, call_id, after, batch) =
            (Arc::clone(&self.hub), self.call_id.clone(), self.after, self.batch);
        let read = tokio::task::spawn_blocking(move || hub.call_events(&call_id, after, batch)).await;
        read.unwrap_or_else(|_| Err(ReadError::Unknown(self.call_id.clone())))
    }
}

impl Follow for OneCall {
    async fn next(&mut self) -> Next {
        // Before the read: what is over, or closed, now has nothing that the read does not find.
        let cut_off = self.is_cut_off();
        if self.head.is_none() {
            self.head = self.hub.call_changed(&self.call_id);
        }
        let live = self.head.as_mut().is_some_and(|head| !head.borrow_and_update().closed);
        match self.read().await {
            Ok(events) => match events.last() {
                Some(last) => {
                    self.after = last.seq;
                    Next::Messages(events.iter().map(|event| event.json.to_string()).collect())
                }
                None if live => Next::Wait,
                None if cut_off && clock::now() < self.patience => Next::Wait,
                None if cut_off => Next::End(close_code::AGAIN, "the call is not taken up yet: try again"),
                None => Next::End(close_code::NORMAL, "the call is over"),
            },
            Err(ReadError::Unknown(_)) => {
                Next::End(close_code::NORMAL, "the call is over and has no journal")
            }
            Err(error) => {
                tracing::warn!(call_id = self.call_id, %error, "a subscriber cannot be served");
                Next::End(close_code::ERROR, "the journal cannot be read")
            }
        }
    }

    async fn changed(&mut self) {
        match &mut self.head {
            // An error says that the stream has left memory: the next read tells.
            Some(head) => drop(head.changed().await),
            None => {
                while self.is_cut_off() && self.hub.call_changed(&self.call_id).is_none() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    if clock::now() >= self.patience {
                        return;
                    }
                }
            }
        }
    }
}
