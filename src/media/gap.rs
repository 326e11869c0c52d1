//! The gaps of a leg that are young enough to be mended, and who is told of them.

use std::collections::VecDeque;

use super::counter::ExtendedSequence;
use super::slot::SlotState;

/// Gaps watched at once. At every second packet lost, the repair window of 2 s has 50.
const WATCHED: usize = 64;

/// Sequence numbers that were left out between two packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    pub first: ExtendedSequence,
    /// The number that came next.
    pub after: ExtendedSequence,
    /// How many of them have not come since.
    pub missing: u64,
}

impl Missed {
    /// `sequence` came late. Whether it was one of these.
    pub fn arrived(&mut self, sequence: ExtendedSequence) -> bool {
        let is_one = (self.first..self.after).contains(&sequence);
        if is_one {
            self.missing = self.missing.saturating_sub(1);
        }
        is_one
    }
}

/// A stretch of the ring without audio, between two packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// Ring samples.
    pub start: u64,
    pub end: u64,
    pub kind: SlotState,
    /// The packets that fell into it.
    pub missed: Option<Missed>,
    pub announced: bool,
    /// Concealment has had its turn.
    pub concealed: bool,
}

/// The youngest gaps.
#[derive(Debug)]
pub(super) struct Gaps {
    open: VecDeque<Gap>,
}

impl Gaps {
    pub fn new() -> Self {
        Self { open: VecDeque::with_capacity(WATCHED) }
    }

    /// Whether none is watched.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Watch `gap`. Returns the oldest one if it had to make room.
    pub fn watch(&mut self, gap: Gap) -> Option<Gap> {
        let oldest = if self.open.len() == WATCHED { self.open.pop_front() } else { None };
        self.open.push_back(gap);
        oldest
    }

    /// The one opened last.
    pub fn newest_mut(&mut self) -> Option<&mut Gap> {
        self.open.back_mut()
    }

    /// `sequence` came late. Returns the gap it was missing from if that lacks no other packet: whatever of it is
    /// still without audio never had any.
    pub fn arrived(&mut self, sequence: ExtendedSequence) -> Option<Gap> {
        let mut gaps = self.open.iter_mut();
        let gap = gaps.find_map(|gap| gap.missed.as_mut()?.arrived(sequence).then_some(gap))?;
        if gap.missed.is_some_and(|missed| missed.missing > 0) {
            return None;
        }
        gap.kind = SlotState::Silence;
        Some(*gap)
    }

    /// The next gap that lies before `live` (live readers have passed it) and of which nobody has been told.
    pub fn next_passed(&mut self, live: u64) -> Option<Gap> {
        let gap = self.open.iter_mut().find(|gap| !gap.announced && gap.end <= live)?;
        gap.announced = true;
        Some(*gap)
    }

    /// The next gap that begins before `live`, where live readers are about to pass, and still awaits concealment.
    pub fn next_to_conceal(&mut self, live: u64) -> Option<Gap> {
        let gap = self.open.iter_mut().find(|gap| !gap.concealed && gap.start < live)?;
        gap.concealed = true;
        Some(*gap)
    }

    /// The ring's head may go up to, but not to, this ring sample without any of these having its turn: concealment and the
    /// news of a gap `live` samples behind the head, the end of its watch `repair` samples behind.
    pub fn quiet_until(&self, conceal: bool, live: u64, repair: u64) -> u64 {
        let turns = self.open.iter().map(|gap| match (gap.concealed || !conceal, gap.announced) {
            (false, _) => (gap.start + 1).min(gap.end) + live,
            (true, false) => gap.end + live,
            (true, true) => gap.end + repair,
        });
        turns.min().unwrap_or(u64::MAX)
    }

    /// Forget those before `repair`, which nothing can mend any more.
    pub fn forget(&mut self, repair: u64) {
        while self.open.front().is_some_and(|gap| gap.announced && gap.end <= repair) {
            self.open.pop_front();
        }
    }

    /// Sequence numbers begin anew.
    pub fn forget_sequences(&mut self) {
        for gap in &mut self.open {
            gap.missed = None;
        }
    }
}
