//! In which language a leg is recognised, where that is not said beforehand. Pure.
//!
//! To find it out costs a decode as much again as an encode, and over a word or two it is a guess. So it is asked of the first partial, for the
//! time being, and once more over three voiced seconds or at the first final, for good. After that only doubt asks again: where words
//! are weak, the next final is asked which language it is in, and two in a row that are sure of the same other one change it.

use std::time::Duration;

/// What recognisers are asked that are to find out.
pub const AUTO: &str = "auto";
/// Voiced audio that tells a language.
pub const TELLS: Duration = Duration::from_secs(3);
/// Finals less sure than this (mean log probability) may be in another language.
const WEAK: f32 = -0.5;
/// So many finals in a row have to agree on another language.
const AGREEING: u32 = 2;

/// The language of one leg.
#[derive(Clone, Debug)]
pub struct LegLanguage {
    /// What is asked for: a code, once it is known.
    known: Option<String>,
    /// What was asked for at first was `auto`.
    is_auto: bool,
    is_settled: bool,
    /// The last final was weak.
    is_doubted: bool,
    /// Another language, and how many finals in a row were sure of it.
    rival: Option<(String, u32)>,
}

impl LegLanguage {
    /// As the settings say: a code, or `auto`.
    pub fn new(setting: &str) -> Self {
        let is_auto = setting == AUTO;
        let known = (!is_auto).then(|| setting.to_owned());
        Self { known, is_auto, is_settled: !is_auto, is_doubted: false, rival: None }
    }

    /// What to ask of a decode that will not be the last of its utterance.
    pub fn of_partials(&self) -> &str {
        self.known.as_deref().unwrap_or(AUTO)
    }

    /// What to ask of a decode that may be the last of its utterance.
    pub fn of_finals(&self) -> &str {
        match &self.known {
            Some(known) if self.is_settled && !self.is_doubted => known,
            _ => AUTO,
        }
    }

    /// Whether a partial over so much voiced audio is to find out, for good.
    pub fn is_wanted(&self, voiced: Duration) -> bool {
        !self.is_settled && voiced >= TELLS
    }

    /// A partial has words in `language`; `tells`: it was asked to find out over enough audio ([`LegLanguage::is_wanted`]).
    pub fn partial(&mut self, language: &str, tells: bool) {
        if self.is_settled || language.is_empty() || language == AUTO {
            return;
        }
        if tells || self.known.is_none() {
            self.known = Some(language.to_owned());
        }
        self.is_settled |= tells;
    }

    /// A final has words in `language`, with this mean log probability, and they were `believed`. Whether the language of the leg has changed.
    pub fn last_word(&mut self, language: &str, logprob: f32, believed: bool) -> bool {
        if !self.is_auto || language.is_empty() || language == AUTO {
            return false;
        }
        let is_sure = believed && logprob >= WEAK;
        if !self.is_settled {
            // Weak words settle nothing unless there is nothing better.
            let before = self.known.replace(language.to_owned());
            self.is_settled = is_sure;
            return before.is_some_and(|before| before != language);
        }
        if self.known.as_deref() == Some(language) {
            self.rival = None;
            self.is_doubted = !is_sure;
            return false;
        }
        if !is_sure {
            self.rival = None;
            return false;
        }
        let agreeing = match self.rival.take() {
            Some((rival, count)) if rival == language => count + 1,
            _ => 1,
        };
        if agreeing < AGREEING {
            self.rival = Some((language.to_owned(), agreeing));
            return false;
        }
        self.known = Some(language.to_owned());
        self.is_doubted = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_that_is_set_is_never_asked_for() {
        let mut language = LegLanguage::new("de");
        assert!(!language.is_wanted(TELLS));
        language.partial("en", true);
        assert!(!language.last_word("en", -2.0, false));
        assert_eq!((language.of_partials(), language.of_finals()), ("de", "de"));
    }

    #[test]
    fn it_is_found_for_the_time_being_by_the_first_partial_and_for_good_over_three_seconds() {
        let mut language = LegLanguage::new(AUTO);
        assert_eq!((language.of_partials(), language.of_finals()), (AUTO, AUTO));
        language.partial("cy", false);
        assert_eq!((language.of_partials(), language.of_finals()), ("cy", AUTO));
        language.partial("en", false);
        assert_eq!(language.of_partials(), "cy");
        assert!(language.is_wanted(TELLS) && !language.is_wanted(TELLS / 2));
        language.partial("en", true);
        assert_eq!((language.of_partials(), language.of_finals()), ("en", "en"));
        assert!(!language.is_wanted(TELLS));
    }

    #[test]
    fn or_by_the_first_final_that_is_sure_of_its_words() {
        let mut language = LegLanguage::new(AUTO);
        language.last_word("nn", -0.9, true);
        assert_eq!((language.of_partials(), language.of_finals()), ("nn", AUTO));
        assert!(language.last_word("de", -0.2, true), "from a guess to the language");
        assert_eq!((language.of_partials(), language.of_finals()), ("de", "de"));
    }

    #[test]
    fn two_finals_that_agree_change_it_and_one_does_not() {
        let mut language = LegLanguage::new(AUTO);
        language.last_word("en", -0.2, true);
        language.last_word("en", -0.8, true);
        assert_eq!((language.of_partials(), language.of_finals()), ("en", AUTO), "weak: ask again");
        language.last_word("es", -0.3, true);
        assert_eq!(language.of_partials(), "en");
        // Not sure of it, or of another one: begin again.
        language.last_word("es", -0.7, true);
        language.last_word("es", -0.3, true);
        language.last_word("fr", -0.3, true);
        assert!(!language.last_word("es", -0.3, true));
        assert!(language.last_word("es", -0.3, true));
        assert_eq!((language.of_partials(), language.of_finals()), ("es", "es"));
        language.last_word("es", -0.9, false);
        language.last_word("es", -0.2, true);
        assert_eq!(language.of_finals(), "es", "doubt that did not come true");
    }
}
