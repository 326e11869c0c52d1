//! One leg's receiver for transports that carry no timestamps (AudioSocket, chan_websocket): pieces of audio and instants in,
//! samples in a ring and facts out, as [`super::receiver`] does for RTP.
//!
//! A sample's place is a function of how many came before it in its segment. A segment is anchored once: its first pieces are
//! held for [`StreamConfig::anchor_window`], and the least delayed of them says where it begins. From there every sample
//! follows the one before, however late or bunched it comes. A new segment begins only
//! - on a new connection,
//! - after nothing came for longer than [`PAUSE`], if what comes then is not what was held up on the way (it is held and
//!   anchored like the first pieces, and goes on where the segment ended if it begins within [`SEAM`] of it),
//! - if for all of [`SLIP_WINDOW`] even the least delayed piece was more than [`SEAM`] late: the sender left something out.
//!
//! The time between two segments is [`SlotState::Silence`]: the sender sent nothing, as far as anyone can tell without
//! sequence numbers. Nothing received is ever dropped or altered, so a sender that is fast runs ahead.

mod anchor;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::clock::CallClock;
use super::codec::Codec;
use super::codec::linear::{self, ByteOrder};
use super::counter::{ExtendedTimestamp, RtpTimestamp};
use super::receiver::{END_MARGIN, PREROLL_SLOTS, STALL_MARGIN};
use super::report::{LegEvent, LegStats, Segment};
use super::ring::{Ring, RingWriter, ring};
use super::skew::Skew;
use super::slot::SlotState;
use super::statistics::Jitter;
use super::time::MediaInstant;
use anchor::Hold;

/// Without audio for longer than this the sender has paused, or the way was blocked. Asterisk sends every 20 ms while there
/// is audio; TCP's first retransmission comes after 200 ms at the least.
pub const PAUSE: Duration = Duration::from_millis(300);
/// A segment that would begin this near to the end of the one before goes on with it: half of what a listener begins to notice
/// between two parties (ITU-T G.114: 150 to 200 ms one way).
pub const SEAM: Duration = Duration::from_millis(100);
/// Over this long the least delay is taken that tells a sender which left audio out from jitter.
pub const SLIP_WINDOW: Duration = Duration::from_secs(2);
/// Events kept for a driver that does not take them; then the oldest go.
const EVENTS: usize = 64;
/// Segments that are remembered of a leg.
const SEGMENTS: usize = 1_000;

/// How a leg is received.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Format of the audio, one without memory ([`Codec::STATELESS`]); linear samples are little-endian here. Its sample rate
    /// must be the clock's.
    pub codec: Codec,
    /// The call's clock.
    pub clock: Arc<CallClock>,
    /// Slots of 10 ms that the ring keeps, rounded up to a power of two; more than `repair_window` by a second or more.
    pub ring_slots: usize,
    /// How far behind the head live readers stay.
    pub live_lag: Duration,
    /// How far behind the head late audio still finds its place.
    pub repair_window: Duration,
    /// Time without audio after which the leg is stalled, also at its beginning.
    pub stall_after: Duration,
    /// The first pieces of a segment are held this long to find the least delayed one.
    pub anchor_window: Duration,
    /// Segments of an earlier process, if the call was being received before a restart.
    pub resume: Vec<Segment>,
}

impl StreamConfig {
    /// The defaults for audio in `codec` on a call's `clock`; those of RTP.
    pub fn new(codec: Codec, clock: Arc<CallClock>) -> Self {
        Self {
            codec,
            clock,
            ring_slots: 1_000,
            live_lag: Duration::from_millis(60),
            repair_window: Duration::from_secs(2),
            stall_after: Duration::from_secs(2),
            anchor_window: Duration::from_millis(200),
            resume: Vec::new(),
        }
    }
}

/// Plain counts.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    pieces: u64,
    late: u64,
    too_late: u64,
    repaired: u64,
    invalid: u64,
}

/// The receiving end of one leg. The contract with its driver is [`super::receiver`]'s, with [`Self::on_audio`] for a piece of
/// audio, and [`Self::on_connected`] for each connection.
#[derive(Debug)]
pub struct StreamReceiver {
    config: StreamConfig,
    writer: RingWriter,
    /// Call sample of ring sample 0, once there is an anchor.
    base: Option<i64>,
    /// Ring sample behind the newest one received.
    tail: u64,
    /// Samples received so far: what would be the timestamp.
    count: u64,
    hold: Hold,
    /// What comes next begins a segment of its own, wherever that lies.
    is_new: bool,
    /// The window over which the least delay is taken: its beginning, and that delay, nanoseconds.
    slip: Option<(MediaInstant, i64)>,
    begun: Option<MediaInstant>,
    last_arrival: Option<MediaInstant>,
    stalled: bool,
    jitter: Jitter,
    skew: Skew,
    tally: Tally,
    segments: Vec<Segment>,
    events: VecDeque<LegEvent>,
}

