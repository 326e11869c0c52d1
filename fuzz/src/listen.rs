//! What clients of the sockets for live audio ask for and say.

use sidetone::api::{ListenControl, ListenOptions, VoskMessage};
use sidetone::audio::wav;

/// Any lines: each as a text message of both protocols, all of them (`name=value`) as a query; and the bytes as the beginning of a
/// stream that says for itself what it is. What is refused is refused in words.
pub fn listen(bytes: &[u8]) {
    if let Ok(Some((format, begin))) = wav::stream_head(bytes) {
        assert!(begin <= bytes.len() && format.channels > 0 && format.rate_hz > 0);
    }
    let text = String::from_utf8_lossy(bytes);
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    };
    let query: Vec<_> = text.lines().map(pair).collect();
    if let Err(problem) = ListenOptions::of(&query, "base.en", "en") {
        assert!(format!("{problem:?}").len() < 4_000, "a refusal is short");
    }
    for message in text.lines().chain([&*text]) {
        if let Err(words) = ListenControl::parse(message, 2) {
            assert!(!words.is_empty() && words.len() < 1_000, "{words}");
        }
        if let Err(words) = VoskMessage::parse(message) {
            assert!(!words.is_empty() && words.len() < 1_000, "{words}");
        }
    }
}
