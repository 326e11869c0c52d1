//! A transcript as text and as subtitles.

use std::fmt::Write;

use serde::Deserialize;

use crate::media::leg::Leg;

/// What the text formats need of an utterance.
#[derive(Debug, Deserialize)]
pub(super) struct Utterance {
    #[serde(alias = "leg")]
    speaker: Leg,
    start: f64,
    end: f64,
    text: String,
}

/// One utterance a line, with its time and speaker.
pub(super) fn txt(utterances: &[Utterance]) -> String {
    let mut out = String::new();
    for utterance in utterances {
        let (h, m, s, _) = clock(utterance.start);
        let _ = writeln!(
            out,
            "[{h:02}:{m:02}:{s:02}] {}: {}",
            utterance.speaker.name(),
            one_line(&utterance.text)
        );
    }
    out
}

/// SubRip.
pub(super) fn srt(utterances: &[Utterance]) -> String {
    let mut out = String::new();
    for (n, utterance) in utterances.iter().enumerate() {
        let (start, end) = (time(utterance.start, ','), time(utterance.end, ','));
        let speaker = utterance.speaker.name();
        let _ = write!(out, "{}\n{start} --> {end}\n{speaker}: {}\n\n", n + 1, one_line(&utterance.text));
    }
    out
}

/// WebVTT, with the speakers as voices.
pub(super) fn vtt(utterances: &[Utterance]) -> String {
    let mut out = String::from("WEBVTT\n\n");
    for utterance in utterances {
        let (start, end) = (time(utterance.start, '.'), time(utterance.end, '.'));
        let text = one_line(&utterance.text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = write!(out, "{start} --> {end}\n<v {}>{text}\n\n", utterance.speaker.name());
    }
    out
}

/// An empty line would end a subtitle.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn time(seconds: f64, separator: char) -> String {
    let (h, m, s, ms) = clock(seconds);
    format!("{h:02}:{m:02}:{s:02}{separator}{ms:03}")
}

/// Hours, minutes, seconds, milliseconds.
fn clock(seconds: f64) -> (u64, u64, u64, u64) {
    let ms = (seconds.max(0.0) * 1_000.0).round() as u64;
    (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_over_and_text_cannot_break_out() {
        let said = |speaker, start, end, text: &str| Utterance { speaker, start, end, text: text.into() };
        let all = [
            said(Leg::Caller, 0.0, 59.9996, "a <b> & c"),
            said(Leg::Callee, 3_661.5, 3_662.25, "two\n\nlines"),
        ];
        assert_eq!(txt(&all), "[00:00:00] caller: a <b> & c\n[01:01:01] callee: two lines\n");
        assert_eq!(
            srt(&all),
            "1\n00:00:00,000 --> 00:01:00,000\ncaller: a <b> & c\n\n2\n01:01:01,500 --> 01:01:02,250\ncallee: two lines\n\n"
        );
        assert_eq!(
            vtt(&all[..1]),
            "WEBVTT\n\n00:00:00.000 --> 00:01:00.000\n<v caller>a &lt;b&gt; &amp; c\n\n"
        );
    }
}
