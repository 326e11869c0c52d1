//! Which model, where it is, and whether it is one.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::ggml::{self, Flaw};
use super::models::catalogue::{entry_of, nearest};
#[cfg(feature = "whisper")]
use super::models::memory;
use super::models::{Choice, Shelf, name_of};
use super::recogniser::{Hypothesis, RecogniseError, Recogniser, Request, SpeechModel};
use crate::config::Settings;

/// Name of the model inside the binary.
pub const EMBEDDED_NAME: &str = "sidetone-prompts-en";

#[cfg(feature = "embedded-model")]
static EMBEDDED: &[u8] = include_bytes!("../../models/sidetone-prompts-en.bin.zst");

/// What `speech.model` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// The best of the pulled models, or else the one inside the binary.
    Auto,
    /// No transcription.
    Off,
    /// A pulled model, such as `base.en`, or [`EMBEDDED_NAME`].
    Named(String),
    /// A ggml file.
    Path(PathBuf),
}

impl ModelChoice {
    /// Read the setting: `auto`, `off`, anything with a `/` or ending in `.bin` is a path, anything else a name.
    pub fn parse(setting: &str) -> Self {
        match setting.trim() {
            "auto" | "" => Self::Auto,
            "off" => Self::Off,
            path if path.contains('/') || path.ends_with(".bin") => Self::Path(path.into()),
            name => Self::Named(name.into()),
        }
    }

    /// Find the model among those of `shelf`; `None` for `off`. [`Shelf::choose`] has the rule of `auto`.
    ///
    /// # Errors
    /// [`ModelError`] if there is no such model. That it is a good one shows at [`ModelFile::load`].
    pub fn resolve(&self, shelf: &Shelf) -> Result<Option<ModelFile>, ModelError> {
        match self {
            Self::Off => Ok(None),
            Self::Path(path) => ModelFile::at(path.clone()).map(Some),
            Self::Named(name) if name == EMBEDDED_NAME => ModelFile::embedded().map(Some),
            Self::Named(name) => match shelf.find(name) {
                Some(path) => ModelFile::at(path).map(Some),
                None => Err(not_here(name, shelf)),
            },
            Self::Auto => {
                let Choice { taken, passed_over } = shelf.choose();
                let model = match taken {
                    Some(model) => ModelFile::at(model.path)?,
                    None => ModelFile::embedded()?,
                };
                Ok(Some(ModelFile { passed_over, ..model }))
            }
        }
    }
}

fn not_here(name: &str, shelf: &Shelf) -> ModelError {
    let have: Vec<_> = shelf.present().into_iter().map(|model| model.name).collect();
    let remedy = match (entry_of(name), nearest(name)) {
        (Some(_), _) => format!("`sidetone models pull {name}` gets it"),
        (None, Some(other)) => format!("did you mean \"{other}\"? `sidetone models pull {other}` gets that"),
        (None, None) => format!("put ggml-{name}.bin there"),
    };
    ModelError::Unknown {
        name: name.to_owned(),
        directory: shelf.folder.clone(),
        have: have.join(", "),
        remedy,
    }
}

/// The model that the settings ask for; `None` if they want none.
///
/// # Errors
/// [`ModelError`] if there is no such model.
pub fn find(settings: &Settings) -> Result<Option<ModelFile>, ModelError> {
    ModelChoice::parse(&settings.speech.model).resolve(&Shelf::of(settings))
}

/// Stands for a model where there is none in this process: what is handed to it is not recognised.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoModel;

impl NoModel {
    /// Its name.
    pub const NAME: &str = "none";
}

impl SpeechModel for NoModel {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(*self))
    }
}

impl Recogniser for NoModel {
    fn recognise(&mut self, audio: &[f32], _: &Request) -> Result<Hypothesis, RecogniseError> {
        Err(RecogniseError::Failed {
            model: Self::NAME.to_owned(),
            seconds: audio.len() as f64 / f64::from(super::RATE),
            reason: "there is no model in this process (speech.model is off)".to_owned(),
        })
    }
}

/// What to tell users who ask for `language` of the model `name`, which knows English only.
pub fn english_only(name: &str, language: &str) -> String {
    format!(
        "the model {name} knows English only, and takes everything for it: for the language `{language}` use a \
         multilingual one (ggml-base.bin, say)"
    )
}

const DEMO_ONLY: &str = "the built-in model is for the demo: it knows Asterisk's English prompts and spoken digits and nothing \
                         else. For calls between people `sidetone models pull base.en` (`sidetone models list` has \
                         others), or set speech.model to the path of a whisper.cpp model";

/// Where a model's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// In the binary.
    Embedded,
    /// In this file.
    File(PathBuf),
}

/// A model that was found, not loaded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// `base.en`, [`EMBEDDED_NAME`].
    pub name: String,
    /// Where it is.
    pub source: ModelSource,
    /// What `auto` did not take instead, and why.
    pub passed_over: Vec<String>,
}

impl ModelFile {
    /// The model inside the binary.
    ///
    /// # Errors
    /// [`ModelError::NotEmbedded`] in a build without it.
    pub fn embedded() -> Result<Self, ModelError> {
        if cfg!(feature = "embedded-model") {
            Ok(Self { name: EMBEDDED_NAME.into(), source: ModelSource::Embedded, passed_over: Vec::new() })
        } else {
            Err(ModelError::NotEmbedded)
        }
    }

    fn at(path: PathBuf) -> Result<Self, ModelError> {
        if !path.is_file() {
            return Err(ModelError::NoFile { path });
        }
        let name = name_of(&path).unwrap_or_default();
        Ok(Self { name, source: ModelSource::File(path), passed_over: Vec::new() })
    }

