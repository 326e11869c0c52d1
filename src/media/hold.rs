//! Packets kept back while it is not yet clear where they belong.

use super::counter::{RtpTimestamp, SequenceNumber};
use super::time::MediaInstant;

/// Bytes kept at most: three seconds of G.711 in 20 ms packets, two seconds of 16 kHz linear PCM. The allocator hands
/// out pages only as they are touched, so a leg pays for what it holds.
const BYTES: usize = 128 << 10;
/// Packets kept at most.
const PACKETS: usize = 256;

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
    /// `Default` makes one without room, a stand-in while the real one is emptied.
    pub fn new() -> Self {
        Self { packets: Vec::with_capacity(PACKETS), bytes: Vec::with_capacity(BYTES), copies: 0 }
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
        if self.packets.len() == PACKETS || start + len > BYTES {
            return false;
        }
        self.bytes.extend_from_slice(datagram);
        self.packets.push(Held { arrival, sequence, timestamp, is_media, start, len });
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
