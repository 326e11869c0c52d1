//! What Asterisk tells.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Something that Asterisk tells over a media WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `MEDIA_BUFFERING_COMPLETED`: what was sent between START_ and STOP_MEDIA_BUFFERING has been played.
    BufferingCompleted {
        /// As given with STOP_MEDIA_BUFFERING; empty if none was.
        correlation_id: String,
    },
    /// `DTMF_END`: a key was pressed. How long is not told.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
    },
    /// `ERROR`: a command was refused.
    Error {
        /// Asterisk's words.
        text: String,
    },
    /// `MEDIA_MARK_PROCESSED`: all media sent before MARK_MEDIA has been played.
    MarkProcessed {
        /// As given with MARK_MEDIA; empty if none was.
        correlation_id: String,
    },
    /// `MEDIA_START`: the connection has its channel. Media may come before it (asterisk#1712).
    MediaStart(MediaStart),
    /// `QUEUE_DRAINED`: nothing is left to play; told once for each REPORT_QUEUE_DRAINED.
    QueueDrained,
    /// `STATUS`: answers GET_STATUS.
    Status(Status),
    /// An event that is not known here, by its name: later Asterisks may have more.
    Unknown {
        /// Its name.
        name: String,
    },
    /// `MEDIA_XOFF`: send no more media until `MEDIA_XON`.
    Xoff,
    /// `MEDIA_XON`: media may be sent again.
    Xon,
}

/// What `MEDIA_START` says. Texts that are not told are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaStart {
    /// Id of the connection: the last part of the path that was connected to, or the client's name in websocket_client.conf.
    pub connection_id: String,
    /// Name of the channel.
    pub channel: String,
    /// Its id, since Asterisk 20.17, 22.7 and 23.1.
    pub channel_id: String,
    /// Asterisk's name of the media's format.
    pub format: String,
    /// Bytes of one frame: messages that are no whole number of these lose their end, unless media is being buffered. 0 if
    /// it is not told.
    pub optimal_frame_size: u32,
    /// Milliseconds of one frame; 0 if it is not told.
    pub ptime_ms: u32,
}

/// What `STATUS` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Frames that wait to be played.
    pub queue_length: u32,
    /// Below so many, `MEDIA_XON` is said.
    pub xon_level: u32,
    /// From so many on, `MEDIA_XOFF`.
    pub xoff_level: u32,
    /// `MEDIA_XOFF` was said last.
    pub queue_full: bool,
    /// Media is being buffered.
    pub bulk_media: bool,
    /// PAUSE_MEDIA was said last.
    pub media_paused: bool,
}

/// A text message that is none of chan_websocket's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Neither JSON with an `event`, nor a line that begins with a name.
    #[error(
        "{start:?} is no message of chan_websocket's: only Asterisk may be at the other end of a media WebSocket"
    )]
    Shape {
        /// How it begins.
        start: String,
    },
    /// An event that lacks what it is about.
    #[error(
        "{event} without a usable `{field}`: this Asterisk writes it in a way that is not known here; use RTP, and report it"
    )]
    Field {
        /// The event.
        event: &'static str,
        /// What it lacks.
        field: &'static str,
    },
}

/// The values of an event, by name, however it was written.
enum Fields<'a> {
    Json(Map<String, Value>),
    Plain { pairs: HashMap<&'a str, &'a str>, rest: &'a str },
}

impl Event {
    /// Read a text message, of either form.
    ///
    /// # Errors
    /// [`EventError`].
    pub fn parse(text: &str) -> Result<Self, EventError> {
        let text = text.trim();
        let shape = || EventError::Shape { start: text.chars().take(64).collect() };
        if text.starts_with('{') {
            let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return Err(shape()) };
            let Some(name) = fields.get("event").and_then(Value::as_str).map(str::to_owned) else {
                return Err(shape());
            };
            return Self::read(&name, &Fields::Json(fields));
        }
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            return Err(shape());
        }
        let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once(':')).collect();
        Self::read(name, &Fields::Plain { pairs, rest: rest.trim() })
    }

    fn read(name: &str, fields: &Fields<'_>) -> Result<Self, EventError> {
        Ok(match name {
            "DTMF_END" => {
                let digit = fields.text("digit");
                let mut chars = digit.chars();
                match (chars.next(), chars.next()) {
                    (Some(digit), None) => Self::Dtmf { digit },
                    _ => return Err(EventError::Field { event: "DTMF_END", field: "digit" }),
                }
            }
            "ERROR" => Self::Error { text: fields.words("error_text") },
            "MEDIA_BUFFERING_COMPLETED" => Self::BufferingCompleted { correlation_id: fields.correlation() },
            "MEDIA_MARK_PROCESSED" => Self::MarkProcessed { correlation_id: fields.correlation() },
            "MEDIA_START" => Self::MediaStart(MediaStart {
                connection_id: fields.text("connection_id"),
                channel: fields.text("channel"),
                channel_id: fields.text("channel_id"),
                format: fields.text("format"),
                optimal_frame_size: fields.number("optimal_frame_size"),
                ptime_ms: fields.number("ptime"),
            }),
            "MEDIA_XOFF" => Self::Xoff,
            "MEDIA_XON" => Self::Xon,
            "QUEUE_DRAINED" => Self::QueueDrained,
            "STATUS" => Self::Status(Status {
                queue_length: fields.number("queue_length"),
                xon_level: fields.number("xon_level"),
                xoff_level: fields.number("xoff_level"),
                queue_full: fields.flag("queue_full"),
                bulk_media: fields.flag("bulk_media"),
                media_paused: fields.flag("media_paused"),
            }),
            _ => Self::Unknown { name: name.chars().take(64).collect() },
        })
    }
}

