//! Text to speech: engines behind one border, what they said kept for the next who asks, at a level that telephones expect.

mod cache;
mod command;
mod error;
mod http;
mod level;
mod text;

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::audio::{AudioFile, Limits, PcmSource};
use crate::media::resample::Resampler;
use crate::telemetry::metric;
use cache::Cache;

pub use error::SynthesisError;
#[cfg(feature = "riva")]
pub(in crate::speech) use text::pieces;

/// What turns text into audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// espeak-ng, a program of this machine: any language, offline, robotic.
    Espeak {
        /// Its name or path.
        program: PathBuf,
    },
    /// Piper, a program of this machine, with voices that its users bring.
    Piper {
        /// Its name or path.
        program: PathBuf,
        /// Folder of the voices: `NAME.onnx` with its `NAME.onnx.json`.
        voices: PathBuf,
    },
    /// A server with OpenAI's `/v1/audio/speech`.
    OpenAi {
        /// Up to and with `/v1`.
        url: String,
        /// Its key; empty for none.
        key: String,
        /// Name of the model.
        model: String,
    },
    /// Google Translate's voice: free, unofficial, for short texts.
    Google {
        /// Of `translate_tts`.
        url: String,
    },
    /// NVIDIA Riva, which has to be given as well ([`Synthesiser::with_remote`]).
    Riva {
        /// Where it is.
        url: String,
    },
}

impl Engine {
    /// Its name in the settings.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Espeak { .. } => "espeak",
            Self::Piper { .. } => "piper",
            Self::OpenAi { .. } => "openai",
            Self::Google { .. } => "google",
            Self::Riva { .. } => "riva",
        }
    }
}

/// How to speak, and what is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SynthesisConfig {
    /// What speaks.
    pub engine: Engine,
    /// Voice of requests that name none; empty: the engine's own for the language.
    pub voice: String,
    /// Language of requests that name none.
    pub language: String,
    /// Longest text, characters.
    pub most_chars: usize,
    /// Longest wait for an engine.
    pub timeout: Duration,
    /// Active speech level that texts are spoken at, dB below full scale (ITU-T P.56's dBov, negative).
    pub level_dbov: f64,
    /// Folder for what was spoken.
    pub cache: PathBuf,
    /// The most that is kept there, bytes; 0: nothing.
    pub cache_bytes: u64,
    /// Texts that are spoken at a time.
    pub at_once: usize,
}

/// A text to be spoken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeechRequest {
    /// What to say.
    pub text: String,
    /// The engine's name of a voice.
    pub voice: Option<String>,
    /// As `en`, `es`, `pt-br`.
    pub language: Option<String>,
    /// 1 is the voice's own pace, 0.25 to 4.
    pub speed: Option<f64>,
}

/// What was spoken: mono.
#[derive(Clone, Debug, PartialEq)]
pub struct Spoken {
    /// Samples a second: the engine's.
    pub rate_hz: u32,
    /// The samples.
    pub pcm: Vec<i16>,
    /// Whether it had been spoken before.
    pub cached: bool,
}

impl Spoken {
    /// Length.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.pcm.len() as f64 / f64::from(self.rate_hz.max(1)))
    }

    /// The samples at another rate.
    ///
    /// # Errors
    /// [`SynthesisError::NotAudio`] if the engine's rate cannot be converted to it.
    pub fn at(&self, rate_hz: u32) -> Result<Vec<i16>, SynthesisError> {
        if rate_hz == self.rate_hz {
            return Ok(self.pcm.clone());
        }
        let mut resampler = Resampler::between_rates(self.rate_hz, rate_hz)
            .map_err(|error| SynthesisError::NotAudio { engine: "", reason: error.to_string() })?;
        let input: Vec<f32> = self.pcm.iter().map(|&sample| f32::from(sample) / 32_768.0).collect();
        let mut output = Vec::new();
        resampler.push(&input, &mut output);
        resampler.finish(&mut output);
        Ok(output.into_iter().map(|sample| (sample * 32_768.0).round() as i16).collect())
    }
}

/// No engine speaks for longer than this; what pretends to is broken.
const MOST_AUDIO: Duration = Duration::from_secs(3_600);
/// What may be asked for, times the voice's own pace: OpenAI's range.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

