//! The gaps of a leg that are young enough to be mended, and who is told of them.

use std::collections::VecDeque;

use super::counter::ExtendedSequence;
use super::slot::SlotState;

/// Gaps watched at once. At every second packet lost, the repair window of 2 s has 50.
const WATCHED: usize = 64;

/// A stretch of the ring without audio, between two packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// Ring samples.
    pub start: u64,
    pub end: u64,
    pub kind: SlotState,
    /// The sequence numbers that fell into it, and how many of them are still missing.
    pub first: ExtendedSequence,
    pub after: ExtendedSequence,
    pub missing: u64,
    pub announced: bool,
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

    /// Watch `gap`. Returns the oldest one if it had to make room.
    pub fn watch(&mut self, gap: Gap) -> Option<Gap> {
        let oldest = if self.open.len() == WATCHED { self.open.pop_front() } else { None };
        self.open.push_back(gap);
        oldest
    }

    /// `sequence` came late. Returns the gap it was missing from if that lacks no other packet: whatever of it is
    /// still without audio never had any.
    pub fn arrived(&mut self, sequence: ExtendedSequence) -> Option<Gap> {
        let gap = self.open.iter_mut().find(|gap| (gap.first..gap.after).contains(&sequence))?;
        gap.missing = gap.missing.saturating_sub(1);
        if gap.missing > 0 {
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

    /// Forget those before `repair`, which nothing can mend any more.
    pub fn forget(&mut self, repair: u64) {
        while self.open.front().is_some_and(|gap| gap.announced && gap.end <= repair) {
            self.open.pop_front();
        }
    }

    /// Sequence numbers begin anew.
    pub fn forget_sequences(&mut self) {
        for gap in &mut self.open {
            gap.after = gap.first;
        }
    }
}
