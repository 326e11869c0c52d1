//! What a call's speech came to: `<name>.transcript.json`, and the same as text and as subtitles.
//!
//! ```json
//! {
//!   "v": 1,
//!   "call_id": "01J…",          // null for a file that was no call
//!   "duration": 12.34,          // seconds of the recording
//!   "speakers": 2,            // 1 for a file with one channel: whoever speaks there has no name
//!   "model": "base.en",
//!   "utterances": [{
//!     "speaker": "caller",      // "caller" is the recording's left channel, "callee" its right
//!     "utterance": 1,           // number within the speaker, as in the events
//!     "start": 0.51, "end": 1.92, // seconds on the recording's clock
//!     "text": "good morning",
//!     "language": "en",
//!     "words": [{ "text": "good", "start": 0.51, "end": 0.8, "confidence": 0.97 }]
//!   }]
//! }
//! ```
//!
//! Utterances are in the order in which they begin; those of the two speakers may overlap.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::event::{TranscriptEvent, TranscriptKind, to_millis};
use crate::media::leg::Leg;

/// Version of the file format.
pub const TRANSCRIPT_VERSION: u32 = 1;

/// The whole transcript of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// [`TRANSCRIPT_VERSION`].
    pub v: u32,
    /// The call, if it was one.
    pub call_id: Option<String>,
    /// Length of the recording, seconds; while the call runs, of what was said so far.
    pub duration: f64,
    /// False while the call runs, and for one that recognition could not keep up with or that a crash cut off.
    #[serde(default = "yes")]
    pub complete: bool,
    /// How many parties have a channel of their own: 2 for calls, whoever of them has spoken so far.
    #[serde(default = "two")]
    pub speakers: u16,
    /// Name of the model.
    pub model: String,
    /// In the order in which they begin.
    pub utterances: Vec<TranscriptUtterance>,
}

/// One utterance, as its final gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranscriptUtterance {
    /// Who speaks.
    pub speaker: Leg,
    /// Number within the speaker, from 1.
    pub utterance: u64,
    /// Seconds on the recording's clock.
    pub start: f64,
    /// Seconds on the recording's clock.
    pub end: f64,
    /// The words as a line.
    pub text: String,
    /// Language code.
    pub language: String,
    /// The words.
    pub words: Vec<TranscriptWord>,
}

/// A word of a final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranscriptWord {
    /// As recognised.
    pub text: String,
    /// Seconds on the recording's clock.
    pub start: f64,
    /// Seconds on the recording's clock.
    pub end: f64,
    /// 0 to 1.
    pub confidence: f64,
}

fn yes() -> bool {
    true
}

/// What was stored before the field was there are calls.
fn two() -> u16 {
    2
}

impl From<TranscriptEvent> for TranscriptUtterance {
    fn from(event: TranscriptEvent) -> Self {
        let words = event.words.into_iter().map(|word| TranscriptWord {
            text: word.text,
            start: word.start,
            end: word.end,
            confidence: word.confidence,
        });
        Self {
            speaker: event.leg,
            utterance: event.utterance,
            start: event.start,
            end: event.end,
            words: words.collect(),
            text: event.text,
            language: event.language,
        }
    }
}

impl Transcript {
    /// The transcript of a recording of `duration` seconds and as many channels as `speakers` from its events, in any
    /// order; partials, and finals that came to no words, are left out.
    pub fn new(
        call_id: Option<String>,
        duration: f64,
        speakers: u16,
        model: &str,
        events: impl IntoIterator<Item = TranscriptEvent>,
    ) -> Self {
        let said = |e: &TranscriptEvent| e.kind == TranscriptKind::Final && !e.words.is_empty();
        let mut utterances: Vec<TranscriptUtterance> =
            events.into_iter().filter(said).map(TranscriptUtterance::from).collect();
        let order = |u: &TranscriptUtterance| (u.speaker, u.utterance);
        utterances.sort_by(|a, b| a.start.total_cmp(&b.start).then_with(|| order(a).cmp(&order(b))));
        Self {
            v: TRANSCRIPT_VERSION,
            call_id,
            duration: to_millis(duration),
            complete: true,
            speakers,
            model: model.to_owned(),
            utterances,
        }
    }

    /// As JSON, ready to be written.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }

