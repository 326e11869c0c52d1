//! Text as engines take it.

/// Without control characters, and with single spaces.
pub(super) fn plain(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Pieces of at most `most` characters, cut behind sentences, or commas, or words, or anywhere if need be.
pub(in crate::speech) fn pieces(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim();
    while let Some((limit, _)) = rest.char_indices().nth(most) {
        let head = &rest[..limit];
        let ends_sentence = |c: char| matches!(c, '.' | '!' | '?' | ';' | ':' | '。' | '！' | '？');
        let behind = |at: Option<usize>| at.and_then(|at| Some(at + head[at..].chars().next()?.len_utf8()));
        let cut = behind(head.rfind(ends_sentence))
            .or_else(|| behind(head.rfind([',', '、'])))
            .or_else(|| behind(head.rfind(' ')))
            .unwrap_or(limit);
        let (piece, after) = rest.split_at(cut);
        pieces.extend(Some(piece.trim()).filter(|piece| !piece.is_empty()));
        rest = after.trim_start();
    }
    pieces.extend(Some(rest).filter(|rest| !rest.is_empty()));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_heaps_of_spaces_go() {
        assert_eq!(plain(" one\r\n\ttwo\0three \u{7f} "), "one two three");
        assert_eq!(plain("\n \t"), "");
    }

    #[test]
    fn long_texts_are_cut_where_one_breathes() {
        assert_eq!(pieces("One. Two, three four", 100), ["One. Two, three four"]);
        assert_eq!(pieces("One. Two, three four", 12), ["One.", "Two,", "three four"]);
        assert_eq!(pieces("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(pieces("こんにちは。お元気ですか", 8), ["こんにちは。", "お元気ですか"]);
        assert_eq!(pieces("", 5), [""; 0]);
        let text = "word ".repeat(400);
        let all = pieces(&text, 200);
        assert!(all.iter().all(|piece| piece.chars().count() <= 200));
        assert_eq!(all.join(" "), text.trim());
    }
}
