//! Where does a segment lie? Anchors, each written once, and the release of what was held for them.

use std::time::Duration;

use super::super::counter::{RtpTimestamp, SequenceNumber, Ssrc};
use super::super::hold::{Held, Hold};
use super::super::report::{LegEvent, Segment};
use super::super::skew::Skew;
use super::super::source::{Arrival, Source};
use super::super::time::MediaInstant;
use super::super::timeline::Timeline;
use super::pace::Pace;
use super::pending::Question;
use super::route::{MAX_DISAGREEMENT, MAX_LATENESS, nanos};
use super::{Body, Kind, PREROLL_SLOTS, Previous, Stream};

/// Packets of a source that was replaced are still known for this long: in a network that stands still for some seconds, two that
/// had been held up already would else be a source that begins anew.
pub(super) const STRAGGLERS: Duration = Duration::from_secs(5);
/// A stored anchor is gone on with if it is off by less than this: a day at 50 ppm.
const MAX_RESUME_DRIFT: Duration = Duration::from_secs(5);
/// Segments, and sources, that are remembered of a leg: a sender that goes mad fills no memory.
const MOST: usize = 1_000;
/// Another source goes on with the timestamps of the one before if they are off by less than this. Its first packets were
/// held, so that one of them is hardly delayed: what is off by more would be audio in the wrong place from then on.
pub(super) const MAX_SEAM: Duration = Duration::from_millis(200);
/// Sequence numbers left out at a jump of the timestamps: beyond this many, sender and sequence began anew.
pub(super) const MAX_MISSED_AT_JUMP: u64 = 100;

impl Body {
    /// Answer the pending question with what is held, and let it go.
    pub(super) fn settle(&mut self, now: MediaInstant) {
        let pace = self.pace();
        let Some(pending) = self.pending.take() else { return };
        self.release_waiting();
        let anchor = Anchor::of(&self.hold, self.config.codec.rtp_clock_rate());
        match (pending.question, anchor) {
            (Question::NewSource { ssrc, .. }, Some(anchor)) => self.settle_source(&anchor, ssrc, pace, now),
            // The network had stopped for longer than is thought of a packet, and its queue has not drained yet.
            (Question::Jump { waited, .. }, Some(anchor))
                if (waited || pace != Pace::Steady)
                    && self.is_merely_late(&anchor, self.config.repair_window) => {}
            (Question::Jump { .. }, Some(anchor)) => self.settle_jump(&anchor, now),
            // Telephone events have been told already, and cannot anchor anything. They are of no source, but they did come.
            (_, None) => {
                let came = self.hold.packets().len() as u64;
                self.tally.received += came;
                self.tally.expected += came;
                self.tally.arrived += came;
                return self.hold.clear();
            }
        }
        self.release();
    }

    /// Whether what is held may have waited in a queue of the network.
    pub(super) fn is_late_queue(&self) -> bool {
        Anchor::of(&self.hold, self.config.codec.rtp_clock_rate())
            .is_some_and(|anchor| self.is_merely_late(&anchor, self.config.repair_window))
    }

    fn is_merely_late(&self, anchor: &Anchor, back: Duration) -> bool {
        self.may_have_waited(anchor.first_timestamp, anchor.timestamp, anchor.arrival, back)
    }

    /// Whether packets from timestamp `first` on may have their places by the current timeline, and have waited in a queue, be
    /// it too long for their audio; the one of `timestamp` came at `arrival`. A queue keeps the order: what goes back behind
    /// what has been heard, by more than `back`, did not wait in one.
    pub(super) fn may_have_waited(
        &self,
        first: RtpTimestamp,
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
        back: Duration,
    ) -> bool {
        let (Some(Stream { timeline, .. }), Some(base)) = (&self.active, self.base) else { return false };
        let back = self.config.clock.rate().samples_in(back);
        let heard = base.saturating_add_unsigned(self.tail).saturating_sub_unsigned(back);
        let late = self.disagreement(timeline, timeline.locate(timestamp).1, arrival);
        timeline.locate(first).1 >= heard && (0..=nanos(MAX_LATENESS)).contains(&late)
    }

    /// Whether what is held is as late on the current timeline as the last packet on it was: whatever made that one late goes on.
    fn is_as_late(&self, anchor: &Anchor) -> bool {
        let (Some(Stream { timeline, .. }), Some(last)) = (&self.active, self.jitter.last_lag()) else {
            return false;
        };
        let (_, sample) = timeline.locate(anchor.timestamp);
        let lag = timeline.lag_nanos(sample, anchor.arrival, &self.config.clock);
        lag.abs_diff(last) <= MAX_SEAM.as_nanos() as u64
    }

