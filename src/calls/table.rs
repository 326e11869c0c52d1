//! Which call an id of Asterisk's belongs to, and how to reach that call's task.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::ids::{CallId, ObjectId};
use super::media::CallMedia;
use super::session::Message;

/// The running calls. Shared by the server and the calls' tasks; the lock is held for look-ups only.
#[derive(Default)]
pub(super) struct CallTable {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    calls: HashMap<CallId, UnboundedSender<Message>>,
    /// Main channels by id.
    claims: HashMap<String, CallId>,
    /// Of the calls that are left to the next process: to be dropped when the recorder has stopped.
    kept: Vec<CallMedia>,
}

impl CallTable {
    pub(super) fn insert(&self, call: CallId, channel: String, tx: UnboundedSender<Message>) {
        let mut inner = self.inner.lock();
        inner.claims.insert(channel, call.clone());
        inner.calls.insert(call, tx);
    }

    /// Events of `channel` are `call`'s from now on, those of its former main channel no longer.
    pub(super) fn claim(&self, channel: String, call: &CallId) {
        let mut inner = self.inner.lock();
        inner.claims.retain(|_, owner| owner != call);
        inner.claims.insert(channel, call.clone());
    }

    /// The call takes no events any more. Its main channel, if it was not forgotten before.
    pub(super) fn forget(&self, call: &CallId) -> Option<String> {
        let mut inner = self.inner.lock();
        inner.calls.remove(call);
        let claimed = inner.claims.iter().find(|(_, owner)| *owner == call).map(|(id, _)| id.clone())?;
        inner.claims.remove(&claimed);
        Some(claimed)
    }

    /// Keep the media of a call that its task leaves: dropping it would end the recording.
    pub(super) fn keep(&self, media: Option<CallMedia>) {
        self.inner.lock().kept.extend(media);
    }

    /// The call that the channel or bridge `id` belongs to: as its main channel, or as an object of ours.
    pub(super) fn owner(&self, id: &str) -> Option<CallId> {
        let inner = self.inner.lock();
        let claimed = inner.claims.get(id).cloned();
        claimed.or_else(|| ObjectId::parse(id).map(|o| o.call).filter(|c| inner.calls.contains_key(c)))
    }

    /// Hand `message` to the call. False if it does not run.
    pub(super) fn send(&self, call: &CallId, message: Message) -> bool {
        self.inner.lock().calls.get(call).is_some_and(|tx| tx.send(message).is_ok())
    }

    /// Hand a message to every call.
    pub(super) fn broadcast(&self, message: impl Fn() -> Message) {
        for tx in self.inner.lock().calls.values() {
            // A task that is just ending needs no news.
            let _ = tx.send(message());
        }
    }

    pub(super) fn running(&self) -> (BTreeSet<CallId>, BTreeSet<String>) {
        let inner = self.inner.lock();
        (inner.calls.keys().cloned().collect(), inner.claims.keys().cloned().collect())
    }

    pub(super) fn len(&self) -> usize {
        self.inner.lock().calls.len()
    }
}
