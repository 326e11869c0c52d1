//! Which model, where it is, and whether it is one.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::ggml::{self, Flaw};
use super::recogniser::SpeechModel;

/// Name of the model inside the binary.
pub const EMBEDDED_NAME: &str = "sidetone-prompts-en";

#[cfg(feature = "embedded-model")]
static EMBEDDED: &[u8] = include_bytes!("../../models/sidetone-prompts-en.bin.zst");

/// What `speech.model` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// The model pulled last, or else the one inside the binary.
    Auto,
    /// No transcription.
    Off,
    /// A model in `<data>/models`, such as `base.en`.
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

    /// Find the model; `None` for `off`. Pulled models are in `data`/models, as `ggml-NAME.bin`.
    ///
    /// # Errors
    /// [`ModelError`] if there is no such model. That it is a good one shows at [`ModelFile::load`].
    pub fn resolve(&self, data: &Path) -> Result<Option<ModelFile>, ModelError> {
        let directory = data.join("models");
        match self {
            Self::Off => Ok(None),
            Self::Path(path) => ModelFile::at(path.clone()).map(Some),
            Self::Named(name) if name == EMBEDDED_NAME => ModelFile::embedded().map(Some),
            Self::Named(name) => {
                let names = [format!("ggml-{name}.bin"), format!("{name}.bin")];
                let found = names.iter().map(|n| directory.join(n)).find(|p| p.is_file());
                let path = found.ok_or_else(|| ModelError::Unknown {
                    name: name.clone(),
                    directory: directory.clone(),
                    have: pulled(&directory).iter().filter_map(|p| name_of(p)).collect::<Vec<_>>().join(", "),
                })?;
                ModelFile::at(path).map(Some)
            }
            Self::Auto => match pulled(&directory).pop() {
                Some(path) => ModelFile::at(path).map(Some),
                None => ModelFile::embedded().map(Some),
            },
        }
    }
}

/// The models in `directory`, the newest last.
fn pulled(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            path.extension().is_some_and(|e| e == "bin").then(|| (meta.modified().ok(), path))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn name_of(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    Some(stem.strip_prefix("ggml-").unwrap_or(&stem).to_owned())
}

/// What to tell users who ask for `language` of the model `name`, which knows English only.
pub fn english_only(name: &str, language: &str) -> String {
    format!(
        "the model {name} knows English only, and takes everything for it: for the language `{language}` use a \
         multilingual one (ggml-base.bin, say)"
    )
}

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
}

impl ModelFile {
    /// The model inside the binary.
    ///
    /// # Errors
    /// [`ModelError::NotEmbedded`] in a build without it.
    pub fn embedded() -> Result<Self, ModelError> {
        if cfg!(feature = "embedded-model") {
            Ok(Self { name: EMBEDDED_NAME.into(), source: ModelSource::Embedded })
        } else {
            Err(ModelError::NotEmbedded)
        }
    }

    fn at(path: PathBuf) -> Result<Self, ModelError> {
        if !path.is_file() {
            return Err(ModelError::NoFile { path });
        }
        let name = name_of(&path).unwrap_or_default();
        Ok(Self { name, source: ModelSource::File(path) })
    }

    /// Whether this is the demonstration model inside the binary.
    pub fn is_demo(&self) -> bool {
        self.source == ModelSource::Embedded
    }

    /// What users have to be told about this model, if anything.
    pub fn warning(&self) -> Option<&'static str> {
        self.is_demo().then_some(
            "the built-in model knows Asterisk's English prompts and spoken digits and nothing else: \
             for calls between people put a whisper.cpp model (ggml-base.en.bin, say) into node.data/models, or set \
             speech.model to its path",
        )
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
                self.checked(file.and_then(|file| ggml::check(&mut BufReader::new(file))))?;
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
fn unpack_embedded() -> Result<Vec<u8>, ModelError> {
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
        "no model {name:?} in {} (there is: {}): put ggml-{name}.bin there, or set speech.model to \
         \"auto\"", directory.display(), if have.is_empty() { "none" } else { have.as_str() }
    )]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// Names of those that are there.
        have: String,
    },
    /// There is no such file.
    #[error("speech.model names {}, which is no file: correct the path, or set it to \"auto\"", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is no whole Whisper model.
    #[error("model {} cannot be used: {flaw}. Get the file again, whole", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
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
        "no model: this build has none inside. Set speech.model to the path of a whisper.cpp model, or to \"off\""
    )]
    NotEmbedded,
    /// This build cannot recognise speech.
    #[error(
        "this build cannot transcribe: it was made without the feature `whisper`. Set speech.model to \"off\", or build with \
         `--features whisper`"
    )]
    NoWhisper,
}
