//! Texts spoken by Riva's speech synthesis: one `Synthesize` a piece of a text.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tonic::{Code, Status};

use super::proto::{AudioEncoding, SYNTHESIZE, SynthesizeSpeechRequest, SynthesizeSpeechResponse};
use super::{RivaService, status};
use crate::audio::wav::header;
use crate::speech::synthesis::{RemoteVoice, SynthesisError, Wanted, pieces};

const ENGINE: &str = "riva";
/// Half of what Riva's voices are made at, which it brings them to: telephones have no more than a sixth.
const RATE_HZ: u32 = 22_050;
/// What Riva takes at a time (its documentation of `SynthesizeSpeechRequest`).
const MOST_CHARS: usize = 400;
/// What Riva's `prosody` takes for a rate.
const SPEEDS: RangeInclusive<f64> = 0.25..=2.5;

impl RemoteVoice for RivaService {
    fn speak<'a>(
        &'a self,
        wanted: &'a Wanted,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Vec<u8>>, SynthesisError>> {
        Box::pin(async move {
            if !SPEEDS.contains(&wanted.speed) {
                return Err(SynthesisError::Speed { speed: wanted.speed, most: *SPEEDS.end() });
            }
            let language_code = self.tag_of(&wanted.language).map_err(|reason| {
                SynthesisError::UnknownVoice { engine: ENGINE, voice: wanted.language.clone(), reason }
            })?;
            let mut files = Vec::new();
            for piece in pieces(&wanted.text, MOST_CHARS) {
                let request = SynthesizeSpeechRequest {
                    text: at_pace(piece, wanted.speed),
                    language_code: language_code.clone(),
                    encoding: AudioEncoding::LinearPcm.into(),
                    sample_rate_hz: RATE_HZ as i32,
                    voice_name: wanted.voice.clone(),
                };
                let answer = self.0.unary(SYNTHESIZE, request, timeout).await;
                let SynthesizeSpeechResponse { audio } =
                    answer.map_err(|status| self.refused(&status, wanted, timeout))?;
                if audio.len() % 2 != 0 {
                    let reason = format!("{} bytes are no samples of 16 bits", audio.len());
                    return Err(SynthesisError::NotAudio { engine: ENGINE, reason });
                }
                if !audio.is_empty() {
                    files.push([&header(RATE_HZ, 1, audio.len() as u64)[..], &audio].concat());
                }
            }
            Ok(files)
        })
    }
}

impl RivaService {
    fn refused(&self, status: &Status, wanted: &Wanted, timeout: Duration) -> SynthesisError {
        let engine = ENGINE;
        let url = &self.0.config.url;
        match status.code() {
            Code::DeadlineExceeded => SynthesisError::Timeout { engine, after: timeout },
            Code::InvalidArgument | Code::NotFound => SynthesisError::UnknownVoice {
                engine,
                voice: wanted.voice.clone(),
                reason: format!(
                    "Riva at {url} says {:?}; see tts.voice, tts.language and riva.languages",
                    status.message()
                ),
            },
            Code::Unimplemented => {
                let reason = format!("what answers at {url} has no speech synthesis ({})", status.message());
                SynthesisError::Failed { engine, reason }
            }
            _ if status::is_passing(status) => {
                let reason = status::in_words(status, &self.0.config);
                SynthesisError::Unavailable { engine, reason }
            }
            _ => SynthesisError::Failed { engine, reason: status::in_words(status, &self.0.config) },
        }
    }
}

/// As it is, or as SSML where a pace is asked for, in which `<`, `>` and `&` mean something.
fn at_pace(text: &str, speed: f64) -> String {
    if speed == 1.0 {
        return text.to_owned();
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<speak><prosody rate=\"{:.0}%\">{text}</prosody></speak>", 100.0 * speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_told_by_ssml_and_nothing_in_a_text_is_taken_for_it() {
        assert_eq!(at_pace("a < b & c", 1.0), "a < b & c");
        assert_eq!(
            at_pace("a < b & c", 1.25),
            "<speak><prosody rate=\"125%\">a &lt; b &amp; c</prosody></speak>"
        );
    }
}
