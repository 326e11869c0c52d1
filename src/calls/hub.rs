//! What happens on calls, as numbered events: one stream a call, one log over all.
//!
//! Nobody is sent anything. An event is serialised once, put into its call's stream and into the log, and readers
//! come with cursors of their own: a number within a call ([`EventHub::call_events`]) or a position in the log
//! ([`EventHub::since`]). A reader that does not come costs nothing; one that comes late reads a call's stream from
//! its journal, and learns from the log how much has passed it by.

pub(super) mod journal;
mod kind;
mod log;
mod open;
mod stream;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use dashmap::Entry;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

pub use kind::EventKind;
pub use log::Batch;
pub use stream::{CallHead, StoredEvent};

use log::Log;
use open::OpenStreams;
use stream::Stream;

/// Bounds of what the hub keeps in memory.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Events that the log over all calls keeps, at most.
    pub log_events: usize,
    /// Bytes of JSON that the log keeps, at most (the newest event stays, whatever its size).
    pub log_bytes: usize,
    /// Events of a live call kept in memory once they are in its journal.
    pub recent_events: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { log_events: 65_536, log_bytes: 64 << 20, recent_events: 512 }
    }
}

/// Knows where the journal of a call lies that is not live any more.
pub trait Journals: Send + Sync {
    /// The journal's path, if there is such a call.
    fn journal(&self, call_id: &str) -> Option<PathBuf>;

    /// The journal of a call that is over has all that was said of it so far.
    fn complete(&self, call_id: &str) {
        let _ = call_id;
    }
}

/// Why a call's stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is open, or still being closed.
    #[error("the event stream of call {0} is open already")]
    AlreadyOpen(String),
    /// The journal of an earlier run is there but cannot be taken up.
    #[error("cannot go on with the event journal {path}: {source}; check the folder's owner and the disk")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
}

/// Why events of a call could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No live call, and no journal.
    #[error("call {0} has no events here")]
    Unknown(String),
    /// The journal cannot be read.
    #[error("cannot read the event journal {path}: {source}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
}

/// The events of all calls. One for the process, shared by reference counting; see the module.
pub struct EventHub {
    config: HubConfig,
    calls: Arc<OpenStreams>,
    /// Stream of the events that belong to no call.
    node: Stream,
    log: Mutex<Log>,
    changed: watch::Sender<u64>,
    journals: Option<Arc<dyn Journals>>,
    /// Streams with events that are not in their journal yet; `None` only while the hub is dropped.
    dirty: Option<Sender<Arc<Stream>>>,
    writer: Option<JoinHandle<()>>,
}

impl EventHub {
    /// A hub with its journal writer running. `journals` finds the journals of calls of the past; without it they can
    /// be read only while they live.
    ///
    /// # Errors
    /// If the writer's thread cannot be started.
    pub fn new(config: HubConfig, journals: Option<Arc<dyn Journals>>) -> std::io::Result<Self> {
        let (dirty, work) = crossbeam_channel::unbounded();
        let calls = Arc::new(OpenStreams::default());
        let writer = journal::Writer::new(Arc::clone(&calls), journals.clone(), work);
        let writer = std::thread::Builder::new().name("event-journal".into()).spawn(move || writer.run())?;
        // Positions go on upwards over a restart without being stored anywhere: fewer than a million events happen in
        // a second. They stay below 2^53, so that JavaScript counts them exactly.
        let first = crate::clock::realtime_nanos() / 1_000;
        Ok(Self {
            log: Mutex::new(Log::new(first, config.log_events, config.log_bytes)),
            changed: watch::Sender::new(first - 1),
            node: Stream::new("", "", None, 0, 0),
            calls,
            journals,
            dirty: Some(dirty),
            writer: Some(writer),
            config,
        })
    }

    /// Open the stream of a call that begins. Its journal, and the folder for it, are made with the first event, off this
    /// thread: a call waits for no disk.
    ///
    /// # Errors
    /// [`OpenError::AlreadyOpen`].
    pub fn begin_call(&self, tenant: &str, call_id: &str, journal: PathBuf) -> Result<(), OpenError> {
        self.insert(tenant, call_id, Some(journal), 0)
    }