impl StreamReceiver {
    /// A receiver, and the ring that it writes. Nothing is allocated a piece of audio from here on.
    pub fn new(config: StreamConfig) -> (Self, Arc<Ring>) {
        let rate = config.codec.sample_rate();
        debug_assert_eq!(rate, config.clock.rate(), "a leg's codec has the rate of the call");
        debug_assert!(!config.codec.is_stateful(), "the settings refuse {} here", config.codec.name());
        let (mut writer, shared) = ring(rate, config.ring_slots);
        writer.set_lags(rate.samples_in(config.live_lag), rate.samples_in(config.repair_window));
        let receiver = Self {
            writer,
            base: None,
            tail: 0,
            count: 0,
            hold: Hold::new(rate),
            is_new: true,
            slip: None,
            begun: None,
            last_arrival: None,
            stalled: false,
            jitter: Jitter::new(rate.hz()),
            skew: Skew::default(),
            tally: Tally::default(),
            segments: config.resume.clone(),
            events: VecDeque::with_capacity(EVENTS),
            config,
        };
        (receiver, shared)
    }

    /// A connection to the sender is there: what comes from now on has nothing to do with what came before.
    pub fn on_connected(&mut self, now: MediaInstant) {
        self.on_tick(now);
        self.settle(now);
        self.is_new = true;
    }

    /// A piece of audio came in at `arrival`. False if its length is impossible: it is counted, and dropped.
    pub fn on_audio(&mut self, arrival: MediaInstant, payload: &[u8]) -> bool {
        self.on_tick(arrival);
        let Some(samples) = self.config.codec.samples_in(payload) else {
            self.tally.invalid += 1;
            return false;
        };
        let paused = self.last_arrival.is_some_and(|last| arrival.saturating_since(last) > PAUSE)
            || self.base.is_none();
        self.heard(arrival);
        self.tally.pieces += 1;
        if !self.hold.is_empty() || paused || self.is_new {
            let codec = self.config.codec;
            if self.hold.is_empty() {
                self.hold.begin(arrival, self.config.anchor_window);
            }
            self.hold.push(arrival, samples, |i| sample(codec, payload, i));
            if self.hold.is_full() {
                self.settle(arrival);
            }
            return true;
        }
        let lag = self.measure(arrival);
        self.watch_slips(arrival, lag);
        let codec = self.config.codec;
        self.place(samples, |i| sample(codec, payload, i));
        true
    }

    /// Something came that is no audio of this leg's.
    pub fn on_invalid(&mut self) {
        self.tally.invalid += 1;
    }

    /// The sender told that a key was pressed. These transports do not tell for how long.
    pub fn on_digit(&mut self, digit: char) {
        self.emit(LegEvent::Dtmf { digit, duration_ms: 0 });
    }

    /// It is `now`, and all that came before has been handed in.
    pub fn on_tick(&mut self, now: MediaInstant) {
        self.begun.get_or_insert(now);
        if self.hold.due().is_some_and(|due| due <= now) {
            self.settle(now);
        }
        if self.stall_deadline().is_some_and(|due| due <= now) {
            self.stalled = true;
            self.emit(match self.last_arrival {
                Some(_) => LegEvent::Stalled,
                None => LegEvent::Unheard { invalid: self.tally.invalid },
            });
        }
        if let Some(head) = self.head_by_time(now) {
            self.writer.advance(head, SlotState::Silence);
        }
    }

    /// When [`Self::on_tick`] is due next, if ever.
    pub fn next_deadline(&self) -> Option<MediaInstant> {
        let slot = self.config.clock.rate().slot_samples() as u64;
        let head = self.base.map(|base| {
            let next = base.saturating_add_unsigned((self.writer.head() / slot + 1) * slot);
            self.config.clock.instant_of(next) + STALL_MARGIN
        });
        [self.hold.due(), self.stall_deadline(), head].into_iter().flatten().min()
    }

