//! A short memory for datagrams of unknown senders.
//!
//! Asterisk may send before its answer, which tells us the sender's address, has reached us. What looks like RTP waits
//! here for its leg. All of it is bounded and allocated once: a flood only shortens how long a datagram can wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::sys::Datagram;
use crate::media::time::MediaInstant;

/// Datagrams held at once.
pub(super) const CAPACITY: usize = 1024;
/// Datagrams held of one sender.
pub(super) const PER_SOURCE: u32 = 64;
/// How long a datagram waits for its leg.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes held of a datagram: 70 ms of `slin16` with RTP header. Longer ones are not held.
const SLOT: usize = 2304;

#[derive(Clone, Copy)]
struct Entry {
    /// `None` once it was released.
    source: Option<SocketAddr>,
    arrival: MediaInstant,
    len: usize,
}

/// Datagrams in the order of their arrival, in a ring.
pub(super) struct Hold {
    slab: Box<[[u8; SLOT]]>,
    entries: Box<[Entry]>,
    first: usize,
    len: usize,
    held_of: HashMap<SocketAddr, u32>,
}

impl Hold {
    pub(super) fn new() -> Self {
        let entry = Entry { source: None, arrival: MediaInstant::default(), len: 0 };
        Self {
            slab: vec![[0; SLOT]; CAPACITY].into_boxed_slice(),
            entries: vec![entry; CAPACITY].into_boxed_slice(),
            first: 0,
            len: 0,
            held_of: HashMap::with_capacity(CAPACITY),
        }
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keep a copy of `datagram` if it may be RTP. Returns how many datagrams were given up for good: this one, or the
    /// oldest of all to make room.
    pub(super) fn push(&mut self, datagram: &Datagram<'_>) -> u64 {
        let payload = datagram.payload;
        let may_be_rtp = payload.len() >= 12 && payload[0] >> 6 == 2;
        if !may_be_rtp || datagram.truncated || payload.len() > SLOT {
            return 1;
        }
        if self.held_of.get(&datagram.source).is_some_and(|&n| n >= PER_SOURCE) {
            return 1;
        }
        let given_up = if self.len == CAPACITY { self.pop() } else { 0 };
        *self.held_of.entry(datagram.source).or_default() += 1;
        let at = (self.first + self.len) % CAPACITY;
        self.slab[at][..payload.len()].copy_from_slice(payload);
        self.entries[at] =
            Entry { source: Some(datagram.source), arrival: datagram.arrival, len: payload.len() };
        self.len += 1;
        given_up
    }

    /// Hand over what is held of `source`, in the order in which it came.
    pub(super) fn release(&mut self, source: SocketAddr, mut take: impl FnMut(MediaInstant, &[u8])) {
        if self.held_of.remove(&source).is_none() {
            return;
        }
        for i in 0..self.len {
            let at = (self.first + i) % CAPACITY;
            let entry = &mut self.entries[at];
            if entry.source == Some(source) {
                entry.source = None;
                take(entry.arrival, &self.slab[at][..entry.len]);
            }
        }
    }

    /// Give up what has waited too long by `now`. Returns how many datagrams that were.
    pub(super) fn expire(&mut self, now: MediaInstant) -> u64 {
        let mut given_up = 0;
        while self.len > 0 && now.saturating_since(self.entries[self.first].arrival) > PATIENCE {
            given_up += self.pop();
        }
        given_up
    }

    /// Drop the oldest entry; 1 if it was still waiting.
    fn pop(&mut self) -> u64 {
        let source = self.entries[self.first].source.take();
        self.first = (self.first + 1) % CAPACITY;
        self.len -= 1;
        let Some(source) = source else { return 0 };
        if let Some(n) = self.held_of.get_mut(&source) {
            *n -= 1;
            if *n == 0 {
                self.held_of.remove(&source);
            }
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn push(hold: &mut Hold, port: u16, ms: u64, number: u8) -> u64 {
        let mut payload = [0; 20];
        (payload[0], payload[3]) = (0x80, number);
        let source = SocketAddr::from(([10, 0, 0, 1], port));
        hold.push(&Datagram { source, arrival: at(ms), payload: &payload, truncated: false })
    }

    fn released(hold: &mut Hold, port: u16) -> Vec<(MediaInstant, u8)> {
        let mut got = Vec::new();
        hold.release(SocketAddr::from(([10, 0, 0, 1], port)), |arrival, payload| {
            got.push((arrival, payload[3]))
        });
        got
    }

    #[test]
    fn a_sender_gets_its_datagrams_back_in_order_and_only_once() {
        let mut hold = Hold::new();
        for i in 0..3 {
            assert_eq!(push(&mut hold, 1, i, i as u8) + push(&mut hold, 2, i, 100), 0);
        }
        assert_eq!(released(&mut hold, 1), [(at(0), 0), (at(1), 1), (at(2), 2)]);
        assert_eq!(released(&mut hold, 1), []);
        assert_eq!(hold.expire(at(600)), 3);
        assert!(hold.is_empty());
    }

    #[test]
    fn one_sender_cannot_take_all_the_room() {
        let mut hold = Hold::new();
        let given_up: u64 = (0..200).map(|i| push(&mut hold, 1, 0, i)).sum();
        assert_eq!(given_up, 200 - u64::from(PER_SOURCE));
        assert_eq!(push(&mut hold, 2, 0, 7), 0);
        assert_eq!(released(&mut hold, 2), [(at(0), 7)]);
        assert_eq!(released(&mut hold, 1).len(), PER_SOURCE as usize);
    }

    #[test]
    fn a_flood_pushes_out_the_oldest_and_grows_nothing() {
        let mut hold = Hold::new();
        let given_up: u64 = (0..5_000).map(|port| push(&mut hold, port, 0, 0)).sum();
        assert_eq!(given_up, 5_000 - CAPACITY as u64);
        assert!(hold.held_of.len() <= CAPACITY && hold.held_of.capacity() < 4 * CAPACITY);
        assert_eq!(hold.expire(at(501)), CAPACITY as u64);
        assert!(hold.held_of.is_empty());
    }

    #[test]
    fn what_cannot_be_rtp_is_not_held() {
        let mut hold = Hold::new();
        let source = SocketAddr::from(([10, 0, 0, 1], 1));
        for payload in [&[0x80; 11][..], &[0x40; 40], &[0x80; 3000], &[]] {
            assert_eq!(hold.push(&Datagram { source, arrival: at(0), payload, truncated: false }), 1);
        }
        assert!(hold.is_empty());
    }
}
