//! Whose packet is it? Acceptance of sources (RFC 3550 A.1) and detection of timestamps that jump.
//!
//! Nothing is dropped for being the first of its kind: a packet of a new source, or with a timestamp that does not fit,
//! is held until the ones after it tell what it was.

use std::time::Duration;

use super::super::counter::{ExtendedTimestamp, RtpTimestamp, SequenceNumber, Ssrc};
use super::super::hold::Held;
use super::super::rtp::RtpPacket;
use super::super::source::{Arrival, MAX_MISORDER, MIN_SEQUENTIAL};
use super::super::time::MediaInstant;
use super::super::timeline::Timeline;
use super::anchor::{MAX_MISSED_AT_JUMP, MAX_SEAM};
use super::{Body, Kind, PacketError, PacketOutcome, Previous};

/// Timestamps and arrival times may disagree by so much before the timestamps are taken to have jumped. As in
/// GStreamer's rtpjitterbuffer.
pub(super) const MAX_DISAGREEMENT: Duration = Duration::from_secs(1);
/// A single packet may be later than its place by so much, and still be believed to be late.
pub(super) const MAX_LATENESS: Duration = Duration::from_secs(30);
/// A source that shows no second packet within this time was a stray packet, unless nobody else was heard meanwhile. Well
/// within the repair window, so that its audio still has a place.
const PROBATION: Duration = Duration::from_secs(1);

/// Packets tell their pace over this much time and no less, and there must be three of them: two may have been delayed by
/// chance, each alone.
const STEADY: Duration = Duration::from_millis(100);

/// Sequence numbers this close are in sequence: RFC 3550 asks for neighbours, but reordering may never show any.
const MAX_STEP: i16 = 16;

/// Packets are being held, and this is why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub since: MediaInstant,
    pub question: Question,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// Is this a new source (or the old one begun anew), and where is its anchor?
    NewSource { ssrc: Ssrc, highest: SequenceNumber, in_sequence: u32 },
    /// Did the current source's timestamps jump, or did the network stop for a while? `waited` if a packet from before came
    /// as late meanwhile: then the network did.
    Jump { highest: SequenceNumber, waited: bool },
}

/// How packets held came in, against how they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Faster: the network had stopped, and its queue drains.
    CatchingUp,
    /// As they were sent: whatever made them late goes on.
    Steady,
    /// They are too few to say.
    Unknown,
}

enum Route {
    Current,
    Straggler,
    NewSource,
    Jump,
}

impl Body {
    pub(super) fn dispatch(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
        match self.route(packet, kind, arrival) {
            Route::Current => {
                self.note_heard(packet, kind, arrival);
                if self.is_answered_by(packet, kind) {
                    if self.has_jumped() {
                        // And now they jump back.
                        self.settle(arrival);
                        return self.dispatch(packet, kind, arrival);
                    }
                    self.pending = None;
                    self.release_waiting();
                    self.release();
                }
                let outcome = self.accept_in_order(packet, kind, arrival);
                if matches!(kind, Kind::Audio(_))
                    && !matches!(outcome, PacketOutcome::Duplicate | PacketOutcome::Invalid(_))
                {
                    self.measure(packet.sequence(), packet.timestamp(), arrival);
                }
                outcome
            }
            Route::Straggler => self.accept_straggler(packet, kind, arrival),
            Route::NewSource => self.hold_new_source(packet, kind, arrival),
            Route::Jump => self.hold_jump(packet, kind, arrival),
        }
    }

    /// A packet of the current source came. While another source asks to be believed it counts as one of now only if it was
    /// sent since: not the copy of an earlier one, nor one that was held up.
    fn note_heard(&mut self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) {
        let mut heard = arrival;
        if let (Some(stream), Some(pending)) = (&self.active, &mut self.pending) {
            let is_old =
                matches!(stream.source.check(packet.sequence()), Arrival::Late { .. } | Arrival::Duplicate);
            let (_, sample) = stream.timeline.locate(packet.timestamp());
            let skew = self.skew.nanos();
            if let (Question::Jump { waited, .. }, true) = (&mut pending.question, is_old) {
                let late = stream.timeline.lag_nanos(sample, arrival, &self.config.clock) - skew;
                *waited |= (nanos(MAX_DISAGREEMENT)..=nanos(MAX_LATENESS)).contains(&late);
            }
            if is_old {
                return;
            }
            if matches!(kind, Kind::Audio(_)) {
                let sent = self.config.clock.instant_of(sample).as_nanos().saturating_add_signed(skew);
                heard = arrival.min(MediaInstant::from_nanos(sent));
            }
        }
        self.active_heard = self.active_heard.max(Some(heard));
    }

