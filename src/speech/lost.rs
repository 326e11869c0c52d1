//! Where a leg's audio is not what was said: words there are less sure than a model thinks. Pure.

use std::collections::VecDeque;

use super::event::{Word, to_millis};

/// No utterance is longer, with what it waits for: seconds.
const KEPT: f64 = 120.0;
/// A word lasts so long at least, seconds: times of words may coincide.
const SHORTEST: f64 = 0.02;

/// Stretches, in order, seconds on the recording's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct LostTime(VecDeque<(f64, f64)>);

impl LostTime {
    /// The next one.
    pub(super) fn add(&mut self, from: f64, to: f64) {
        match self.0.back_mut() {
            // A slot's bounds need not be exact in seconds.
            Some(last) if from - last.1 < 1e-6 => last.1 = to.max(last.1),
            _ => self.0.push_back((from, to)),
        }
        while self.0.front().is_some_and(|first| first.1 < from - KEPT) {
            self.0.pop_front();
        }
    }

    /// Take from each word's confidence the share of it that nobody heard.
    pub(super) fn doubt(&self, words: &mut [Word]) {
        for word in words {
            let (start, end) = (word.start, word.end.max(word.start + SHORTEST));
            let overlap = |(from, to): &(f64, f64)| (to.min(end) - from.max(start)).max(0.0);
            let lost: f64 = self.0.iter().map(overlap).sum();
            word.confidence = to_millis(word.confidence * (1.0 - lost / (end - start)).max(0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(start: f64, end: f64) -> Word {
        Word { text: "word".into(), start, end, confidence: 0.8, stable: false }
    }

    #[test]
    fn confidence_falls_by_the_share_that_was_lost() {
        let mut lost = LostTime::default();
        for slot in 0..20 {
            lost.add(1.0 + f64::from(slot) * 0.01, 1.01 + f64::from(slot) * 0.01);
        }
        lost.add(2.0, 2.1);
        assert_eq!(lost.0.len(), 2);
        let mut words = [word(0.5, 0.9), word(0.9, 1.3), word(1.05, 1.15), word(1.1, 1.1), word(1.9, 2.2)];
        lost.doubt(&mut words);
        let confidences = words.map(|word| word.confidence);
        assert_eq!(confidences, [0.8, 0.4, 0.0, 0.0, 0.533]);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut lost = LostTime::default();
        for second in 0..600 {
            lost.add(f64::from(second), f64::from(second) + 0.5);
        }
        assert!(lost.0.len() < 130);
    }
}
