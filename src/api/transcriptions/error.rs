//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.

use std::fmt::Display;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::problem::Problem;
use crate::audio::AudioError;
use crate::speech::batch::BatchError;
use crate::speech::recogniser::RecogniseError;

/// A refusal.
#[derive(Debug)]
pub(in crate::api) struct Failure {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<Param>,
    message: String,
    retry_after: Option<u32>,
}

/// A field of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Param {
    File,
    Model,
    Language,
    ResponseFormat,
    Stream,
    Temperature,
    Granularities,
    Input,
    Voice,
    Speed,
    StreamFormat,
}

impl Param {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Model => "model",
            Self::Language => "language",
            Self::ResponseFormat => "response_format",
            Self::Stream => "stream",
            Self::Temperature => "temperature",
            Self::Granularities => "timestamp_granularities",
            Self::Input => "input",
            Self::Voice => "voice",
            Self::Speed => "speed",
            Self::StreamFormat => "stream_format",
        }
    }
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl Failure {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after: None }
    }

    /// 400 for a field.
    pub(in crate::api) fn bad(param: Param, message: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::new(StatusCode::BAD_REQUEST, INVALID, message) }
    }

    /// 400 for the form.
    pub(in crate::api) fn bad_form(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// 404 for a model that is not here.
    pub(super) fn no_such_model(asked: &str, here: &str) -> Self {
        let message = format!(
            "The model `{asked}` is not here: ask for `{here}`, or for `whisper-1`, which means the same."
        );
        Self {
            code: Some("model_not_found"),
            param: Some(Param::Model),
            ..Self::new(StatusCode::NOT_FOUND, INVALID, message)
        }
    }

    /// 413.
    pub(super) fn too_large(most_bytes: u64) -> Self {
        let message = format!(
            "The file is larger than {} MiB, which is all that is taken (http.max_upload_mib): send it compressed (FLAC, Opus, MP3), \
             or in pieces.",
            most_bytes >> 20
        );
        Self {
            code: Some("file_too_large"),
            param: Some(Param::File),
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message)
        }
    }

    /// 408.
    pub(super) fn too_slow(seconds: u64) -> Self {
        let message = format!("Nothing of the upload came for {seconds} s: send it again.");
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, message)
    }

    /// 429.
    pub(super) fn busy() -> Self {
        let message = "Too many files are being transcribed: come again in a while.";
        Self {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(5),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// 507: recordings come first.
    pub(super) fn disk_full() -> Self {
        let message = "The server has no room for uploads: free disk space below node.data (recording.min_free_mib is kept for calls).";
        Self { code: Some("disk_full"), ..Self::new(StatusCode::INSUFFICIENT_STORAGE, SERVER, message) }
    }

    /// 503.
    pub(super) fn no_model() -> Self {
        let message = "This server transcribes nothing: set speech.model.";
        Self { code: Some("no_model"), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message) }
    }

    /// 503: nobody speaks here.
    pub(in crate::api) fn no_voice() -> Self {
        let message = "This server says nothing: set tts.engine.";
        Self { code: Some("no_voice"), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message) }
    }

    /// 503 for what may well be done later.
    pub(in crate::api) fn later(message: impl Into<String>) -> Self {
        Self { retry_after: Some(5), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message) }
    }

    /// 500, whose cause is for the log.
    pub(in crate::api) fn internal(what: &'static str, error: &dyn Display) -> Self {
        tracing::warn!(%error, "{what}");
        let message = format!("Something failed here ({what}); the server's log has the cause.");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message)
    }

    /// The body.
    pub(super) fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param.map(Param::name),
            "code": self.code,
        }})
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let (status, words) = problem.in_words();
        let code = (status == StatusCode::UNAUTHORIZED).then_some("invalid_api_key");
        Self { code, ..Self::new(status, INVALID, words) }
    }
}

impl From<AudioError> for Failure {
    fn from(error: AudioError) -> Self {
        match error {
            AudioError::Io(_) | AudioError::Open(_) => Self::internal("cannot read the upload", &error),
            AudioError::TooLong { .. } => Self {
                code: Some("audio_too_long"),
                ..Self::bad(Param::File, format!("{error} (http.max_audio_minutes)"))
            },
            error => Self { code: Some("invalid_audio"), ..Self::bad(Param::File, error.to_string()) },
        }
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Audio(error) => error.into(),
            BatchError::Channels { .. } | BatchError::Rate(_) => {
                Self { code: Some("invalid_audio"), ..Self::bad(Param::File, error.to_string()) }
            }
            BatchError::Recognise(RecogniseError::UnknownLanguage { .. }) => {
                Self::bad(Param::Language, error.to_string())
            }
            error => Self::internal("transcribing failed", &error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"sidetone\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// 405 in the same shape.
pub(in crate::api) async fn method_not_allowed() -> Response {
    let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "This path takes POST alone.");
    failure.into_response()
}
/// For routes whose errors are problems.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (title, remedy) = match failure.status {
            StatusCode::PAYLOAD_TOO_LARGE => ("The file is too large", "Send a smaller one."),
            StatusCode::INSUFFICIENT_STORAGE => ("The disk is full", "Make room, then try again."),
            status if status.is_server_error() => ("Something failed here", "Try again, and look at /ready."),
            _ => ("The form cannot be understood", "Correct it as it says."),
        };
        Self::new(failure.status, "upload", title, failure.message, remedy)
    }
}
