//! Packets that are held, until it is known what they are: a new source, or one begun anew; timestamps that jumped, or a network that
//! stopped for a while.

use std::time::Duration;

use super::super::counter::{SequenceNumber, Ssrc};
use super::super::hold::Held;
use super::super::rtp::RtpPacket;
use super::super::source::{MAX_MISORDER, MIN_SEQUENTIAL};
use super::super::time::MediaInstant;
use super::anchor::MAX_MISSED_AT_JUMP;
use super::pace::Pace;
use super::route::MAX_STEP;
use super::{Body, Kind, PacketOutcome};

/// A source that shows no second packet within this time was a stray packet, unless nobody else was heard meanwhile, or the network
/// stands still. Well within the repair window, so that its audio still has a place.
const PROBATION: Duration = Duration::from_secs(1);
/// Packets held at most.
pub(super) const PACKETS: usize = 256;
/// Bytes held at most: three seconds of G.711 in 20 ms packets, two seconds of 16 kHz linear PCM. The allocator hands
/// out pages only as they are touched, so a leg pays for what it holds.
pub(super) const BYTES: usize = 128 << 10;

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

impl Pending {
    /// Whether `packet` is of the new source that this asks about, by its numbers: another one may have the same SSRC.
    pub(super) fn is_of(&self, packet: &RtpPacket<'_>) -> bool {
        matches!(self.question, Question::NewSource { ssrc, highest, .. }
            if ssrc == packet.ssrc() && i64::from(packet.sequence().since(highest)).abs() < MAX_MISORDER)
    }
}

impl Body {
    /// The network had stopped, and this packet is newer than those held and fits again.
    pub(super) fn is_answered_by(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let Some(Pending { question: Question::Jump { highest, .. }, .. }) = self.pending else {
            return false;
        };
        // One that cannot have waited, alone, may be the first of a sender that began anew a few numbers lower, ahead of the last
        // ones of before.
        let last = if self.is_late_queue() || self.has_jumped() { 0 } else { MAX_STEP };
        kind != Kind::Event && packet.sequence().since(highest) > last
    }

    /// Whether those held did jump, for all that is known already: two in sequence that cannot have waited.
    pub(super) fn has_jumped(&self) -> bool {
        let mut held = self.held_media(Kind::ComfortNoise);
        let Some(first) = held.next() else { return false };
        let is_next = |held: &Held| {
            let step = held.sequence.since(first.sequence).abs();
            (1..=MAX_STEP).contains(&step) && !self.is_far(held.timestamp, first.timestamp)
        };
        held.any(is_next) && !self.is_late_queue()
    }

    pub(super) fn hold_new_source(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
        let (ssrc, number) = (packet.ssrc(), packet.sequence());
        if self.pending.is_none() {
            self.take_back(packet);
        }
        // Lower numbers with other timestamps are those of a sender that began anew again.
        let boundary =
            self.jumps_from_held(packet, kind) || self.is_confirmed() && self.jumps_to_held(packet, kind);
        let is_of_held = self.pending.is_some_and(|pending| pending.is_of(packet));
        let begun = Question::NewSource { ssrc, highest: number, in_sequence: 1 };
        match &mut self.pending {
            None => self.pending = Some(Pending { since: arrival, question: begun }),
            Some(Pending { question: Question::NewSource { highest, in_sequence, .. }, .. })
                if is_of_held && !boundary =>
            {
                let step = number.since(*highest);
                if step != 0 && step.abs() <= MAX_STEP {
                    *in_sequence += 1;
                }
                if step > 0 {
                    *highest = number;
                }
            }
            Some(pending) => {
                if let Question::NewSource { ssrc: of, highest, in_sequence } = &mut pending.question
                    && *of == ssrc
                    && (1..=MAX_STEP).contains(&number.since(*highest))
                {
                    // Its timestamps jump, but by its numbers it is the second packet of those.
                    *in_sequence += 1;
                }
                self.make_way(packet, arrival);
                return self.dispatch(packet, kind, arrival);
            }
        }
        let outcome = self.hold_packet(packet, kind, arrival);
        // A second packet in sequence may come when the window is over already.
        self.settle_if_due(arrival);
        outcome
    }

