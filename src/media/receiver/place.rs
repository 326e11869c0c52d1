//! Into the ring: every accepted packet at its place, and a name for what is missing.

use super::super::codec::Codec;
use super::super::codec::g711::{ALAW, ULAW};
use super::super::codec::linear::{self, ByteOrder};
use super::super::conceal::{self, conceal};
use super::super::counter::{ExtendedSequence, ExtendedTimestamp};
use super::super::gap::{Gap, Missed};
use super::super::report::LegEvent;
use super::super::ring::Placed;
use super::super::rtp::RtpPacket;
use super::super::slot::SlotState;
use super::super::source::Arrival;
use super::super::time::{MediaInstant, SampleRate};
use super::{Body, Kind, PacketOutcome, STALL_MARGIN, STALLED_SLOTS};

/// A hole of up to this many times the lost packets' length is all theirs: packets may have grown (20 ms to 80 ms). A longer
/// one is silence, and they were its last part.
const MAX_GROWTH: u64 = 4;

impl Body {
    /// Take a packet of the current source.
    pub(super) fn accept(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
        let Some(stream) = &self.active else { return self.implausible(packet) };
        let (sequence, missed) = match stream.source.check(packet.sequence()) {
            Arrival::InOrder { sequence, missed } => (sequence, Some(missed)),
            Arrival::Late { sequence } if !self.is_namesake(packet, kind, arrival) => (sequence, None),
            Arrival::Jump { sequence } => match stream.source.missed_before(sequence) {
                Some(missed) => (sequence, Some(missed)),
                None => return self.implausible(packet),
            },
            Arrival::Late { .. } | Arrival::Duplicate => {
                return self.accept_namesake(packet, kind, arrival).unwrap_or_else(|| {
                    if let Some(stream) = &mut self.active {
                        stream.source.record_copies(1);
                    }
                    self.tally.duplicate += 1;
                    PacketOutcome::Duplicate
                });
            }
        };
        if let Some(stream) = &mut self.active {
            stream.source.record(sequence);
        }
        if let Some(missed) = missed {
            self.note_missed(sequence, missed);
        }
        let located = self.locate(packet.sequence(), packet.timestamp(), arrival);
        let outcome = match kind {
            Kind::Audio(len) => self.place_audio(packet, len, located, missed.is_some()),
            Kind::ComfortNoise => self.place_noise(packet, located, missed.is_some()),
            Kind::Event => PacketOutcome::TelephoneEvent,
        };
        if missed.is_none() {
            self.note_late(sequence);
        }
        if !matches!(outcome, PacketOutcome::Invalid(_)) {
            self.tally.received += 1;
        }
        outcome
    }