    fn settle_source(&mut self, anchor: &Anchor, ssrc: Ssrc, pace: Pace, now: MediaInstant) {
        let resumed = self.active.is_none() && self.resume(ssrc, anchor);
        if !resumed {
            // Whoever goes on with the timestamps of another does not speak again where that one was heard.
            // What is late when the queue is dry was not made so by it.
            let is_queued = pace == Pace::CatchingUp && !self.has_drained();
            let has_waited = (is_queued || self.is_as_late(anchor)) && self.is_merely_late(anchor, MAX_SEAM);
            let queued = has_waited.then(|| self.timelines()[0].cloned());
            let timeline = queued.flatten().unwrap_or_else(|| self.timeline_for(anchor, MAX_SEAM));
            self.replace_stream(Source::beginning_at(ssrc, anchor.first_sequence), timeline, now);
        }
        self.begin_segment(ssrc, anchor, now, resumed);
    }

    fn settle_jump(&mut self, anchor: &Anchor, now: MediaInstant) {
        let Some(stream) = &self.active else { return };
        let ssrc = stream.source.ssrc();
        let began_anew = match stream.source.check(anchor.first_sequence) {
            Arrival::InOrder { missed, .. } => missed > MAX_MISSED_AT_JUMP,
            _ => false,
        };
        let timeline = self.timeline_for(anchor, MAX_DISAGREEMENT);
        if began_anew {
            self.replace_stream(Source::beginning_at(ssrc, anchor.first_sequence), timeline, now);
        } else if let Some(stream) = &mut self.active {
            stream.jumped_at = Some(stream.source.extend(anchor.first_sequence));
            let timeline = std::mem::replace(&mut stream.timeline, timeline);
            self.retire_previous();
            let (newest, until) = (self.newest_media, now + STRAGGLERS);
            self.previous = Some(Previous { source: None, newest, timeline, until });
        }
        self.begin_segment(ssrc, anchor, now, false);
    }

    /// Go on with the stored segment if it is this source's and still true.
    fn resume(&mut self, ssrc: Ssrc, anchor: &Anchor) -> bool {
        let Some(segment) = self.config.resume.as_ref().filter(|segment| segment.ssrc == ssrc.0) else {
            return false;
        };
        let clock = &self.config.clock;
        let ticks = self.config.codec.rtp_clock_rate();
        let timeline = Timeline::resumed(segment, anchor.arrival, clock, ticks);
        let (_, sample) = timeline.locate(anchor.timestamp);
        let off = timeline.lag_nanos(sample, anchor.arrival, clock);
        if off.abs() > nanos(MAX_RESUME_DRIFT) {
            return false;
        }
        self.skew = Skew::beginning_at(off);
        let source = Source::beginning_at(ssrc, anchor.first_sequence);
        self.active = Some(Stream { source, timeline, jumped_at: None });
        true
    }

    /// The timeline of what was held: one at hand where its timestamps go on, else one anchored at its arrival. They go on
    /// with the current one if they are off by less than `tolerance`.
    fn timeline_for(&mut self, anchor: &Anchor, tolerance: Duration) -> Timeline {
        let [current, before] = self.timelines();
        let known =
            [(current, tolerance), (before, MAX_SEAM)].into_iter().find_map(|(timeline, tolerance)| {
                let timeline = timeline?;
                let sample = timeline.locate(anchor.timestamp).1;
                self.is_near(timeline, sample, anchor.arrival, tolerance).then_some(timeline)
            });
        if let Some(timeline) = known {
            return timeline.clone();
        }
        let clock = &self.config.clock;
        let ticks = self.config.codec.rtp_clock_rate();
        let arrived = clock.sample_at(anchor.arrival);
        let relative = Timeline::anchored(anchor.timestamp, arrived, clock, ticks);
        let mut first = relative.locate(anchor.first_timestamp).1;
        if let Some(base) = self.base {
            // A sender that began anew without a pause: no seam for the sake of a little jitter.
            let end = base.saturating_add_unsigned(self.tail);
            if (first - end).unsigned_abs() <= clock.rate().slot_samples() as u64 {
                first = end;
            }
        }
        self.ppm_before = self.skew.ppm().or(self.ppm_before);
        self.skew = Skew::default();
        Timeline::anchored(anchor.first_timestamp, first, clock, ticks)
    }

    fn replace_stream(&mut self, source: Source, timeline: Timeline, now: MediaInstant) {
        self.retire_previous();
        if let Some(old) = self.active.replace(Stream { source, timeline, jumped_at: None }) {
            let (source, timeline, until) = (Some(old.source), old.timeline, now + STRAGGLERS);
            self.previous = Some(Previous { source, newest: None, timeline, until });
        }
        if let Some(memory) = &mut self.memory {
            memory.reset();
        }
        self.missed = None;
        self.newest_media = None;
        self.gaps.forget_sequences();
    }

