//! Files to text: named by path or URL, or uploaded. The work stands behind that of live calls, on the same recognisers.

mod fetch;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::background;
use super::error::JobError;
use super::roots::Roots;
use super::worker::{Attempt, Handler};
use crate::audio::{AudioError, AudioFile, Format, Limits, PcmSource as _};
use crate::clock;
use crate::config::Settings;
use crate::crash::{self, Step};
use crate::files;
use crate::speech::SpeechEngine;
use crate::speech::batch::{self, BatchError, BatchNews, BatchOptions};
use crate::speech::scheduler::Class;
use crate::speech::transcript::Transcript;
use crate::store::jobs::{Job, JobKey, JobKind};

pub use fetch::{FetchError, Fetcher};
pub use uploads::sweep;

/// A file to be transcribed: one of `path`, `url` and `upload`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TranscriptionAsked {
    /// A file of this machine, in `jobs.roots`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A file elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// An upload, by its name among uploads. Only the API writes this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
    /// Language code, or `auto`; else the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// What to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TranscriptFormat>,
}

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its name in our folder.
    pub file: String,
    /// Its name where it came from, whose extension may say what it is.
    pub name: String,
}

/// What a transcript is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TranscriptFormat {
    /// Words with times and confidences.
    #[default]
    Json,
    /// A line an utterance.
    #[serde(alias = "text")]
    Txt,
    /// SubRip subtitles.
    Srt,
    /// WebVTT subtitles.
    Vtt,
}

impl TranscriptFormat {
    const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Txt => "txt",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
        }
    }

    fn render(self, transcript: &Transcript) -> String {
        match self {
            Self::Json => transcript.to_json(),
            Self::Txt => transcript.to_text(),
            Self::Srt => transcript.to_srt(),
            Self::Vtt => transcript.to_vtt(),
        }
    }
}

impl TranscriptionAsked {
    /// From a producer's JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let asked = Self::deserialize(value).map_err(|error| error.to_string())?;
        match (&asked.path, &asked.url, &asked.upload) {
            (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_)) => Ok(asked),
            (None, None, None) => Err("neither `path` nor `url`: name the file".into()),
            _ => Err("both `path` and `url`: name one file".into()),
        }
    }
}

/// What is allowed, and where things lie.
#[derive(Clone, Debug)]
pub struct TranscriptionPolicy {
    /// Folders that files named by path lie in.
    pub roots: Roots,
    /// Largest file, bytes.
    pub most_bytes: u64,
    /// Longest audio.
    pub most_duration: Duration,
    /// `node.data`.
    pub data: PathBuf,
}

impl TranscriptionPolicy {
    /// Where uploads lie until they are transcribed.
    pub fn uploads(&self) -> PathBuf {
        self.data.join("jobs/uploads")
    }

    fn transcript_path(&self, key: &JobKey, created_at: i64, format: TranscriptFormat) -> PathBuf {
        let day = jiff::Timestamp::from_millisecond(created_at)
            .unwrap_or_default()
            .strftime("%Y/%m/%d")
            .to_string();
        let name = format!("{}.{}", key.id, format.extension());
        self.data.join("transcripts").join(&*key.tenant).join(day).join(name)
    }
}

/// What does transcriptions.
pub struct Transcriptions {
    engine: Arc<SpeechEngine>,
    settings: Arc<Settings>,
    policy: TranscriptionPolicy,
    fetcher: Fetcher,
}

impl Transcriptions {
    /// On `engine`.
    pub fn new(
        engine: Arc<SpeechEngine>,
        settings: Arc<Settings>,
        policy: TranscriptionPolicy,
        fetcher: Fetcher,
    ) -> Self {
        Self { engine, settings, policy, fetcher }
    }
}

impl Handler for Transcriptions {
    fn kind(&self) -> JobKind {
        JobKind::Transcription
    }

    fn run<'a>(&'a self, job: &'a Job, attempt: &'a Attempt) -> BoxFuture<'a, Result<Value, JobError>> {
        async move {
            let asked = TranscriptionAsked::parse(&job.payload).map_err(JobError::permanent)?;
            let source = self.source(job, &asked, attempt).await?;
            self.transcribe(job, &asked, source, attempt).await
        }
        .boxed()
    }

    fn done(&self, job: &Job) {
        if let Some(upload) = TranscriptionAsked::parse(&job.payload).ok().and_then(|asked| asked.upload) {
            remove_upload(&self.policy, &upload);
        }
    }
}

/// An open file; where it came from, for people; and what its name says it is.
struct Source {
    path: PathBuf,
    shown: String,
    hint: Option<Format>,
    /// Kept open while `path` leads to it.
    _open: Box<dyn std::any::Any + Send>,
}

