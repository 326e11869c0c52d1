//! One recording, from its first frame to the sealed file. No thread, no clock: the pool, or `sidetone replay`, drives it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::gaps::{GapTrack, Tracks};
use super::interleave::{FRAME_BYTES, Interleaver, Pause};
use super::journal::{self, Journal, Notes};
use super::part::{PartFile, Sealed, part_path};
use super::report::Span;
use super::{Finished, RecorderConfig, RecordingError, RecordingSpec, free_mib};
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// Less than this is not worth a write of its own.
const LEAST_WRITE: Duration = Duration::from_millis(200);
/// What is written ahead stays this far behind the legs' heads, so that packets which merely changed places are in it.
const AHEAD_LAG: Duration = Duration::from_millis(60);
/// The end of what was written ahead is written again the next time: a leg that begins is placed up to 200 ms into the past
/// (its anchor window), and most packets that are late at all are so by less than this. All of the repair window again
/// would be four times the work of the recording itself.
const AHEAD_AGAIN: Duration = Duration::from_millis(300);

/// A recording that is being written.
#[derive(Debug)]
pub struct OpenRecording {
    call_id: String,
    path: PathBuf,
    clock: Arc<CallClock>,
    part: PartFile,
    journal: Option<Journal>,
    mixer: Interleaver,
    /// Stands where the next writing ahead begins.
    ahead: Option<Interleaver>,
    origin: Option<i64>,
    started_at: Option<jiff::Timestamp>,
    least: i64,
    checkpoint: Duration,
    checkpointed: MediaInstant,
    finish: Option<MediaInstant>,
    end: Option<i64>,
}

/// What a [`OpenRecording::pump`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes of audio written.
    pub bytes: usize,
    /// Bytes of audio written ahead, which are written again.
    pub ahead: usize,
    /// Audio that was due when it began.
    pub backlog: Duration,
    /// There is more to write at once.
    pub more: bool,
    /// All is written; to be sealed.
    pub complete: bool,
}

/// Why a recording cannot go on.
#[derive(Debug)]
pub enum Fault {
    /// Writing failed.
    Write(io::Error),
    /// The file was deleted.
    Vanished,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl OpenRecording {
    /// Make (or, to resume, open) the part file. `now` only paces checkpoints.
    pub fn begin(
        spec: &RecordingSpec,
        config: &RecorderConfig,
        now: MediaInstant,
    ) -> Result<Self, RecordingError> {
        let rate = spec.clock.rate();
        check_rates(spec)?;
        let (part, notes) = if spec.resume { open(spec, rate.hz())? } else { (create(spec, config)?, None) };
        let mixer = match &notes {
            None => Interleaver::new(&spec.legs, rate, config.repair_window),
            Some(notes) => Interleaver::resumed(
                &spec.legs,
                rate,
                config.repair_window,
                part.frames(),
                notes.tracks.clone(),
            ),
        };
        if let Some(origin) = notes.as_ref().and_then(|notes| notes.origin)
            && part.frames() > 0
        {
            spec.clock.decide_origin(origin);
        }
        let journal = Journal::open(part.path())
            .inspect_err(|error| warn_of_journal(&spec.call_id, part.path(), error))
            .ok();
        Ok(Self {
            call_id: spec.call_id.clone(),
            path: spec.path.clone(),
            clock: spec.clock.clone(),
            part,
            journal,
            mixer,
            ahead: None,
            origin: None,
            started_at: notes.and_then(|notes| notes.started_at),
            least: rate.samples_in(LEAST_WRITE) as i64,
            // Twice as often as promised: a crash takes what came since, and the writers' own turn.
            checkpoint: config.checkpoint / 2,
            checkpointed: now,
            finish: None,
            end: None,
        })
    }

    /// The call.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// The part file.
    pub fn part_path(&self) -> &Path {
        self.part.path()
    }

    pub(super) fn file(&self) -> &std::fs::File {
        self.part.file()
    }

    /// The call ended at `end` and its rings are closed: from now on [`OpenRecording::pump`] works towards completion. The
    /// recording ends with its legs; `end` counts where no leg has a sample.
    pub fn finish_at(&mut self, end: MediaInstant) {
        if self.finish.is_none() {
            self.finish = Some(end);
            self.mixer.drop_lag();
        }
    }

    /// Write what is due at `now`, at most `buffer` full; `pauses` are in order and do not overlap.
    pub fn pump(&mut self, now: MediaInstant, pauses: &[Pause], buffer: &mut [u8]) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        if self.find_origin(now) {
            let until = match self.finish {
                Some(end) => *self.end.get_or_insert(self.mixer.end(self.clock.sample_at(end))),
                None => self.mixer.due(now, self.clock.sample_at(now)),
            };
            if self.finish.is_some() && until < self.mixer.next() {
                self.part.shorten(self.mixer.frames_before(until));
            }
            let owed = (until - self.mixer.next()).max(0);
            turn.backlog = self.mixer.rate().duration_of(owed as u64);
            if owed >= self.least || self.finish.is_some() {
                turn.bytes = self.write(until, pauses, buffer)?;
            }
            turn.more = self.mixer.next() < until && turn.bytes > 0;
            turn.complete = self.finish.is_some() && self.mixer.next() >= until;
        }
        if now.saturating_since(self.checkpointed) >= self.checkpoint {
            self.checkpointed = now;
            if self.part.has_vanished()? {
                return Err(Fault::Vanished);
            }
            if self.finish.is_none() && self.origin.is_some() {
                turn.ahead = self.write_ahead(now, pauses, buffer);
            }
            self.part.write_header()?;
        }
        Ok(turn)
    }

