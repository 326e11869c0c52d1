//! What is answered, as vosk writes it: words alone, in lower case.

use serde_json::{Value, json};

use crate::api::live::{confidence, plain};
use crate::speech::event::{Word, is_unspaced};

/// How a client wants its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Each word of a final, with its times.
    pub(super) words: bool,
    /// Each word of a partial, likewise.
    pub(super) partial_words: bool,
    /// Finals as a list of what may have been said. There is one.
    pub(super) alternatives: bool,
}

/// As vosk-server has it.
impl Default for Shape {
    fn default() -> Self {
        Self { words: true, partial_words: false, alternatives: false }
    }
}

/// What was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) words: Vec<Word>,
    pub(super) unspaced: bool,
}

impl Said {
    pub(super) fn new(words: Vec<Word>, language: &str) -> Self {
        Self { words, unspaced: is_unspaced(language) }
    }

    /// With what was said after it.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.unspaced |= other.unspaced;
        self.words.extend(other.words);
        self
    }

    fn text(&self) -> String {
        let separator = if self.unspaced { "" } else { " " };
        self.words.iter().map(|word| plain(&word.text)).collect::<Vec<_>>().join(separator)
    }
}

impl Shape {
    pub(super) fn partial(self, said: &Said) -> String {
        let mut answer = json!({ "partial": said.text() });
        if self.partial_words && !said.words.is_empty() {
            answer["partial_result"] = listed(&said.words, true);
        }
        answer.to_string()
    }

    pub(super) fn last(self, said: &Said) -> String {
        let mut one = json!({ "text": said.text() });
        if self.words && !said.words.is_empty() {
            one["result"] = listed(&said.words, !self.alternatives);
        }
        if self.alternatives {
            one["confidence"] = if said.words.is_empty() { 1.0 } else { confidence(&said.words) }.into();
            one = json!({ "alternatives": [one] });
        }
        one.to_string()
    }
}

/// Within alternatives, it is they that have a confidence.
fn listed(words: &[Word], with_confidence: bool) -> Value {
    let word = |word: &Word| {
        let mut one = json!({ "word": plain(&word.text), "start": word.start, "end": word.end });
        if with_confidence {
            one["conf"] = word.confidence.into();
        }
        one
    };
    words.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        let word = |text: &str, start: f64, confidence| Word {
            text: text.into(),
            start,
            end: start + 0.5,
            confidence,
            stable: true,
        };
        Said::new(vec![word("Hello,", 0.5, 0.75)], "en").and(Said::new(vec![word("World.", 1.5, 0.25)], "en"))
    }

    #[test]
    fn answers_are_as_vosk_writes_them() {
        let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let shape = Shape::default();
        assert_eq!(parsed(shape.partial(&said())), json!({ "partial": "hello world" }));
        assert_eq!(parsed(shape.partial(&Said::default())), json!({ "partial": "" }));
        assert_eq!(parsed(shape.last(&Said::default())), json!({ "text": "" }));
        let word = |word, start: f64, conf| json!({ "word": word, "start": start, "end": start + 0.5, "conf": conf });
        let result = json!([word("hello", 0.5, 0.75), word("world", 1.5, 0.25)]);
        assert_eq!(parsed(shape.last(&said())), json!({ "text": "hello world", "result": result }));
        let more = Shape { partial_words: true, ..shape };
        assert_eq!(
            parsed(more.partial(&said())),
            json!({ "partial": "hello world", "partial_result": result })
        );
        let short = Shape { words: false, alternatives: true, ..shape };
        assert_eq!(
            parsed(short.last(&said())),
            json!({ "alternatives": [{ "text": "hello world", "confidence": 0.5 }] })
        );
    }
}
