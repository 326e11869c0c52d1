//! Two legs into stereo frames, exact to the sample. Sans-IO: rings in, bytes out, time as a parameter.
//!
//! The recording's frames follow the call's clock: frame `n` is call sample `origin + n`, whatever the legs do. A leg with
//! nothing there is silence; why is kept in its gap list. The legs' slots need not be aligned with each other.

#[cfg(test)]
mod tests;
mod track;

use std::sync::Arc;
use std::time::Duration;

use super::gaps::{GapTrack, Tracks};
use crate::media::ring::Ring;
use crate::media::slot::SlotState;
use crate::media::time::{MediaInstant, SampleRate};

use track::{Reach, Track};

/// Bytes of a stereo frame of 16-bit PCM.
pub const FRAME_BYTES: usize = 4;

/// How far the wall clock alone moves a recording on behind itself, at least: a first packet may belong up to 1 s into
/// the past (the ring's room for packets older than the first).
const LEAST_GUARD: Duration = Duration::from_secs(1);

/// A stretch of the call, in call samples, that is not to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// First sample.
    pub from: i64,
    /// Behind the last one, if the recording goes on.
    pub until: Option<i64>,
}

/// Mixes two legs into frames.
#[derive(Clone, Debug)]
pub struct Interleaver {
    rate: SampleRate,
    legs: [Option<Track>; 2],
    lag: u64,
    guard: u64,
    patience: Duration,
    asked: Option<MediaInstant>,
    origin: i64,
    next: i64,
    /// Frames of an earlier process.
    kept: i64,
    tracks: Tracks,
}

impl Interleaver {
    /// Legs are left and right; `None` is a leg that is not recorded. Frames are emitted `lag` behind the legs' heads, so
    /// that late packets mend them. Readers are made now: what a ring drops from here on counts as missed.
    pub fn new(legs: &[Option<Arc<Ring>>; 2], rate: SampleRate, lag: Duration) -> Self {
        Self::with_hole(legs, rate, lag, SlotState::Silence)
    }

    /// Go on with a recording whose first `frames` frames exist already, with the gaps found in them. What is missing
    /// until a leg is heard again is [`SlotState::Lost`].
    pub fn resumed(
        legs: &[Option<Arc<Ring>>; 2],
        rate: SampleRate,
        lag: Duration,
        frames: u64,
        tracks: Tracks,
    ) -> Self {
        let fresh = Self::with_hole(legs, rate, lag, SlotState::Lost);
        Self { next: frames as i64, kept: frames as i64, tracks, ..fresh }
    }

    fn with_hole(legs: &[Option<Arc<Ring>>; 2], rate: SampleRate, lag: Duration, hole: SlotState) -> Self {
        let held = |ring: &Arc<Ring>| rate.duration_of(ring.capacity_slots() * ring.slot_samples() as u64);
        let capacity = legs.iter().flatten().map(held).min();
        Self {
            rate,
            legs: legs.each_ref().map(|ring| ring.as_ref().map(|ring| Track::new(ring, hole))),
            lag: rate.samples_in(lag),
            guard: rate.samples_in(lag.max(LEAST_GUARD)),
            // A third of what the other leg's ring holds beyond the lag: it is not lapped while this one is waited for.
            patience: capacity.unwrap_or_default().saturating_sub(lag) / 3,
            asked: None,
            origin: 0,
            next: 0,
            kept: 0,
            tracks: Tracks::default(),
        }
    }

    /// Frame 0 is call sample `origin`. To be called once, before the first frame is emitted.
    pub fn set_origin(&mut self, origin: i64) {
        self.next += origin - self.origin;
        self.origin = origin;
    }

    /// The call sample of the next frame.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Frames there are by now.
    pub fn frames(&self) -> u64 {
        self.frames_before(self.next)
    }

    /// Frames before call sample `sample`.
    pub fn frames_before(&self, sample: i64) -> u64 {
        (sample - self.origin).max(0) as u64
    }

    /// The gaps so far.
    pub fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    /// Forget gaps before frame `frame`.
    pub fn forget_before(&mut self, frame: u64) {
        self.tracks.forget_before(frame);
    }

    /// The gaps.
    pub fn into_tracks(self) -> Tracks {
        self.tracks
    }

    /// From now on read to the legs' very heads: nothing more will mend them, and no leg will begin.
    pub fn drop_lag(&mut self) {
        self.lag = 0;
        self.guard = 0;
    }

