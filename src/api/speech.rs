//! `POST /v1/audio/speech`: text to speech in OpenAI's shape; `POST /api/calls/{id}/say`: spoken to the caller of an answered call.

use std::io::Cursor;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::access::{VisibleCall, blocking};
use super::calls::refusal;
use super::problem::Problem;
use super::state::AppState;
use super::transcriptions::{Failure, Param};
use crate::audio::convert::{Channels, Conversion, Target, convert};
use crate::audio::wav::header as wav_header;
use crate::audio::{AudioFile, Limits};
use crate::calls::control::Audio;
use crate::speech::synthesis::{SpeechRequest, Spoken, SynthesisError, Synthesiser};

/// Bytes of a body: the longest text that may be configured, in four bytes a character, and the rest of the JSON.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// OpenAI's `pcm` is this, mono, 16 bits, little-endian.
const PCM_HZ: u32 = 24_000;

/// OpenAI's request. What else it may hold (`instructions`) has no meaning here, and is no mistake.
#[derive(Debug, Deserialize)]
struct CreateSpeech {
    input: String,
    #[serde(default)]
    voice: Option<Voice>,
    #[serde(default)]
    response_format: Option<String>,
    #[serde(default)]
    speed: Option<f64>,
    #[serde(default)]
    stream_format: Option<String>,
    #[serde(default)]
    language: Option<String>,
}

/// A name, or what newer clients send.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Voice {
    Name(String),
    Object { id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Wav,
    Pcm,
    Opus,
}

impl Format {
    fn of(name: Option<&str>) -> Result<Self, Failure> {
        match name {
            // OpenAI's own default, mp3, is not made here.
            None | Some("wav") => Ok(Self::Wav),
            Some("pcm") => Ok(Self::Pcm),
            Some("opus") => Ok(Self::Opus),
            Some(other) => Err(Failure::bad(
                Param::ResponseFormat,
                format!("`{other}` is not made here: ask for wav (the default), pcm or opus."),
            )),
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
            Self::Opus => "audio/ogg",
        }
    }
}

/// The names that OpenAI's clients send whatever the server; a voice of the engine's own is asked for by its name.
const OPENAI_VOICES: [&str; 13] = [
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer",
    "verse",
];

/// Speak the text of the body.
pub(super) async fn create(State(state): State<AppState>, body: Bytes) -> Result<Response, Failure> {
    let Some(synthesiser) = state.synthesiser.clone() else { return Err(Failure::no_voice()) };
    let asked: CreateSpeech = serde_json::from_slice(&body).map_err(|error| {
        Failure::bad_form(format!("The body is not the JSON of a speech request: {error}."))
    })?;
    let format = Format::of(asked.response_format.as_deref())?;
    if asked.stream_format.as_deref().is_some_and(|format| format != "audio") {
        return Err(Failure::bad(
            Param::StreamFormat,
            "Speech comes as audio, in one piece: leave stream_format out.",
        ));
    }
    let voice = asked.voice.map(|voice| match voice {
        Voice::Name(name) | Voice::Object { id: name } => name,
    });
    // Only their own server knows what these sound like.
    let voice =
        voice.filter(|name| synthesiser.engine() == "openai" || !OPENAI_VOICES.contains(&name.as_str()));
    let request = SpeechRequest { text: asked.input, voice, language: asked.language, speed: asked.speed };
    let spoken = synthesiser.speak(&request).await.map_err(failure)?;
    let body = rendered(spoken, format).await?;
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, format.content_type()), (header::CACHE_CONTROL, "no-store")],
        body,
    )
        .into_response())
}

async fn rendered(spoken: Arc<Spoken>, format: Format) -> Result<Vec<u8>, Failure> {
    let work = move || match format {
        Format::Wav => Ok(wav(&spoken)),
        Format::Pcm => Ok(bytes(&spoken.at(PCM_HZ).map_err(failure)?)),
        Format::Opus => opus(&spoken),
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::internal("cannot encode the speech", &error))?
}

fn wav(spoken: &Spoken) -> Vec<u8> {
    let pcm = bytes(&spoken.pcm);
    [&wav_header(spoken.rate_hz, 1, pcm.len() as u64)[..], &pcm].concat()
}

fn bytes(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn opus(spoken: &Spoken) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::internal("cannot encode the speech", error);
    let mut source =
        AudioFile::new(Cursor::new(wav(spoken)), None, Limits::default()).map_err(|error| failed(&error))?;
    let path = std::env::temp_dir().join(format!("sidetone-{}.opus", uuid::Uuid::now_v7()));
    let conversion = Conversion { target: Target::OggOpus, rate_hz: None, channels: Channels::Keep };
    let done = convert(&mut source, &path, conversion, &mut |_| true).map_err(|error| failed(&error));
    let read = done.and_then(|_| std::fs::read(&path).map_err(|error| failed(&error)));
    // Its name is ours alone; where it was never made there is nothing to remove.
    let _ = std::fs::remove_file(&path);
    read
}

fn failure(error: SynthesisError) -> Failure {
    let words = error.to_string();
    match &error {
        SynthesisError::NoText | SynthesisError::TextTooLong { .. } => Failure::bad(Param::Input, words),
        SynthesisError::Speed { .. } => Failure::bad(Param::Speed, words),
        SynthesisError::BadName { what: "voice", .. } | SynthesisError::UnknownVoice { .. } => {
            Failure::bad(Param::Voice, words)
        }
        SynthesisError::BadName { .. } => Failure::bad(Param::Language, words),
        error if error.is_transient() => Failure::later(words),
        _ => Failure::internal("nothing was said", &error),
    }
}

/// Speak the text of the body to the caller, after what plays already: 202 with its number and length.
pub(super) async fn say(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
    body: Bytes,
) -> Result<Response, Problem> {
    let request: SpeechRequest = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("The body is not the JSON of a text: {error}.");
        Problem::bad_request(detail, "Send {\"text\": \"…\"}, with voice, language and speed if you like.")
    })?;
    let synthesiser = state.synthesiser.clone().ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-voice",
            "Nothing can be spoken here",
            "This server has no text-to-speech engine.",
            "Set tts.engine.",
        )
    })?;
    let spoken = speak(&synthesiser, &request).await?;
    let audio = blocking("cannot prepare the speech", move || Audio {
        rate_hz: spoken.rate_hz,
        pcm: spoken.pcm.clone(),
    });
    let playback = state.control.play(&record.call_id, audio.await?).await.map_err(refusal)?;
    let body = json!({ "playback": playback.id, "duration": playback.duration.as_secs_f64() });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

async fn speak(synthesiser: &Synthesiser, request: &SpeechRequest) -> Result<Arc<Spoken>, Problem> {
    synthesiser.speak(request).await.map_err(|error| {
        let words = error.to_string();
        if error.is_request() {
            return Problem::bad_request(words, "Change the request as it says.");
        }
        tracing::warn!(engine = synthesiser.engine(), %error, "nothing was said");
        let remedy = "See tts in the settings; `sidetone check` tries the engine.";
        Problem::new(StatusCode::BAD_GATEWAY, "not-spoken", "The text was not spoken", words, remedy)
    })
}