    /// Whether this is the demonstration model inside the binary.
    pub fn is_demo(&self) -> bool {
        self.source == ModelSource::Embedded
    }

    /// What users have to be told about this model and its choice, if anything.
    pub fn warning(&self) -> Option<String> {
        let demo = self.is_demo().then(|| DEMO_ONLY.to_owned());
        let words: Vec<_> = self.passed_over.iter().cloned().chain(demo).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Check the file through, then load it.
    ///
    /// # Errors
    /// [`ModelError`], which names the file and what to do.
    #[cfg(feature = "whisper")]
    pub fn load(&self) -> Result<Arc<dyn SpeechModel>, ModelError> {
        use super::whisper::WhisperModel;

        let model = match &self.source {
            ModelSource::Embedded => {
                let bytes = unpack_embedded()?;
                self.checked(ggml::check(&mut std::io::Cursor::new(&bytes)))?;
                WhisperModel::from_bytes(&self.name, &bytes)
            }
            ModelSource::File(path) => {
                let file = File::open(path).map_err(Flaw::from);
                let outcome = file.and_then(|file| {
                    let bytes = file.metadata()?.len();
                    Ok((ggml::check(&mut BufReader::new(file))?, bytes))
                });
                let (shape, bytes) =
                    outcome.map_err(|flaw| ModelError::Damaged { path: self.place(), flaw })?;
                self.fits(memory::needed(&shape, bytes, 1), memory::of_machine())?;
                WhisperModel::from_file(&self.name, path)
            }
        };
        model
            .map(|m| Arc::new(m) as Arc<dyn SpeechModel>)
            .map_err(|reason| ModelError::Refused { name: self.name.clone(), reason })
    }

    /// Refuses: this build has no Whisper.
    ///
    /// # Errors
    /// [`ModelError::NoWhisper`], always.
    #[cfg(not(feature = "whisper"))]
    pub fn load(&self) -> Result<Arc<dyn SpeechModel>, ModelError> {
        Err(ModelError::NoWhisper)
    }

    /// Read the file through without loading it.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] with the first flaw found.
    pub fn verify(&self) -> Result<ggml::Shape, ModelError> {
        self.checked(match &self.source {
            ModelSource::Embedded => ggml::check(&mut std::io::Cursor::new(unpack_embedded()?)),
            ModelSource::File(path) => {
                File::open(path).map_err(Flaw::from).and_then(|file| ggml::check(&mut BufReader::new(file)))
            }
        })
    }

    /// whisper.cpp writes to where memory should be that it did not get.
    #[cfg(feature = "whisper")]
    fn fits(&self, needed: u64, have: Option<u64>) -> Result<(), ModelError> {
        match have.filter(|&have| needed > have) {
            Some(have) => Err(ModelError::TooLarge { name: self.name.clone(), needed, have }),
            None => Ok(()),
        }
    }

    fn checked(&self, outcome: Result<ggml::Shape, Flaw>) -> Result<ggml::Shape, ModelError> {
        outcome.map_err(|flaw| ModelError::Damaged { path: self.place(), flaw })
    }

    fn place(&self) -> PathBuf {
        match &self.source {
            ModelSource::Embedded => PathBuf::from("<inside the binary>"),
            ModelSource::File(path) => path.clone(),
        }
    }
}

#[cfg(feature = "embedded-model")]
pub(super) fn unpack_embedded() -> Result<Vec<u8>, ModelError> {
    use std::io::Read;

    let unpacking = |e: String| ModelError::Refused { name: EMBEDDED_NAME.into(), reason: e };
    let mut decoder =
        ruzstd::decoding::StreamingDecoder::new(EMBEDDED).map_err(|e| unpacking(e.to_string()))?;
    let mut bytes = Vec::with_capacity(17 << 20);
    decoder.read_to_end(&mut bytes).map_err(|e| unpacking(e.to_string()))?;
    Ok(bytes)
}

#[cfg(not(feature = "embedded-model"))]
fn unpack_embedded() -> Result<Vec<u8>, ModelError> {
    Err(ModelError::NotEmbedded)
}

/// Why there is no model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No pulled model has this name.
    #[error(
        "no model {name:?} in {} (there is: {}): {remedy}, or set speech.model to \"auto\"",
        directory.display(), if have.is_empty() { "none" } else { have.as_str() }
    )]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// Names of those that are there.
        have: String,
        /// What to do.
        remedy: String,
    },
    /// There is no such file.
    #[error("speech.model names {}, which is no file: correct the path, or set it to \"auto\"", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is no whole Whisper model.
    #[error(
        "model {} cannot be used: {flaw}. Get the file again, whole (`sidetone models pull`, or --from another mirror)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// There is not enough memory for it on this machine.
    #[error(
        "model {name} does not fit into memory: with one recogniser it takes about {} MB, and this machine has {} MB: take a smaller \
         or a quantised one (`sidetone models list`)", needed / 1_000_000, have / 1_000_000
    )]
    TooLarge {
        /// The model.
        name: String,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// whisper.cpp did not take a file that looks right.
    #[error("model {name} cannot be loaded ({reason}): is there enough memory for it?")]
    Refused {
        /// The model.
        name: String,
        /// What the library says.
        reason: String,
    },
    /// This build has no model inside.
    #[error(
        "no model: this build has none inside. `sidetone models pull base.en` gets one; or set speech.model to the path of a \
         whisper.cpp model, or to \"off\""
    )]
    NotEmbedded,
    /// This build cannot recognise speech.
    #[error(
        "this build cannot transcribe: it was made without the feature `whisper`. Set speech.model to \"off\", or build with \
         `--features whisper`"
    )]
    NoWhisper,
}