    /// Late packets may still mend the last stretch, but a crash would take it: what is new of it is written for now. Returns
    /// the bytes written.
    fn write_ahead(&mut self, now: MediaInstant, pauses: &[Pause], buffer: &mut [u8]) -> usize {
        let before = self.ahead.take().filter(|ahead| ahead.next() >= self.mixer.next());
        let mut ahead = before.unwrap_or_else(|| self.mixer.ahead(AHEAD_LAG));
        ahead.forget_before(self.mixer.frames());
        let first = ahead.frames();
        let until = ahead.due(now, self.clock.sample_at(now));
        let again = ahead.rate().samples_in(AHEAD_AGAIN) as i64;
        let mut bytes = ahead.emit(until - again, pauses, buffer) * FRAME_BYTES;
        let mut tip = ahead.clone();
        bytes += tip.emit(until, pauses, &mut buffer[bytes..]) * FRAME_BYTES;
        let span = self.mixer.frames()..tip.frames().max(self.part.end());
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.write_ahead(tip.tracks(), self.mixer.tracks(), span)
        {
            warn_of_journal(&self.call_id, self.part.path(), &error);
            self.journal = None;
        }
        // What a full disk does not take now fails for good, and with its reason, when it is appended.
        match self.part.write_ahead(first, &buffer[..bytes]) {
            Ok(()) => self.ahead = Some(ahead),
            Err(error) => {
                tracing::debug!(call_id = self.call_id, %error, "the last stretch is not written ahead")
            }
        }
        bytes
    }

    /// The process stops and the call goes on: write all there is, durably, and leave the part file to be resumed.
    pub fn suspend(
        mut self,
        now: MediaInstant,
        pauses: &[Pause],
        buffer: &mut [u8],
    ) -> Result<(), RecordingError> {
        self.mixer.drop_lag();
        let settled = self
            .write_all_due(now, pauses, buffer)
            .and_then(|()| self.part.settle().map_err(|(_, error)| Fault::Write(error)));
        settled.map_err(|fault| self.describe(fault, None))
    }

    /// Make the finished file: valid, durable, under its name. After a `fault` that is a file of what was written before.
    pub fn seal(self, fault: Option<Fault>) -> Result<Finished, RecordingError> {
        match fault {
            None => self.seal_part(),
            Some(Fault::Vanished) => {
                // Without its part file the journal says nothing.
                let _ = journal::remove(self.part.path());
                Err(self.describe(Fault::Vanished, None))
            }
            Some(Fault::Write(error)) => {
                let (path, frames) = (self.part.path().to_owned(), self.part.frames());
                let kept = self.seal_part().ok().map(Box::new);
                Err(RecordingError::Write { path, frames, kept, source: Arc::new(error) })
            }
        }
    }

    fn seal_part(self) -> Result<Finished, RecordingError> {
        let part_path = self.part.path().to_owned();
        let sample_rate = self.part.rate_hz();
        let Sealed { path, frames, sha256 } = self.part.seal(&self.path).map_err(|(step, source)| {
            RecordingError::Seal { path: part_path, step, source: Arc::new(source) }
        })?;
        let mut tracks = self.mixer.into_tracks();
        tracks.truncate(frames);
        let Tracks { legs, paused } = tracks;
        Ok(Finished {
            path,
            frames,
            sample_rate,
            sha256,
            origin: self.origin.unwrap_or_default(),
            started_at: self.started_at.unwrap_or_else(clock::timestamp),
            gaps: legs.map(GapTrack::into_vec),
            paused: spans(&paused),
        })
    }

    fn describe(&self, fault: Fault, kept: Option<Box<Finished>>) -> RecordingError {
        let (path, frames) = (self.part.path().to_owned(), self.part.frames());
        match fault {
            Fault::Vanished => RecordingError::Vanished { path, frames },
            Fault::Write(source) => RecordingError::Write { path, frames, kept, source: Arc::new(source) },
        }
    }