/// What other nodes have spoken, and are told of. Neither fails, nor holds anybody up for long.
pub trait SharedCache: std::fmt::Debug + Send + Sync {
    /// A WAV file, if there is one; what is in it may be anything.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Vec<u8>>>;

    /// Keep a WAV file for others. Returns at once.
    fn put(&self, key: &str, file: Vec<u8>);
}

/// A service elsewhere that speaks, by a protocol of its own.
pub trait RemoteVoice: std::fmt::Debug + Send + Sync {
    /// The text as WAV files, to be heard one after the other; each piece of it within `timeout`.
    fn speak<'a>(
        &'a self,
        wanted: &'a Wanted,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<Vec<u8>>, SynthesisError>>;
}

/// Speaks.
#[derive(Debug)]
pub struct Synthesiser {
    config: SynthesisConfig,
    cache: Cache,
    shared: Option<Arc<dyn SharedCache>>,
    remote: Option<Arc<dyn RemoteVoice>>,
    http: reqwest::Client,
    turns: Semaphore,
}

impl Synthesiser {
    /// With the engine of `config`.
    ///
    /// # Errors
    /// [`SynthesisError`]: the folder cannot be used, or there is no HTTP client.
    pub fn new(config: SynthesisConfig) -> Result<Self, SynthesisError> {
        let cache = Cache::open(&config.cache, config.cache_bytes)?;
        let http = http::client(config.timeout)?;
        let turns = Semaphore::new(config.at_once.max(1));
        Ok(Self { config, cache, shared: None, remote: None, http, turns })
    }

