//! What is sent, as Deepgram writes it.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::live::plain;
use crate::speech::event;

/// Which channel, of how many.
pub(super) type ChannelIndex = [usize; 2];

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// Words.
    Results(Results),
    /// Someone began to speak.
    SpeechStarted {
        /// Where.
        channel: ChannelIndex,
        /// When: seconds of audio.
        timestamp: f64,
    },
    /// Nobody has said anything for the time that was asked for.
    UtteranceEnd {
        /// Where.
        channel: ChannelIndex,
        /// Seconds of audio.
        last_word_end: f64,
    },
}

/// A stretch of speech and its words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Results {
    pub(super) channel: ChannelIndex,
    /// Seconds of audio.
    pub(super) start: f64,
    pub(super) end: f64,
    /// Nothing about them changes any more.
    pub(super) is_final: bool,
    /// The speaker is done.
    pub(super) speech_final: bool,
    pub(super) from_finalize: bool,
    pub(super) transcript: String,
    pub(super) confidence: f64,
    pub(super) words: Vec<event::Word>,
}

#[derive(Serialize)]
struct Word<'a> {
    word: String,
    start: f64,
    end: f64,
    confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    punctuated_word: Option<&'a str>,
}

/// The parts that all messages of a stream have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) request_id: String,
    pub(super) model: String,
    pub(super) punctuated: bool,
}

impl Shape {
    pub(super) fn reply(&self, reply: &Reply) -> String {
        match reply {
            Reply::Results(results) => self.results(results),
            Reply::SpeechStarted { channel, timestamp } => {
                json!({ "type": "SpeechStarted", "channel": channel, "timestamp": timestamp }).to_string()
            }
            Reply::UtteranceEnd { channel, last_word_end } => {
                json!({ "type": "UtteranceEnd", "channel": channel, "last_word_end": last_word_end })
                    .to_string()
            }
        }
    }

    fn results(&self, results: &Results) -> String {
        let words = results.words.iter().map(|said| Word {
            word: plain(&said.text),
            start: said.start,
            end: said.end,
            confidence: said.confidence,
            punctuated_word: self.punctuated.then_some(said.text.as_str()),
        });
        let words: Vec<Word<'_>> = words.collect();
        json!({
            "type": "Results",
            "channel_index": results.channel,
            "duration": event::to_millis((results.end - results.start).max(0.0)),
            "start": results.start,
            "is_final": results.is_final,
            "speech_final": results.speech_final,
            "from_finalize": results.from_finalize,
            "channel": { "alternatives": [
                { "transcript": results.transcript, "confidence": results.confidence, "words": words },
            ] },
            "metadata": {
                "request_id": self.request_id,
                "model_info": self.model_info(),
                "model_uuid": self.model_uuid(),
            },
        })
        .to_string()
    }

    /// The last message.
    pub(super) fn metadata(&self, created: &str, seconds: f64, channels: usize, digest: &str) -> String {
        let uuid = self.model_uuid();
        json!({
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self.request_id,
            "sha256": digest,
            "created": created,
            "duration": event::to_millis(seconds),
            "channels": channels,
            "models": [uuid],
            "model_info": { uuid.clone(): self.model_info() },
        })
        .to_string()
    }

    /// A message that was not understood.
    pub(super) fn schema_error(description: &str, message: &str) -> String {
        // Enough to know it by.
        let shown: String = message.chars().take(200).collect();
        json!({ "type": "Error", "variant": "SchemaError", "description": description, "message": shown })
            .to_string()
    }

    /// Audio that is none.
    pub(super) fn data_error(description: &str) -> String {
        json!({ "type": "Error", "variant": "DataError", "code": "DATA-0000", "description": description })
            .to_string()
    }

    pub(super) fn configure_failure(&self) -> String {
        json!({
            "type": "ConfigureFailure",
            "request_id": self.request_id,
            "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
            "description": "Words to lean on are given when the stream is opened (keyterm), and stay.",
        })
        .to_string()
    }

    fn model_info(&self) -> Value {
        json!({ "name": self.model, "version": env!("CARGO_PKG_VERSION"), "arch": "whisper" })
    }

    /// The same for the same model, everywhere.
    fn model_uuid(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.model.as_bytes()).into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}
