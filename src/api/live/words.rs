//! Words as protocols write them that know neither capitals nor punctuation.

use crate::speech::event::Word;

/// Without the punctuation around it, in lower case; what is nothing but punctuation stays.
pub(in crate::api) fn plain(text: &str) -> String {
    let bare = text.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.is_empty() { text.to_lowercase() } else { bare.to_lowercase() }
}

/// The mean of the words' confidences, to the thousandth; 0 without any.
pub(in crate::api) fn confidence(words: &[Word]) -> f64 {
    let sum: f64 = words.iter().map(|word| word.confidence).sum();
    (sum / words.len().max(1) as f64 * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_what_is_not_said() {
        for (written, said) in
            [("Hello,", "hello"), ("don't", "don't"), ("«Größe»", "größe"), ("—", "—"), ("3.5", "3.5")]
        {
            assert_eq!(plain(written), said);
        }
        assert_eq!(confidence(&[]), 0.0);
    }
}
