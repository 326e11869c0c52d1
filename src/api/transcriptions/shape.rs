//! Transcripts as OpenAI writes them.
//!
//! Beyond its shape, `verbose_json` has `model`, `speakers`, in every segment and word of a stereo file `speaker` (`caller` is the left
//! channel, `callee` the right one), in every word `confidence`, and `damaged`, `cut_off` for files that were not whole. Of what a
//! Whisper decoder of OpenAI's says of a segment, `avg_logprob` is from the words' confidences, `compression_ratio` an estimate from
//! the text; `tokens` is empty, `temperature` the 0 that is always decoded at, and `no_speech_prob` 0: what is no speech does
//! not get as far.

use serde::Serialize;
use serde_json::{Value, json};

use crate::audio::Flaws;
use crate::speech::event::{TranscriptEvent, is_unspaced};
use crate::speech::transcript::{Transcript, TranscriptUtterance};

#[derive(Serialize)]
struct Segment<'a> {
    id: usize,
    /// In hundredths of a second.
    seek: u64,
    start: f64,
    end: f64,
    text: &'a str,
    tokens: [u32; 0],
    temperature: f64,
    avg_logprob: f64,
    compression_ratio: f64,
    no_speech_prob: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker: Option<&'static str>,
}

#[derive(Serialize)]
struct Word<'a> {
    word: &'a str,
    start: f64,
    end: f64,
    confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    speaker: Option<&'static str>,
}

/// What stands before an utterance in the text, if something does.
pub(super) fn separator(language: &str, is_first: bool) -> &'static str {
    if is_first || is_unspaced(language) { "" } else { " " }
}

/// All that was said, as one text.
pub(super) fn text(transcript: &Transcript) -> String {
    let mut text = String::new();
    for utterance in &transcript.utterances {
        text += separator(&utterance.language, text.is_empty());
        text += &utterance.text;
    }
    text
}

/// What OpenAI charges for: whole seconds.
pub(super) fn usage(transcript: &Transcript) -> Value {
    json!({ "type": "duration", "seconds": transcript.duration.ceil() as u64 })
}

/// `json`.
pub(super) fn short(transcript: &Transcript) -> String {
    json!({ "text": text(transcript), "usage": usage(transcript) }).to_string()
}

/// `verbose_json`.
pub(super) fn verbose(transcript: &Transcript, flaws: Flaws, words: bool, segments: bool) -> String {
    let language = transcript.utterances.first().map_or("", |utterance| &utterance.language);
    let mut body = json!({
        "task": "transcribe",
        "language": language,
        "duration": transcript.duration,
        "text": text(transcript),
        "model": transcript.model,
        "speakers": transcript.speakers,
        "usage": usage(transcript),
    });
    let speaker =
        |utterance: &TranscriptUtterance| (transcript.speakers > 1).then(|| utterance.speaker.name());
    if segments {
        let segment = |(id, utterance)| segment(id, utterance, speaker(utterance));
        body["segments"] = json!(transcript.utterances.iter().enumerate().map(segment).collect::<Vec<_>>());
    }
    if words {
        let spoken = |utterance| words_of(utterance, speaker(utterance));
        let mut all: Vec<Word<'_>> = transcript.utterances.iter().flat_map(spoken).collect();
        all.sort_by(|a, b| a.start.total_cmp(&b.start));
        body["words"] = json!(all);
    }
    if flaws.damaged > 0 {
        body["damaged"] = json!(flaws.damaged);
    }
    if flaws.cut_off {
        body["cut_off"] = json!(true);
    }
    body.to_string()
}

/// A segment that is streamed.
pub(super) fn streamed(id: usize, event: &TranscriptEvent, speakers: u16) -> Value {
    let speaker = if speakers > 1 { event.leg.name() } else { "" };
    json!({
        "type": "transcript.text.segment",
        "id": format!("seg_{id}"),
        "start": event.start,
        "end": event.end,
        "text": event.text,
        "speaker": speaker,
    })
}

fn segment<'a>(id: usize, utterance: &'a TranscriptUtterance, speaker: Option<&'static str>) -> Segment<'a> {
    Segment {
        id,
        seek: (utterance.start * 100.0).round() as u64,
        start: utterance.start,
        end: utterance.end,
        text: &utterance.text,
        tokens: [],
        temperature: 0.0,
        avg_logprob: avg_logprob(utterance),
        compression_ratio: compression_ratio(&utterance.text),
        no_speech_prob: 0.0,
        speaker,
    }
}

