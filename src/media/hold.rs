//! Packets kept back while it is not yet clear where they belong.

use super::counter::{RtpTimestamp, SequenceNumber};
use super::time::MediaInstant;

/// A packet kept back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub arrival: MediaInstant,
    pub sequence: SequenceNumber,
    pub timestamp: RtpTimestamp,
    /// Whether its timestamp is the place of media; that of a telephone event is not.
    pub is_media: bool,
    start: usize,
    len: usize,
}

/// A bounded store of packets, allocated once.
#[derive(Debug, Default)]
pub(super) struct Hold {
    packets: Vec<Held>,
    bytes: Vec<u8>,
    copies: u64,
}

impl Hold {
    /// Room for so many packets and bytes. `Default` makes one without any, a stand-in while the real one is emptied.
    pub fn new(packets: usize, bytes: usize) -> Self {
        Self { packets: Vec::with_capacity(packets), bytes: Vec::with_capacity(bytes), copies: 0 }
    }

    fn has_room(&self, packets: usize, bytes: usize) -> bool {
        self.packets.len() + packets <= self.packets.capacity()
            && self.bytes.len() + bytes <= self.bytes.capacity()
    }

    /// Keep `datagram`; `false` if there is no room left.
    pub fn push(
        &mut self,
        arrival: MediaInstant,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        is_media: bool,
        datagram: &[u8],
    ) -> bool {
        let (start, len) = (self.bytes.len(), datagram.len());
        if !self.has_room(1, len) {
            return false;
        }
        self.bytes.extend_from_slice(datagram);
        self.packets.push(Held { arrival, sequence, timestamp, is_media, start, len });
        true
    }

    /// Hand everything on to `other`; `false`, and nothing is, if there is no room left.
    pub fn move_to(&mut self, other: &mut Self) -> bool {
        if !other.has_room(self.packets.len(), self.bytes.len()) {
            return false;
        }
        for held in &self.packets {
            let datagram = self.datagram(held);
            other.push(held.arrival, held.sequence, held.timestamp, held.is_media, datagram);
        }
        other.copies += self.copies;
        self.clear();
        true
    }

    /// A packet that is kept back came once more.
    pub fn note_copy(&mut self) {
        self.copies += 1;
    }

    /// Copies of the packets kept back.
    pub fn copies(&self) -> u64 {
        self.copies
    }

    /// The packets, in order of arrival until sorted.
    pub fn packets(&self) -> &[Held] {
        &self.packets
    }

    pub fn datagram(&self, held: &Held) -> &[u8] {
        &self.bytes[held.start..held.start + held.len]
    }

    /// Put the packets into the order in which they were sent.
    pub fn sort(&mut self) {
        if let Some(&Held { sequence: reference, .. }) = self.packets.first() {
            self.packets.sort_unstable_by_key(|held| (held.sequence.since(reference), held.arrival));
        }
    }

    pub fn clear(&mut self) {
        self.packets.clear();
        self.bytes.clear();
        self.copies = 0;
    }
}
