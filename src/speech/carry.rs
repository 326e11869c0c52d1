//! What was said last, for the model to lean on with the next utterance of the same leg. Pure.
//!
//! It helps a model to spell a name again as it did before, and to go on with a sentence that a pause has cut. It does harm where it was
//! wrong itself: what is not believed, another language and a long silence end it.

use super::event::is_unspaced;
use super::recogniser::Hypothesis;

/// So many characters are about 40 tokens of English, and each token of a prompt costs as much as one that is spoken. With a
/// vocabulary before it, all of it.
const LONGEST: usize = 160;
/// After so many seconds of silence something else is spoken of.
const STALE: f64 = 30.0;

/// The end of the last final.
#[derive(Clone, Debug, Default)]
pub(super) struct Carry {
    text: String,
    /// Where it ended, seconds.
    end: f64,
}

impl Carry {
    /// The final of an utterance that ended at `end`. One without words says nothing against those before it.
    pub(super) fn take(&mut self, hypothesis: &Hypothesis, end: f64) {
        if hypothesis.words.is_empty() {
            return;
        }
        let separator = if is_unspaced(&hypothesis.language) { "" } else { " " };
        let words: Vec<&str> = hypothesis.words.iter().map(|word| word.text.as_str()).collect();
        self.text = words.join(separator);
        self.end = end;
    }

    /// It was wrong, or is of no use any more.
    pub(super) fn forget(&mut self) {
        self.text.clear();
    }

    /// What to say before an utterance that starts at `start`, behind `vocabulary` characters of another kind.
    pub(super) fn text(&self, start: f64, vocabulary: usize) -> &str {
        if start - self.end > STALE {
            return "";
        }
        let room = LONGEST.saturating_sub(vocabulary);
        let over = self.text.chars().count().saturating_sub(room);
        if over == 0 {
            return &self.text;
        }
        let cut = self.text.char_indices().nth(over).map_or(self.text.len(), |(at, _)| at);
        let rest = &self.text[cut..];
        // Not from the middle of a word on; where there are no spaces, from anywhere.
        rest.find(' ').map_or(rest, |space| rest[space..].trim_start())
    }
}

#[cfg(test)]
mod tests {
    use super::super::recogniser::HypothesisWord;
    use super::*;

    fn said(text: &str) -> Hypothesis {
        let word = |text: &str| HypothesisWord { text: text.into(), start: 0.0, end: 0.1, p: 0.9 };
        let words = text.split_whitespace().map(word).collect();
        Hypothesis { words, language: "en".into(), ..Hypothesis::default() }
    }

    #[test]
    fn the_last_words_are_carried_for_half_a_minute() {
        let mut carry = Carry::default();
        assert_eq!(carry.text(0.0, 0), "");
        carry.take(&said("Doctor Nguyen speaking"), 10.0);
        assert_eq!(carry.text(12.0, 0), "Doctor Nguyen speaking");
        carry.take(&said(""), 12.0);
        assert_eq!(carry.text(39.0, 0), "Doctor Nguyen speaking");
        assert_eq!(carry.text(41.0, 0), "");
        carry.forget();
        assert_eq!(carry.text(12.0, 0), "");
    }

    #[test]
    fn it_is_short_and_begins_with_a_word_and_gives_way_to_a_vocabulary() {
        let mut carry = Carry::default();
        carry.take(&said(&"number nine ".repeat(40)), 1.0);
        let text = carry.text(1.0, 0);
        assert!(text.len() <= LONGEST && text.len() > LONGEST - 10, "{text}");
        assert!(text.starts_with("number") || text.starts_with("nine"), "{text}");
        assert!(carry.text(1.0, 100).len() <= 60);
        assert_eq!(carry.text(1.0, 200), "");
    }
}
