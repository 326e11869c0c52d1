//! `POST /v1/audio/transcriptions`: a file to text in OpenAI's shape, so that existing clients work unchanged.
//!
//! The upload goes to a file that has no name any more when its first byte is written: however the request ends, nothing of it
//! stays. Its work stands behind that of live calls, on the same workers, and is given up when nobody waits for it any more.

mod ask;
mod error;
mod multipart;
pub(super) mod receive;
mod shape;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::auth::{self, Principal};
use super::state::AppState;
use crate::audio::{AudioFile, Flaws, Limits, PcmSource};
use crate::calls::speech::Expectations;
use crate::speech::SpeechEngine;
use crate::speech::batch::{self, BatchError, BatchNews, BatchOptions};
use crate::speech::scheduler::Class;
use crate::speech::transcript::Transcript;
use ask::{Ask, ResponseFormat};
pub(super) use error::{Failure, Param, method_not_allowed};
pub(super) use receive::UploadPolicy;

/// Files that are received or wait at a time; more are told to come again.
const MOST_UPLOADS: usize = 32;
/// Files that are recognised at a time, taking turns: the others wait on the disk.
const MOST_RUNNING: usize = 4;

/// What is taken, and where it is kept meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptionPolicy {
    /// Folder for uploads; ours alone.
    pub folder: PathBuf,
    /// Largest file, bytes.
    pub most_bytes: u64,
    /// Longest audio.
    pub most_duration: Duration,
    /// Disk that is left to recordings, MiB.
    pub min_free_mib: u64,
    /// Language of requests that name none, and words that the model leans on, by the tenant of the key.
    pub expected: Expectations,
}

/// Files that are being transcribed for users.
#[derive(Debug)]
pub struct Transcriptions {
    engine: Arc<SpeechEngine>,
    policy: TranscriptionPolicy,
    uploads: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Transcriptions {
    /// On `engine`. Removes what a process that was killed left in the folder.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(engine: Arc<SpeechEngine>, policy: TranscriptionPolicy) -> std::io::Result<Self> {
        std::fs::create_dir_all(&policy.folder)?;
        for left in std::fs::read_dir(&policy.folder)? {
            std::fs::remove_file(left?.path())?;
        }
        let (uploads, running) = (Semaphore::new(MOST_UPLOADS), Semaphore::new(MOST_RUNNING));
        Ok(Self { engine, policy, uploads: Arc::new(uploads), running: Arc::new(running) })
    }

    /// Files that are received, wait or are worked on.
    pub fn in_progress(&self) -> usize {
        MOST_UPLOADS - self.uploads.available_permits()
    }

    fn upload_policy(&self) -> UploadPolicy {
        let TranscriptionPolicy { folder, most_bytes, min_free_mib, .. } = &self.policy;
        UploadPolicy { folder: folder.clone(), most_bytes: *most_bytes, min_free_mib: *min_free_mib }
    }
}

/// Lets in who has a key, and refuses in OpenAI's words.
pub(super) async fn require(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    match auth::admit(&state, &mut request) {
        Ok(()) => next.run(request).await,
        Err(problem) => Failure::from(problem).into_response(),
    }
}

/// Transcribe the file of the form in the body.
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Some(service) = state.transcriptions else { return Err(Failure::no_model()) };
    let place = Arc::clone(&service.uploads).try_acquire_owned().map_err(|_| Failure::busy())?;
    let (upload, fields) =
        receive::form(&service.upload_policy(), receive::Keep::WhileOpen, &headers, body).await?;
    let expected = service.policy.expected.of_tenant(principal.tenant.as_deref());
    let ask = Ask::of(&fields, service.engine.model(), expected)?;
    if let (Some(words), true) = (service.engine.deaf_to(&ask.language), ask.language_asked) {
        return Err(Failure::bad(Param::Language, words));
    }
    let limits = Limits { duration: service.policy.most_duration };
    let opened = move || AudioFile::new(upload.file, upload.hint, limits);
    let audio = blocking(opened).await?.map_err(Failure::from)?;
    let work = Work { service, ask, audio, place };
    if work.ask.stream {
        return Ok(stream::events(work));
    }
    let (cancel, format, words) = (CancellationToken::new(), work.ask.format, work.ask.words);
    let segments = work.ask.segments;
    // Dropped with this future, when the client has gone.
    let _guard = cancel.clone().drop_guard();
    let turn = Arc::clone(&work.service).turn().await;
    let done = blocking(move || work.run(&cancel, &mut |_| {}, turn)).await?.map_err(Failure::from)?;
    Ok(rendered(&done, format, words, segments))
}

/// A file and what is wanted of it.
struct Work {
    service: Arc<Transcriptions>,
    ask: Ask,
    audio: AudioFile,
    /// Kept until all is done.
    place: OwnedSemaphorePermit,
}

/// What came of it.
struct Done {
    transcript: Transcript,
    flaws: Flaws,
}

/// The right to be among those that are recognised; `None` if the server is going.
type Turn = Option<OwnedSemaphorePermit>;

impl Transcriptions {
    async fn turn(self: Arc<Self>) -> Turn {
        Arc::clone(&self.running).acquire_owned().await.ok()
    }
}

impl Work {
    /// Blocks until all is recognised, or `cancel` is.
    fn run(
        self,
        cancel: &CancellationToken,
        news: &mut dyn FnMut(BatchNews),
        turn: Turn,
    ) -> Result<Done, BatchError> {
        let Self { service, ask, mut audio, place } = self;
        let options =
            BatchOptions { language: &ask.language, prompt: ask.prompt.as_deref(), class: Class::Job };
        let engine = &service.engine;
        let batch = batch::transcribe(engine, &mut audio, options, cancel, news)?;
        let (channels, flaws) = (audio.spec().channels, audio.flaws());
        drop((place, turn));
        let transcript = Transcript::new(None, batch.duration, channels, engine.model(), batch.events);
        Ok(Done { transcript, flaws })
    }
}

fn rendered(done: &Done, format: ResponseFormat, words: bool, segments: bool) -> Response {
    let transcript = &done.transcript;
    let json = |body: String| ("application/json", body);
    let (kind, body) = match format {
        ResponseFormat::Json => json(shape::short(transcript)),
        ResponseFormat::VerboseJson => json(shape::verbose(transcript, done.flaws, words, segments)),
        ResponseFormat::Text => ("text/plain; charset=utf-8", shape::text(transcript) + "\n"),
        ResponseFormat::Srt => ("application/x-subrip; charset=utf-8", transcript.to_srt()),
        ResponseFormat::Vtt => ("text/vtt; charset=utf-8", transcript.to_vtt()),
    };
    (StatusCode::OK, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], body)
        .into_response()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::internal("transcribing failed", &error))
}