    /// As text: a line an utterance, `[00:01.250] caller: good morning`; without speakers where one channel has them all.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for u in &self.utterances {
            let (minutes, seconds) = ((u.start / 60.0).floor(), u.start % 60.0);
            let _ = writeln!(
                out,
                "[{minutes:02}:{seconds:06.3}] {}{}",
                self.label(u.speaker, ": "),
                one_line(&u.text)
            );
        }
        out
    }

    /// As SubRip subtitles.
    pub fn to_srt(&self) -> String {
        let mut out = String::new();
        for (index, u) in self.utterances.iter().enumerate() {
            let (start, end) = (cue_time(u.start, ','), cue_time(cue_end(u), ','));
            let text = one_line(&u.text);
            let _ =
                write!(out, "{}\n{start} --> {end}\n{}{text}\n\n", index + 1, self.label(u.speaker, ": "));
        }
        out
    }

    /// As WebVTT subtitles, speakers as voices.
    pub fn to_vtt(&self) -> String {
        let mut out = String::from("WEBVTT\n\n");
        for u in &self.utterances {
            let (start, end) = (cue_time(u.start, '.'), cue_time(cue_end(u), '.'));
            let voice = match self.label(u.speaker, "").as_str() {
                "" => String::new(),
                name => format!("<v {name}>"),
            };
            // `-->` ends a cue; the other two begin markup.
            let text = one_line(&u.text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = write!(out, "{start} --> {end}\n{voice}{text}\n\n");
        }
        out
    }

    fn label(&self, speaker: Leg, separator: &str) -> String {
        if self.speakers < 2 { String::new() } else { format!("{}{separator}", speaker.name()) }
    }
}

/// A cue has to last: players drop those that do not.
fn cue_end(u: &TranscriptUtterance) -> f64 {
    u.end.max(u.start + 0.001)
}

/// `HH:MM:SS.mmm`, with the separator of the format.
fn cue_time(seconds: f64, separator: char) -> String {
    let millis = (seconds.max(0.0) * 1_000.0).round() as u64;
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    format!("{hours:02}:{minutes:02}:{:02}{separator}{:03}", millis / 1_000 % 60, millis % 1_000)
}

/// A line break, or an empty line, would end the utterance early in every one of the formats.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::event::Word;
    use super::*;

    fn event(kind: TranscriptKind, leg: Leg, utterance: u64, start: f64, text: &str) -> TranscriptEvent {
        let word = Word { text: text.into(), start, end: start + 1.0, confidence: 0.5, stable: true };
        TranscriptEvent {
            kind,
            leg,
            utterance,
            revision: 3,
            start,
            end: start + 1.0,
            text: text.into(),
            language: "en".into(),
            words: if text.is_empty() { Vec::new() } else { vec![word] },
        }
    }

    fn sample() -> Transcript {
        use TranscriptKind::{Final, Partial};
        let events = [
            event(Final, Leg::Callee, 1, 61.25, "<b> & co\n\nhi --> there"),
            event(Final, Leg::Caller, 1, 0.5, "good morning"),
            event(Partial, Leg::Caller, 2, 3.0, "not yet"),
            event(Final, Leg::Caller, 2, 3.0, ""),
            event(Final, Leg::Caller, 3, 3_661.25, "bye"),
        ];
        Transcript::new(Some("c1".into()), 3_700.123_4, 2, "m", events)
    }

    #[test]
    fn text_has_speakers_in_the_order_in_which_they_begin() {
        assert_eq!(
            sample().to_text(),
            "[00:00.500] caller: good morning\n[01:01.250] callee: <b> & co hi --> there\n[61:01.250] caller: bye\n"
        );
    }

    #[test]
    fn srt_counts_cues_and_uses_commas() {
        let srt = sample().to_srt();
        assert!(
            srt.starts_with("1\n00:00:00,500 --> 00:00:01,500\ncaller: good morning\n\n2\n00:01:01,250 --> "),
            "{srt}"
        );
        assert!(srt.contains("01:01:01,250 --> 01:01:02,250"), "{srt}");
    }

    #[test]
    fn vtt_escapes_markup() {
        let vtt = sample().to_vtt();
        assert!(
            vtt.starts_with("WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n<v caller>good morning\n\n"),
            "{vtt}"
        );
        assert!(vtt.contains("<v callee>&lt;b&gt; &amp; co hi --&gt; there\n"), "{vtt}");
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let json = sample().to_json();
        assert_eq!(serde_json::from_str::<Transcript>(&json).unwrap(), sample());
        assert!(
            json.contains("\"speaker\": \"caller\"") && json.contains("\"duration\": 3700.123"),
            "{json}"
        );
    }

    #[test]
    fn who_speaks_alone_in_a_call_has_a_name_and_who_speaks_in_a_mono_file_has_none() {
        let alone = || [event(TranscriptKind::Final, Leg::Caller, 1, 0.5, "hello")];
        let call = Transcript::new(Some("c1".into()), 2.0, 2, "m", alone());
        assert_eq!(call.to_text(), "[00:00.500] caller: hello\n");
        assert!(call.to_srt().contains("\ncaller: hello\n"));
        assert!(call.to_vtt().contains("\n<v caller>hello\n"));
        let mono = Transcript::new(None, 2.0, 1, "m", alone());
        assert_eq!(mono.to_text(), "[00:00.500] hello\n");
        assert!(mono.to_srt().contains("\nhello\n") && mono.to_vtt().contains("\nhello\n"));
    }

    #[test]
    fn a_call_stored_without_the_number_of_speakers_has_two() {
        let stored = sample().to_json().replace("  \"speakers\": 2,\n", "");
        assert!(!stored.contains("speakers"));
        assert_eq!(serde_json::from_str::<Transcript>(&stored).unwrap(), sample());
    }
}
