//! The gaps of one track, in order, neighbours of a kind merged.

use crate::media::report::Gap;
use crate::media::slot::SlotState;

/// Collects gaps as a recording grows. Positions are samples of the recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GapTrack {
    gaps: Vec<Gap>,
}

impl GapTrack {
    /// `samples` from `start` on are a gap of kind `kind`; `start` is not before the end of what was noted earlier.
    pub fn note(&mut self, start: u64, samples: u64, kind: SlotState) {
        if samples == 0 {
            return;
        }
        match self.gaps.last_mut() {
            Some(last) if last.kind == kind && last.start_sample + last.samples == start => {
                last.samples += samples;
            }
            _ => self.gaps.push(Gap { start_sample: start, samples, kind }),
        }
    }

    /// Forget what lies at or behind `end`.
    pub fn truncate(&mut self, end: u64) {
        while self.gaps.last().is_some_and(|gap| gap.start_sample >= end) {
            self.gaps.pop();
        }
        if let Some(last) = self.gaps.last_mut() {
            last.samples = last.samples.min(end - last.start_sample);
        }
    }

    /// Forget what lies before `start`.
    pub fn forget_before(&mut self, start: u64) {
        self.gaps.retain_mut(|gap| {
            let end = gap.start_sample + gap.samples;
            gap.start_sample = gap.start_sample.max(start);
            gap.samples = end.saturating_sub(gap.start_sample);
            gap.samples > 0
        });
    }

    /// The gaps so far; the last one may still grow.
    pub fn as_slice(&self) -> &[Gap] {
        &self.gaps
    }

    /// The gaps.
    pub fn into_vec(self) -> Vec<Gap> {
        self.gaps
    }
}

/// The three tracks of a recording: both legs, and where it was paused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracks {
    /// Left and right.
    pub legs: [GapTrack; 2],
    /// Paused stretches; silence on both legs, too.
    pub paused: GapTrack,
}

impl Tracks {
    /// How many tracks there are.
    pub const COUNT: usize = 3;

    /// Left, right, paused.
    pub fn all(&self) -> [&GapTrack; Self::COUNT] {
        [&self.legs[0], &self.legs[1], &self.paused]
    }

    /// Left, right, paused.
    pub fn all_mut(&mut self) -> [&mut GapTrack; Self::COUNT] {
        let [left, right] = &mut self.legs;
        [left, right, &mut self.paused]
    }

    /// Forget what lies at or behind frame `end`.
    pub fn truncate(&mut self, end: u64) {
        for track in self.all_mut() {
            track.truncate(end);
        }
    }

    /// Forget what lies before frame `start`.
    pub fn forget_before(&mut self, start: u64) {
        for track in self.all_mut() {
            track.forget_before(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(start_sample: u64, samples: u64, kind: SlotState) -> Gap {
        Gap { start_sample, samples, kind }
    }

    #[test]
    fn what_lies_before_is_forgotten_and_a_gap_across_is_cut() {
        let mut track = GapTrack::default();
        for start in [0, 200, 400] {
            track.note(start, 100, SlotState::Lost);
        }
        track.forget_before(100);
        assert_eq!(track.as_slice(), [gap(200, 100, SlotState::Lost), gap(400, 100, SlotState::Lost)]);
        track.forget_before(250);
        assert_eq!(track.as_slice(), [gap(250, 50, SlotState::Lost), gap(400, 100, SlotState::Lost)]);
        track.forget_before(900);
        assert_eq!(track.as_slice(), []);
    }

    #[test]
    fn neighbours_of_a_kind_merge_and_the_end_cuts() {
        let mut track = GapTrack::default();
        track.note(0, 80, SlotState::Lost);
        track.note(80, 80, SlotState::Lost);
        track.note(160, 80, SlotState::Silence);
        track.note(320, 80, SlotState::Silence);
        assert_eq!(
            track.as_slice(),
            [
                gap(0, 160, SlotState::Lost),
                gap(160, 80, SlotState::Silence),
                gap(320, 80, SlotState::Silence)
            ]
        );
        track.truncate(200);
        assert_eq!(track.into_vec(), [gap(0, 160, SlotState::Lost), gap(160, 40, SlotState::Silence)]);
    }
}
