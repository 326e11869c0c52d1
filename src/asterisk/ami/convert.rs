//! Files converted by Asterisk itself, with the codecs that it has: `file convert`.

use std::path::Path;
use std::time::Duration;

use super::{AmiAction, AmiClient, AmiError};

/// Asterisk did not convert a file.
#[derive(Debug, thiserror::Error)]
pub enum FileConvertError {
    /// A path that its command line cannot be given.
    #[error(
        "{0:?} cannot be told to Asterisk: use an absolute path of UTF-8 without quotes, backslashes and control characters"
    )]
    Path(String),
    /// The action failed.
    #[error(transparent)]
    Ami(#[from] AmiError),
    /// Asterisk says why.
    #[error(
        "Asterisk did not convert it: {0} (files must be readable and writable for Asterisk's user, on its machine)"
    )]
    Refused(String),
}

/// Have Asterisk convert `input` to `output`; both lie on Asterisk's machine, and their extensions tell what they are (`.WAV` for
/// GSM in WAV). It works in one thread of its own and holds up nothing else; the answer comes when it is done.
///
/// # Errors
/// [`FileConvertError`].
pub async fn file_convert(
    client: &AmiClient,
    input: &Path,
    output: &Path,
) -> Result<Duration, FileConvertError> {
    let command = format!("file convert {} {}", quoted(input)?, quoted(output)?);
    let response = match client.send(AmiAction::new("Command").with("Command", command)).await {
        Err(AmiError::Refused { message, .. }) if message != "Permission denied" => {
            return Err(FileConvertError::Refused(message));
        }
        other => other?,
    };
    let said: Vec<&str> = response.output().map(str::trim).filter(|line| !line.is_empty()).collect();
    // "Converted IN to OUT in 12ms"; whatever else it says is a complaint.
    said.iter()
        .find(|line| line.starts_with("Converted "))
        .and_then(|line| line.rsplit(' ').next()?.strip_suffix("ms")?.parse().ok())
        .map(Duration::from_millis)
        .ok_or_else(|| FileConvertError::Refused(said.join(" ")))
}

fn quoted(path: &Path) -> Result<String, FileConvertError> {
    let good =
        |text: &&str| path.is_absolute() && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'));
    match path.to_str().filter(good) {
        Some(text) => Ok(format!("\"{text}\"")),
        None => Err(FileConvertError::Path(path.to_string_lossy().into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_the_command_or_refused() {
        assert_eq!(quoted(Path::new("/var/spool/a b.gsm")).unwrap(), "\"/var/spool/a b.gsm\"");
        for bad in ["a.gsm", "/a\" core stop now", "/a\\", "/a\nb"] {
            assert!(matches!(quoted(Path::new(bad)), Err(FileConvertError::Path(_))), "{bad}");
        }
    }
}
