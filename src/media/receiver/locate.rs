//! Where a timestamp lies: by the current timeline, by the one before, or on the other side of a jump.

use std::time::Duration;

use super::super::counter::{ExtendedTimestamp, RtpTimestamp, SequenceNumber};
use super::super::rtp::RtpPacket;
use super::super::time::MediaInstant;
use super::super::timeline::Timeline;
use super::route::{MAX_DISAGREEMENT, MAX_LATENESS, MAX_STEP, nanos};
use super::{Body, Kind, Previous};

impl Body {
    /// Where `timestamp` of the current source lies, by the timeline that was in force at `sequence`; `None` if that does not make it
    /// a packet of about now.
    pub(super) fn locate(
        &self,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
    ) -> Option<(ExtendedTimestamp, i64)> {
        if self.is_of_no_side(sequence, timestamp) {
            return None;
        }
        // After a jump both may do: a few seconds forward make an old packet a late one.
        if self.precedes_jump(sequence, timestamp) {
            return self.locate_straggler(timestamp, arrival);
        }
        let [current, _] = self.timelines();
        self.locate_by([current, None], timestamp, arrival)
    }

    /// Whether `sequence` is of before the timestamps jumped. The jump was seen at the first packet that came in time: those
    /// missing between the last one before and that one may be of either side, and their timestamps say of which.
    fn precedes_jump(&self, sequence: SequenceNumber, timestamp: RtpTimestamp) -> bool {
        let Some(stream) = &self.active else { return false };
        if stream.jumped_at.is_none_or(|jumped_at| jumped_at <= stream.source.extend(sequence)) {
            return false;
        }
        let (Some(previous), Some(segment)) = (&self.previous, self.segments.last()) else { return true };
        if previous.newest.is_none_or(|newest| sequence.since(newest) <= 0) {
            return true;
        }
        let since = timestamp.since(previous.timeline.newest().on_wire());
        let until = RtpTimestamp(segment.first_rtp_timestamp).since(timestamp);
        match (since >= 0, until >= 0) {
            (true, false) => true,
            (false, true) => false,
            _ => since.unsigned_abs() <= until.unsigned_abs(),
        }
    }

    /// Whether `sequence` is of between the last packet before the timestamps jumped and the first one behind that, and `timestamp`
    /// is not: it is of neither side, but of a sender that began anew.
    fn is_of_no_side(&self, sequence: SequenceNumber, timestamp: RtpTimestamp) -> bool {
        let (Some(stream), Some(previous), Some(segment)) =
            (&self.active, &self.previous, self.segments.last())
        else {
            return false;
        };
        let ticks_before = RtpTimestamp(segment.first_rtp_timestamp).since(timestamp);
        stream.jumped_at.is_some_and(|jumped_at| jumped_at > stream.source.extend(sequence))
            && previous.newest.is_some_and(|newest| sequence.since(newest) > 0)
            && timestamp.since(previous.timeline.newest().on_wire()) < 0
            && !(0..=self.most_late_ticks()).contains(&ticks_before)
    }

    /// Whether `sequence` and `timestamp` are those of a packet between the last one that came before the timestamps jumped and the first
    /// one behind that.
    pub(super) fn is_missing_before_jump(&self, sequence: SequenceNumber, timestamp: RtpTimestamp) -> bool {
        let (Some(stream), Some(Previous { newest: Some(newest), timeline, .. })) =
            (&self.active, &self.previous)
        else {
            return false;
        };
        let before = timeline.newest().on_wire();
        stream.jumped_at.is_some_and(|jumped_at| jumped_at > stream.source.extend(sequence))
            && sequence.since(*newest) > 0
            && timestamp.since(before) > 0
            && !self.is_far(timestamp, before)
    }