    /// With what other nodes have spoken.
    #[must_use]
    pub fn with_shared(self, shared: Arc<dyn SharedCache>) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// With the service that an engine elsewhere is asked by.
    #[must_use]
    pub fn with_remote(self, remote: Arc<dyn RemoteVoice>) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// Name of the engine.
    pub fn engine(&self) -> &'static str {
        self.config.engine.name()
    }

    /// Whether the engine is there and says something.
    ///
    /// # Errors
    /// [`SynthesisError`], with the remedy.
    pub async fn probe(&self) -> Result<(), SynthesisError> {
        let request = SpeechRequest { text: "1".into(), ..SpeechRequest::default() };
        self.speak_anew(&self.checked(&request)?).await.map(drop)
    }

    /// Have `request` spoken; what was spoken before is taken from the folder.
    ///
    /// # Errors
    /// [`SynthesisError`].
    pub async fn speak(&self, request: &SpeechRequest) -> Result<Arc<Spoken>, SynthesisError> {
        let wanted = self.checked(request)?;
        let key = self.key(&wanted);
        // Whoever wants the same at the same time waits for the first.
        let _turn = self.cache.turn(&key).await;
        let came_from = |place| metric::SPEECH_TEXTS.add_labelled("from", place, 1);
        if let Some(spoken) = self.cache.get(&key).await {
            came_from("folder");
            return Ok(Arc::new(spoken));
        }
        if let Some(spoken) = self.spoken_elsewhere(&key).await {
            came_from("redis");
            self.cache.put(&key, &spoken).await;
            return Ok(Arc::new(spoken));
        }
        let spoken = self.speak_anew(&wanted).await?;
        came_from("engine");
        self.cache.put(&key, &spoken).await;
        if let Some(shared) = &self.shared {
            shared.put(&key, cache::file(&spoken));
        }
        Ok(Arc::new(spoken))
    }

    async fn spoken_elsewhere(&self, key: &str) -> Option<Spoken> {
        let file = self.shared.as_ref()?.get(key).await?;
        let spoken = cache::read(file);
        if spoken.is_none() {
            tracing::debug!(key, "what others keep for a text is no audio; it is spoken anew");
        }
        spoken
    }

    async fn speak_anew(&self, wanted: &Wanted) -> Result<Spoken, SynthesisError> {
        // Closed never: the semaphore is ours.
        let _place = self.turns.acquire().await;
        let engine = self.config.engine.name();
        let spoken = match &self.config.engine {
            Engine::Espeak { program } => command::espeak(program, wanted, self.config.timeout).await,
            Engine::Piper { program, voices } => {
                command::piper(program, voices, wanted, self.config.timeout).await
            }
            Engine::OpenAi { url, key, model } => http::openai(&self.http, url, key, model, wanted).await,
            Engine::Google { url } => http::google(&self.http, url, wanted).await,
            Engine::Riva { .. } => match &self.remote {
                Some(remote) => remote.speak(wanted, self.config.timeout).await,
                None => {
                    let reason =
                        "this Sidetone was built without Riva: build it with the feature `riva`".into();
                    Err(SynthesisError::Failed { engine, reason })
                }
            },
        }?;
        let level = self.config.level_dbov;
        let levelled = tokio::task::spawn_blocking(move || {
            let mut all: Option<Spoken> = None;
            for file in spoken {
                let piece = decoded(engine, file)?;
                match &mut all {
                    None => all = Some(piece),
                    Some(all) => all.pcm.extend(piece.at(all.rate_hz)?),
                }
            }
            let mut all = all.filter(|all| !all.pcm.is_empty()).ok_or(SynthesisError::Silent { engine })?;
            level::set(&mut all.pcm, all.rate_hz, level);
            Ok(all)
        });
        levelled
            .await
            .unwrap_or_else(|error| Err(SynthesisError::NotAudio { engine, reason: error.to_string() }))
    }

    fn checked(&self, request: &SpeechRequest) -> Result<Wanted, SynthesisError> {
        let text = text::plain(&request.text);
        if text.is_empty() {
            return Err(SynthesisError::NoText);
        }
        let (chars, most) = (text.chars().count(), self.config.most_chars);
        if chars > most {
            return Err(SynthesisError::TextTooLong { chars, most });
        }
        let speed = request.speed.unwrap_or(1.0);
        if !SPEEDS.contains(&speed) {
            return Err(SynthesisError::Speed { speed, most: *SPEEDS.end() });
        }
        let voice = request.voice.clone().unwrap_or_else(|| self.config.voice.clone());
        let language =
            request.language.clone().unwrap_or_else(|| self.config.language.clone()).to_ascii_lowercase();
        for (what, name) in [("voice", &voice), ("language", &language)] {
            // They become arguments of programs, and names of files.
            let good = |c: char| c.is_alphanumeric() || "-_+. ()".contains(c);
            if name.len() > 100 || name.starts_with(['-', '.']) || !name.chars().all(good) {
                return Err(SynthesisError::BadName { what, name: name.clone() });
            }
        }
        Ok(Wanted { text, voice, language, speed })
    }

    fn key(&self, wanted: &Wanted) -> String {
        let Wanted { text, voice, language, speed } = wanted;
        let mut hash = Sha256::new();
        let (engine, level) = (format!("{:?}", self.config.engine.identity()), self.config.level_dbov);
        for part in
            [engine, voice.clone(), language.clone(), speed.to_string(), level.to_string(), text.clone()]
        {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Engine {
    /// What makes its voice another than that of the same engine elsewhere. No secret is in it.
    fn identity(&self) -> (&'static str, &str, &str) {
        match self {
            Self::Espeak { .. } | Self::Piper { .. } => (self.name(), "", ""),
            Self::OpenAi { url, model, .. } => (self.name(), url, model),
            Self::Google { url } | Self::Riva { url } => (self.name(), url, ""),
        }
    }
}

/// A request that an engine can be asked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Without control characters.
    pub text: String,
    /// As the engine names it; empty: its own for the language.
    pub voice: String,
    /// In lower case.
    pub language: String,
    /// 1 is the voice's own.
    pub speed: f64,
}

/// What an engine gave: WAV, MP3, or anything else that is read here.
fn decoded(engine: &'static str, file: Vec<u8>) -> Result<Spoken, SynthesisError> {
    let bad =
        |error: crate::audio::AudioError| SynthesisError::NotAudio { engine, reason: error.to_string() };
    let mut audio = AudioFile::new(Cursor::new(file), None, Limits { duration: MOST_AUDIO }).map_err(bad)?;
    let spec = audio.spec();
    let channels = usize::from(spec.channels);
    let (mut pcm, mut piece) = (Vec::new(), vec![0; 4_096 * channels]);
    loop {
        match audio.read(&mut piece).map_err(bad)? {
            0 => break,
            frames => pcm.extend(piece[..frames * channels].chunks_exact(channels).map(|frame| {
                let sum: i32 = frame.iter().map(|&sample| i32::from(sample)).sum();
                (sum / channels as i32) as i16
            })),
        }
    }
    Ok(Spoken { rate_hz: spec.rate_hz, pcm, cached: false })
}
