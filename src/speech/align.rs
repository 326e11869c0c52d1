//! Where in the audio its words lie.
//!
//! whisper.cpp's own token times come from the probabilities of timestamp tokens, and a small model's are off by half a
//! second. The audio knows better: sound is shared out among the words by their length in letters, then each border moves to
//! the quietest moment near by.

use super::RATE;
use super::recogniser::HypothesisWord;

/// Samples of a frame: 10 ms.
const FRAME: usize = RATE as usize / 100;
/// A word lasts as long as its letters and this many more: short words are spoken more slowly, letter for letter. Of 0 to 2
/// more, and of counting syllables, this put the most words of spoken numbers and dates right.
const FIXED: usize = 2;
/// A frame this far below the loud ones (the 95th percentile of effective values) is none of a word.
const QUIET: f32 = 0.05;
/// Nor is one below this multiple of the quietest (5th percentile), as far as that leaves the upper four fifths alone.
const NOISE: f32 = 2.5;
const LOUDEST_NOISE: f32 = 0.2;
/// A border moves by at most so many frames: 150 ms, half a short word.
const REACH: usize = 15;

/// Set the times of `words`, which are all that was said in `audio` (mono, [`RATE`]): seconds from its start, in order,
/// within it.
pub fn place(words: &mut [HypothesisWord], audio: &[f32]) {
    let loudness: Vec<f32> = audio.chunks(FRAME).map(effective).collect();
    let Some(sound) = Sound::of(&loudness) else {
        words.iter_mut().for_each(|word| (word.start, word.end) = (0.0, 0.0));
        return;
    };
    let share = |word: &HypothesisWord| word.text.chars().filter(|c| c.is_alphanumeric()).count() + FIXED;
    let all: usize = words.iter().map(share).sum();
    let (mut before, mut begin) = (0, sound.first);
    let count = words.len();
    for (index, word) in words.iter_mut().enumerate() {
        before += share(word);
        let end = match index + 1 == count {
            true => sound.last + 1,
            false => sound.border(before as f64 / all as f64, &loudness).max(begin),
        };
        let (from, to) = sound.trim(begin, end);
        word.start = (from * FRAME) as f64 / f64::from(RATE);
        word.end = (to * FRAME).min(audio.len()) as f64 / f64::from(RATE);
        begin = end;
    }
}

fn effective(frame: &[f32]) -> f32 {
    (frame.iter().map(|x| x * x).sum::<f32>() / frame.len() as f32).sqrt()
}

/// Which frames sound.
struct Sound {
    /// For each frame, how many before it sound; one more at the end.
    before: Vec<usize>,
    first: usize,
    last: usize,
}

impl Sound {
    /// `None` where nothing does.
    fn of(loudness: &[f32]) -> Option<Self> {
        let mut sorted = loudness.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied();
        let (loud, quiet) = (at(0.95)?, at(0.05)?);
        let floor = (NOISE * quiet).clamp(QUIET * loud, LOUDEST_NOISE * loud);
        let sounds = |x: &f32| *x > floor;
        let (first, last) = (loudness.iter().position(sounds)?, loudness.iter().rposition(sounds)?);
        let mut before = vec![0];
        before.extend(loudness.iter().scan(0, |sum, x| {
            *sum += usize::from(sounds(x));
            Some(*sum)
        }));
        Some(Self { before, first, last })
    }

    fn sounds(&self, frame: usize) -> bool {
        self.before[frame + 1] > self.before[frame]
    }

    /// The frame that begins behind `share` (0 to 1) of all sound, or a quieter one near it.
    fn border(&self, share: f64, loudness: &[f32]) -> usize {
        let all = self.before[self.before.len() - 1];
        let wanted = (all as f64 * share).round() as usize;
        let there = self.before.partition_point(|&before| before < wanted).clamp(self.first, self.last);
        let near = there.saturating_sub(REACH).max(self.first)..=(there + REACH).min(self.last);
        // 40 ms at once, for a plosive's stop is no border; what is farther away must be quieter.
        let cost = |frame: usize| {
            let around = &loudness[frame.saturating_sub(2)..(frame + 2).min(loudness.len())];
            let away = frame.abs_diff(there) as f32 / REACH as f32;
            around.iter().sum::<f32>() * (1.0 + away / 2.0)
        };
        near.min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(there)
    }

    /// `begin..end` without the silence at both ends, but never nothing, within the sound.
    fn trim(&self, begin: usize, end: usize) -> (usize, usize) {
        let begin = begin.min(self.last);
        let from = (begin..=self.last).find(|&frame| self.sounds(frame)).unwrap_or(begin);
        let to = (from + 1..=end).rev().find(|&frame| self.sounds(frame - 1)).unwrap_or(from);
        (from, to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(texts: &[&str]) -> Vec<HypothesisWord> {
        let word = |text: &&str| HypothesisWord { text: (*text).into(), start: 9.0, end: 1.0, p: 0.5 };
        texts.iter().map(word).collect()
    }

    /// Sound and silence in turn, each so many milliseconds long, silence first.
    fn audio(stretches: &[usize]) -> Vec<f32> {
        let stretch = |(index, ms): (usize, &usize)| {
            let level = if index % 2 == 0 { 0.001 } else { 0.3 };
            (0..ms * 16).map(move |n| level * if n % 20 < 10 { 1.0 } else { -1.0 })
        };
        stretches.iter().enumerate().flat_map(stretch).collect()
    }

    #[test]
    fn words_parted_by_silence_lie_where_they_sound() {
        let mut placed = words(&["hello", "world", "it's"]);
        place(&mut placed, &audio(&[300, 400, 100, 480, 200, 350, 600]));
        let times: Vec<_> = placed.iter().map(|w| (w.start, w.end)).collect();
        assert_eq!(times, [(0.3, 0.7), (0.8, 1.28), (1.48, 1.83)]);
    }

    #[test]
    fn what_is_spoken_in_one_breath_is_shared_out_by_letters() {
        let mut placed = words(&["a", "telephone"]);
        place(&mut placed, &audio(&[200, 1_400, 200]));
        assert_eq!((placed[0].start, placed[1].end), (0.2, 1.6));
        assert!((placed[0].end - 0.5).abs() < 0.16 && placed[1].start >= placed[0].end, "{placed:?}");
    }

    #[test]
    fn without_sound_there_is_no_time() {
        for audio in [vec![], vec![0.0; 16_000]] {
            let mut placed = words(&["ghost"]);
            place(&mut placed, &audio);
            assert_eq!((placed[0].start, placed[0].end), (0.0, 0.0));
        }
        place(&mut [], &audio(&[10, 100]));
    }

    proptest! {
        #[test]
        fn times_never_go_back_nor_leave_the_audio(
            texts in prop::collection::vec("[a-z' ]{0,12}", 0..20),
            audio in prop::collection::vec(-1.0_f32..1.0, 0..40_000),
        ) {
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let mut placed = words(&texts);
            place(&mut placed, &audio);
            let mut now = 0.0;
            for word in placed {
                prop_assert!(now <= word.start && word.start <= word.end);
                now = word.end;
            }
            prop_assert!(now <= audio.len() as f64 / 16_000.0);
        }
    }
}
