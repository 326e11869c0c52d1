//! Words that stand: LocalAgreement-2 over the successive hypotheses of one utterance.
//!
//! A word becomes stable when two hypotheses in a row say it after the same stable words (Liu et al., "Low-latency
//! sequence-to-sequence speech recognition and translation by partial hypothesis selection", Interspeech 2020; Macháček
//! et al., "Turning Whisper into real-time transcription system", 2023). It never changes again: not its text, not its
//! times. The final hypothesis decides over the rest alone.

use super::event::Word;

/// A word that ends this close to the end of the audio may be cut off: it is not agreed on yet. Seconds.
const UNFINISHED: f64 = 0.2;

/// What an utterance says at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// From 1, without holes.
    pub number: u64,
    /// The stable words, then those that may still change.
    pub words: Vec<Word>,
}

/// The state of one utterance.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    stable: Vec<Word>,
    /// What the last hypothesis said behind the stable words.
    tail: Vec<Word>,
    revisions: u64,
}

impl Agreement {
    /// Where an earlier listener left an utterance: with these words shown, as that revision. Of the stable ones those count that
    /// lead.
    pub fn shown(words: Vec<Word>, revision: u64) -> Self {
        let stands = words.iter().take_while(|word| word.stable).count();
        let mut stable = words;
        let tail = stable.split_off(stands);
        Self { stable, tail, revisions: revision }
    }

    /// Take in the hypothesis for the utterance's audio up to `audio_end` (seconds, on the words' clock). `None` as long as
    /// there has never been a word.
    pub fn partial(&mut self, hypothesis: Vec<Word>, audio_end: f64) -> Option<Revision> {
        let rest = self.behind_stable(hypothesis);
        let agreed = rest
            .iter()
            .zip(&self.tail)
            .take_while(|(new, old)| same(new, old) && new.end <= audio_end - UNFINISHED)
            .count();
        self.tail = rest;
        for mut word in self.tail.drain(..agreed) {
            word.stable = true;
            self.stable.push(word);
        }
        if self.revisions == 0 && self.stable.is_empty() && self.tail.is_empty() {
            return None;
        }
        self.revisions += 1;
        let words = self.stable.iter().chain(&self.tail).cloned().collect();
        Some(Revision { number: self.revisions, words })
    }

    /// The last hypothesis, for the whole utterance: its one final, in which the stable words stand.
    pub fn finish(mut self, hypothesis: Vec<Word>) -> Revision {
        let rest = self.behind_stable(hypothesis);
        self.stable.extend(rest.into_iter().map(|word| Word { stable: true, ..word }));
        Revision { number: self.revisions + 1, words: self.stable }
    }

    /// No last hypothesis will come: the words last shown are the final ones.
    pub fn finish_as_shown(mut self) -> Revision {
        self.stable.extend(self.tail.into_iter().map(|word| Word { stable: true, ..word }));
        Revision { number: self.revisions + 1, words: self.stable }
    }

    /// Whether any revision has been given out.
    pub fn has_revisions(&self) -> bool {
        self.revisions > 0
    }

    /// The part of `hypothesis` that follows what the stable words cover, moved behind them in time.
    fn behind_stable(&self, mut hypothesis: Vec<Word>) -> Vec<Word> {
        let covered = self.covered(&hypothesis);
        let mut rest = hypothesis.split_off(covered);
        let mut earliest = self.stable.last().map_or(f64::MIN, |w| w.end);
        for word in &mut rest {
            word.start = word.start.max(earliest);
            word.end = word.end.max(word.start);
            word.stable = false;
            earliest = word.end;
        }
        rest
    }

    /// How many words of `hypothesis` say again, rightly or wrongly, what the stable ones say: the prefix with the least
    /// edit distance to them, and among equals the one that ends when they do.
    fn covered(&self, hypothesis: &[Word]) -> usize {
        let Some(last) = self.stable.last() else { return 0 };
        let mut row: Vec<usize> = (0..=hypothesis.len()).collect();
        for (i, stable) in self.stable.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, word) in hypothesis.iter().enumerate() {
                let substituted = diagonal + usize::from(!same(stable, word));
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
            }
        }
        let off = |prefix: usize| {
            let end = prefix.checked_sub(1).map_or(self.stable[0].start, |i| hypothesis[i].end);
            (end - last.end).abs()
        };
        (0..row.len())
            .min_by(|&a, &b| row[a].cmp(&row[b]).then_with(|| off(a).total_cmp(&off(b))))
            .unwrap_or(0)
    }
}

fn same(a: &Word, b: &Word) -> bool {
    normalised(&a.text).eq(normalised(&b.text))
}