    /// Open the stream of a call. With a `journal` of an earlier run, numbers go on where it ends, a torn last line of
    /// it being dropped; a new journal is made with the first event. Without a journal all of the call's events stay
    /// in memory until it is closed, and are gone then. Reads the file: call it where blocking is allowed.
    ///
    /// Returns the number of the last event so far, 0 for a new call.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_call(&self, tenant: &str, call_id: &str, journal: Option<PathBuf>) -> Result<u64, OpenError> {
        if self.calls.map().contains_key(call_id) {
            return Err(OpenError::AlreadyOpen(call_id.into()));
        }
        let last_seq = match &journal {
            Some(path) => {
                journal::resume(path).map_err(|source| OpenError::Journal { path: path.clone(), source })?
            }
            None => 0,
        };
        self.insert(tenant, call_id, journal, last_seq)?;
        Ok(last_seq)
    }

    fn insert(
        &self,
        tenant: &str,
        call_id: &str,
        journal: Option<PathBuf>,
        last_seq: u64,
    ) -> Result<(), OpenError> {
        match self.calls.map().entry(call_id.into()) {
            Entry::Occupied(_) => Err(OpenError::AlreadyOpen(call_id.into())),
            Entry::Vacant(place) => {
                let recent = self.config.recent_events;
                place.insert(Arc::new(Stream::new(tenant, call_id, journal, last_seq, recent)));
                Ok(())
            }
        }
    }

    /// Close a call's stream: nothing can be published on it from now on, its readers learn of the end, and its
    /// memory is released as soon as the journal is complete.
    pub fn close_call(&self, call_id: &str) {
        let Some(stream) = self.stream(call_id) else { return };
        if stream.close() {
            self.mark_dirty(&stream);
        } else {
            self.calls.remove(call_id);
        }
    }

    /// Wait until the stream of a call that was closed has left memory, its journal complete; says whether that came within
    /// `within`. Blocks.
    pub fn until_released(&self, call_id: &str, within: Duration) -> bool {
        self.calls.until_left(call_id, within)
    }

    /// A call is over, and its stream stays open for what is still to be said of it: until then it takes next to no memory, and no
    /// file is held open.
    pub fn rest_call(&self, call_id: &str) {
        if let Some(stream) = self.stream(call_id)
            && stream.rest()
        {
            self.mark_dirty(&stream);
        }
    }

    /// Number of the last event of a call that its journal has (written, not confirmed by the disk). `None` if its stream is not
    /// open.
    pub fn written_to(&self, call_id: &str) -> Option<u64> {
        self.stream(call_id).map(|stream| stream.written_to())
    }

    /// Publish an event of a call: it gets the next number and the time. `body` must serialise to an object, or to
    /// null for an event without more; the envelope's own names in it are left out. Never waits for a disk or a reader.
    ///
    /// `None` if the call's stream is not open (any more): the event is dropped.
    pub fn publish(&self, call_id: &str, kind: EventKind, body: impl Serialize) -> Option<Arc<StoredEvent>> {
        let event = self.stream(call_id).and_then(|stream| {
            let event = self.append(&stream, kind, &stream::body_json(kind, body))?;
            if stream.needs_writing() {
                self.mark_dirty(&stream);
            }
            Some(event)
        });
        if event.is_none() {
            tracing::debug!(call_id, kind = kind.as_str(), "event of a call that is not open: dropped");
        }
        event
    }

    /// Publish an event that belongs to no call (`ari.connected`, `overload` of the node): tenant and call id are empty,
    /// `seq` counts on its own since the start of the process, every reader of the log gets it, no journal keeps it.
    pub fn publish_node(&self, kind: EventKind, body: impl Serialize) {
        self.append(&self.node, kind, &stream::body_json(kind, body));
    }

    /// Up to `max` events of a call with numbers above `after`, without holes: from memory while the call is live,
    /// from the journal what is older or over. May read a file: call it where blocking is allowed, after
    /// [`EventHub::recent_events`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn call_events(
        &self,
        call_id: &str,
        after: u64,
        max: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let (path, memory) = match self.stream(call_id) {
            Some(stream) => {
                let (first, events) = stream.snapshot(after, max);
                match stream.journal().filter(|_| first > after + 1) {
                    Some(path) => (path.to_owned(), Some((first, events))),
                    None => return Ok(events),
                }
            }
            None => {
                let path = self.journals.as_ref().and_then(|journals| journals.journal(call_id));
                (path.ok_or_else(|| ReadError::Unknown(call_id.into()))?, None)
            }
        };
        let before = memory.as_ref().map_or(u64::MAX, |(first, _)| *first);
        let mut events = journal::read(&path, after, before, max)
            .map_err(|source| ReadError::Journal { path: path.clone(), source })?;
        if let Some((_, rest)) = memory {
            let room = max - events.len();
            events.extend(rest.into_iter().take(room));
        }
        Ok(events)
    }

    /// As [`EventHub::call_events`], but from memory only and so without blocking; `None` if memory does not reach
    /// back that far, or the call is not live.
    pub fn recent_events(&self, call_id: &str, after: u64, max: usize) -> Option<Vec<Arc<StoredEvent>>> {
        let (first, events) = self.stream(call_id)?.snapshot(after, max);
        (first <= after + 1).then_some(events)
    }

    /// Follows one call: changes with every event of it and when it is closed. `None` if it is not live.
    pub fn call_changed(&self, call_id: &str) -> Option<watch::Receiver<CallHead>> {
        self.stream(call_id).map(|stream| stream.changed())
    }

    /// Up to `max` events of all calls, in the order they were published, after position `after`; 0 is before
    /// everything. See [`Batch`] for what the bounded log no longer has.
    pub fn since(&self, after: u64, max: usize) -> Batch {
        self.log.lock().since(after, max)
    }

    /// Position of the newest event: a reader that starts here gets what is to come.
    pub fn position(&self) -> u64 {
        self.log.lock().last()
    }

    /// Follows all calls: the position of the newest event.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Calls with a stream in memory.
    pub fn open_calls(&self) -> usize {
        self.calls.map().len()
    }

    fn stream(&self, call_id: &str) -> Option<Arc<Stream>> {
        self.calls.map().get(call_id).map(|stream| Arc::clone(&stream))
    }

    fn append(&self, stream: &Stream, kind: EventKind, body: &str) -> Option<Arc<StoredEvent>> {
        let event = stream.append(kind, body, |event| self.log.lock().push(event))?;
        self.changed.send_modify(|last| *last = event.position.max(*last));
        Some(event)
    }

    fn mark_dirty(&self, stream: &Arc<Stream>) {
        if let Some(dirty) = &self.dirty {
            // The writer outlives this hub's sender: it ends when the sender is dropped.
            let _ = dirty.send(Arc::clone(stream));
        }
    }
}

/// Waits until the journals are written, as far as the disk takes them.
impl Drop for EventHub {
    fn drop(&mut self) {
        self.dirty = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
