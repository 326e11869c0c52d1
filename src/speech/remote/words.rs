//! Words with times, of what a service says: some give times with every result, some with final ones only, and the text may be
//! written otherwise than the words were counted (numbers as digits, punctuation).

use super::StreamResult;
use crate::speech::event::is_unspaced;
use crate::speech::recogniser::HypothesisWord;

/// The words of a result and whether their times are the service's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimedWords {
    /// Seconds from the stream's first sample.
    pub words: Vec<HypothesisWord>,
    /// Otherwise they are estimates.
    pub is_timed: bool,
}

/// Read `result`, which says what was spoken between `from` and `to` seconds into the stream. `language` decides whether its
/// text has spaces between words. Confidences that nobody tells are 0.
pub fn words_of(result: &StreamResult, (from, to): (f64, f64), language: &str) -> TimedWords {
    let texts = texts_of(result, language);
    if result.words.is_empty() {
        return TimedWords {
            words: spread(&texts, from, to.max(from), result.p),
            is_timed: texts.is_empty(),
        };
    }
    let (mut words, mut earliest) = (Vec::with_capacity(texts.len()), from);
    for (text, start, end, p) in timed(result, texts) {
        let start = start.max(earliest);
        let end = end.max(start);
        earliest = end;
        words.push(HypothesisWord { text, start, end, p: p.or(result.p).unwrap_or(0.0) });
    }
    TimedWords { words, is_timed: true }
}

fn texts_of(result: &StreamResult, language: &str) -> Vec<String> {
    if !is_unspaced(language) {
        return result.text.split_whitespace().map(str::to_owned).collect();
    }
    let spoken = || result.words.iter().map(|word| word.text.trim()).filter(|text| !text.is_empty());
    match spoken().next() {
        Some(_) => spoken().map(str::to_owned).collect(),
        None => result.text.chars().filter(|c| !c.is_whitespace()).map(String::from).collect(),
    }
}

/// `texts` at the times of the result's words: one by one if they are as many; or else each where its share of the letters lies.
fn timed(result: &StreamResult, texts: Vec<String>) -> Vec<(String, f64, f64, Option<f32>)> {
    let said = &result.words;
    if texts.is_empty() {
        let whole = |word: &super::ServiceWord| (word.text.trim().to_owned(), word.start, word.end, word.p);
        return said.iter().map(whole).filter(|(text, ..)| !text.is_empty()).collect();
    }
    if texts.len() == said.len() {
        return texts.into_iter().zip(said).map(|(text, w)| (text, w.start, w.end, w.p)).collect();
    }
    let length = |text: &str| text.chars().count().max(1) as f64;
    let (all, heard): (f64, f64) =
        (texts.iter().map(|t| length(t)).sum(), said.iter().map(|w| length(&w.text)).sum());
    // The word, and the time, at a share of all letters.
    let at = |share: f64, is_end: bool| {
        let mut before = 0.0;
        for word in said {
            let letters = length(&word.text);
            let inside = share * heard - before;
            if inside < letters - 1e-6 || is_end && inside <= letters + 1e-6 {
                return (word, word.start + (word.end - word.start) * (inside / letters).clamp(0.0, 1.0));
            }
            before += letters;
        }
        let last = &said[said.len() - 1];
        (last, last.end)
    };
    let mut before = 0.0;
    let place = |text: String| {
        let (first, start) = at(before / all, false);
        before += length(&text);
        let (_, end) = at(before / all, true);
        (text, start, end, first.p)
    };
    texts.into_iter().map(place).collect()
}

/// `texts` one after the other from `from` to `to`, each as long as its letters.
fn spread(texts: &[String], from: f64, to: f64, p: Option<f32>) -> Vec<HypothesisWord> {
    let letters: usize = texts.iter().map(|text| text.chars().count()).sum();
    let mut at = from;
    let place = |text: &String| {
        let start = at;
        at += (to - from) * text.chars().count() as f64 / letters.max(1) as f64;
        HypothesisWord { text: text.clone(), start, end: at, p: p.unwrap_or(0.0) }
    };
    texts.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::remote::ServiceWord;

    fn said(text: &str, start: f64, end: f64) -> ServiceWord {
        ServiceWord { text: text.into(), start, end, p: Some(0.8) }
    }

    fn result(text: &str, words: Vec<ServiceWord>) -> StreamResult {
        StreamResult { text: text.into(), words, ..StreamResult::default() }
    }

    fn times(words: &TimedWords) -> Vec<(&str, f64, f64)> {
        let round = |t: f64| (t * 100.0).round() / 100.0;
        words.words.iter().map(|w| (w.text.as_str(), round(w.start), round(w.end))).collect()
    }

    #[test]
    fn the_text_is_shown_at_the_times_of_the_words() {
        let heard = result("Hello, world.", vec![said("hello", 0.5, 0.8), said("world", 1.0, 1.4)]);
        let words = words_of(&heard, (0.0, 2.0), "en");
        assert_eq!(times(&words), [("Hello,", 0.5, 0.8), ("world.", 1.0, 1.4)]);
        assert!(words.is_timed);
        assert_eq!(words.words[0].p, 0.8);
    }

    #[test]
    fn numbers_written_otherwise_than_they_were_spoken_lie_where_they_were_spoken() {
        let spoken = vec![
            said("pay", 0.0, 0.3),
            said("twenty", 0.4, 0.8),
            said("one", 0.8, 1.0),
            said("now", 1.2, 1.4),
        ];
        let words = words_of(&result("Pay 21 now.", spoken), (0.0, 2.0), "en");
        assert_eq!(words.words.len(), 3);
        let twenty_one = &words.words[1];
        assert!(twenty_one.start >= 0.3 && twenty_one.end <= 1.4, "{twenty_one:?}");
        assert!((words.words[2].end - 1.4).abs() < 1e-9);
        assert!(words.words.is_sorted_by(|a, b| a.end <= b.start && a.start <= a.end), "{words:?}");
    }

    #[test]
    fn without_times_the_words_are_spread_and_marked_as_estimates() {
        let words = words_of(&result("a bb c", vec![]), (1.0, 2.0), "en");
        assert_eq!(times(&words), [("a", 1.0, 1.25), ("bb", 1.25, 1.75), ("c", 1.75, 2.0)]);
        assert!(!words.is_timed);
        assert!(words_of(&result("  ", vec![]), (1.0, 2.0), "en").words.is_empty());
    }

    #[test]
    fn languages_without_spaces_go_by_the_services_words_or_by_characters() {
        let spoken = vec![said("你好", 0.1, 0.4), said("世界", 0.5, 0.9)];
        assert_eq!(
            times(&words_of(&result("你好世界", spoken), (0.0, 1.0), "zh")),
            [("你好", 0.1, 0.4), ("世界", 0.5, 0.9)]
        );
        assert_eq!(words_of(&result("你好", vec![]), (0.0, 1.0), "zh").words.len(), 2);
    }

    #[test]
    fn times_that_go_back_or_lie_before_the_stretch_are_put_right() {
        let spoken = vec![said("one", -3.0, 0.2), said("two", 0.1, 0.05)];
        let words = words_of(&result("one two", spoken), (0.0, 1.0), "en");
        assert_eq!(times(&words), [("one", 0.0, 0.2), ("two", 0.2, 0.2)]);
    }
}