    /// Whether `packet` has a number that is missing on this side of a jump of the timestamps, and is of the other one.
    pub(super) fn is_namesake(&self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> bool {
        matches!(kind, Kind::Audio(_))
            && self.locate(packet.sequence(), packet.timestamp(), arrival).is_none()
            && self.locate_namesake(packet, arrival).is_some()
    }

    /// Where a packet lies whose number may have been seen on the other side of a jump of the timestamps, by its own one.
    pub(super) fn locate_namesake(
        &self,
        packet: &RtpPacket<'_>,
        arrival: MediaInstant,
    ) -> Option<(ExtendedTimestamp, i64)> {
        let (sequence, timestamp) = (packet.sequence(), packet.timestamp());
        self.locate_before_jump(sequence, timestamp, arrival)
            .or_else(|| self.locate_behind_jump(sequence, timestamp, arrival))
    }

    /// Where a packet lies before the jump of the timestamps that was sent right before it, by its number and its timestamp.
    fn locate_before_jump(
        &self,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
    ) -> Option<(ExtendedTimestamp, i64)> {
        let segment = self.segments.last()?;
        let Some(Previous { source: None, newest: Some(newest), timeline, .. }) = &self.previous else {
            return None;
        };
        let (step, newest) = (sequence.since(*newest), timeline.newest().on_wire());
        let ticks = timestamp.since(newest);
        let was_sent_there = (-MAX_STEP..=MAX_STEP).contains(&step)
            && i32::from(step).signum() == ticks.signum()
            && !self.is_far(timestamp, newest);
        let located = self.locate_by([Some(timeline), None], timestamp, arrival)?;
        (was_sent_there && located.1 < segment.first_sample).then_some(located)
    }

    /// Where a packet lies behind the jump of the timestamps that was sent right behind it, or right before those that told of it,
    /// by its number and its timestamp.
    fn locate_behind_jump(
        &self,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
    ) -> Option<(ExtendedTimestamp, i64)> {
        let stream = self.active.as_ref()?;
        let step = stream.source.extend(sequence).since(stream.jumped_at?);
        let first = RtpTimestamp(self.segments.last()?.first_rtp_timestamp);
        let was_sent_there = step.abs() <= MAX_STEP.into()
            && step.signum() == i64::from(timestamp.since(first).signum())
            && !self.is_far(timestamp, first);
        if was_sent_there { self.locate_by([Some(&stream.timeline), None], timestamp, arrival) } else { None }
    }

    /// Where `timestamp` lies by the timeline before the current one or, failing that, by the current one.
    pub(super) fn locate_straggler(
        &self,
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
    ) -> Option<(ExtendedTimestamp, i64)> {
        let [current, before] = self.timelines();
        self.locate_by([before, current], timestamp, arrival)
    }

    /// The current one, and the one before.
    pub(super) fn timelines(&self) -> [Option<&Timeline>; 2] {
        let current = self.active.as_ref().map(|stream| &stream.timeline);
        [current, self.previous.as_ref().map(|previous| &previous.timeline)]
    }

    pub(super) fn locate_by(
        &self,
        timelines: [Option<&Timeline>; 2],
        timestamp: RtpTimestamp,
        arrival: MediaInstant,
    ) -> Option<(ExtendedTimestamp, i64)> {
        timelines.into_iter().flatten().find_map(|timeline| {
            let located = timeline.locate(timestamp);
            let off = self.disagreement(timeline, located.1, arrival);
            (-nanos(MAX_DISAGREEMENT)..=nanos(MAX_LATENESS)).contains(&off).then_some(located)
        })
    }

    /// Whether a packet in sequence may have call sample `sample` for its place.
    pub(super) fn fits(&self, timeline: &Timeline, sample: i64, arrival: MediaInstant) -> bool {
        self.is_near(timeline, sample, arrival, MAX_DISAGREEMENT)
    }

    /// Whether a packet with call sample `sample` for its place came within `tolerance` of that.
    pub(super) fn is_near(
        &self,
        timeline: &Timeline,
        sample: i64,
        arrival: MediaInstant,
        tolerance: Duration,
    ) -> bool {
        // Later than the repair window would be too late for ever, packet after packet.
        let latest = tolerance.min(self.config.repair_window);
        let off = self.disagreement(timeline, sample, arrival);
        (-nanos(tolerance)..=nanos(latest)).contains(&off)
    }

    /// Nanoseconds by which a packet is later than its place, less what the clocks have drifted apart.
    pub(super) fn disagreement(&self, timeline: &Timeline, sample: i64, arrival: MediaInstant) -> i64 {
        timeline.lag_nanos(sample, arrival, &self.config.clock) - self.skew.nanos()
    }

    /// Whether the timestamp of `packet` is nearer to those of now than to those of the timeline before.
    pub(super) fn goes_on(&self, packet: &RtpPacket<'_>) -> bool {
        let [Some(current), Some(before)] = self.timelines() else { return false };
        let off = |timeline: &Timeline| packet.timestamp().since(timeline.newest().on_wire()).unsigned_abs();
        off(current) < off(before)
    }

    /// [`MAX_LATENESS`] in ticks of the timestamps.
    pub(super) fn most_late_ticks(&self) -> i32 {
        MAX_LATENESS.as_secs() as i32 * self.config.codec.rtp_clock_rate() as i32
    }

    /// Whether two timestamps are more than a second apart.
    pub(super) fn is_far(&self, one: RtpTimestamp, other: RtpTimestamp) -> bool {
        one.since(other).unsigned_abs() > self.config.codec.rtp_clock_rate()
    }
}
