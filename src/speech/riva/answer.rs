//! What Riva's messages say.

use super::language::code_of;
use super::proto::{StreamingRecognitionResult, StreamingRecognizeResponse, WordInfo};
use crate::speech::remote::{ServiceWord, StreamHeard, StreamResult};

/// An answer. Of several alternatives the first, which is the best.
pub(super) fn heard(response: StreamingRecognizeResponse) -> StreamHeard {
    let processed = response
        .results
        .iter()
        .map(|result| f64::from(result.audio_processed))
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .reduce(f64::max);
    StreamHeard { results: response.results.into_iter().filter_map(result).collect(), processed }
}

fn result(result: StreamingRecognitionResult) -> Option<StreamResult> {
    let is_final = result.is_final;
    let best = match result.alternatives.into_iter().next() {
        Some(best) => best,
        // That a stretch is over is news, even if nothing was said in it.
        None if is_final => Default::default(),
        None => return None,
    };
    let p = if is_final { probability(best.confidence) } else { probability(result.stability) };
    Some(StreamResult {
        text: best.transcript,
        words: best.words.into_iter().map(word).collect(),
        is_final,
        p,
        language: best.language_code.iter().find_map(|tag| code_of(tag)),
    })
}

fn word(word: WordInfo) -> ServiceWord {
    let seconds = |milliseconds: i32| f64::from(milliseconds.max(0)) / 1_000.0;
    ServiceWord {
        text: word.word,
        start: seconds(word.start_time),
        end: seconds(word.end_time),
        p: probability(word.confidence),
    }
}

/// 0 means that it was not set. What is negative is a natural logarithm, as older versions give it.
fn probability(told: f32) -> Option<f32> {
    match told {
        0.0 => None,
        log if log < 0.0 => Some(log.exp()),
        p if p.is_finite() => Some(p.min(1.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::riva::proto::SpeechRecognitionAlternative;

    #[test]
    fn confidences_are_probabilities_however_they_are_told() {
        assert_eq!(probability(0.0), None);
        assert_eq!(probability(0.9), Some(0.9));
        assert_eq!(probability(7.0), Some(1.0));
        assert!((probability(-0.7).unwrap() - 0.496_6).abs() < 1e-3);
        for odd in [f32::NAN, f32::INFINITY] {
            assert_eq!(probability(odd), None);
        }
        assert_eq!(probability(f32::NEG_INFINITY), Some(0.0));
    }

    #[test]
    fn an_answer_has_its_best_alternative_and_how_far_it_goes() {
        let alternative = |text: &str| SpeechRecognitionAlternative {
            transcript: text.into(),
            language_code: vec!["de-DE".into()],
            ..Default::default()
        };
        let response = StreamingRecognizeResponse {
            results: vec![
                StreamingRecognitionResult {
                    alternatives: vec![alternative("guten Tag"), alternative("guten Dach")],
                    stability: 0.9,
                    audio_processed: 1.5,
                    ..Default::default()
                },
                StreamingRecognitionResult { audio_processed: f32::NAN, ..Default::default() },
            ],
        };
        let heard = heard(response);
        assert_eq!(heard.processed, Some(1.5));
        assert_eq!(heard.results.len(), 1, "an interim result without words says nothing");
        assert_eq!((heard.results[0].text.as_str(), heard.results[0].p), ("guten Tag", Some(0.9)));
        assert_eq!(heard.results[0].language.as_deref(), Some("de"));
    }
}
