//! The events of one call, in memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::EventKind;
use crate::calls::event::ENVELOPE_VERSION;

/// An event as kept: the envelope is serialised, what readers filter by is beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Place in the log over all calls; 0 for an event read from a journal.
    pub position: u64,
    /// Number within the call, from 1.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
    /// Whose call; empty for events of the node.
    pub tenant: Arc<str>,
    /// Which call; empty for events of the node.
    pub call_id: Arc<str>,
    /// The whole envelope, one line of JSON; see [`crate::calls::event::Envelope`].
    pub json: Arc<str>,
}

/// How far a call's stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallHead {
    /// Number of the newest event; 0 if there is none.
    pub last_seq: u64,
    /// No more will come.
    pub closed: bool,
}

/// One call's stream. Its events have numbers without holes; those in memory are the newest, and reach back at least
/// to the first that is not in the journal.
pub(super) struct Stream {
    tenant: Arc<str>,
    call_id: Arc<str>,
    /// `"tenant":"…","call_id":"…"`.
    identity: String,
    journal: Option<PathBuf>,
    state: Mutex<State>,
    head: watch::Sender<CallHead>,
}

struct State {
    /// Events kept in memory that the journal has as well.
    recent: usize,
    events: VecDeque<Arc<StoredEvent>>,
    last_seq: u64,
    /// Number of the last event in the journal.
    written: u64,
    /// The writer has been told that there is work.
    queued: bool,
    closed: bool,
}

/// Events that the writer is to append.
pub(super) struct Pending {
    pub(super) events: Vec<Arc<StoredEvent>>,
    /// It will be long until there is more.
    pub(super) rests: bool,
    pub(super) closed: bool,
}

impl Stream {
    pub(super) fn new(
        tenant: &str,
        call_id: &str,
        journal: Option<PathBuf>,
        last_seq: u64,
        recent: usize,
    ) -> Self {
        Self {
            tenant: tenant.into(),
            call_id: call_id.into(),
            identity: format!(r#""tenant":{},"call_id":{}"#, Value::from(tenant), Value::from(call_id)),
            journal,
            state: Mutex::new(State {
                recent,
                events: VecDeque::new(),
                last_seq,
                written: last_seq,
                queued: false,
                closed: false,
            }),
            head: watch::Sender::new(CallHead { last_seq, closed: false }),
        }
    }

    pub(super) fn call_id(&self) -> &Arc<str> {
        &self.call_id
    }

    pub(super) fn journal(&self) -> Option<&Path> {
        self.journal.as_deref()
    }

    pub(super) fn changed(&self) -> watch::Receiver<CallHead> {
        self.head.subscribe()
    }

    /// Number the event, have `place` put it into the log, keep it. `None` if the stream is closed.
    ///
    /// The log is entered under this stream's lock, so that a call's events lie in it in the order of their numbers.
    pub(super) fn append(
        &self,
        kind: EventKind,
        body: &str,
        place: impl FnOnce(StoredEvent) -> Arc<StoredEvent>,
    ) -> Option<Arc<StoredEvent>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let seq = state.last_seq + 1;
        let json = format!(
            r#"{{"v":{ENVELOPE_VERSION},"seq":{seq},"time":"{:.6}",{},"type":"{}"{body}}}"#,
            crate::clock::timestamp(),
            self.identity,
            kind.as_str(),
        );
        let event = place(StoredEvent {
            position: 0,
            seq,
            kind,
            tenant: Arc::clone(&self.tenant),
            call_id: Arc::clone(&self.call_id),
            json: json.into(),
        });
        state.last_seq = seq;
        if self.is_kept() {
            state.events.push_back(Arc::clone(&event));
        }
        state.trim();
        drop(state);
        self.head.send_modify(|head| head.last_seq = head.last_seq.max(seq));
        Some(event)
    }

    /// Whether the writer must be told of this stream; true once for any number of events until it comes.
    pub(super) fn needs_writing(&self) -> bool {
        let mut state = self.state.lock();
        self.journal.is_some() && !std::mem::replace(&mut state.queued, true)
    }

    /// Events are rare from now on: keep none that the journal has. True if there is one.
    pub(super) fn rest(&self) -> bool {
        if self.journal.is_some() {
            let mut state = self.state.lock();
            state.recent = 0;
            state.trim();
        }
        self.journal.is_some()
    }

    /// Number of the last event in the journal; without one, of the last event.
    pub(super) fn written_to(&self) -> u64 {
        let state = self.state.lock();
        if self.journal.is_some() { state.written } else { state.last_seq }
    }

    /// Close; true if there is a journal that the writer must complete.
    pub(super) fn close(&self) -> bool {
        self.state.lock().closed = true;
        self.head.send_modify(|head| head.closed = true);
        self.journal.is_some()
    }

    /// Up to `max` events above `after`, and the number that memory reaches back to.
    pub(super) fn snapshot(&self, after: u64, max: usize) -> (u64, Vec<Arc<StoredEvent>>) {
        let state = self.state.lock();
        let first = state.last_seq + 1 - state.events.len() as u64;
        let skip = (after + 1).saturating_sub(first) as usize;
        (first, state.events.iter().skip(skip).take(max).cloned().collect())
    }

    /// What the journal lacks. Events that come after this tell the writer anew.
    pub(super) fn pending(&self) -> Pending {
        let mut state = self.state.lock();
        state.queued = false;
        let lacking = (state.last_seq - state.written) as usize;
        let skip = state.events.len() - lacking.min(state.events.len());
        let events = state.events.iter().skip(skip).cloned().collect();
        Pending { events, rests: state.recent == 0, closed: state.closed }
    }

    /// The journal has everything up to `seq`.
    pub(super) fn written(&self, seq: u64) {
        let mut state = self.state.lock();
        state.written = seq;
        state.trim();
    }

    /// The node's own stream keeps nothing: its events are in the log only.
    fn is_kept(&self) -> bool {
        !self.call_id.is_empty()
    }
}

impl State {
    fn trim(&mut self) {
        while self.events.len() > self.recent
            && self.events.front().is_some_and(|event| event.seq <= self.written)
        {
            self.events.pop_front();
        }
    }
}

/// The envelope's own names, which a body cannot set.
const RESERVED: [&str; 6] = ["v", "seq", "time", "tenant", "call_id", "type"];

/// The body as it follows the envelope's own fields: `,"name":value…`, or nothing.
pub(super) fn body_json(kind: EventKind, body: impl Serialize) -> String {
    let mut fields = match serde_json::to_value(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(Value::Null) => return String::new(),
        Ok(_) => {
            tracing::error!(kind = kind.as_str(), "the body of an event must be an object: left out");
            return String::new();
        }
        Err(error) => {
            tracing::error!(kind = kind.as_str(), %error, "the body of an event cannot be serialised: left out");
            return String::new();
        }
    };
    for name in RESERVED {
        fields.remove(name);
    }
    let mut json = Value::Object(fields).to_string();
    if json.len() <= 2 {
        return String::new();
    }
    json.pop();
    json.replace_range(..1, ",");
    json
}
