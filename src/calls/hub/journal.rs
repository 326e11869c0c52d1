//! The journal of a call: one event a line, so that a call's stream outlives its memory and the process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde::Deserialize;

use super::open::OpenStreams;
use super::stream::{Pending, Stream};
use super::{EventKind, Journals, StoredEvent};
use crate::telemetry::metric;
use crate::{clock, files};

/// A journal that cannot be written is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// A closed call whose journal cannot be completed is given up after this many attempts, to release its memory.
const CLOSE_ATTEMPTS: u32 = 60;

/// Appends to journals, on a thread of its own. It is told which streams have something new and takes it from there
/// itself, as any reader: what the disk does not take stays in the stream's memory until it does.
pub(super) struct Writer {
    calls: Arc<OpenStreams>,
    journals: Option<Arc<dyn Journals>>,
    work: Receiver<Arc<Stream>>,
    open: HashMap<Arc<str>, Open>,
    failing: HashMap<Arc<str>, Failing>,
}

struct Open {
    file: File,
    /// Length up to the last whole line.
    length: u64,
    /// There may be half a line after it.
    torn: bool,
}

struct Failing {
    stream: Arc<Stream>,
    attempts: u32,
}

impl Writer {
    pub(super) fn new(
        calls: Arc<OpenStreams>,
        journals: Option<Arc<dyn Journals>>,
        work: Receiver<Arc<Stream>>,
    ) -> Self {
        Self { calls, journals, work, open: HashMap::new(), failing: HashMap::new() }
    }

    pub(super) fn run(mut self) {
        let mut tried = clock::now();
        loop {
            match self.work.recv_timeout(RETRY) {
                // While a disk fails, new events must not shorten the pauses between attempts.
                Ok(stream) if self.failing.contains_key(stream.call_id()) => {}
                Ok(stream) => self.advance(stream),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.retry(),
            }
            if clock::since(tried) >= RETRY {
                self.retry();
                tried = clock::now();
            }
        }
    }

    fn retry(&mut self) {
        let streams: Vec<_> = self.failing.values().map(|failing| Arc::clone(&failing.stream)).collect();
        for stream in streams {
            self.advance(stream);
        }
    }

    fn advance(&mut self, stream: Arc<Stream>) {
        let Some(path) = stream.journal() else { return };
        let Pending { events, rests, closed } = stream.pending();
        let id = stream.call_id();
        match self.append(id, path, &events) {
            Ok(()) => {
                if self.failing.remove(id).is_some() {
                    tracing::info!(call_id = %id, path = %path.display(), "the event journal is written again");
                }
                if let Some(last) = events.last() {
                    stream.written(last.seq);
                }
                if closed {
                    self.release(id);
                } else if rests {
                    // Many may wait for their transcripts: none holds a file open meanwhile.
                    self.open.remove(id);
                    self.tell(id);
                }
            }
            Err(error) => {
                metric::CALL_FILE_ERRORS.add(1);
                let first_of_all = self.failing.is_empty();
                let failing = self
                    .failing
                    .entry(Arc::clone(id))
                    .or_insert(Failing { stream: Arc::clone(&stream), attempts: 0 });
                failing.attempts += 1;
                if first_of_all {
                    tracing::warn!(
                        call_id = %id, path = %path.display(), %error,
                        "cannot write an event journal: events stay in memory until the disk takes them; free some space"
                    );
                }
                if closed && failing.attempts >= CLOSE_ATTEMPTS {
                    tracing::error!(call_id = %id, events = events.len(), "events of an ended call are lost to its journal");
                    self.failing.remove(id);
                    self.release(id);
                }
            }
        }
    }

    fn append(&mut self, id: &Arc<str>, path: &Path, events: &[Arc<StoredEvent>]) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let open = match self.open.entry(Arc::clone(id)) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Open::at(path)?),
        };
        let mut lines = String::with_capacity(events.iter().map(|event| event.json.len() + 1).sum());
        for event in events {
            lines.push_str(&event.json);
            lines.push('\n');
        }
        if std::mem::replace(&mut open.torn, true) {
            open.file.set_len(open.length)?;
        }
        open.file.write_all(lines.as_bytes())?;
        open.length += lines.len() as u64;
        open.torn = false;
        Ok(())
    }

    fn release(&mut self, id: &Arc<str>) {
        if let Some(open) = self.open.remove(id)
            && let Err(error) = open.file.sync_data()
        {
            metric::CALL_FILE_ERRORS.add(1);
            tracing::warn!(call_id = %id, %error, "the disk does not confirm an event journal");
        }
        self.calls.remove(id);
        self.tell(id);
    }

    fn tell(&self, id: &Arc<str>) {
        if let Some(journals) = &self.journals {
            journals.complete(id);
        }
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = files::private().append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, torn: false })
    }
}

/// The part of a line that readers filter by.
#[derive(Deserialize)]
struct Head {
    seq: u64,
    #[serde(rename = "type")]
    kind: String,
    tenant: String,
    call_id: String,
}

/// Number of the last event in the journal at `path`, 0 if there is none. What a crash left after the last whole
/// event is cut off.
pub(super) fn resume(path: &Path) -> io::Result<u64> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let (mut last, mut good, mut at) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.read_until(b'\n', &mut line)?;
        if n == 0 {
            break;
        }
        at += n as u64;
        if let Some(head) = parse(&line) {
            (last, good) = (head.seq, at);
        }
    }
    let mut file = reader.into_inner();
    if good < at {
        tracing::warn!(path = %path.display(), bytes = at - good, "dropped what a crash left at the end of an event journal");
        file.set_len(good)?;
        file.seek(SeekFrom::Start(good))?;
    }
    Ok(last)
}

/// Up to `max` events with numbers above `after` and below `before`. A journal that is not there yet is empty.
pub(super) fn read(path: &Path, after: u64, before: u64, max: usize) -> io::Result<Vec<Arc<StoredEvent>>> {
    let mut events = Vec::new();
    if max == 0 {
        return Ok(events);
    }
    let wanted = |seq, _: &str| seq > after;
    each(path, wanted, |event| {
        if event.seq >= before {
            return ControlFlow::Break(());
        }
        events.push(Arc::new(event));
        if events.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(events)
}

/// Give `take` the events of a journal whose number and type are `wanted`, in order, until it has enough. A journal that is not there
/// yet is empty.
pub(in crate::calls) fn each(
    path: &Path,
    wanted: impl Fn(u64, &str) -> bool,
    mut take: impl FnMut(StoredEvent) -> ControlFlow<()>,
) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut line = Vec::new();
    while reader.by_ref().read_until(b'\n', &mut line)? > 0 {
        if let Some(head) = parse(&line)
            && wanted(head.seq, &head.kind)
            && let Ok(json) = std::str::from_utf8(line.trim_ascii_end())
        {
            let event = StoredEvent {
                position: 0,
                seq: head.seq,
                kind: EventKind::from_name(&head.kind),
                tenant: head.tenant.into(),
                call_id: head.call_id.into(),
                json: json.into(),
            };
            if take(event).is_break() {
                break;
            }
        }
        line.clear();
    }
    Ok(())
}

/// A line's head; `None` for a line without its end or that is not an event.
fn parse(line: &[u8]) -> Option<Head> {
    if line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(line).ok()
}
