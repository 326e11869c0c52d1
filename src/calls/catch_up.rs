//! What live transcription left out of a call is put into words after it, from the recording.
//!
//! Until that is done the call's stream stays open and its transcript is `pending`. What is owed lies on disk ([`owed`]) from before
//! the call is let go until its transcript is written; what has been done of it tells the call's journal, where each utterance has one
//! final. So whatever is cut off, and wherever, is gone on with by the next start, and says nothing twice.

pub(super) mod owed;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio_util::sync::CancellationToken;

use super::directory::CallDirectory;
use super::hub::EventHub;
use super::record::CallRecord;
use super::speech::Expectations;
use super::transcript::Told;
use crate::clock;
use crate::media::time::MediaInstant;
use crate::speech::SpeechEngine;
use crate::telemetry::metric;
use owed::{OwedCall, OwedStore};
use work::Trouble;

/// Calls worked on at once, at most: of each, so many pieces are recognised side by side as there are workers. More than one, so that
/// workers are not idle where calls owe little each.
const MOST_THREADS: usize = 4;
/// Like the recognisers, behind the media threads.
const NICENESS: i32 = 5;
/// A call whose files cannot be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(15);
/// Longest wait for a call's stream to leave memory: the journal's writer is busy for milliseconds at a time.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// Puts into words what calls owe, oldest first, on threads of its own. Dropping it stops them.
pub struct CatchUp {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What waits to be caught up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Calls whose transcripts are pending.
    pub calls: usize,
    /// Seconds of their audio that wait.
    pub seconds: f64,
    /// Why one of them cannot be brought to its end, if that is so.
    pub trouble: Option<String>,
}

struct Shared {
    store: OwedStore,
    hub: Arc<EventHub>,
    directory: Arc<CallDirectory>,
    speech: Option<Arc<SpeechEngine>>,
    expected: Expectations,
    state: Mutex<State>,
    changed: Condvar,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Turn, OwedCall>,
    /// Not before this.
    later: Vec<(MediaInstant, Turn, OwedCall)>,
    working: HashMap<String, Working>,
    trouble: Option<String>,
    /// Of the seconds done, what the counter does not have yet.
    fraction: f64,
}

/// Calls that ended first come first.
type Turn = (Timestamp, String);

struct Working {
    seconds: f64,
    cancel: CancellationToken,
}

impl CatchUp {
    /// Take up what the data folder `data` has, and begin; the model leans on the words that are `expected` of a call's tenant. The streams of the calls concerned are open when this returns. Reads files:
    /// call it where blocking is allowed.
    ///
    /// # Errors
    /// The folder cannot be made or read, or a thread not started.
    pub fn start(
        data: &Path,
        hub: Arc<EventHub>,
        directory: Arc<CallDirectory>,
        speech: Option<Arc<SpeechEngine>>,
        expected: Expectations,
    ) -> io::Result<Self> {
        let workers = speech.as_ref().map_or(1, |engine| engine.workers());
        let shared = Arc::new(Shared {
            store: OwedStore::open(data)?,
            hub,
            directory,
            speech,
            expected,
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: CancellationToken::new(),
        });
        shared.take_up(&data.join("sessions"))?;
        let caught_up = Self { shared, threads: Mutex::default() };
        for index in 0..workers.min(MOST_THREADS) {
            let shared = caught_up.shared.clone();
            let thread = std::thread::Builder::new().name(format!("catch-up-{index}"));
            caught_up.threads.lock().push(thread.spawn(move || shared.run())?);
        }
        Ok(caught_up)
    }