fn words_of<'a>(
    utterance: &'a TranscriptUtterance,
    speaker: Option<&'static str>,
) -> impl Iterator<Item = Word<'a>> + use<'a> {
    utterance.words.iter().map(move |word| Word {
        word: &word.text,
        start: word.start,
        end: word.end,
        confidence: word.confidence,
        speaker,
    })
}

fn avg_logprob(utterance: &TranscriptUtterance) -> f64 {
    // Confidences have three digits.
    let sum: f64 = utterance.words.iter().map(|word| word.confidence.max(0.001).ln()).sum();
    round(sum / utterance.words.len().max(1) as f64)
}

/// How often a text says the same: its bytes by those that a compressor would need, at three for what it has seen before. Beyond
/// 2.4 a decoder is said to loop.
fn compression_ratio(text: &str) -> f64 {
    const SHORTEST: usize = 4;
    const COST: usize = 3;
    let bytes = text.as_bytes();
    let (mut at, mut cost) = (0, 0);
    while at < bytes.len() {
        let longest = (0..at)
            .map(|from| bytes[from..].iter().zip(&bytes[at..]).take_while(|(a, b)| a == b).count())
            .max()
            .unwrap_or(0);
        let (step, price) = if longest >= SHORTEST { (longest, COST) } else { (1, 1) };
        at += step;
        cost += price;
    }
    round(bytes.len().max(1) as f64 / cost.max(1) as f64)
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::leg::Leg;
    use crate::speech::event;
    use crate::speech::event::TranscriptKind;

    fn said(leg: Leg, start: f64, text: &str) -> TranscriptEvent {
        let word = |(n, text): (usize, &str)| event::Word {
            text: text.into(),
            start: start + n as f64,
            end: start + n as f64 + 0.5,
            confidence: 0.5,
            stable: true,
        };
        TranscriptEvent {
            kind: TranscriptKind::Final,
            leg,
            utterance: 1,
            revision: 1,
            start,
            end: start + 2.0,
            text: text.into(),
            language: "en".into(),
            words: text.split(' ').enumerate().map(word).collect(),
        }
    }

    fn two() -> Transcript {
        let events = [said(Leg::Callee, 1.5, "good day"), said(Leg::Caller, 1.0, "hello there")];
        Transcript::new(None, 4.2, 2, "base.en", events)
    }

    #[test]
    fn the_short_form_has_the_text_and_whole_seconds() {
        let body: Value = serde_json::from_str(&short(&two())).unwrap();
        let expected =
            json!({ "text": "hello there good day", "usage": { "type": "duration", "seconds": 5 } });
        assert_eq!(body, expected);
    }

    #[test]
    fn the_long_form_tells_speakers_apart_and_has_words_in_the_order_of_time() {
        let flaws = Flaws { damaged: 2, cut_off: true };
        let body: Value = serde_json::from_str(&verbose(&two(), flaws, true, true)).unwrap();
        assert_eq!(
            (&body["language"], &body["duration"], &body["task"]),
            (&json!("en"), &json!(4.2), &json!("transcribe"))
        );
        let segment = &body["segments"][1];
        assert_eq!(
            (&segment["id"], &segment["seek"], &segment["speaker"]),
            (&json!(1), &json!(150), &json!("callee"))
        );
        assert_eq!(segment["avg_logprob"], -0.693);
        let words: Vec<_> =
            body["words"].as_array().unwrap().iter().map(|w| w["word"].as_str().unwrap()).collect();
        assert_eq!(words, ["hello", "good", "there", "day"]);
        assert_eq!((&body["damaged"], &body["cut_off"]), (&json!(2), &json!(true)));

        let one = Transcript::new(None, 4.2, 1, "m", [said(Leg::Caller, 1.0, "hello there")]);
        let body: Value = serde_json::from_str(&verbose(&one, Flaws::default(), false, true)).unwrap();
        assert!(body.get("words").is_none() && body.get("damaged").is_none());
        assert!(body["segments"][0].get("speaker").is_none());
    }

    #[test]
    fn a_text_that_loops_compresses() {
        assert!(compression_ratio("the quick brown fox jumps") < 1.1);
        assert!(compression_ratio(&"thank you ".repeat(20)) > 2.4);
        assert_eq!(compression_ratio(""), 1.0);
    }
}
