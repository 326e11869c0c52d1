//! Packets back into the order of sending, for codecs that have a memory.
//!
//! A packet that follows a hole waits for the missing ones, as long as live readers stay behind the head. Nobody
//! hears the difference: what has come is in the ring before live readers get there.

use std::time::Duration;

use super::super::counter::SequenceNumber;
use super::super::rtp::RtpPacket;
use super::super::source::Arrival;
use super::super::time::MediaInstant;
use super::{Body, Kind, PacketOutcome};

/// Packets that wait at most: 60 ms of 5 ms packets, with some to spare.
const WAITING: usize = 16;
/// Bytes of one, the most that fits an Ethernet frame.
const BYTES: usize = 1_500;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    arrival: MediaInstant,
    sequence: SequenceNumber,
    /// Where in the store it lies.
    place: usize,
    len: usize,
}

/// The packets that wait, lowest number first.
#[derive(Debug)]
pub(super) struct Reorder {
    waiting: Vec<Waiting>,
    free: Vec<usize>,
    bytes: Box<[u8]>,
}

impl Reorder {
    pub fn new() -> Box<Self> {
        Box::new(Self {
            waiting: Vec::with_capacity(WAITING),
            free: (0..WAITING).collect(),
            bytes: vec![0; WAITING * BYTES].into_boxed_slice(),
        })
    }

    fn has(&self, sequence: SequenceNumber) -> bool {
        self.waiting.iter().any(|waiting| waiting.sequence == sequence)
    }

    /// `false` if there is no room.
    fn push(&mut self, arrival: MediaInstant, sequence: SequenceNumber, datagram: &[u8]) -> bool {
        if datagram.len() > BYTES {
            return false;
        }
        let Some(place) = self.free.pop() else { return false };
        self.bytes[place * BYTES..][..datagram.len()].copy_from_slice(datagram);
        let at = self.waiting.partition_point(|waiting| sequence.since(waiting.sequence) > 0);
        self.waiting.insert(at, Waiting { arrival, sequence, place, len: datagram.len() });
        true
    }

    /// When the first of them has waited for `wait`.
    fn deadline(&self, wait: Duration) -> Option<MediaInstant> {
        self.waiting.iter().map(|waiting| waiting.arrival).min().map(|arrival| arrival + wait)
    }

    /// Take out the lowest number if `ready` says so, its bytes into `datagram`.
    fn take(
        &mut self,
        ready: impl Fn(&Waiting) -> bool,
        datagram: &mut [u8; BYTES],
    ) -> Option<(MediaInstant, usize)> {
        let first = *self.waiting.first().filter(|first| ready(first))?;
        self.waiting.remove(0);
        self.free.push(first.place);
        datagram[..first.len].copy_from_slice(&self.bytes[first.place * BYTES..][..first.len]);
        Some((first.arrival, first.len))
    }
}

impl Body {
    /// Take a packet of the current source, or let it wait for those before it.
    pub(super) fn accept_in_order(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        arrival: MediaInstant,
    ) -> PacketOutcome {
        let (Some(reorder), Some(stream)) = (&mut self.reorder, &self.active) else {
            return self.accept(packet, kind, arrival);
        };
        let number = packet.sequence();
        if reorder.has(number) {
            self.tally.duplicate += 1;
            return PacketOutcome::Duplicate;
        }
        match stream.source.check(number) {
            Arrival::InOrder { missed: 1.., .. } => {
                if reorder.push(arrival, number, packet.datagram()) {
                    return PacketOutcome::Held;
                }
                self.release_waiting();
            }
            Arrival::Jump { .. } => self.release_waiting(),
            Arrival::InOrder { .. } | Arrival::Late { .. } | Arrival::Duplicate => {}
        }
        let outcome = self.accept(packet, kind, arrival);
        self.release_followers(|_| false);
        outcome
    }

    /// When the next one has waited long enough.
    pub(super) fn reorder_deadline(&self) -> Option<MediaInstant> {
        self.reorder.as_ref()?.deadline(self.config.live_lag)
    }

    /// Go on without what is still missing at `now`.
    pub(super) fn release_overdue(&mut self, now: MediaInstant) {
        while self.reorder_deadline().is_some_and(|due| due <= now) {
            self.release_one(|_| true);
            self.release_followers(|_| false);
        }
    }

    /// Go on without what is missing.
    pub(super) fn release_waiting(&mut self) {
        self.release_followers(|_| true);
    }

    /// Take those that miss nothing any more, and others that are `due`.
    fn release_followers(&mut self, due: impl Fn(&Waiting) -> bool) {
        while let Some(stream) = &self.active {
            let next = stream.source.highest_number();
            if !self.release_one(|waiting| waiting.sequence.since(next) <= 1 || due(waiting)) {
                break;
            }
        }
    }

    fn release_one(&mut self, ready: impl Fn(&Waiting) -> bool) -> bool {
        let mut datagram = [0; BYTES];
        let taken = self.reorder.as_mut().and_then(|reorder| reorder.take(ready, &mut datagram));
        let Some((arrival, len)) = taken else { return false };
        // It has been classified before it was made to wait.
        if let Ok((packet, kind)) = self.classify(&datagram[..len]) {
            self.accept(&packet, kind, arrival);
        }
        true
    }
}