    /// Keep what a call owes, so that it survives a power cut. Waits for the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn keep(&self, owed: &OwedCall) -> io::Result<()> {
        self.shared.store.save(owed)
    }

    /// What a call owes by what is on disk.
    pub(super) fn kept(&self, call_id: &str) -> Option<OwedCall> {
        self.shared.store.load(call_id)
    }

    /// A call that owed something while it ran owes nothing after all.
    pub(super) fn settle(&self, call_id: &str) {
        if let Err(error) = self.shared.store.remove(call_id) {
            tracing::warn!(call = call_id, %error, "what a call owed is still on disk");
        }
    }

    /// Put into words what a call owes that is over: its stream is open, its record says `pending`.
    pub(super) fn hand_over(&self, owed: OwedCall) {
        self.shared.queue(owed);
    }

    /// What waits.
    pub fn backlog(&self) -> Backlog {
        self.shared.state.lock().backlog()
    }

    /// The call is to be removed: nothing more is written of it when this returns. Its stream is closed. Blocks, for a moment.
    pub fn forget(&self, call_id: &str) {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let is_known = state.working.contains_key(call_id)
            || state.waiting.keys().any(|(_, id)| id == call_id)
            || state.later.iter().any(|(_, (_, id), _)| id == call_id);
        if !is_known {
            return;
        }
        state.waiting.retain(|(_, id), _| id != call_id);
        state.later.retain(|(_, (_, id), _)| id != call_id);
        while let Some(working) = state.working.get(call_id) {
            working.cancel.cancel();
            shared.changed.wait(&mut state);
        }
        state.tell();
        drop(state);
        shared.hub.close_call(call_id);
        if !shared.hub.until_released(call_id, RELEASED_WITHIN) {
            tracing::warn!(call = call_id, "the journal of a call that is to be removed is still open");
        }
    }

    /// Stop at once: what is left is for the next start. Waits for the threads.
    pub fn stop(&self) {
        self.shared.stop.cancel();
        // Under the lock, so that no thread is between its look at the token and its wait.
        drop(self.shared.state.lock());
        self.shared.changed.notify_all();
        for thread in self.threads.lock().drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Go on with what an earlier process left.
    fn take_up(&self, sessions: &Path) -> io::Result<()> {
        let mut known = std::collections::HashSet::new();
        for owed in self.store.load_all()? {
            let call = owed.call_id.clone();
            known.insert(call.clone());
            match self.directory.get(&call) {
                Some(record) if record.is_ended() => self.open_and_queue(&record, owed),
                // It may live, or is brought to its end when Asterisk has said that it does not.
                Some(_) => {}
                None if sessions.join(format!("{call}.json")).exists() => {}
                None => {
                    tracing::info!(call, "a call that was removed owes nothing");
                    self.store.remove(&call)?;
                }
            }
        }
        for record in self.directory.pending() {
            if !known.contains(&record.call_id) {
                self.take_up_unkept(&record);
            }
        }
        Ok(())
    }

    /// What it owes could not be kept when it ended: whatever has no words is looked at.
    fn take_up_unkept(&self, record: &CallRecord) {
        let call = &record.call_id;
        let until = record.duration_s.unwrap_or_default();
        match Told::read(&self.hub, call) {
            Ok(told) => {
                let owed = OwedCall::cut_off(call, self.model(), None, &told, until);
                self.open_and_queue(record, OwedCall { ended: true, ..owed });
            }
            Err(error) => tracing::error!(call, %error, "its transcript stays pending"),
        }
    }

    fn open_and_queue(&self, record: &CallRecord, owed: OwedCall) {
        if let Err(error) = self.open_stream(record) {
            tracing::error!(call = owed.call_id, error, "its transcript waits until its events can be read");
        }
        self.queue(owed);
    }

    fn open_stream(&self, record: &CallRecord) -> Result<(), String> {
        let call = record.call_id.as_str();
        if self.hub.written_to(call).is_some() {
            return Ok(());
        }
        let files = self.directory.files(record).map_err(|error| error.to_string())?;
        self.hub.open_call(&record.tenant, call, Some(files.events())).map_err(|error| error.to_string())?;
        self.hub.rest_call(call);
        Ok(())
    }

    fn model(&self) -> &str {
        self.speech.as_ref().map_or("", |engine| engine.model())
    }

    fn queue(&self, owed: OwedCall) {
        let record = self.directory.get(&owed.call_id);
        let ended = record.map(|record| record.ended_at.unwrap_or(record.started_at)).unwrap_or_default();
        let mut state = self.state.lock();
        state.waiting.insert((ended, owed.call_id.clone()), owed);
        state.tell();
        // Not one: who waits for a call to be let go waits for the same.
        self.changed.notify_all();
    }

    fn run(&self) {
        if let Err(reason) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%reason, "a thread that catches up keeps its priority");
        }
        while let Some((turn, mut owed, cancel)) = self.next() {
            let call = owed.call_id.clone();
            let done = catch_unwind(AssertUnwindSafe(|| work::catch_up(self, &mut owed, &cancel)));
            let done = done.unwrap_or_else(|_| Err(Trouble::Later("a fault of ours: see the log".into())));
            let mut state = self.state.lock();
            state.working.remove(&call);
            match done {
                Ok(()) => state.trouble = None,
                // Of the process the end, or of the call.
                Err(Trouble::Stopped) => {}
                Err(Trouble::Later(reason)) => {
                    tracing::error!(call, reason, "a transcript stays pending; it is tried again");
                    state.trouble = Some(format!("call {call}: {reason}"));
                    if !cancel.is_cancelled() {
                        state.later.push((clock::now() + AGAIN, turn, owed));
                    }
                }
            }
            state.tell();
            drop(state);
            // Also whoever waits for this call to be let go.
            self.changed.notify_all();
        }
    }

    /// The next call, once there is one; `None` when it is time to stop.
    fn next(&self) -> Option<(Turn, OwedCall, CancellationToken)> {
        let mut state = self.state.lock();
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            let now = clock::now();
            for (_, turn, owed) in state.later.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
                state.waiting.insert(turn, owed);
            }
            if let Some((turn, owed)) = state.waiting.pop_first() {
                let cancel = self.stop.child_token();
                let working = Working { seconds: owed.seconds(), cancel: cancel.clone() };
                state.working.insert(owed.call_id.clone(), working);
                return Some((turn, owed, cancel));
            }
            match state.later.iter().map(|(at, ..)| *at).min() {
                Some(at) => drop(self.changed.wait_for(&mut state, at.saturating_since(now))),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// So much is left of a call.
    fn progress(&self, owed: &OwedCall) {
        let mut state = self.state.lock();
        let Some(working) = state.working.get_mut(&owed.call_id) else { return };
        let left = owed.seconds();
        let done = (working.seconds - left).max(0.0);
        working.seconds = left;
        state.fraction += done;
        metric::ASR_CAUGHT_UP.add(state.fraction as u64);
        state.fraction = state.fraction.fract();
        state.tell();
    }
}

impl State {
    fn backlog(&self) -> Backlog {
        let waiting = self.waiting.values().chain(self.later.iter().map(|(.., owed)| owed));
        let seconds = waiting.map(OwedCall::seconds).sum::<f64>();
        Backlog {
            calls: self.waiting.len() + self.later.len() + self.working.len(),
            seconds: seconds + self.working.values().map(|working| working.seconds).sum::<f64>(),
            trouble: self.trouble.clone().filter(|_| !self.later.is_empty()),
        }
    }

    fn tell(&self) {
        let Backlog { calls, seconds, .. } = self.backlog();
        metric::ASR_OWING_CALLS.set(calls as f64);
        metric::ASR_CATCH_UP_BACKLOG.set(seconds);
    }
}