    pub(super) fn hold_jump(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
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
                self.make_way(packet, arrival);
                return self.dispatch(packet, kind, arrival);
            }
        }
        self.hold_packet(packet, kind, arrival)
    }

    fn hold_packet(&mut self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> PacketOutcome {
        let (number, timestamp) = (packet.sequence(), packet.timestamp());
        if self.is_held(packet) {
            self.tally.duplicate += 1;
            self.hold.note_copy();
            return PacketOutcome::Duplicate;
        }
        let is_first_media = kind != Kind::Event && self.has_keys_alone();
        if !self.hold.push(arrival, number, timestamp, kind != Kind::Event, packet.datagram()) {
            self.make_way(packet, arrival);
            return self.dispatch(packet, kind, arrival);
        }
        if let (true, Some(pending)) = (is_first_media, &mut self.pending) {
            pending.since = arrival;
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

    /// Whether `packet` is a copy of one that is held.
    pub(super) fn is_held(&self, packet: &RtpPacket<'_>) -> bool {
        let is_same =
            |held: &Held| (held.sequence, held.timestamp) == (packet.sequence(), packet.timestamp());
        self.hold.packets().iter().any(is_same)
    }

    /// The packets of media held, if `kind` is that of media.
    fn held_media(&self, kind: Kind) -> impl Iterator<Item = &Held> {
        self.hold.packets().iter().filter(move |held| held.is_media && kind != Kind::Event)
    }

    /// Whether `packet` goes on with what is held of a source that asks to be believed. By its number it may be one of the current
    /// source that is very late as well: a sender that begins anew a thousand numbers lower comes among those.
    pub(super) fn follows_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        self.asks(packet.ssrc())
            && (self.goes_on_from_held(packet, kind) || self.goes_on_behind_pause(packet, kind))
    }

    /// Whether `packet` has a number that follows on that of the last packet held of a source that is known by more than one, and was sent
    /// at most half a minute after it.
    fn goes_on_behind_pause(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let Some(Pending { question: Question::NewSource { highest, in_sequence, .. }, .. }) = self.pending
        else {
            return false;
        };
        let last = self.held_media(kind).find(|held| held.sequence == highest);
        in_sequence >= MIN_SEQUENTIAL
            && (1..=MAX_STEP).contains(&packet.sequence().since(highest))
            && last.is_some_and(|last| {
                (0..=self.most_late_ticks()).contains(&packet.timestamp().since(last.timestamp))
            })
    }

    /// Whether `packet` was sent right before what is held of a source that asks to be believed, between, or right behind.
    pub(super) fn is_with_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        self.follows_held(packet, kind) || self.asks(packet.ssrc()) && self.is_among_held(packet, kind)
    }

    fn asks(&self, by: Ssrc) -> bool {
        matches!(self.pending, Some(Pending { question: Question::NewSource { ssrc, .. }, .. }) if ssrc == by)
    }

    /// Whether `packet` has a number and a timestamp that follow on those of a packet held, some of those between lost.
    pub(super) fn goes_on_from_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let step = |held: &&Held| packet.sequence().since(held.sequence);
        // What is not far in time is no further in numbers.
        let steps = 1..=MAX_MISSED_AT_JUMP as i16;
        let before = self.held_media(kind).filter(|held| steps.contains(&step(held))).min_by_key(step);
        before.is_some_and(|before| !self.is_far(packet.timestamp(), before.timestamp))
    }

    /// Whether `packet` was sent between packets that are held, or right before them, by its number and its timestamp.
    pub(super) fn is_among_held(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        let step = |held: &&Held| held.sequence.since(packet.sequence());
        let after =
            self.held_media(kind).filter(|held| (1..=MAX_STEP).contains(&step(held))).min_by_key(step);
        after.is_some_and(|after| !self.is_far(after.timestamp, packet.timestamp()))
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

    /// `packet` came, which is no part of what is held: decide about that now, or later.
    fn make_way(&mut self, packet: &RtpPacket<'_>, now: MediaInstant) {
        match self.pending {
            Some(Pending { question: Question::NewSource { in_sequence: ..MIN_SEQUENTIAL, .. }, .. }) => {
                if self.pending.is_some_and(|pending| pending.is_of(packet)) {
                    self.discard_held();
                } else {
                    self.set_aside(Some(packet));
                }
            }
            _ => self.settle(now),
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

    pub(super) fn settle_if_due(&mut self, now: MediaInstant) {
        if self.settle_deadline().is_some_and(|due| due <= now) {
            if !self.has_keys_alone() {
                return self.settle_at_end(now);
            }
            if let Some(pending) = &mut self.pending {
                pending.since = now;
            }
        }
    }

    /// Whether keys are all that came of the leg's first source. They anchor nothing, and are kept until something does, so that
    /// their copies are known.
    fn has_keys_alone(&self) -> bool {
        self.active.is_none() && !self.hold.packets().iter().any(|held| held.is_media)
    }

    /// Decide by what is known.
    pub(super) fn settle_at_end(&mut self, now: MediaInstant) {
        let alone = self.pending.is_some_and(|pending| Some(pending.since) > self.active_heard);
        if self.is_confirmed() || alone {
            self.settle(now);
        } else {
            self.set_aside(None);
        }
    }
}
