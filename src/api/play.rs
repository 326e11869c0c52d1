//! `POST /api/calls/{id}/play`: audio for the caller of an answered call.

use std::io::Cursor;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::access::{VisibleCall, blocking};
use super::calls::refusal;
use super::problem::Problem;
use super::state::AppState;
use crate::calls::control::Audio;
use crate::recording::wav::{WavError, WavReader};

/// Bytes of a body: ten minutes, which is all that may wait in a call, of 24 kHz mono.
pub(super) const MOST_BYTES: usize = 32 << 20;

/// Play the WAV file of the body after what plays already: 202 with its number and length.
pub(super) async fn play(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The audio is too large",
            format!("A body may have {} MiB.", MOST_BYTES >> 20),
            "Send it in pieces: each is played after the one before.",
        ),
        _ => Problem::bad_request(rejection.body_text(), "Send the whole file as the body."),
    })?;
    let audio = blocking("cannot read the audio", move || mono(&body)).await?.map_err(not_audio)?;
    if audio.pcm.is_empty() {
        return Err(Problem::bad_request("The WAV file has no audio.", "Send one with at least a sample."));
    }
    let playback = state.control.play(&record.call_id, audio).await.map_err(refusal)?;
    let body = json!({ "playback": playback.id, "duration": playback.duration.as_secs_f64() });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Play nothing more of what plays or waits to.
pub(super) async fn stop(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
) -> Result<StatusCode, Problem> {
    state.control.stop_playing(&record.call_id).await.map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The file's samples; of several channels their mean.
fn mono(file: &[u8]) -> Result<Audio, WavError> {
    let mut reader = WavReader::new(Cursor::new(file))?;
    let format = reader.format();
    let samples = reader.read_all()?;
    let pcm = match usize::from(format.channels) {
        1 => samples,
        channels => {
            let mean = |frame: &[i16]| {
                let sum: i32 = frame.iter().map(|&sample| i32::from(sample)).sum();
                // The mean of 16-bit numbers is one.
                (sum / channels as i32) as i16
            };
            samples.chunks_exact(channels).map(mean).collect()
        }
    };
    Ok(Audio { rate_hz: format.rate_hz, pcm })
}

fn not_audio(error: WavError) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not-audio",
        "This is no audio that can be played",
        error.to_string(),
        "Send a WAV file: PCM, float, A-law or µ-law, of any rate and number of channels.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::time::SampleRate;
    use crate::recording::wav::header;

    #[test]
    fn channels_are_mixed_and_a_rate_of_the_calls_own_changes_nothing() {
        let mut file = header(8_000, 2, 8).to_vec();
        file.extend([10_i16, 20, -32_768, -32_768].iter().flat_map(|sample| sample.to_le_bytes()));
        let audio = mono(&file).unwrap();
        assert_eq!(audio, Audio { rate_hz: 8_000, pcm: vec![15, -32_768] });
        assert_eq!(audio.at(SampleRate::NARROWBAND).unwrap(), [15, -32_768]);
    }

    #[test]
    fn another_rate_is_converted_to_the_same_time() {
        let tone = |rate: f64| move |n: u32| (10_000.0 * (f64::from(n) * 2_765.0 / rate).sin()) as i16;
        let audio = Audio { rate_hz: 24_000, pcm: (0..24_000).map(tone(24_000.0)).collect() };
        let converted = audio.at(SampleRate::NARROWBAND).unwrap();
        assert_eq!(converted.len(), 8_000);
        let expected: Vec<i16> = (0..8_000).map(tone(8_000.0)).collect();
        let worst = (1_000..7_000).map(|n| converted[n].abs_diff(expected[n])).max().unwrap();
        assert!(worst < 100, "{worst}");
    }

    #[test]
    fn what_is_no_wav_file_is_refused_with_what_to_do() {
        assert!(matches!(mono(b"ID3\x04 and so on"), Err(WavError::NotWav { .. })));
        assert!(matches!(mono(b""), Err(WavError::Empty)));
    }
}