    /// The call sample up to which frames can be emitted at `now`, whose call sample is `wall`. May be behind
    /// [`Interleaver::next`].
    pub fn due(&mut self, now: MediaInstant, wall: i64) -> i64 {
        let elapsed = self.asked.map_or(Duration::ZERO, |before| now.saturating_since(before));
        self.asked = Some(now);
        let by_wall = wall - self.guard as i64;
        let mut until = None;
        let mut ended = None;
        for track in self.legs.iter_mut().flatten() {
            track.watch(elapsed, self.patience);
            let reach = match track.reach(self.lag) {
                Reach::Ended(end) => {
                    ended = ended.max(Some(end));
                    continue;
                }
                Reach::Never => continue,
                Reach::NotYet => by_wall,
                Reach::Until(sample) if track.is_stuck() => sample.max(by_wall),
                Reach::Until(sample) => sample,
            };
            until = Some(until.map_or(reach, |least: i64| least.min(reach)));
        }
        until.or(ended).unwrap_or(by_wall)
    }

    /// Where the recording ends once nothing more comes: behind the last sample of any leg, or at call sample `wall` if no
    /// leg has any. Before [`Interleaver::next`] if the call ended longer ago than was known; never before the frames of
    /// an earlier process.
    pub fn end(&self, wall: i64) -> i64 {
        let ends = self.legs.iter().flatten().filter_map(|track| match track.reach(0) {
            Reach::Until(end) | Reach::Ended(end) => Some(end),
            Reach::NotYet | Reach::Never => None,
        });
        ends.max().unwrap_or(wall).max(self.origin + self.kept)
    }

    /// Write frames up to call sample `until` to `out`, as many as fit, 16-bit little-endian, left first; returns the
    /// frames. `pauses` are in order and do not overlap.
    pub fn emit(&mut self, until: i64, pauses: &[Pause], out: &mut [u8]) -> usize {
        let room = (out.len() / FRAME_BYTES) as i64;
        let until = until.min(self.next + room);
        if until <= self.next {
            return 0;
        }
        let first = self.next;
        let frames = (until - first) as usize;
        let out = &mut out[..frames * FRAME_BYTES];
        out.fill(0);
        while self.next < until {
            let (to, paused) = stretch(self.next, until, pauses);
            self.emit_stretch(first, to, paused, out);
            self.next = to;
        }
        frames
    }

    /// The same recording from here on, read closer to the present: `lag` behind the legs' heads, where late packets may
    /// still change what it emits, and a leg may still begin in it. This one is left as it is.
    pub fn ahead(&self, lag: Duration) -> Self {
        let lag = self.rate.samples_in(lag).min(self.lag);
        Self { legs: self.legs.clone(), lag, guard: lag, tracks: Tracks::default(), ..*self }
    }

    /// Slots that rings took from us since the last call.
    pub fn take_missed(&mut self) -> u64 {
        self.legs.iter_mut().flatten().map(Track::take_missed).sum()
    }

    /// The rate of both legs.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    fn emit_stretch(&mut self, first: i64, to: i64, paused: bool, out: &mut [u8]) {
        let (from, origin) = (self.next, self.origin);
        let start = (from - origin) as u64;
        let Tracks { legs: gaps, paused: pauses } = &mut self.tracks;
        if paused {
            pauses.note(start, (to - from) as u64, SlotState::Silence);
        }
        for (channel, (leg, gaps)) in self.legs.iter_mut().zip(gaps).enumerate() {
            let Some(track) = leg else {
                gaps.note(start, (to - from) as u64, SlotState::Silence);
                continue;
            };
            track.read(from, to, self.lag, |at, len, state, pcm| {
                let start = (at - origin) as u64;
                if paused {
                    gaps.note(start, len as u64, SlotState::Silence);
                    return;
                }
                note_gap(gaps, start, len as u64, state);
                let frames = &mut out[(at - first) as usize * FRAME_BYTES..];
                for (frame, sample) in frames.chunks_exact_mut(FRAME_BYTES).zip(pcm) {
                    frame[2 * channel..2 * channel + 2].copy_from_slice(&sample.to_le_bytes());
                }
            });
        }
    }
}

fn note_gap(gaps: &mut GapTrack, start: u64, len: u64, state: SlotState) {
    if !state.is_audio() {
        gaps.note(start, len, state);
    }
}

/// How far from `at` on, up to `until`, the recording is paused or is not.
fn stretch(at: i64, until: i64, pauses: &[Pause]) -> (i64, bool) {
    for pause in pauses {
        if at < pause.from {
            return (until.min(pause.from), false);
        }
        match pause.until {
            None => return (until, true),
            Some(end) if at < end => return (until.min(end), true),
            Some(_) => {}
        }
    }
    (until, false)
}