impl Transcriptions {
    async fn source(
        &self,
        job: &Job,
        asked: &TranscriptionAsked,
        attempt: &Attempt,
    ) -> Result<Source, JobError> {
        if let Some(path) = &asked.path {
            let opened = self.policy.roots.open(&job.key.tenant, path, self.policy.most_bytes)?;
            let (shown, hint) = (path.display().to_string(), Format::of_name(path));
            return Ok(Source { path: opened.path(), shown, hint, _open: Box::new(opened) });
        }
        if let Some(upload) = &asked.upload {
            let path = self.policy.uploads().join(&upload.file);
            let hint = Format::of_name(Path::new(&upload.name));
            return Ok(Source { path, shown: upload.name.clone(), hint, _open: Box::new(()) });
        }
        let url = asked.url.as_deref().unwrap_or_default();
        let folder = self.policy.data.join("jobs");
        let fetched = tokio::select! {
            fetched = self.fetcher.fetch(url, &folder, self.policy.most_bytes) => fetched,
            reason = attempt.given_up() => return Err(reason),
        };
        let fetched = fetched.map_err(|error| match error.is_transient() {
            true => JobError::transient(error),
            false => JobError::permanent(error),
        })?;
        let hint = reqwest::Url::parse(url).ok().and_then(|url| Format::of_name(Path::new(url.path())));
        Ok(Source { path: fetched.path(), shown: url.to_owned(), hint, _open: Box::new(fetched) })
    }

    async fn transcribe(
        &self,
        job: &Job,
        asked: &TranscriptionAsked,
        source: Source,
        attempt: &Attempt,
    ) -> Result<Value, JobError> {
        let of_tenant = self.settings.speech_of(&job.key.tenant);
        let language = asked.language.clone().unwrap_or_else(|| of_tenant.language.to_owned());
        if let (Some(words), true) = (self.engine.deaf_to(&language), asked.language.is_some()) {
            return Err(JobError::permanent(words));
        }
        let prompt = crate::calls::speech::vocabulary(of_tenant.vocabulary);
        let (engine, limits) = (self.engine.clone(), Limits { duration: self.policy.most_duration });
        let progress = attempt.progress_teller();
        // One token for both reasons; which it was is looked at afterwards.
        let give_up = CancellationToken::new();
        let _guard = give_up.clone().drop_guard();
        let (told, shown) = (give_up.clone(), source.shown.clone());
        let work = move || {
            let mut audio = AudioFile::open(&source.path, source.hint, limits)?;
            let prompt = (!prompt.is_empty()).then_some(prompt.as_str());
            let options = BatchOptions { language: &language, prompt, class: Class::Job };
            let mut news = |news| {
                if let BatchNews::Read(share) = news {
                    crash::here(Step::Begun);
                    progress.send_replace(share);
                }
            };
            let batch = batch::transcribe(&engine, &mut audio, options, &told, &mut news)?;
            let (channels, flaws) = (audio.spec().channels, audio.flaws());
            let transcript = Transcript::new(None, batch.duration, channels, engine.model(), batch.events);
            drop(source);
            Ok::<_, BatchError>((transcript, flaws))
        };
        let work = background::run("transcribe", work);
        tokio::pin!(work);
        let outcome = tokio::select! {
            outcome = &mut work => outcome?,
            reason = attempt.given_up() => return Err(reason),
        };
        let (transcript, flaws) = outcome.map_err(|error| failed(&shown, error))?;
        let format = asked.format.unwrap_or_default();
        let path = self.policy.transcript_path(&job.key, job.created_at, format);
        let text = format.render(&transcript);
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder)?;
            }
            files::replace_durably(&target, text.as_bytes())
        });
        written
            .await
            .map_err(|error| JobError::transient(format!("writing the transcript broke off: {error}")))?
            .map_err(|error| JobError::transient(format!("cannot write {}: {error}", path.display())))?;
        let words: usize = transcript.utterances.iter().map(|utterance| utterance.words.len()).sum();
        let text: Vec<&str> = transcript.utterances.iter().map(|utterance| utterance.text.as_str()).collect();
        Ok(json!({
            "transcript_path": path,
            "format": format,
            "text": text.join(" "),
            "language": transcript.utterances.first().map(|utterance| utterance.language.clone()),
            "seconds": transcript.duration,
            "words": words,
            "model": transcript.model,
            "cut_off": flaws.cut_off,
            "damaged": flaws.damaged,
            "finished_at": clock::timestamp().to_string(),
        }))
    }
}

fn failed(shown: &str, error: BatchError) -> JobError {
    match error {
        BatchError::Cancelled => JobError::Stopped,
        BatchError::Audio(error @ AudioError::Io(_)) => JobError::transient(format!("{shown}: {error}")),
        BatchError::Recognise(error) => JobError::transient(format!("{shown}: {error}")),
        error => JobError::permanent(format!("{shown}: {error}")),
    }
}

/// An upload is removed once its transcript is there.
pub fn remove_upload(policy: &TranscriptionPolicy, upload: &Upload) {
    let path = policy.uploads().join(&upload.file);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "an upload that was transcribed cannot be removed");
    }
}
