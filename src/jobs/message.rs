//! What producers write: JSON of the shapes that DESIGN §7 names, and those of older producers.
//!
//! What is not such a message never becomes one: it is refused with the reason. Fields that are not known are left alone, since
//! producers have some of their own.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calls::record::is_valid_name;
use crate::store::jobs::{JobKind, Priority};

/// A message as it was meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id, where the producer gave one.
    pub id: Option<Arc<str>>,
    /// Who goes first.
    pub priority: Priority,
    /// Where the result is POSTed to.
    pub webhook: Option<String>,
    /// What its handler reads.
    pub payload: Value,
}

/// Why a message is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Too long to be one.
    #[error("{0} bytes are too many for a message: 1 MiB is the most")]
    TooLong(usize),
    /// Not JSON, or not of the fields and types of its kind.
    #[error("not the JSON of a {kind} job: {reason}")]
    Shape {
        /// Of which kind it should be.
        kind: JobKind,
        /// What is wrong.
        reason: String,
    },
    /// An id that cannot be one.
    #[error("`id` has 1 to 64 letters, digits, `-` and `_`, the first a letter or digit")]
    Id,
    /// A webhook that cannot be one.
    #[error("`webhook` is an http:// or https:// URL of at most 2,048 characters")]
    Webhook,
}

/// Longest message.
pub const MOST_BYTES: usize = 1 << 20;
const MOST_URL: usize = 2_048;

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    priority: Option<Urgency>,
    #[serde(default)]
    webhook: Option<String>,
}

/// Producers count, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Urgency {
    Low,
    Normal,
    High,
    Urgent,
}

/// A file to be converted. Without `format` the kind is told by the output's extension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConversionAsked {
    /// What to convert; seed producers write `gsm_path`.
    #[serde(alias = "gsm_path")]
    pub input: PathBuf,
    /// What to write; seed producers write `wav_path`.
    #[serde(alias = "wav_path")]
    pub output: PathBuf,
    /// Kind to write, as an extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Samples a second, where the kind has a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

/// A text to be spoken to whoever answers a telephone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TtsAsked {
    /// What to say.
    pub text: String,
    /// Whom to call, as people write numbers.
    pub phone_number: String,
    /// Language; else the one of `tts.language`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The engine's voice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    /// How fast, 1 being usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
}

impl Message {
    /// Read one about `kind`.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn parse(kind: JobKind, body: &[u8]) -> Result<Self, BadMessage> {
        if body.len() > MOST_BYTES {
            return Err(BadMessage::TooLong(body.len()));
        }
        let shape = |error: serde_json::Error| BadMessage::Shape { kind, reason: error.to_string() };
        let value: Value = serde_json::from_slice(body).map_err(shape)?;
        Self::of_value(kind, value)
    }

    /// From JSON that is parsed already.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn of_value(kind: JobKind, value: Value) -> Result<Self, BadMessage> {
        let shape = |error: serde_json::Error| BadMessage::Shape { kind, reason: error.to_string() };
        let envelope = Envelope::deserialize(&value).map_err(shape)?;
        let id = match envelope.id {
            None => None,
            Some(Id::Number(number)) => Some(number.to_string()),
            Some(Id::Text(text)) => Some(text),
        };
        if id.as_deref().is_some_and(|id| !is_valid_name(id)) {
            return Err(BadMessage::Id);
        }
        if envelope.webhook.as_deref().is_some_and(|url| !is_web_url(url)) {
            return Err(BadMessage::Webhook);
        }
        let payload = match kind {
            JobKind::Conversion => {
                serde_json::to_value(ConversionAsked::deserialize(&value).map_err(shape)?).map_err(shape)?
            }
            JobKind::TtsCall => {
                serde_json::to_value(TtsAsked::deserialize(&value).map_err(shape)?).map_err(shape)?
            }
            JobKind::Transcription => value,
        };
        let priority = match envelope.priority {
            Some(Urgency::High | Urgency::Urgent) => Priority::High,
            Some(Urgency::Low | Urgency::Normal) | None => Priority::Normal,
        };
        Ok(Self { id: id.map(Into::into), priority, webhook: envelope.webhook, payload })
    }
}

fn is_web_url(url: &str) -> bool {
    url.len() <= MOST_URL
        && reqwest::Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_fields_that_are_not_known_are_kept_as_they_read_back() {
        // Beyond 64 bits, and fractions of which the nearest double has more digits.
        for number in ["444444442224444444222", "1.2345678901234567e-7", "0.1", "9007199254740993.5"] {
            let body = format!("{{\"weight\": {number}}}");
            let message = Message::parse(JobKind::Transcription, body.as_bytes()).unwrap();
            let again = Message::parse(JobKind::Transcription, message.payload.to_string().as_bytes());
            assert_eq!(again.map(|again| again.payload), Ok(message.payload), "{number}");
        }
    }
}
