//! Whisper's language codes and the tags that Riva goes by.

use std::collections::HashMap;

use crate::config::LANGUAGES;

/// What Riva's own models are for, where a language has one usual variety. `multi` are those that find the language themselves.
const USUAL: [(&str, &str); 14] = [
    ("auto", "multi"),
    ("ar", "ar-AR"),
    ("de", "de-DE"),
    ("en", "en-US"),
    ("es", "es-US"),
    ("fr", "fr-FR"),
    ("hi", "hi-IN"),
    ("it", "it-IT"),
    ("ja", "ja-JP"),
    ("ko", "ko-KR"),
    ("nl", "nl-NL"),
    ("pt", "pt-BR"),
    ("ru", "ru-RU"),
    ("zh", "zh-CN"),
];

/// The tag for `code`: what `own` says of it, a code that is a tag already, or the usual one.
///
/// # Errors
/// What to set.
pub(super) fn tag_of(code: &str, own: &HashMap<String, String>) -> Result<String, String> {
    let usual = || USUAL.iter().find(|(known, _)| *known == code).map(|(_, tag)| (*tag).to_owned());
    let whole = || code.contains('-').then(|| code.to_owned());
    own.get(code).cloned().or_else(whole).or_else(usual).ok_or_else(|| {
        format!(
            "which tag Riva has for the language `{code}` is not known: add \"{code}=…\" to riva.languages"
        )
    })
}

/// Whisper's code for a tag.
pub(super) fn code_of(tag: &str) -> Option<String> {
    let code = tag.split('-').next()?.to_ascii_lowercase();
    LANGUAGES.contains(&code.as_str()).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_tags_by_setting_then_as_they_are_then_as_usual() {
        let own =
            HashMap::from([("en".to_owned(), "en-GB".to_owned()), ("pl".to_owned(), "pl-PL".to_owned())]);
        assert_eq!(tag_of("en", &own).unwrap(), "en-GB");
        assert_eq!(tag_of("pl", &own).unwrap(), "pl-PL");
        assert_eq!(tag_of("de", &own).unwrap(), "de-DE");
        assert_eq!(tag_of("pt-PT", &own).unwrap(), "pt-PT");
        assert_eq!(tag_of("auto", &own).unwrap(), "multi");
        assert!(tag_of("sv", &own).unwrap_err().contains("\"sv=…\" to riva.languages"));
    }

    #[test]
    fn tags_become_codes_that_whisper_knows() {
        assert_eq!(code_of("pt-BR").as_deref(), Some("pt"));
        assert_eq!(code_of("multi"), None);
        assert_eq!(code_of(""), None);
    }
}