    /// What happened since the last call. At most 64 events are kept.
    pub fn take_events(&mut self) -> impl Iterator<Item = LegEvent> + '_ {
        self.events.drain(..)
    }

    /// Bring everything to its end as of `end`: what is held is placed, and a leg without audio for the last 500 ms or more is
    /// padded up to `end`; any other ends with its last sample. The ring stays open; events can still be taken.
    pub fn flush(&mut self, end: MediaInstant) {
        self.settle(end);
        if let (Some(base), Some(last)) = (self.base, self.last_arrival) {
            let stalled = end.saturating_since(last) > END_MARGIN;
            let to = u64::try_from(self.config.clock.sample_at(end) - base).unwrap_or(0);
            if stalled {
                self.writer.advance(to, SlotState::Silence);
            }
            self.writer.cut(if stalled { to } else { 0 });
        }
    }

    /// [`Self::flush`], and close the ring.
    pub fn finish(mut self, end: MediaInstant) -> LegStats {
        self.flush(end);
        self.stats()
    }

    /// Counters and estimates so far. A packet is a piece of audio here; none can be known to be lost.
    pub fn stats(&self) -> LegStats {
        let tally = &self.tally;
        let mut stats = LegStats {
            codec: self.config.codec.name().to_owned(),
            packets_expected: tally.pieces,
            packets_received: tally.pieces,
            packets_late: tally.late,
            packets_repaired: tally.repaired,
            packets_invalid: tally.invalid,
            jitter_ms: self.jitter.millis(),
            max_jitter_ms: self.jitter.most_millis(),
            mean_jitter_ms: self.jitter.mean_millis(),
            max_delta_ms: self.jitter.longest_millis(),
            clock_ppm: self.skew.ppm(),
            segments: self.segments.clone(),
            ..LegStats::default()
        };
        stats.judge();
        stats
    }

    /// How much later than its place the next sample came, nanoseconds.
    fn lag_nanos(&self, arrival: MediaInstant) -> i64 {
        let Some(base) = self.base else { return 0 };
        arrival.nanos_since(self.config.clock.instant_of(base.saturating_add_unsigned(self.tail)))
    }

    fn measure(&mut self, arrival: MediaInstant) -> i64 {
        let lag = self.lag_nanos(arrival);
        self.jitter.update(arrival, lag, ExtendedTimestamp::first(RtpTimestamp(self.count as u32)));
        self.skew.update(arrival, lag);
        lag
    }

    /// A sender that leaves audio out falls behind, and nothing else does so for as long as [`SLIP_WINDOW`].
    fn watch_slips(&mut self, arrival: MediaInstant, lag: i64) {
        let (begin, least) = *self.slip.get_or_insert((arrival, lag));
        let least = least.min(lag);
        if arrival.saturating_since(begin) < SLIP_WINDOW {
            self.slip = Some((begin, least));
            return;
        }
        self.slip = None;
        let Some(base) = self.base.filter(|_| least > nanos(SEAM)) else { return };
        let left_out = self.config.clock.rate().samples_in_nanos(least);
        self.begin_segment(base.saturating_add_unsigned(self.tail) + left_out);
    }

    /// The next samples lie at the tail.
    fn place(&mut self, samples: usize, pcm: impl Fn(usize) -> i16) {
        let placed = self.writer.place(self.tail, samples, pcm, SlotState::Silence);
        self.tail += samples as u64;
        self.count += samples as u64;
        if placed.repaired > 0 {
            self.tally.repaired += 1;
            self.tally.late += 1;
        } else if placed.too_late > 0 {
            self.tally.too_late += 1;
            self.tally.late += 1;
        }
    }

    /// The next sample received is call sample `first`, or lies at the tail if that is later.
    fn begin_segment(&mut self, first: i64) {
        let is_first = self.base.is_none();
        let base = *self.base.get_or_insert_with(|| {
            self.tail = PREROLL_SLOTS * self.config.clock.rate().slot_samples() as u64;
            first.saturating_sub_unsigned(self.tail)
        });
        if is_first {
            self.writer.set_base(base);
        }
        let end = base.saturating_add_unsigned(self.tail);
        let first = first.max(end);
        let segment = Segment {
            ssrc: 0,
            first_sample: first,
            first_rtp_timestamp: self.count as u32,
            first_sequence: 0,
        };
        self.segments.truncate(SEGMENTS - 1);
        self.segments.push(segment.clone());
        self.jitter.interrupt();
        self.skew = Skew::default();
        self.slip = None;
        self.is_new = false;
        if is_first {
            self.emit(LegEvent::Anchored { segment });
            return;
        }
        self.emit(LegEvent::Resegmented { segment });
        if first > end {
            self.tail += (first - end).unsigned_abs();
            self.emit(LegEvent::Gap {
                start: end,
                samples: (first - end).unsigned_abs(),
                kind: SlotState::Silence,
            });
        }
    }

    fn heard(&mut self, arrival: MediaInstant) {
        let last = self.last_arrival.replace(self.last_arrival.map_or(arrival, |last| last.max(arrival)));
        if std::mem::replace(&mut self.stalled, false) {
            let silent = last.or(self.begun).map_or(Duration::ZERO, |since| arrival.saturating_since(since));
            self.emit(LegEvent::Resumed { silent_ms: silent.as_millis() as u64 });
        }
    }

    fn stall_deadline(&self) -> Option<MediaInstant> {
        let since = self.last_arrival.or(self.begun).filter(|_| !self.stalled)?;
        Some(since + self.config.stall_after)
    }

    /// Where time alone has moved the head to by `now`.
    fn head_by_time(&self, now: MediaInstant) -> Option<u64> {
        let sample = self.config.clock.sample_at(now - STALL_MARGIN);
        let slot = self.config.clock.rate().slot_samples() as u64;
        u64::try_from(sample - self.base?).ok().map(|at| at / slot * slot)
    }

    fn emit(&mut self, event: LegEvent) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Sample `index` of `payload`, as streams carry it: linear samples are little-endian.
#[inline]
fn sample(codec: Codec, payload: &[u8], index: usize) -> i16 {
    match codec {
        Codec::Alaw | Codec::Ulaw => codec.decode(payload, index),
        _ => linear::sample(ByteOrder::Little, payload, index),
    }
}

/// Append `pcm` to `out` as streams carry it: linear samples are little-endian.
pub fn encode(codec: Codec, pcm: &[i16], out: &mut Vec<u8>) {
    match codec {
        Codec::Alaw | Codec::Ulaw => codec.encode(pcm, out),
        _ => linear::encode(ByteOrder::Little, pcm, out),
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
