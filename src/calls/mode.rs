//! What the dialplan asks of us: the arguments of `Stasis(sidetone,MODE[,key=value…])`.
//!
//! Arguments that we do not understand are an error, never a guess: a call that its owner meant to have recorded under
//! another tenant must not be recorded under the default one. The channel is then let go at once
//! ([`super::machine::CallMachine::rejected`]): the caller never waits for our complaint.

use serde::{Deserialize, Serialize};

use super::record::is_valid_name;

/// Whose the call is while we hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Ours: we answer it and keep it.
    Answer,
    /// The dialplan's: we listen, it goes on at the next priority.
    Tap,
}

impl Mode {
    /// As in the dialplan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Tap => "tap",
        }
    }
}

/// The arguments, understood. `None`: not said, the configuration decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOptions {
    /// `answer` or `tap`.
    pub mode: Mode,
    /// Whose call it is: see [`is_valid_name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Whether a recording is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
    /// Whether speech becomes text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcribe: Option<bool>,
    /// Language spoken: `auto` or a tag such as `en` or `pt-BR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// What recognises it: `whisper`, `riva`. Any name is taken here: for an engine that is not there another one is better than
    /// no recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Free text for whoever reads of the call: at most 128 characters, none of them a control character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl CallOptions {
    /// `mode` with nothing else said.
    pub const fn new(mode: Mode) -> Self {
        Self { mode, tenant: None, record: None, transcribe: None, language: None, engine: None, label: None }
    }

    /// Read the arguments as a StasisStart event carries them: `["tap", "tenant=acme"]`. Empty ones (a comma too many)
    /// are passed over.
    ///
    /// # Errors
    /// The first argument that is wrong, with what would be right.
    pub fn parse<S: AsRef<str>>(args: &[S]) -> Result<Self, ArgumentError> {
        let mut args = args.iter().map(|arg| arg.as_ref().trim()).filter(|arg| !arg.is_empty());
        let mut options = match args.next() {
            None => return Err(ArgumentError::NoMode),
            Some("answer") => Self::new(Mode::Answer),
            Some("tap") => Self::new(Mode::Tap),
            Some(other) => return Err(ArgumentError::UnknownMode { found: other.into() }),
        };
        for arg in args {
            let (key, value) =
                arg.split_once('=').ok_or_else(|| ArgumentError::NoValue { found: arg.into() })?;
            let (key, value) = (key.trim(), value.trim());
            match key {
                "tenant" => set(&mut options.tenant, key, value, is_valid_name, TENANT, str::to_owned)?,
                "record" => set(&mut options.record, key, value, is_yes_no, YES_NO, |v| v == "yes")?,
                "transcribe" => set(&mut options.transcribe, key, value, is_yes_no, YES_NO, |v| v == "yes")?,
                "language" => set(&mut options.language, key, value, is_language, LANGUAGE, str::to_owned)?,
                "engine" => set(&mut options.engine, key, value, is_engine, ENGINE, str::to_owned)?,
                "label" => set(&mut options.label, key, value, is_label, LABEL, str::to_owned)?,
                _ => return Err(ArgumentError::UnknownKey { found: key.into() }),
            }
        }
        Ok(options)
    }
}

/// Why the arguments of `Stasis()` are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// `Stasis(sidetone)` alone.
    #[error("no mode given: Stasis(sidetone,MODE) takes answer or tap")]
    NoMode,
    /// The first argument is no mode.
    #[error("unknown mode `{found}`: answer or tap")]
    UnknownMode {
        /// What stands there.
        found: String,
    },
    /// An argument after the mode without `=`.
    #[error(
        "`{found}` is not key=value: tenant, record, transcribe, language, engine or label, then =, then its value"
    )]
    NoValue {
        /// What stands there.
        found: String,
    },
    /// A key that we do not know.
    #[error("unknown argument `{found}`: tenant, record, transcribe, language, engine or label")]
    UnknownKey {
        /// What stands there.
        found: String,
    },
    /// A value that its key does not take.
    #[error("`{key}={found}`: {key} takes {allowed}")]
    BadValue {
        /// The key.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The same key twice.
    #[error("`{key}` is given twice")]
    Duplicate {
        /// The key.
        key: String,
    },
}

const TENANT: &str = "1 to 64 letters, digits, _ or -, the first a letter or digit";
const YES_NO: &str = "yes or no";
const LANGUAGE: &str = "auto or a language tag such as en or pt-BR";
const ENGINE: &str = "whisper or riva";
const LABEL: &str = "at most 128 characters, none of them a control character";

fn is_yes_no(value: &str) -> bool {
    matches!(value, "yes" | "no")
}

fn is_language(value: &str) -> bool {
    (2..=16).contains(&value.len())
        && value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_engine(value: &str) -> bool {
    (1..=32).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn is_label(value: &str) -> bool {
    !value.is_empty() && value.chars().count() <= 128 && !value.chars().any(char::is_control)
}

fn set<T>(
    slot: &mut Option<T>,
    key: &str,
    value: &str,
    fits: fn(&str) -> bool,
    allowed: &'static str,
    read: impl FnOnce(&str) -> T,
) -> Result<(), ArgumentError> {
    if slot.is_some() {
        return Err(ArgumentError::Duplicate { key: key.into() });
    }
    if !fits(value) {
        return Err(ArgumentError::BadValue { key: key.into(), found: value.into(), allowed });
    }
    *slot = Some(read(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_are_understood() {
        let args = [
            "tap",
            "tenant=acme",
            "record=no",
            " transcribe = yes ",
            "language=pt-BR",
            "engine=riva",
            "label=queue 7, night",
            "",
        ];
        let options = CallOptions::parse(&args).unwrap();
        assert_eq!(options.mode, Mode::Tap);
        assert_eq!(options.tenant.as_deref(), Some("acme"));
        assert_eq!((options.record, options.transcribe), (Some(false), Some(true)));
        assert_eq!(options.language.as_deref(), Some("pt-BR"));
        assert_eq!(options.engine.as_deref(), Some("riva"));
        assert_eq!(options.label.as_deref(), Some("queue 7, night"));
    }

    #[test]
    fn the_mode_alone_leaves_the_rest_to_the_configuration() {
        assert_eq!(CallOptions::parse(&["answer"]), Ok(CallOptions::new(Mode::Answer)));
    }

    #[test]
    fn wrong_arguments_are_named_with_what_would_be_right() {
        let refused = |args: &[&str]| CallOptions::parse(args).unwrap_err().to_string();
        assert!(refused(&[]).contains("answer or tap"));
        assert!(refused(&["listen"]).contains("`listen`: answer or tap"));
        assert!(refused(&["tap", "tennant=a"]).contains("`tennant`: tenant, record"));
        assert!(refused(&["tap", "record"]).contains("`record` is not key=value"));
        assert!(refused(&["tap", "record=maybe"]).contains("yes or no"));
        assert!(refused(&["tap", "record=yes", "record=yes"]).contains("twice"));
        for tenant in ["..", "a/b", "", "_a", "-a"] {
            assert!(refused(&["tap", &format!("tenant={tenant}")]).contains("letters"), "{tenant}");
        }
        for engine in ["", "ri va", "riva/../x"] {
            assert!(refused(&["tap", &format!("engine={engine}")]).contains("whisper or riva"), "{engine}");
        }
        assert!(refused(&["tap", "label=a\u{7}b"]).contains("control"));
    }
}
