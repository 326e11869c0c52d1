//! Where logs go: standard error, as text or as one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Chatty dependencies, held back unless the filter names them.
const QUIET: [(&str, &str); 4] = [
    ("whisper_rs", "warn"),
    ("symphonia", "off"),
    ("sqlx::postgres::notice", "warn"),
    // Three errors an attempt to connect, which `jobs::broker` tells of once.
    ("lapin", "off"),
];

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
    // Its own errors would be told on standard error too, by a macro that panics where that takes nothing (a full disk): a
    // log that cannot be written must end no call.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let done = match format {
        "text" => log.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        "json" => log.with(lines.json().flatten_event(true).with_span_list(false)).try_init(),
        other => return Err(LogError::Format(other.into())),
    };
    done.map_err(|_| LogError::Twice)?;
    Ok(LogLevel(handle))
}

/// Whether [`init`] would take `level`.
///
/// # Errors
/// [`LogError::Level`].
pub fn check(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let bad = |message: String| LogError::Level { level: level.into(), message };
    if level.trim().is_empty() {
        return Err(bad("it is empty".into()));
    }
    // The filter's own grammar takes any word for the name of a module: with a level misspelt nothing would be logged.
    // Names of spans and their fields, in brackets, may hold commas.
    let mut words = level.split(',').map(str::trim).filter(|_| !level.contains('['));
    if let Some(word) = words.find(|word| !word.contains('=') && word.parse::<LevelFilter>().is_err()) {
        return Err(bad(format!("`{word}` is no level (a module's is written `{word}=debug`)")));
    }
    // The filter takes no spaces after its commas, and people write them.
    let mut directives = match level.contains('[') {
        true => level.to_owned(),
        false => level.split(',').map(str::trim).collect::<Vec<_>>().join(","),
    };
    for (target, quiet) in QUIET.iter().filter(|(target, _)| !level.contains(target)) {
        directives.push_str(&format!(",{target}={quiet}"));
    }
    EnvFilter::try_new(directives).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::readiness::{Health, ReadinessBoard};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_json_has_no_key_twice() {
        let written = Written::default();
        let to = written.clone();
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_span_list(false);
        let log = log.with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let board = ReadinessBoard::expecting(["asterisk"]);
            board.set("asterisk", Health::Ok, "connected");
            board.set("asterisk", Health::Degraded, "slow");
            board.set("asterisk", Health::Failed, "gone");
        });
        let lines = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count(), 3, "{lines}");
        for line in lines.lines() {
            assert_eq!(line.matches("\"message\":").count(), 1, "{line}");
        }
        assert!(lines.contains("\"detail\":\"gone\""), "{lines}");
    }

    #[test]
    fn a_filter_is_checked_and_keeps_the_chatty_quiet() {
        assert!(filter("info").unwrap().to_string().contains("whisper_rs=warn"));
        assert!(!filter("whisper_rs=debug,info").unwrap().to_string().contains("whisper_rs=warn"));
        assert!(matches!(filter("sidetone=loud"), Err(LogError::Level { .. })));
        assert!(matches!(filter(" "), Err(LogError::Level { .. })));
        assert!(matches!(init("info", "xml"), Err(LogError::Format(_))));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_and_not_taken_for_a_module() {
        for good in
            ["warn", "WARN", "off", "sidetone::net=debug,info", "info, sidetone=trace", "[call{id=1}]=debug"]
        {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "infos", "info,sidetone", "sidetone::net"] {
            let error = filter(bad).unwrap_err().to_string();
            assert!(error.contains("error, warn, info, debug, trace"), "{bad}: {error}");
        }
    }
}