    fn route(&self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> Route {
        let Some(stream) = &self.active else { return Route::NewSource };
        let ssrc = packet.ssrc();
        if stream.source.ssrc() == ssrc {
            let jumping = matches!(self.pending, Some(Pending { question: Question::Jump { .. }, .. }));
            let (_, sample) = stream.timeline.locate(packet.timestamp());
            let fits = self.fits(&stream.timeline, sample, arrival);
            match stream.source.check(packet.sequence()) {
                Arrival::InOrder { .. } if kind == Kind::Event && jumping => return Route::Jump,
                // It goes wherever those go that were sent right before it, and after. Where these are late, it may tell that the
                // network had stopped; where they are early, another that is less so tells nothing.
                Arrival::InOrder { .. }
                    if jumping
                        && (self.is_among_held(packet, kind)
                            || self.goes_on_from_held(packet, kind) && !self.is_late_queue()) =>
                {
                    return Route::Jump;
                }
                // It seems to be in time, but for a hundred numbers that are left out, and it has a place in the source before.
                Arrival::InOrder { missed, .. }
                    if missed > MAX_MISSED_AT_JUMP
                        && fits
                        && !self.goes_on_from_held(packet, kind)
                        && self.is_straggler(packet, kind, arrival) =>
                {
                    return Route::Straggler;
                }
                // A key of the source before that was held up: by its number alone it would be ahead of the current one, and the
                // packet that has the number there a copy of it.
                Arrival::InOrder { .. }
                    if kind == Kind::Event
                        && !self.goes_on(packet)
                        && self.is_straggler(packet, kind, arrival) =>
                {
                    return Route::Straggler;
                }
                Arrival::InOrder { .. } if kind == Kind::Event || fits => return Route::Current,
                // It began a few numbers lower, and passes the old ones.
                Arrival::InOrder { .. } if self.follows_held(packet, kind) => return Route::NewSource,
                Arrival::InOrder { .. } if jumping && self.goes_on_from_held(packet, kind) => {
                    return Route::Jump;
                }
                // The sender began anew not far below where it had been: this is from before.
                Arrival::InOrder { .. }
                    if !self.goes_on(packet) && self.is_straggler(packet, kind, arrival) =>
                {
                    return Route::Straggler;
                }
                Arrival::InOrder { .. } => return Route::Jump,
                Arrival::Late { .. } | Arrival::Duplicate
                    if !self.follows_held(packet, kind) && self.may_be_old(packet, kind, arrival) =>
                {
                    return Route::Current;
                }
                Arrival::Duplicate if self.locate_namesake(packet, arrival).is_some() => {
                    return Route::Current;
                }
                Arrival::Jump { sequence } if fits => {
                    let missed = stream.source.missed_before(sequence);
                    if missed.is_some_and(|missed| self.is_outage(missed, sample, kind)) {
                        return Route::Current;
                    }
                }
                _ => {}
            }
        }
        let is_straggler = self.is_straggler(packet, kind, arrival) && !self.follows_held(packet, kind);
        if is_straggler { Route::Straggler } else { Route::NewSource }
    }

    /// Whether `packet` is of the source before the current one. By its number alone it may be of a sender that began anew
    /// near there; but what that one said lies before the current one, and later numbers lie behind earlier ones.
    fn is_straggler(&self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> bool {
        let Some(Previous { source: Some(source), timeline, .. }) = &self.previous else { return false };
        // By its own timeline alone: by the current one timestamps that leap back would be those of a late packet.
        let located = self.locate_by([Some(timeline), None], packet.timestamp(), arrival);
        let (true, Some((_, sample))) = (source.ssrc() == packet.ssrc(), located) else { return false };
        let is_newer = match source.check(packet.sequence()) {
            Arrival::Jump { .. } => return false,
            // The timestamp of an event is that of its beginning.
            _ if kind == Kind::Event => return true,
            Arrival::InOrder { .. } => true,
            Arrival::Late { .. } | Arrival::Duplicate => false,
        };
        let (place, newest) = (timeline.locate(packet.timestamp()), timeline.newest());
        let is_before = self.segments.last().is_none_or(|current| {
            sample < current.first_sample + self.config.clock.rate().samples_in(MAX_SEAM) as i64
        });
        is_before && (!is_newer || place.1 != sample || place.0 > newest)
    }

    /// Whether a packet with an old sequence number has an old timestamp too. If not, its sender has begun anew.
    fn may_be_old(&self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> bool {
        let located = self.locate(packet.sequence(), packet.timestamp(), arrival);
        let (Some((_, sample)), Some(base)) = (located, self.base) else {
            return kind == Kind::Event;
        };
        let is_old = self.newest_media.is_some_and(|newest| packet.sequence().since(newest) <= 0);
        let is_new = sample >= base.saturating_add_unsigned(self.tail);
        !(is_old && is_new && matches!(kind, Kind::Audio(_)))
    }

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
        stream.jumped_at.is_some_and(|jumped_at| jumped_at > stream.source.extend(sequence))
            && previous.newest.is_some_and(|newest| sequence.since(newest) > 0)
            && timestamp.since(previous.timeline.newest().on_wire()) < 0
            && timestamp.since(RtpTimestamp(segment.first_rtp_timestamp)) > 0
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

    fn locate_by(
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
    fn fits(&self, timeline: &Timeline, sample: i64, arrival: MediaInstant) -> bool {
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

    /// Whether a step of `missed` sequence numbers, too large for RFC 3550, is the loss of as much time.
    fn is_outage(&self, missed: u64, sample: i64, kind: Kind) -> bool {
        let (Some(base), Kind::Audio(len)) = (self.base, kind) else { return false };
        let silent = (sample - base).saturating_sub_unsigned(self.tail);
        u64::try_from(silent).is_ok_and(|silent| {
            let lost = missed * len as u64;
            (lost / 4..=lost * 4).contains(&silent)
        })
    }

    /// The network had stopped, and this packet is newer than those held and fits again.
    fn is_answered_by(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let Some(Pending { question: Question::Jump { highest, .. }, .. }) = self.pending else {
            return false;
        };
        // One that cannot have waited, alone, may be the first of a sender that began anew a few numbers lower, ahead of the last
        // ones of before.
        let last = if self.is_late_queue() || self.has_jumped() { 0 } else { MAX_STEP };
        kind != Kind::Event && packet.sequence().since(highest) > last
    }

    /// Whether those held did jump, for all that is known already: two in sequence that cannot have waited.
    fn has_jumped(&self) -> bool {
        let mut held = self.held_media(Kind::ComfortNoise);
        let Some(first) = held.next() else { return false };
        let is_next = |held: &Held| {
            let step = held.sequence.since(first.sequence).abs();
            (1..=MAX_STEP).contains(&step) && !self.is_far(held.timestamp, first.timestamp)
        };
        held.any(is_next) && !self.is_late_queue()
    }

    fn hold_new_source(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
        let (ssrc, number) = (packet.ssrc(), packet.sequence());
        // Lower numbers with other timestamps are those of a sender that began anew again.
        let boundary = self.jumps_from_held(packet, kind)
            || self.is_confirmed() && self.active.is_some() && self.jumps_to_held(packet, kind);
        let begun = Question::NewSource { ssrc, highest: number, in_sequence: 1 };
        match &mut self.pending {
            None => self.pending = Some(Pending { since: arrival, question: begun }),
            Some(Pending { question: Question::NewSource { ssrc: of, highest, in_sequence }, .. })
                if *of == ssrc && i64::from(number.since(*highest)).abs() < MAX_MISORDER && !boundary =>
            {
                let step = number.since(*highest);
                if step != 0 && step.abs() <= MAX_STEP {
                    *in_sequence += 1;
                }
                if step > 0 {
                    *highest = number;
                }
            }
            Some(_) => {
                self.settle_or_discard(arrival);
                return self.dispatch(packet, kind, arrival);
            }
        }
        let outcome = self.hold_packet(packet, kind, arrival);
        // A second packet in sequence may come when the window is over already.
        self.settle_if_due(arrival);
        outcome
    }

    fn hold_jump(&mut self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> PacketOutcome {
        let number = packet.sequence();
        let timestamp = packet.timestamp();
        let may_have_waited = self.may_have_waited(timestamp, timestamp, arrival, self.config.repair_window);
        let (from_held, to_held) = (self.jumps_from_held(packet, kind), self.jumps_to_held(packet, kind));
        let was_overtaken = may_have_waited && to_held;
        match &mut self.pending {
            None => {
                let question = Question::Jump { highest: number, waited: false };
                self.pending = Some(Pending { since: arrival, question })
            }
            // Those that jumped have overtaken the last packets before them.
            Some(Pending { question: Question::Jump { .. }, .. }) if was_overtaken => {
                return self.accept_in_order(packet, kind, arrival);
            }
            // This one jumps, whether those before it did or waited in the queue that it waited in.
            Some(Pending { question: Question::Jump { .. }, .. }) if from_held || to_held => {
                self.settle(arrival);
                return self.dispatch(packet, kind, arrival);
            }
            Some(Pending { question: Question::Jump { highest, .. }, .. }) => {
                // An event says nothing of the timestamps: media from right before it may answer.
                if kind != Kind::Event && number.since(*highest) > 0 {
                    *highest = number;
                }
            }
            // Another source has overtaken the last packets of this one, in the queue or out of it.
            Some(Pending { question: Question::NewSource { .. }, .. }) if may_have_waited => {
                return self.accept_in_order(packet, kind, arrival);
            }
            Some(Pending { question: Question::NewSource { ssrc, .. }, .. }) => {
                // If it began anew, it goes on behind a pause.
                if *ssrc != packet.ssrc() && self.is_confirmed() {
                    return self.implausible(packet);
                }
                self.settle_or_discard(arrival);
                return self.dispatch(packet, kind, arrival);
            }
        }
        self.hold_packet(packet, kind, arrival)
    }

    fn hold_packet(&mut self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> PacketOutcome {
        let (number, timestamp) = (packet.sequence(), packet.timestamp());
        let held = self.hold.packets();
        if held.iter().any(|held| held.sequence == number && held.timestamp == timestamp) {
            self.tally.duplicate += 1;
            self.hold.note_copy();
            return PacketOutcome::Duplicate;
        }
        if !self.hold.push(arrival, number, timestamp, kind != Kind::Event, packet.datagram()) {
            self.settle_or_discard(arrival);
            return self.dispatch(packet, kind, arrival);
        }
        PacketOutcome::Held
    }

    /// Whether the timestamp of `packet` is far from that of the packet held which was sent last before it.
    fn jumps_from_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let before = self.held_media(kind).filter(|held| packet.sequence().since(held.sequence) > 0);
        let last = before.min_by_key(|held| packet.sequence().since(held.sequence));
        last.is_some_and(|last| self.is_far(packet.timestamp(), last.timestamp))
    }

    /// Whether `packet` was sent before all those held, or has the number of the first, and its timestamp is far from theirs.
    fn jumps_to_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let first = self.held_media(kind).min_by_key(|held| held.sequence.since(packet.sequence()));
        first.is_some_and(|first| {
            first.sequence.since(packet.sequence()) >= 0 && self.is_far(first.timestamp, packet.timestamp())
        })
    }

    /// The packets of media held, if `kind` is that of media.
    fn held_media(&self, kind: Kind) -> impl Iterator<Item = &Held> {
        self.hold.packets().iter().filter(move |held| held.is_media && kind != Kind::Event)
    }

    /// Whether `packet` goes on with what is held of a source that asks to be believed. By its number it may be one of the current
    /// source that is very late as well: a sender that begins anew a thousand numbers lower comes among those.
    fn follows_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let Some(Pending { question: Question::NewSource { ssrc, .. }, .. }) = self.pending else {
            return false;
        };
        ssrc == packet.ssrc() && self.goes_on_from_held(packet, kind)
    }

    /// Whether `packet` has a number and a timestamp that follow closely on those of a packet held.
    fn goes_on_from_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let step = |held: &&Held| packet.sequence().since(held.sequence);
        let before =
            self.held_media(kind).filter(|held| (1..=MAX_STEP).contains(&step(held))).min_by_key(step);
        before.is_some_and(|before| !self.is_far(packet.timestamp(), before.timestamp))
    }

    /// Whether `packet` was sent between packets that are held, or right before them, by its number and its timestamp.
    fn is_among_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let step = |held: &&Held| held.sequence.since(packet.sequence());
        let after =
            self.held_media(kind).filter(|held| (1..=MAX_STEP).contains(&step(held))).min_by_key(step);
        after.is_some_and(|after| !self.is_far(after.timestamp, packet.timestamp()))
    }

    /// Whether the timestamp of `packet` is nearer to those of now than to those of the timeline before.
    fn goes_on(&self, packet: &RtpPacket<'_>) -> bool {
        let [Some(current), Some(before)] = self.timelines() else { return false };
        let off = |timeline: &Timeline| packet.timestamp().since(timeline.newest().on_wire()).unsigned_abs();
        off(current) < off(before)
    }

    /// Whether two timestamps are more than a second apart.
    fn is_far(&self, one: RtpTimestamp, other: RtpTimestamp) -> bool {
        one.since(other).unsigned_abs() > self.config.codec.rtp_clock_rate()
    }

    /// Whether what is held is to be believed: a source in sequence, or the only one there is.
    pub(super) fn is_confirmed(&self) -> bool {
        match self.pending {
            Some(Pending { question: Question::NewSource { in_sequence, .. }, .. }) => {
                in_sequence >= MIN_SEQUENTIAL || self.active.is_none()
            }
            Some(Pending { question: Question::Jump { .. }, .. }) => true,
            None => false,
        }
    }

    /// A packet came of another source than the one held: decide about that one now.
    fn settle_or_discard(&mut self, now: MediaInstant) {
        let in_sequence = match self.pending {
            Some(Pending { question: Question::NewSource { in_sequence, .. }, .. }) => in_sequence,
            _ => MIN_SEQUENTIAL,
        };
        if in_sequence >= MIN_SEQUENTIAL {
            self.settle(now);
        } else {
            self.discard_held();
        }
    }

    pub(super) fn discard_held(&mut self) {
        self.pending = None;
        self.tally.invalid += self.hold.packets().len() as u64;
        self.hold.clear();
    }

    pub(super) fn settle_deadline(&self) -> Option<MediaInstant> {
        let pending = self.pending.as_ref()?;
        let is_open = match pending.question {
            Question::NewSource { .. } => self.active.is_some() && self.pace() == Pace::CatchingUp,
            Question::Jump { waited, .. } => waited || self.pace() != Pace::Steady,
        };
        let long = !self.is_confirmed() || is_open;
        let wait = if long { PROBATION } else { self.config.anchor_window };
        Some(pending.since + wait)
    }

    /// How the packets held came in. Timestamps that jumped back and a network that stopped make the same delay of the first
    /// packet; the ones after it are as late as it is, or less and less.
    pub(super) fn pace(&self) -> Pace {
        let mut media = self.hold.packets().iter().filter(|held| held.is_media);
        let Some(first) = media.next() else { return Pace::Unknown };
        // The last one to come may have been overtaken.
        let (count, passed, ticks) = media.fold((1, 0, 0), |(count, _, ticks), held| {
            let since = i64::from(held.timestamp.since(first.timestamp));
            (count + 1, held.arrival.nanos_since(first.arrival), since.max(ticks))
        });
        if ticks * 1_000_000_000 / i64::from(self.config.codec.rtp_clock_rate()) > passed + passed / 4 {
            Pace::CatchingUp
        } else if passed >= nanos(STEADY) && count >= 3 {
            Pace::Steady
        } else {
            Pace::Unknown
        }
    }

    pub(super) fn settle_if_due(&mut self, now: MediaInstant) {
        if self.settle_deadline().is_some_and(|due| due <= now) {
            self.settle_at_end(now);
        }
    }

    /// Decide by what is known; no more will be.
    pub(super) fn settle_at_end(&mut self, now: MediaInstant) {
        let alone = self.pending.is_some_and(|pending| Some(pending.since) > self.active_heard);
        if self.is_confirmed() || alone {
            self.settle(now);
        } else {
            self.discard_held();
        }
    }

    pub(super) fn implausible(&mut self, packet: &RtpPacket<'_>) -> PacketOutcome {
        self.tally.invalid += 1;
        PacketOutcome::Invalid(PacketError::Timestamp {
            ssrc: packet.ssrc().0,
            sequence: packet.sequence().0,
            timestamp: packet.timestamp().0,
        })
    }
}

pub(super) const fn nanos(d: Duration) -> i64 {
    d.as_nanos() as i64
}
