//! Settings: one file, the environment and flags, typed and validated before anything binds.

mod changes;
mod example;
mod load;
pub mod settings;
mod validate;

pub use changes::changed;
pub use example::example;
pub use load::{ConfigError, DEFAULT_FILES, ENV_PREFIX, Sources};
pub use settings::Settings;
pub use validate::is_tenant;