impl Fields<'_> {
    fn text(&self, name: &str) -> String {
        match self {
            Self::Json(map) => map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned(),
            Self::Plain { pairs, .. } => pairs.get(name).copied().unwrap_or_default().to_owned(),
        }
    }

    /// Text that may have blanks in it: in the plain form it goes to the end of the line.
    fn words(&self, name: &str) -> String {
        match self {
            Self::Json(_) => self.text(name),
            Self::Plain { rest, .. } => {
                let found = rest.split_once(&format!("{name}:")).map(|(_, words)| words);
                found.unwrap_or(rest).trim().to_owned()
            }
        }
    }

    /// In the plain form the id stands behind the event without a name.
    fn correlation(&self) -> String {
        match self {
            Self::Json(_) => self.text("correlation_id"),
            Self::Plain { rest, .. } => rest.strip_prefix("correlation_id:").unwrap_or(rest).to_owned(),
        }
    }

    fn number(&self, name: &str) -> u32 {
        match self {
            Self::Json(map) => {
                let number = map.get(name).and_then(Value::as_u64);
                number.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
            }
            Self::Plain { .. } => self.text(name).parse().unwrap_or(0),
        }
    }

    fn flag(&self, name: &str) -> bool {
        match self {
            Self::Json(map) => map.get(name).and_then(Value::as_bool).unwrap_or(false),
            Self::Plain { .. } => matches!(&*self.text(name), "true" | "1" | "yes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_event_mean_the_same() {
        let id = || "7".to_owned();
        for (plain, json, expected) in [
            ("MEDIA_XOFF", r#"{"event":"MEDIA_XOFF","channel_id":"c"}"#, Event::Xoff),
            ("MEDIA_XON channel_id:c", r#"{"event":"MEDIA_XON"}"#, Event::Xon),
            ("QUEUE_DRAINED", r#"{"event":"QUEUE_DRAINED","channel_id":"c"}"#, Event::QueueDrained),
            (
                "DTMF_END digit:# channel_id:c",
                r##"{"event":"DTMF_END","channel_id":"c","digit":"#"}"##,
                Event::Dtmf { digit: '#' },
            ),
            (
                "MEDIA_MARK_PROCESSED 7",
                r#"{"event":"MEDIA_MARK_PROCESSED","channel_id":"c","correlation_id":"7"}"#,
                Event::MarkProcessed { correlation_id: id() },
            ),
            (
                "MEDIA_BUFFERING_COMPLETED 7",
                r#"{"event":"MEDIA_BUFFERING_COMPLETED","channel_id":"c","correlation_id":"7"}"#,
                Event::BufferingCompleted { correlation_id: id() },
            ),
            (
                "ERROR channel_id:c error_text:MARK_MEDIA not supported in passthrough mode",
                r#"{"event":"ERROR","channel_id":"c","error_text":"MARK_MEDIA not supported in passthrough mode"}"#,
                Event::Error { text: "MARK_MEDIA not supported in passthrough mode".into() },
            ),
            (
                "STATUS channel_id:c queue_length:43 xon_level:800 xoff_level:900 queue_full:false bulk_media:true \
                 media_paused:false",
                r#"{"event":"STATUS","channel_id":"c","queue_length":43,"xon_level":800,"xoff_level":900,"queue_full":false,"bulk_media":true,"media_paused":false}"#,
                Event::Status(Status {
                    queue_length: 43,
                    xon_level: 800,
                    xoff_level: 900,
                    bulk_media: true,
                    ..Status::default()
                }),
            ),
            (
                "MEDIA_START connection_id:abc channel:WebSocket/INCOMING/0x7f channel_id:c format:slin16 \
                 optimal_frame_size:640 ptime:20",
                r#"{"event":"MEDIA_START","connection_id":"abc","channel":"WebSocket/INCOMING/0x7f","channel_id":"c","format":"slin16","optimal_frame_size":640,"ptime":20,"channel_variables":{}}"#,
                Event::MediaStart(MediaStart {
                    connection_id: "abc".into(),
                    channel: "WebSocket/INCOMING/0x7f".into(),
                    channel_id: "c".into(),
                    format: "slin16".into(),
                    optimal_frame_size: 640,
                    ptime_ms: 20,
                }),
            ),
            (
                "NEW_THING a:b",
                r#"{"event":"NEW_THING","a":"b"}"#,
                Event::Unknown { name: "NEW_THING".into() },
            ),
        ] {
            assert_eq!(Event::parse(plain), Ok(expected.clone()), "{plain}");
            assert_eq!(Event::parse(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_words() {
        for text in
            ["", "hello", "{}", "{\"event\":3}", "{\"event\":\"X\"", "[1]", "<html>", "Get / HTTP/1.1", "é"]
        {
            let error = Event::parse(text).unwrap_err();
            assert!(error.to_string().contains("no message of chan_websocket's"), "{text}: {error}");
        }
        let error = Event::parse("DTMF_END channel_id:c").unwrap_err().to_string();
        assert!(error.contains("DTMF_END") && error.contains("`digit`"), "{error}");
        let long = "x".repeat(10_000);
        assert!(Event::parse(&long).unwrap_err().to_string().len() < 300);
    }
}
