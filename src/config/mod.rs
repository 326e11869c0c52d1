//! Settings: one file, the environment and flags, typed and validated before anything binds.

pub mod settings;
pub use settings::Settings;
