//! Who may send, and which of its packets are new (RFC 3550, appendix A.1).

use std::time::Duration;

use super::counter::{ExtendedSequence, SequenceNumber, Ssrc};
use super::time::MediaInstant;

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

/// Packets lost, and the runs that they make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossRuns {
    /// Packets lost.
    pub lost: u64,
    /// Runs of one or more packets lost in sequence.
    pub runs: u64,
    /// Packets lost beside another one: those of runs of two or more.
    pub in_bursts: u64,
    /// The run that is not over.
    run: u64,
}

impl LossRuns {
    fn lose(&mut self, packets: u64) {
        self.lost += packets;
        self.run += packets;
    }

    fn end_run(&mut self) {
        self.runs += u64::from(self.run > 0);
        if self.run > 1 {
            self.in_bursts += self.run;
        }
        self.run = 0;
    }
}

impl std::ops::AddAssign for LossRuns {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.runs += other.runs;
        self.in_bursts += other.in_bursts;
    }
}

/// The sequence numbers of one accepted source.
#[derive(Clone, Debug)]
pub struct Source {
    ssrc: Ssrc,
    lowest: ExtendedSequence,
    highest: ExtendedSequence,
    /// Distinct numbers that came.
    arrived: u64,
    /// Packets that came once more.
    copies: u64,
    /// Losses among the numbers below this one.
    settled: ExtendedSequence,
    losses: LossRuns,
    /// The highest number as of then: what is missing below it is settled when the time for it is over.
    mark: Option<(MediaInstant, ExtendedSequence)>,
    /// One bit a number, by its low bits, for the `WINDOW` numbers up to the highest.
    seen: [u64; (WINDOW / 64) as usize],
}

impl Source {
    /// A source that is about to send number `first`.
    pub fn beginning_at(ssrc: Ssrc, first: SequenceNumber) -> Self {
        let lowest = ExtendedSequence::first(first);
        Self {
            ssrc,
            lowest,
            highest: lowest.plus(-1),
            arrived: 0,
            copies: 0,
            settled: lowest,
            losses: LossRuns::default(),
            mark: None,
            seen: [0; _],
        }
    }

    /// Its identifier.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// The highest number so far, as it was sent.
    pub fn highest_number(&self) -> SequenceNumber {
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
        // What leaves the window is remembered no longer.
        self.settle_below(sequence.plus(1 - WINDOW));
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

    /// Remember that the next `count` numbers came.
    pub fn record_run(&mut self, count: u32) {
        for _ in 0..count {
            self.record(self.highest.plus(1));
        }
    }

    /// A packet came `copies` times more.
    pub fn record_copies(&mut self, copies: u64) {
        self.copies += copies;
    }

    /// It is `now`, and a packet that is missing for `patience` or longer is lost. Between one and two such times go by
    /// until it is settled.
    pub fn settle(&mut self, now: MediaInstant, patience: Duration) {
        match self.mark {
            Some((at, highest)) if at + patience <= now => self.settle_below(highest.plus(1)),
            Some(_) => return,
            None => {}
        }
        self.mark = Some((now, self.highest));
    }

    /// When [`Source::settle`] has something to do next; `None` before it was called.
    pub fn settles_at(&self, patience: Duration) -> Option<MediaInstant> {
        self.mark.map(|(at, _)| at + patience)
    }

    fn settle_below(&mut self, end: ExtendedSequence) {
        while self.settled < end && self.settled <= self.highest {
            if self.has_seen(self.settled) {
                self.losses.end_run();
            } else {
                self.losses.lose(1);
            }
            self.settled = self.settled.plus(1);
        }
        if let Ok(passed_over @ 1..) = u64::try_from(end.since(self.settled)) {
            self.losses.lose(passed_over);
            self.settled = end;
        }
    }

    /// Losses that are settled; their number never falls.
    pub fn settled_losses(&self) -> LossRuns {
        self.losses
    }

    /// Losses, if nothing more came. A packet that came after its loss was settled counts as lost.
    pub fn losses(&self) -> LossRuns {
        let mut all = self.clone();
        all.settle_below(all.highest.plus(1));
        all.losses.end_run();
        all.losses
    }

    /// The highest number.
    pub fn highest(&self) -> ExtendedSequence {
        self.highest
    }

    /// Packets that came, every copy included.
    pub fn received(&self) -> u64 {
        self.arrived + self.copies
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

    /// The runs of numbers that are missing from `came`, which is whole at both ends.
    fn reference(came: &[bool]) -> LossRuns {
        let mut runs = LossRuns::default();
        for run in came.split(|came| *came).map(|run| run.len() as u64).filter(|run| *run > 0) {
            runs += LossRuns { lost: run, runs: 1, in_bursts: if run > 1 { run } else { 0 }, run: 0 };
        }
        runs
    }

    #[test]
    fn losses_and_their_runs_are_those_of_the_numbers_missing() {
        let mut state = 7_u64;
        for stretch in [1, 3, 40, 700, 2_000] {
            let mut came = vec![true];
            while came.len() < 20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                came.extend(std::iter::repeat_n(state >> 60 > 3, 1 + (state >> 33) as usize % stretch));
            }
            came.push(true);
            // A step of more than 3000 is no loss, but another stream.
            let longest = came.split(|came| *came).map(<[bool]>::len).max().unwrap();
            let mut source = Source::beginning_at(Ssrc(1), SequenceNumber(60_000));
            let mut settled = 0;
            for (n, _) in came.iter().enumerate().filter(|(_, came)| **came) {
                let sequence = ExtendedSequence::first(SequenceNumber(60_000)).plus(n as i64);
                source.record(sequence);
                source.settle(MediaInstant::from_nanos(n as u64 * 20_000_000), Duration::from_secs(2));
                let now = source.settled_losses();
                assert!(now.lost >= settled && now.lost <= source.expected() - source.arrived());
                settled = now.lost;
            }
            assert_eq!(source.losses(), reference(&came), "runs of up to {longest}");
            assert_eq!(source.losses().lost, source.expected() - source.arrived());
        }
    }

    #[test]
    fn loss_that_is_taken_back_in_time_is_never_counted() {
        let at = |ms: u64| MediaInstant::from_nanos(ms * 1_000_000);
        let mut source = Source::beginning_at(Ssrc(1), SequenceNumber(0));
        let patience = Duration::from_secs(2);
        for n in 0..1_000_u64 {
            // Every tenth packet is a second late; the very last of them do not come.
            if n % 10 != 5 {
                take(&mut source, n as u16);
            }
            if n >= 50 && (n - 50) % 10 == 5 {
                take(&mut source, (n - 50) as u16);
            }
            source.settle(at(20 * n), patience);
            assert_eq!(source.settled_losses(), LossRuns::default());
        }
        assert_eq!(source.losses(), LossRuns { lost: 5, runs: 5, in_bursts: 0, run: 0 });
        source.settle(at(60_000), patience);
        source.settle(at(70_000), patience);
        assert_eq!(source.settled_losses().lost, 5);
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
