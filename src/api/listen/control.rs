//! What a client of `/v1/listen` says besides audio.

use serde::Deserialize;

/// Characters of what was sent that a refusal repeats: enough to know it by.
const MOST_SHOWN: usize = 100;

/// A text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It is still there, though it has nothing to say.
    KeepAlive,
    /// It wants the finals of all that it sent, of one channel or of all.
    Finalize {
        /// Which; from 0.
        channel: Option<usize>,
    },
    /// It wants the finals of all that it sent, and is done.
    CloseStream,
    /// It wants other words to be leant on from now on.
    Configure,
}

#[derive(Deserialize)]
struct Message {
    r#type: String,
    channel: Option<usize>,
}

impl Control {
    /// From the text, for a stream of `channels`.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client.
    pub fn parse(text: &str, channels: usize) -> Result<Self, String> {
        const KNOWN: &str =
            "send {\"type\":\"KeepAlive\"}, Finalize or CloseStream as text, and audio in binary messages";
        let message: Message = serde_json::from_str(text)
            // Some errors have all of what was sent in them.
            .map_err(|error| {
                let shown: String = error.to_string().chars().take(MOST_SHOWN).collect();
                format!("the text message is none that is known ({shown}): {KNOWN}")
            })?;
        match message.r#type.as_str() {
            "KeepAlive" => Ok(Self::KeepAlive),
            "Finalize" => match message.channel {
                Some(channel) if channel >= channels => Err(format!(
                    "there is no channel {channel}: they are numbered from 0 to {}",
                    channels.saturating_sub(1)
                )),
                channel => Ok(Self::Finalize { channel }),
            },
            // What older clients call it.
            "CloseStream" | "Close" => Ok(Self::CloseStream),
            "Configure" => Ok(Self::Configure),
            other => {
                let shown: String = other.chars().take(MOST_SHOWN).collect();
                Err(format!("`type` is `{shown}`: {KNOWN}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_and_others_are_named() {
        let parse = |text| Control::parse(text, 2);
        assert_eq!(parse(r#"{"type":"KeepAlive"}"#), Ok(Control::KeepAlive));
        assert_eq!(parse(r#"{"type":"Finalize"}"#), Ok(Control::Finalize { channel: None }));
        assert_eq!(parse(r#"{"type":"Finalize","channel":1}"#), Ok(Control::Finalize { channel: Some(1) }));
        assert_eq!(parse(r#"{ "channel": null, "type": "CloseStream" }"#), Ok(Control::CloseStream));
        assert!(parse(r#"{"type":"Finalize","channel":2}"#).unwrap_err().contains("channel 2"));
        assert!(parse(r#"{"type":"Hello"}"#).unwrap_err().contains("Hello"));
        for bad in ["", "{", "[]", "{}", r#"{"type":1}"#, r#"{"type":"Finalize","channel":-1}"#, "KeepAlive"]
        {
            assert!(parse(bad).unwrap_err().contains("KeepAlive"), "{bad}");
        }
    }

    #[test]
    fn a_refusal_is_short_however_long_the_message_is() {
        let long = "x".repeat(100_000);
        for message in [format!("\"{long}\""), format!("{{\"type\":\"{long}\"}}"), long] {
            let words = Control::parse(&message, 1).unwrap_err();
            assert!(words.len() < 400 && words.contains("KeepAlive"), "{words}");
        }
    }
}