    pub(super) fn retire_previous(&mut self) {
        if let Some(Previous { source: Some(source), .. }) = self.previous.take() {
            self.tally.expected += source.expected();
            self.tally.arrived += source.arrived();
            self.tally.losses += source.losses();
        }
    }

    fn begin_segment(&mut self, ssrc: Ssrc, anchor: &Anchor, now: MediaInstant, resumed: bool) {
        let Some(stream) = &self.active else { return };
        let (_, first_sample) = stream.timeline.locate(anchor.first_timestamp);
        let segment = Segment {
            ssrc: ssrc.0,
            first_sample,
            first_rtp_timestamp: anchor.first_timestamp.0,
            first_sequence: anchor.first_sequence.0,
        };
        self.jitter.interrupt();
        self.events_dtmf.begin_anew(ssrc, anchor.first_timestamp);
        if !self.ssrcs.contains(&ssrc.0) {
            push_bounded(&mut self.ssrcs, ssrc.0);
        }
        if !resumed {
            push_bounded(&mut self.segments, segment.clone());
        }
        if self.base.is_some() {
            self.emit(LegEvent::Resegmented { segment });
            return;
        }
        self.tail = PREROLL_SLOTS * self.config.clock.rate().slot_samples() as u64;
        let base = first_sample.saturating_sub_unsigned(self.tail);
        self.base = Some(base);
        self.writer.set_base(base);
        self.config.clock.propose_origin(first_sample, now);
        self.emit(LegEvent::Anchored { segment });
    }

    /// Take what was held as if it came now, in the order in which it was sent.
    pub(super) fn release(&mut self) {
        let mut hold = std::mem::take(&mut self.hold);
        for held in hold.packets() {
            if let Ok((_, Kind::Audio(_))) = self.classify(hold.datagram(held)) {
                self.measure(held.sequence, held.timestamp, held.arrival);
            }
        }
        // The gaps that are closed now lie before what was measured: only noise at the end leaves nothing to compare with.
        let measured = self.jitter;
        let mut ends_in_noise = false;
        hold.sort();
        for held in hold.packets() {
            // It has been classified before it was held.
            if let Ok((packet, kind)) = self.classify(hold.datagram(held)) {
                self.accept(&packet, kind, held.arrival);
                ends_in_noise = match kind {
                    Kind::Audio(_) => false,
                    Kind::ComfortNoise => true,
                    Kind::Event => ends_in_noise,
                };
            }
        }
        if !ends_in_noise {
            self.jitter = measured;
        }
        if let Some(stream) = &mut self.active {
            stream.source.record_copies(hold.copies());
        }
        hold.clear();
        self.hold = hold;
    }

    /// Note the delay of a packet of audio, in the order of arrival.
    pub(super) fn measure(
        &mut self,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
    ) {
        let Some((extended, sample)) = self.locate(sequence, timestamp, arrival) else { return };
        let Some(stream) = &self.active else { return };
        let lag = stream.timeline.lag_nanos(sample, arrival, &self.config.clock);
        self.jitter.update(arrival, lag, extended);
        self.skew.update(arrival, lag);
    }
}

/// The first ones stay, and the newest.
fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    list.truncate(MOST - 1);
    list.push(item);
}

/// What the packets held say of their segment.
struct Anchor {
    /// The least delayed packet.
    timestamp: RtpTimestamp,
    arrival: MediaInstant,
    /// The earliest packet of media that can belong to it.
    first_timestamp: RtpTimestamp,
    first_sequence: SequenceNumber,
}

impl Anchor {
    fn of(hold: &Hold, clock_rate: u32) -> Option<Self> {
        let media = || hold.packets().iter().filter(|held| held.is_media);
        let reference = media().next()?;
        let ticks = |held: &Held| i64::from(held.timestamp.since(reference.timestamp));
        let delay = |held: &&Held| {
            held.arrival.nanos_since(reference.arrival) - ticks(held) * 1_000_000_000 / i64::from(clock_rate)
        };
        let fastest = media().min_by_key(delay)?;
        let latest = delay(&fastest) + nanos(MAX_LATENESS);
        let first = media().filter(|held| delay(held) <= latest).min_by_key(|held| ticks(held))?;
        Some(Self {
            timestamp: fastest.timestamp,
            arrival: fastest.arrival,
            first_timestamp: first.timestamp,
            first_sequence: first.sequence,
        })
    }
}