    /// Take a packet whose number is another one's on this side of a jump of the timestamps, if by its own it is of the other one
    /// and nothing was heard there: its sender began anew a few numbers lower, and this one was overtaken by those that told of
    /// the jump.
    fn accept_namesake(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> Option<PacketOutcome> {
        let Kind::Audio(len) = kind else { return None };
        let located = self.locate_namesake(packet, arrival)?;
        let at = u64::try_from(located.1 - self.base?).ok()?;
        let end = at + len as u64;
        if end <= self.writer.head() && self.writer.missing_run(at, end).is_none() {
            return None;
        }
        self.tally.received += 1;
        Some(self.place_audio(packet, len, Some(located), false))
    }

    /// Take a packet of the source before the current one.
    pub(super) fn accept_straggler(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
        let Some(source) = self.previous.as_mut().and_then(|previous| previous.source.as_mut()) else {
            return self.implausible(packet);
        };
        match source.check(packet.sequence()) {
            Arrival::InOrder { sequence, .. } | Arrival::Late { sequence } => source.record(sequence),
            Arrival::Duplicate | Arrival::Jump { .. } => {
                self.tally.duplicate += 1;
                return PacketOutcome::Duplicate;
            }
        }
        self.tally.received += 1;
        match kind {
            Kind::Audio(len) => {
                let located = self.locate_straggler(packet.timestamp(), arrival);
                self.place_audio(packet, len, located, false)
            }
            Kind::ComfortNoise => PacketOutcome::ComfortNoise,
            Kind::Event => PacketOutcome::TelephoneEvent,
        }
    }

    /// A datagram that is of no use may still account for a sequence number of the current source.
    pub(super) fn note_invalid(&mut self, datagram: &[u8]) {
        let Ok(packet) = RtpPacket::parse(datagram) else { return };
        if self.active.as_ref().is_none_or(|stream| stream.source.ssrc() != packet.ssrc()) {
            return;
        }
        self.release_waiting();
        let Some(stream) = &mut self.active else { return };
        match stream.source.check(packet.sequence()) {
            Arrival::InOrder { sequence, missed } => {
                stream.source.record(sequence);
                self.note_missed(sequence, missed);
            }
            Arrival::Late { sequence } => {
                stream.source.record(sequence);
                self.note_late(sequence);
            }
            Arrival::Duplicate | Arrival::Jump { .. } => {}
        }
    }

    fn place_audio(
        &mut self,
        packet: &RtpPacket<'_>,
        len: usize,
        located: Option<(ExtendedTimestamp, i64)>,
        in_order: bool,
    ) -> PacketOutcome {
        let (Some((extended, sample)), Some(base)) = (located, self.base) else {
            return self.implausible(packet);
        };
        let Ok(at) = u64::try_from(sample - base) else {
            return self.count(Placed { too_late: len, ..Placed::default() });
        };
        let missed = self.missed;
        let missing = if in_order {
            if let Some(stream) = &mut self.active {
                stream.timeline.advance(extended);
            }
            self.close_gap(at, len as u64)
        } else {
            self.fill
        };
        let (codec, payload) = (self.config.codec, packet.payload());
        let placed = match self.memory.is_some() {
            true => match self.place_decoded(packet, at, in_order.then_some((missing, missed))) {
                Ok(placed) => placed,
                Err(source) => return self.undecodable(packet, at, missing, source),
            },
            // A loop for each law, so that the choice is not made again for every sample.
            false => match codec {
                Codec::Ulaw => self.writer.put(at, len, |i| ULAW[usize::from(payload[i])], missing),
                Codec::Alaw => self.writer.put(at, len, |i| ALAW[usize::from(payload[i])], missing),
                _ => self.writer.put(at, len, |i| linear::sample(ByteOrder::Big, payload, i), missing),
            },
        };
        self.conceal_passed();
        self.writer.publish();
        if in_order {
            self.fill = SlotState::Silence;
            self.newest_media = Some(packet.sequence());
        }
        self.tail = self.tail.max(at + len as u64);
        self.count(placed)
    }

    fn count(&mut self, placed: Placed) -> PacketOutcome {
        if placed.repaired > 0 {
            self.tally.late += 1;
            self.tally.repaired += 1;
            PacketOutcome::Repaired
        } else if placed.written > 0 {
            PacketOutcome::Placed
        } else if placed.too_late > 0 {
            self.tally.late += 1;
            PacketOutcome::TooLate
        } else {
            PacketOutcome::Overlapped
        }
    }

    /// Comfort noise (RFC 3389) lasts until the next packet; its level is not rendered.
    fn place_noise(
        &mut self,
        packet: &RtpPacket<'_>,
        located: Option<(ExtendedTimestamp, i64)>,
        in_order: bool,
    ) -> PacketOutcome {
        let (Some((extended, sample)), Some(base)) = (located, self.base) else {
            return self.implausible(packet);
        };
        let (true, Ok(at)) = (in_order, u64::try_from(sample - base)) else {
            return PacketOutcome::ComfortNoise;
        };
        if let Some(stream) = &mut self.active {
            stream.timeline.advance(extended);
        }
        let missing = self.close_gap(at, self.config.clock.rate().slot_samples() as u64 * 2);
        self.writer.declare(at, missing);
        self.conceal_passed();
        self.writer.publish();
        self.writer.relabel(at, self.writer.head(), SlotState::ComfortNoise);
        self.fill = SlotState::ComfortNoise;
        self.newest_media = Some(packet.sequence());
        self.tail = self.tail.max(at);
        self.jitter.interrupt();
        PacketOutcome::ComfortNoise
    }

    /// A packet of `len` samples begins at ring sample `at`. Name what lies between it and the newest one before, and return
    /// the name for the part that the ring's head has not passed.
    fn close_gap(&mut self, at: u64, len: u64) -> SlotState {
        let missed = self.missed.take().filter(|missed| missed.missing > 0);
        if at <= self.tail {
            return self.fill;
        }
        let hole = at - self.tail;
        let Some(missed) = missed else {
            self.jitter.interrupt();
            self.open_gap(self.tail, at, self.fill, None);
            return self.fill;
        };
        let lost = missed.missing * len;
        let start = if hole <= MAX_GROWTH * lost { self.tail } else { at - lost };
        if start > self.tail {
            self.jitter.interrupt();
            self.open_gap(self.tail, start, self.fill, None);
            self.writer.declare(start, self.fill);
        }
        self.writer.relabel(start, at.min(self.writer.head()), SlotState::Lost);
        self.open_gap(start, at, SlotState::Lost, Some(missed));
        SlotState::Lost
    }

    fn open_gap(&mut self, start: u64, end: u64, kind: SlotState, missed: Option<Missed>) {
        // Comfort noise is what was sent.
        if kind == SlotState::ComfortNoise {
            return;
        }
        let gap = Gap { start, end, kind, missed, announced: false, concealed: false };
        if let Some(oldest) = self.gaps.watch(gap)
            && !oldest.announced
        {
            self.announce(oldest);
        }
    }

    /// Conceal the short losses that live readers will have passed once the head is published.
    fn conceal_passed(&mut self) {
        self.conceal_before(self.writer.live_passed());
    }

    /// Conceal the short losses that begin before ring sample `live`.
    pub(super) fn conceal_before(&mut self, live: u64) {
        if !self.config.conceal || self.gaps.is_empty() {
            return;
        }
        while let Some(gap) = self.gaps.next_to_conceal(live) {
            if gap.kind == SlotState::Lost {
                self.conceal_gap(gap);
            }
        }
    }

    /// Packets of the gap may have come since: what is still missing may be several stretches.
    fn conceal_gap(&mut self, gap: Gap) {
        let rate = self.config.clock.rate();
        let longest = rate.samples_in(conceal::MAX_GAP);
        let mut from = gap.start;
        while let Some((start, end)) = self.writer.missing_run(from, gap.end) {
            if end - start <= longest {
                self.conceal_run(rate, start, (end - start) as usize);
            }
            from = end;
        }
    }

    fn conceal_run(&mut self, rate: SampleRate, start: u64, len: usize) {
        let context = rate.samples_in(conceal::CONTEXT) as usize;
        let (before, rest) = self.scratch.split_at_mut(context);
        let (after, rest) = rest.split_at_mut(context);
        let gap = &mut rest[..len];
        let heard_before = self.writer.received_before(start, before);
        let heard_after = self.writer.received_from(start + len as u64, after);
        if conceal(rate, &before[context - heard_before..], &after[..heard_after], gap) {
            self.writer.conceal(start, len, |i| gap[i]);
        }
    }

    pub(super) fn note_missed(&mut self, sequence: ExtendedSequence, missed: u64) {
        let first = sequence.plus(-(missed as i64));
        let missed = match self.missed {
            Some(before) => Missed { after: sequence, missing: before.missing + missed, ..before },
            None => Missed { first, after: sequence, missing: missed },
        };
        self.missed = Some(missed);
    }

    /// `sequence` came after higher ones: it is missing no more.
    fn note_late(&mut self, sequence: ExtendedSequence) {
        if self.missed.as_mut().is_some_and(|missed| missed.arrived(sequence)) {
            return;
        }
        if let Some(gap) = self.gaps.arrived(sequence) {
            self.writer.relabel(gap.start, gap.end, SlotState::Silence);
        }
    }

    /// Where time alone has moved the head to by `now`.
    fn head_by_time(&self, now: MediaInstant) -> Option<u64> {
        let rate = self.config.clock.rate();
        let behind = rate.samples_in_nanos(self.skew.behind());
        let sample = self.config.clock.sample_at(now - STALL_MARGIN) - behind;
        let slot = rate.slot_samples() as u64;
        u64::try_from(sample - self.base?).ok().map(|at| at / slot * slot)
    }

    pub(super) fn advance_head(&mut self, now: MediaInstant) {
        if let Some(head) = self.head_by_time(now)
            && head > self.writer.head()
        {
            self.writer.declare(head, self.fill);
            self.conceal_passed();
            self.writer.publish();
        }
    }

    pub(super) fn head_deadline(&self) -> Option<MediaInstant> {
        let slots = if self.stalled { STALLED_SLOTS } else { 1 };
        let clock = &self.config.clock;
        Some(moved_on_at(
            clock.start(),
            clock.rate(),
            self.skew.behind(),
            self.base?,
            self.writer.head(),
            slots,
        ))
    }

    pub(super) fn announce_gaps(&mut self) {
        if self.gaps.is_empty() {
            return;
        }
        let rate = self.config.clock.rate();
        self.announce_gaps_before(self.writer.head().saturating_sub(rate.samples_in(self.config.live_lag)));
        let repair = rate.samples_in(self.config.repair_window);
        self.gaps.forget(self.writer.head().saturating_sub(repair));
    }

    pub(super) fn announce_gaps_before(&mut self, live: u64) {
        while let Some(gap) = self.gaps.next_passed(live) {
            self.announce(gap);
        }
    }

    fn announce(&mut self, gap: Gap) {
        let samples = self.writer.missing_in(gap.start, gap.end);
        if let (Some(base), true) = (self.base, samples > 0) {
            let start = base.saturating_add_unsigned(gap.start);
            self.emit(LegEvent::Gap { start, samples, kind: gap.kind });
        }
    }
}

/// When time moves on a head at ring sample `head` by `slots` slots, if call sample 0 was at `start`, ring sample 0 is call
/// sample `base`, and time stays `behind` nanoseconds more behind for the sender's sake
/// ([`Skew::behind`](super::super::skew::Skew::behind)).
pub(super) fn moved_on_at(
    start: MediaInstant,
    rate: SampleRate,
    behind: i64,
    base: i64,
    head: u64,
    slots: u64,
) -> MediaInstant {
    let slot = rate.slot_samples() as u64;
    let next = base.saturating_add_unsigned((head / slot + slots) * slot);
    let late = rate.nanos_of(next).saturating_add(behind);
    MediaInstant::from_nanos(start.as_nanos().saturating_add_signed(late)) + STALL_MARGIN
}
