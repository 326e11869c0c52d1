//! The folder: which models are there, and which of them `auto` takes.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::ggml::{self, Shape};
use super::memory;
use super::source::in_folder;
use crate::config::Settings;

/// Where models are kept, and what decides between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// The folder.
    pub folder: PathBuf,
    /// `speech.language`: a model that knows English alone comes last for another one.
    pub language: String,
    /// Recognisers that will share a model, each with a state of its own.
    pub states: usize,
    /// Memory of this machine, bytes, where it is known.
    pub memory: Option<u64>,
}

/// A model's file in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// `base.en`.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The file's length.
    pub bytes: u64,
    modified: SystemTime,
}

/// What `auto` comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The model taken; `None` if there is none fit to be.
    pub taken: Option<Present>,
    /// Those that are not fit, with the reason and the remedy.
    pub passed_over: Vec<String>,
}

impl Shelf {
    /// As the settings have it, on this machine.
    pub fn of(settings: &Settings) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            folder: settings.models_folder(),
            language: settings.speech.language.clone(),
            states: if settings.speech.workers == 0 { cores } else { settings.speech.workers },
            memory: memory::of_machine(),
        }
    }

    /// Where the model `name` belongs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("ggml-{name}.bin"))
    }

    /// Where the model `name` is, by either form of its file's name.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        in_folder(&self.folder, name)
    }

    /// The models that are there, by name.
    pub fn present(&self) -> Vec<Present> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut found: Vec<_> = entries.filter_map(|entry| Present::at(entry.ok()?.path())).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Bytes that are there of the model `name`, whose pulling was cut short.
    pub fn partial(&self, name: &str) -> Option<u64> {
        fs::metadata(beside(&self.path(name), ".part")).ok().map(|meta| meta.len())
    }

    /// Memory that a model may take: half of the machine's. The rest is for calls, Asterisk and the system.
    pub fn allowance(&self) -> Option<u64> {
        self.memory.map(|bytes| bytes / 2)
    }

    /// What `speech.model = "auto"` takes: of the models that are whole and, with a state for each recogniser, fit into
    /// [`allowance`](Self::allowance), those that know the language go before those that do not; then the one that errs least
    /// by its kind (`large-v3-turbo` before the other large ones, which err no less and take several times as long; then
    /// the more layers the better); for English one that knows nothing else before one of all languages; the less quantised
    /// one; the newest file.
    pub fn choose(&self) -> Choice {
        let mut choice = Choice::default();
        let mut best = None;
        for model in self.present() {
            let shape = match model.layout() {
                Ok(shape) => shape,
                Err(flaw) => {
                    choice.passed_over.push(format!(
                        "the model {} cannot be used: {flaw}. `sidetone models pull {}` gets it again",
                        model.path.display(),
                        model.name
                    ));
                    continue;
                }
            };
            let needed = memory::needed(&shape, model.bytes, self.states);
            if let Some(allowance) = self.allowance().filter(|&allowance| needed > allowance) {
                choice.passed_over.push(format!(
                    "the model {} is passed over: with {} recognisers it takes about {} of memory, and half of this machine's \
                     is {}; pull a smaller or a quantised one, or name it in speech.model if you know better",
                    model.name,
                    self.states,
                    gigabytes(needed),
                    gigabytes(allowance)
                ));
                continue;
            }
            let rank = self.rank(&shape, &model);
            if best.as_ref().is_none_or(|(other, _)| *other < rank) {
                best = Some((rank, model));
            }
        }
        choice.taken = best.map(|(_, model)| model);
        choice
    }

    fn rank(&self, shape: &Shape, model: &Present) -> impl Ord + use<> {
        let english_only = shape.is_english_only();
        let knows = !english_only || self.language == "en";
        (
            knows,
            precision_of_kind(shape),
            english_only,
            shape.weights.fineness(),
            model.modified,
            Reverse(model.name.clone()),
        )
    }
}

/// Larger for a kind of model that errs less.
fn precision_of_kind(shape: &Shape) -> u32 {
    let third = shape.vocabulary == 51_866;
    // `large-v3-turbo`, and fine-tuned ones of its shape.
    let turbo = shape.encoder_layers == 32 && shape.decoder_layers == 4;
    3 * shape.encoder_layers + 2 * u32::from(turbo) + u32::from(third)
}

impl Present {
    fn at(path: PathBuf) -> Option<Self> {
        let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let name = path.extension().is_some_and(|e| e == "bin").then(|| name_of(&path))??;
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Self { name, path, bytes: meta.len(), modified })
    }

    /// What its header says, once its layout has been checked.
    ///
    /// # Errors
    /// The first flaw found.
    pub fn layout(&self) -> Result<Shape, ggml::Flaw> {
        ggml::layout(&mut BufReader::new(File::open(&self.path)?))
    }
}

/// The name of the model in the file `path`: `base.en` of `ggml-base.en.bin`.
pub fn name_of(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    Some(stem.strip_prefix("ggml-").unwrap_or(&stem).to_owned())
}

/// Whether `name` can be a model's: it becomes part of a file's name and of a URL.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=100).contains(&name.len())
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The file that lies beside `model` with `suffix` added to its name.
pub(super) fn beside(model: &Path, suffix: &str) -> PathBuf {
    let mut path = model.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// For people.
pub(super) fn gigabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000 => format!("{bytes} bytes"),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{CATALOGUE, Entry};
    use super::*;

    fn shelf(language: &str) -> Shelf {
        Shelf { folder: "none".into(), language: language.into(), states: 2, memory: None }
    }

    /// The catalogue's names as `auto` would take them, the best first.
    fn order(language: &str, among: &[&str]) -> Vec<&'static str> {
        let mut entries: Vec<&Entry> = CATALOGUE.iter().filter(|e| among.contains(&e.name)).collect();
        let shelf = shelf(language);
        let present = |entry: &Entry| Present {
            name: entry.name.into(),
            path: PathBuf::new(),
            bytes: entry.bytes,
            modified: SystemTime::UNIX_EPOCH,
        };
        entries.sort_by_cached_key(|e| Reverse(shelf.rank(&e.shape(), &present(e))));
        entries.iter().map(|e| e.name).collect()
    }

    #[test]
    fn the_one_that_errs_least_is_taken() {
        let all = ["tiny", "large-v2", "base", "large-v3", "large-v3-turbo", "medium", "small"];
        let best = ["large-v3-turbo", "large-v3", "large-v2", "medium", "small", "base", "tiny"];
        assert_eq!(order("de", &all), best);
        // A quantised model of a better kind goes before a worse kind, and the less quantised one of a kind first.
        let quantised = ["base", "small-q5_1", "small-q8_0"];
        assert_eq!(order("en", &quantised), ["small-q8_0", "small-q5_1", "base"]);
    }

    #[test]
    fn the_language_decides_before_all_else() {
        let both = ["tiny", "base.en", "base", "small.en"];
        assert_eq!(order("en", &both), ["small.en", "base.en", "base", "tiny"]);
        assert_eq!(order("de", &both), ["base", "tiny", "small.en", "base.en"]);
        assert_eq!(order("auto", &both), ["base", "tiny", "small.en", "base.en"]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["base.en", "large-v3-turbo-q5_0", "my_model"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "../x", "a/b", ".hidden", "-x", "a b", "a%2fb", &"x".repeat(101)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