/// The letters and digits of a word, in lower case: a comma or a capital is no disagreement.
fn normalised(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<Word> {
        let word = |(i, text): (usize, &str)| {
            let start = i as f64 * 0.5;
            Word { text: text.into(), start, end: start + 0.4, confidence: 0.9, stable: false }
        };
        text.split_whitespace().enumerate().map(word).collect()
    }

    fn shown(revision: &Revision) -> String {
        let show = |w: &Word| if w.stable { format!("[{}]", w.text) } else { w.text.clone() };
        revision.words.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn two_hypotheses_in_a_row_make_a_word_stand() {
        let mut agreement = Agreement::default();
        assert_eq!(shown(&agreement.partial(words("the quick brow"), 1.5).unwrap()), "the quick brow");
        assert_eq!(
            shown(&agreement.partial(words("The quick, brown"), 2.0).unwrap()),
            "[The] [quick,] brown"
        );
        assert_eq!(
            shown(&agreement.partial(words("a quick brown fox"), 2.5).unwrap()),
            "[The] [quick,] [brown] fox"
        );
        let last = agreement.finish(words("a quick brown box jumps"));
        assert_eq!(shown(&last), "[The] [quick,] [brown] [box] [jumps]");
        assert_eq!(last.number, 4);
    }

    #[test]
    fn a_word_at_the_end_of_the_audio_waits() {
        let mut agreement = Agreement::default();
        agreement.partial(words("please ent"), 0.95);
        assert_eq!(shown(&agreement.partial(words("please ent"), 1.0).unwrap()), "[please] ent");
    }

    #[test]
    fn silence_says_nothing_and_a_lost_tail_is_reported() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.partial(Vec::new(), 1.0), None);
        agreement.partial(words("well"), 1.0);
        assert_eq!(agreement.partial(Vec::new(), 2.0).unwrap().words, Vec::new());
    }

    #[test]
    fn an_utterance_goes_on_from_what_was_shown_of_it() {
        let mut agreement = Agreement::default();
        agreement.partial(words("one two three"), 3.0);
        let last = agreement.partial(words("one two four"), 3.0).unwrap();
        let again = Agreement::shown(last.words, last.number).finish(words("won too five six"));
        assert_eq!((shown(&again).as_str(), again.number), ("[one] [two] [five] [six]", 3));
    }

    #[test]
    fn a_final_without_words_keeps_what_stands() {
        let mut agreement = Agreement::default();
        agreement.partial(words("one two three"), 3.0);
        agreement.partial(words("one two four"), 3.0);
        assert_eq!(shown(&agreement.finish(Vec::new())), "[one] [two]");
    }

    #[test]
    fn a_final_that_drops_or_adds_words_before_the_tail_is_aligned() {
        for (last, wanted) in [
            ("two three four", "[one] [two] [three] [four]"),
            ("one oh two three four", "[one] [two] [three] [four]"),
        ] {
            let mut agreement = Agreement::default();
            agreement.partial(words("one two three"), 9.0);
            agreement.partial(words("one two three"), 9.0);
            assert_eq!(shown(&agreement.finish(words(last))), wanted);
        }
    }

    proptest! {
        #[test]
        fn stable_words_never_change_and_times_never_go_back(
            hypotheses in prop::collection::vec(prop::collection::vec("[ab]{1,2}", 0..6), 1..8),
            ends in prop::collection::vec(0.0..4.0_f64, 8),
        ) {
            let mut agreement = Agreement::default();
            let mut stood: Vec<Word> = Vec::new();
            let mut number = 0;
            let check = |revision: &Revision, stood: &mut Vec<Word>, number: &mut u64| {
                assert_eq!(revision.number, *number + 1);
                *number += 1;
                let stable = revision.words.iter().take_while(|w| w.stable).count();
                assert!(revision.words[stable..].iter().all(|w| !w.stable));
                assert!(stable >= stood.len());
                assert_eq!(&revision.words[..stood.len()], &stood[..]);
                assert!(revision.words.iter().all(|w| w.end >= w.start));
                assert!(revision.words.windows(2).all(|w| w[1].start >= w[0].end));
                *stood = revision.words[..stable].to_vec();
            };
            let (last, partials) = hypotheses.split_last().unwrap();
            for (hypothesis, end) in partials.iter().zip(&ends) {
                if let Some(revision) = agreement.partial(words(&hypothesis.join(" ")), *end) {
                    check(&revision, &mut stood, &mut number);
                }
            }
            let revision = agreement.finish(words(&last.join(" ")));
            check(&revision, &mut stood, &mut number);
            prop_assert!(revision.words.iter().all(|w| w.stable));
        }
    }
}