    /// Whether frame 0 is known.
    fn find_origin(&mut self, now: MediaInstant) -> bool {
        if self.origin.is_some() {
            return true;
        }
        let found = match self.finish {
            Some(_) => Some(self.clock.settle_origin()),
            None => self.clock.origin(now),
        };
        let Some(origin) = found else { return false };
        self.origin = Some(origin);
        self.mixer.set_origin(origin);
        if self.started_at.is_none() {
            let age = now.nanos_since(self.clock.instant_of(origin));
            let started_at = clock::timestamp() - jiff::SignedDuration::from_nanos(age);
            self.started_at = Some(started_at);
            if let Some(journal) = &mut self.journal {
                journal.start(origin, started_at);
            }
        }
        true
    }

    fn write_all_due(&mut self, now: MediaInstant, pauses: &[Pause], buffer: &mut [u8]) -> Result<(), Fault> {
        if self.find_origin(now) {
            let until = self.mixer.due(now, self.clock.sample_at(now));
            while self.write(until, pauses, buffer)? > 0 {}
        }
        Ok(())
    }

    fn write(&mut self, until: i64, pauses: &[Pause], buffer: &mut [u8]) -> Result<usize, Fault> {
        let bytes = self.mixer.emit(until, pauses, buffer) * FRAME_BYTES;
        if bytes == 0 {
            return Ok(0);
        }
        let missed = self.mixer.take_missed();
        if missed > 0 {
            metric::RTP_RING_OVERRUNS.add(missed);
            tracing::warn!(
                call_id = self.call_id,
                slots = missed,
                "recording fell behind its ring: audio is lost"
            );
        }
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.write(self.mixer.tracks(), self.mixer.frames())
        {
            warn_of_journal(&self.call_id, self.part.path(), &error);
            self.journal = None;
        }
        self.part.append(&buffer[..bytes])?;
        Ok(bytes)
    }
}

/// Pauses as the report lists them.
pub(super) fn spans(track: &GapTrack) -> Vec<Span> {
    let span =
        |gap: &crate::media::report::Gap| Span { start_sample: gap.start_sample, samples: gap.samples };
    track.as_slice().iter().map(span).collect()
}

fn warn_of_journal(call_id: &str, part: &Path, error: &io::Error) {
    tracing::warn!(
        call_id,
        path = %journal::path_of(part).display(),
        %error,
        "gap journal cannot be written: after a crash this recording's report would lack its gaps"
    );
}

fn check_rates(spec: &RecordingSpec) -> Result<(), RecordingError> {
    let clock = spec.clock.rate();
    for (leg, ring) in Leg::BOTH.into_iter().zip(&spec.legs) {
        if let Some(ring) = ring
            && ring.rate() != clock
        {
            return Err(RecordingError::RateMismatch {
                call_id: spec.call_id.clone(),
                leg: leg.name(),
                ring_hz: ring.rate().hz(),
                clock_hz: clock.hz(),
            });
        }
    }
    Ok(())
}

fn create(spec: &RecordingSpec, config: &RecorderConfig) -> Result<PartFile, RecordingError> {
    if spec.path.exists() {
        return Err(RecordingError::Exists { path: spec.path.clone() });
    }
    let folder = spec.path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| RecordingError::create(folder, error))?;
    check_space(folder, config.min_free_mib)?;
    PartFile::create(&spec.path, spec.clock.rate().hz()).map_err(|error| {
        let path = part_path(&spec.path);
        match error.kind() {
            io::ErrorKind::AlreadyExists => RecordingError::Exists { path },
            _ => RecordingError::create(&path, error),
        }
    })
}

fn check_space(folder: &Path, needed_mib: u64) -> Result<(), RecordingError> {
    // A file system that cannot say is not held against the call.
    let Ok(free_mib) = free_mib(folder) else { return Ok(()) };
    if free_mib < needed_mib {
        return Err(RecordingError::LowDisk { path: folder.to_owned(), free_mib, needed_mib });
    }
    Ok(())
}

/// Open what an earlier process left. A file that was finished meanwhile is opened again: the call is not over.
fn open(spec: &RecordingSpec, rate_hz: u32) -> Result<(PartFile, Option<Notes>), RecordingError> {
    let path = part_path(&spec.path);
    let failed = |error| RecordingError::create(&path, error);
    if !path.exists() && spec.path.exists() {
        std::fs::rename(&spec.path, &path).map_err(failed)?;
    }
    let part = if path.exists() {
        PartFile::open(path.clone(), Some(rate_hz)).map_err(failed)?
    } else {
        PartFile::create(&spec.path, rate_hz).map_err(failed)?
    };
    if part.rate_hz() != rate_hz {
        return Err(RecordingError::Resume { path, found_hz: part.rate_hz(), clock_hz: rate_hz });
    }
    let notes = journal::read(&path, part.frames()).map_err(failed)?;
    Ok((part, Some(notes)))
}
