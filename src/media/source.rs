//! Who may send, and which of its packets are new (RFC 3550, appendix A.1).

use super::counter::{ExtendedSequence, SequenceNumber, Ssrc};

/// Packets in sequence that a new source must show before it replaces a known one (RFC 3550 A.1).
pub const MIN_SEQUENTIAL: u32 = 2;
/// Largest step forward in sequence numbers that is taken for loss (RFC 3550 A.1): a minute at 20 ms.
pub const MAX_DROPOUT: i64 = 3_000;
/// Largest step back that is taken for reordering. RFC 3550 has 100, one second at 10 ms a packet; packets that late
/// still mend a recording here, and later ones are to be counted as late, not taken for a sender that began anew.
pub const MAX_MISORDER: i64 = 1_000;
/// Sequence numbers whose arrival is remembered.
const WINDOW: i64 = 1_024;
const _: () = assert!(MAX_MISORDER < WINDOW);

/// What a sequence number says of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before; `missed` numbers between have not come (yet).
    InOrder {
        /// The number, extended.
        sequence: ExtendedSequence,
        /// Numbers left out since the highest one before.
        missed: u64,
    },
    /// Older than the newest, and not seen before.
    Late {
        /// The number, extended.
        sequence: ExtendedSequence,
    },
    /// Seen before.
    Duplicate,
    /// Too far from the rest: a sender that began anew, unless its timestamps say otherwise.
    Jump {
        /// The number, extended to the nearest candidate.
        sequence: ExtendedSequence,
    },
}

/// The sequence numbers of one accepted source.
#[derive(Debug)]
pub struct Source {
    ssrc: Ssrc,
    lowest: ExtendedSequence,
    highest: ExtendedSequence,
    /// Distinct numbers that came.
    arrived: u64,
    /// One bit a number, by its low bits, for the `WINDOW` numbers up to the highest.
    seen: [u64; (WINDOW / 64) as usize],
}

impl Source {
    /// A source that is about to send number `first`.
    pub fn beginning_at(ssrc: Ssrc, first: SequenceNumber) -> Self {
        let lowest = ExtendedSequence::first(first);
        Self { ssrc, lowest, highest: lowest.plus(-1), arrived: 0, seen: [0; _] }
    }

    /// Its identifier.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// The highest number so far.
    pub fn highest(&self) -> SequenceNumber {
        self.highest.on_wire()
    }

    /// The extension of `number` nearest to the highest.
    pub fn extend(&self, number: SequenceNumber) -> ExtendedSequence {
        self.highest.nearest(number)
    }

    /// What `number` is to this source.
    pub fn check(&self, number: SequenceNumber) -> Arrival {
        let sequence = self.extend(number);
        let ahead = sequence.since(self.highest);
        if ahead > MAX_DROPOUT || ahead <= -MAX_MISORDER {
            Arrival::Jump { sequence }
        } else if ahead > 0 {
            Arrival::InOrder { sequence, missed: ahead as u64 - 1 }
        } else if self.has_seen(sequence) {
            Arrival::Duplicate
        } else {
            Arrival::Late { sequence }
        }
    }

    /// Numbers that a packet `Jump`ed over, if the step is forward.
    pub fn missed_before(&self, sequence: ExtendedSequence) -> Option<u64> {
        u64::try_from(sequence.since(self.highest) - 1).ok()
    }

    /// Remember that `sequence` came.
    pub fn record(&mut self, sequence: ExtendedSequence) {
        let ahead = sequence.since(self.highest);
        if ahead >= WINDOW {
            self.seen.fill(0);
        } else {
            for step in 1..=ahead {
                self.set_seen(self.highest.plus(step), false);
            }
        }
        self.highest = self.highest.max(sequence);
        self.lowest = self.lowest.min(sequence);
        self.arrived += 1;
        self.set_seen(sequence, true);
    }

    /// Numbers from the first to the highest (RFC 3550 A.3).
    pub fn expected(&self) -> u64 {
        (self.highest.since(self.lowest) + 1) as u64
    }

    /// Distinct numbers that came.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    fn has_seen(&self, sequence: ExtendedSequence) -> bool {
        let (word, bit) = slot(sequence);
        self.seen[word] >> bit & 1 == 1
    }

    fn set_seen(&mut self, sequence: ExtendedSequence, seen: bool) {
        let (word, bit) = slot(sequence);
        self.seen[word] = self.seen[word] & !(1 << bit) | u64::from(seen) << bit;
    }
}

fn slot(sequence: ExtendedSequence) -> (usize, u64) {
    let at = sequence.get() % WINDOW as u64;
    ((at / 64) as usize, at % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(source: &mut Source, number: u16) -> Arrival {
        let arrival = source.check(SequenceNumber(number));
        if let Arrival::InOrder { sequence, .. } | Arrival::Late { sequence } = arrival {
            source.record(sequence);
        }
        arrival
    }

    fn missed(arrival: Arrival) -> Option<u64> {
        if let Arrival::InOrder { missed, .. } = arrival { Some(missed) } else { None }
    }

    #[test]
    fn reordering_across_the_wrap_is_late_once_and_duplicate_after() {
        let mut source = Source::beginning_at(Ssrc(1), SequenceNumber(65_533));
        assert_eq!(missed(take(&mut source, 65_533)), Some(0));
        assert_eq!(missed(take(&mut source, 0)), Some(2));
        assert!(matches!(take(&mut source, 65_535), Arrival::Late { .. }));
        assert_eq!(take(&mut source, 65_535), Arrival::Duplicate);
        assert!(matches!(take(&mut source, 65_534), Arrival::Late { .. }));
        assert_eq!((source.expected(), source.arrived()), (4, 4));
    }

    #[test]
    fn a_packet_older_than_the_first_counts_as_expected() {
        let mut source = Source::beginning_at(Ssrc(1), SequenceNumber(0));
        take(&mut source, 0);
        assert!(matches!(take(&mut source, 65_535), Arrival::Late { .. }));
        assert_eq!((source.expected(), source.arrived()), (2, 2));
    }

    #[test]
    fn dropouts_and_misorder_beyond_the_limits_are_jumps() {
        let mut source = Source::beginning_at(Ssrc(1), SequenceNumber(10_000));
        take(&mut source, 10_000);
        assert_eq!(missed(source.check(SequenceNumber(13_000))), Some(2_999));
        assert!(matches!(source.check(SequenceNumber(13_001)), Arrival::Jump { .. }));
        assert!(matches!(source.check(SequenceNumber(9_001)), Arrival::Late { .. }));
        assert!(matches!(source.check(SequenceNumber(9_000)), Arrival::Jump { .. }));
    }

    #[test]
    fn numbers_from_a_window_ago_are_not_taken_for_seen() {
        let mut source = Source::beginning_at(Ssrc(1), SequenceNumber(0));
        for number in 0..500 {
            take(&mut source, number);
        }
        take(&mut source, 1_600);
        assert!(matches!(source.check(SequenceNumber(1_100)), Arrival::Late { .. }));
        assert_eq!(source.expected() - source.arrived(), 1_100);
    }
}
