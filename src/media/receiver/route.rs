//! Whose packet is it? Acceptance of sources (RFC 3550 A.1) and detection of timestamps that jump.
//!
//! Nothing is dropped for being the first of its kind: a packet of a new source, or with a timestamp that does not fit,
//! is held until the ones after it tell what it was ([`super::pending`]).

use std::time::Duration;

use super::super::rtp::RtpPacket;
use super::super::source::Arrival;
use super::super::time::MediaInstant;
use super::anchor::{MAX_MISSED_AT_JUMP, MAX_SEAM};
use super::pending::{Pending, Question};
use super::{Body, Kind, PacketError, PacketOutcome, Previous};

/// Timestamps and arrival times may disagree by so much before the timestamps are taken to have jumped. As in
/// GStreamer's rtpjitterbuffer.
pub(super) const MAX_DISAGREEMENT: Duration = Duration::from_secs(1);
/// A single packet may be later than its place by so much, and still be believed to be late.
pub(super) const MAX_LATENESS: Duration = Duration::from_secs(30);
/// Sequence numbers this close are in sequence: RFC 3550 asks for neighbours, but reordering may never show any.
pub(super) const MAX_STEP: i16 = 16;

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
            let number = match stream.source.check(packet.sequence()) {
                // Keys alone have overtaken it: among media its number is in order.
                Arrival::Late { sequence }
                    if self.is_next_media(packet, kind) && !self.follows_held(packet, kind) =>
                {
                    Arrival::InOrder { sequence, missed: 0 }
                }
                number => number,
            };
            match number {
                Arrival::InOrder { .. } if kind == Kind::Event && jumping => return Route::Jump,
                // It goes wherever those go that were sent right before it, and after. Where these are late, it may tell that the
                // network had stopped; where they are early, another that is less so tells nothing. A copy is less early by itself.
                Arrival::InOrder { .. }
                    if jumping
                        && (self.is_held(packet)
                            || self.is_among_held(packet, kind)
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
                // It began a few numbers lower, and passes the old ones; or it began where numbers are just too far ahead to be in
                // order, and this one, sent before, is not.
                Arrival::InOrder { .. } if self.is_with_held(packet, kind) => return Route::NewSource,
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
                Arrival::Late { .. } if self.is_namesake(packet, kind, arrival) => return Route::Current,
                Arrival::Duplicate if self.locate_namesake(packet, arrival).is_some() => {
                    return Route::Current;
                }
                // The first of those that jumped were just near enough to be in order.
                Arrival::Jump { .. } if jumping && self.goes_on_from_held(packet, kind) => {
                    return Route::Jump;
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

    /// Whether `packet` is of media, and newer by its number than all media before.
    fn is_next_media(&self, packet: &RtpPacket<'_>, kind: Kind) -> bool {
        kind != Kind::Event && self.newest_media.is_some_and(|newest| packet.sequence().since(newest) > 0)
    }

    /// Whether a packet with an old sequence number has an old timestamp too. If not, its sender has begun anew.
    fn may_be_old(&self, packet: &RtpPacket<'_>, kind: Kind, arrival: MediaInstant) -> bool {
        let located = self.locate(packet.sequence(), packet.timestamp(), arrival);
        let (Some((_, sample)), Some(base)) = (located, self.base) else {
            return kind == Kind::Event;
        };
        let is_old = self.newest_media.is_some_and(|newest| packet.sequence().since(newest) <= 0);
        let is_new = sample >= base.saturating_add_unsigned(self.tail);
        // Those missing before a jump may have their places behind those that jumped, which arrival alone put where they are.
        let is_missing = self.is_missing_before_jump(packet.sequence(), packet.timestamp());
        !(is_old && is_new && !is_missing && matches!(kind, Kind::Audio(_)))
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
