//! Where logs go: standard error, as text or as one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Chatty dependencies, held back unless the filter names them.
const QUIET: [(&str, &str); 1] = [("whisper_rs", "warn")];

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "`log.level` is `{level}`: {message}; use error, warn, info, debug, trace or e.g. `sidetone::net=debug,info`"
    )]
    Level {
        /// As given.
        level: String,
        /// What is wrong with it.
        message: String,
    },
    /// No such format.
    #[error("`log.format` is `{0}`; use `text` or `json`")]
    Format(String),
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Twice,
    /// There is no subscriber any more.
    #[error("logging has ended")]
    Ended,
}

/// The level of a log that is being written.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// From now on write what `level`, a level or a filter, lets through.
    ///
    /// # Errors
    /// [`LogError::Level`], and the level stays as it was.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(filter(level)?).map_err(|_| LogError::Ended)
    }
}

/// Send the process's log to standard error. `level` is a level or a filter, `format` is `text` or `json`.
///
/// # Errors
/// [`LogError`].
pub fn init(level: &str, format: &str) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let log = Registry::default().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let done = match format {
        "text" => log.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        "json" => log.with(lines.json().flatten_event(true).with_span_list(false)).try_init(),
        other => return Err(LogError::Format(other.into())),
    };
    done.map_err(|_| LogError::Twice)?;
    Ok(LogLevel(handle))
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let bad = |message: String| LogError::Level { level: level.into(), message };
    if level.trim().is_empty() {
        return Err(bad("it is empty".into()));
    }
    let mut directives = level.to_owned();
    for (target, quiet) in QUIET.iter().filter(|(target, _)| !level.contains(target)) {
        directives.push_str(&format!(",{target}={quiet}"));
    }
    EnvFilter::try_new(directives).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_and_keeps_the_chatty_quiet() {
        assert!(filter("info").unwrap().to_string().contains("whisper_rs=warn"));
        assert!(!filter("whisper_rs=debug,info").unwrap().to_string().contains("warn"));
        assert!(matches!(filter("sidetone=loud"), Err(LogError::Level { .. })));
        assert!(matches!(filter(" "), Err(LogError::Level { .. })));
        assert!(matches!(init("info", "xml"), Err(LogError::Format(_))));
    }
}
