//! Settings: one file, the environment and flags, typed and validated before anything binds.

mod changes;
mod cpus;
mod derived;
mod example;
pub mod import;
mod language;
mod load;
pub mod settings;
pub mod tts_calls;
mod validate;

pub use changes::changed;
pub use cpus::{Cpus, CpusError};
pub use derived::{SpeechOf, pair};
pub use example::example;
pub use language::{LANGUAGES, language};
pub use load::{ConfigError, DEFAULT_FILES, ENV_OURS, ENV_PREFIX, Sources};
pub use settings::{Settings, Tts};
pub use validate::{MIN_REPAIR_MS, MOST_WORKERS, is_tenant};
