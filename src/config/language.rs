//! The languages that Whisper knows.

/// Their codes, in Whisper's order. The test beside the recogniser compares them with the library's.
pub const LANGUAGES: [&str; 100] = [
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id",
    "hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg",
    "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br",
    "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so",
    "af", "oc", "ka", "be", "tg", "sd", "gu", "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt",
    "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue",
];

/// `code`, if it is `auto` or a language of Whisper's.
///
/// # Errors
/// What to write instead.
pub fn language(code: &str) -> Result<String, String> {
    if code == "auto" || LANGUAGES.contains(&code) {
        return Ok(code.to_owned());
    }
    let mut known = LANGUAGES;
    known.sort_unstable();
    Err(format!("`{code}` is no language of Whisper's: use `auto` or one of {}", known.join(", ")))
}
