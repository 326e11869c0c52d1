//! What Asterisk can be told.

use serde_json::json;

use super::{Form, MAX_COMMAND};

/// Something to tell Asterisk over a media WebSocket. All are case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Answer the channel, where that was not done by connecting (`n`).
    Answer,
    /// Play again, after [`Command::PauseMedia`].
    ContinueMedia,
    /// Drop all media that waits to be played. Marks and completions that are outstanding are dropped too, without a word,
    /// and a pause goes on: say [`Command::ContinueMedia`] after it.
    FlushMedia,
    /// Ask for [`super::Event::Status`].
    GetStatus,
    /// Hang the channel up.
    Hangup,
    /// Ask for [`super::Event::MarkProcessed`] once what was sent so far has been played.
    MarkMedia {
        /// Comes back with the event.
        correlation_id: &'a str,
    },
    /// Play silence; media that comes is kept.
    PauseMedia,
    /// Ask for [`super::Event::QueueDrained`] once nothing is left to play.
    ReportQueueDrained,
    /// Choose which way media flows; JSON only, since Asterisk 20.19, 22.9 and 23.3.
    SetMediaDirection(Direction),
    /// From now on messages may be of any size: Asterisk joins them and cuts them into frames.
    StartMediaBuffering,
    /// The end of that; what is left over is filled up with silence and played.
    StopMediaBuffering {
        /// Comes back with [`super::Event::BufferingCompleted`]; may be empty.
        correlation_id: &'a str,
    },
}

/// Which way media flows, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Both,
    /// Only from Asterisk.
    In,
    /// Only to Asterisk.
    Out,
}

/// A command that Asterisk would drop, having only logged it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such command in plain text.
    #[error("{command} exists in JSON only: make the channel with `f(json)`")]
    JsonOnly {
        /// The command.
        command: &'static str,
    },
    /// Too long.
    #[error(
        "{command} would have {length} bytes, and Asterisk drops more than 128: use a shorter correlation id"
    )]
    TooLong {
        /// The command.
        command: &'static str,
        /// Its length.
        length: usize,
    },
}

impl Command<'_> {
    /// Asterisk's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answer => "ANSWER",
            Self::ContinueMedia => "CONTINUE_MEDIA",
            Self::FlushMedia => "FLUSH_MEDIA",
            Self::GetStatus => "GET_STATUS",
            Self::Hangup => "HANGUP",
            Self::MarkMedia { .. } => "MARK_MEDIA",
            Self::PauseMedia => "PAUSE_MEDIA",
            Self::ReportQueueDrained => "REPORT_QUEUE_DRAINED",
            Self::SetMediaDirection(_) => "SET_MEDIA_DIRECTION",
            Self::StartMediaBuffering => "START_MEDIA_BUFFERING",
            Self::StopMediaBuffering { .. } => "STOP_MEDIA_BUFFERING",
        }
    }

    /// The text message.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn encode(self, form: Form) -> Result<String, CommandError> {
        let command = self.name();
        let argument = match self {
            Self::MarkMedia { correlation_id } | Self::StopMediaBuffering { correlation_id } => {
                Some(("correlation_id", correlation_id)).filter(|(_, id)| !id.is_empty())
            }
            Self::SetMediaDirection(direction) => Some((
                "direction",
                match direction {
                    Direction::Both => "both",
                    Direction::In => "in",
                    Direction::Out => "out",
                },
            )),
            _ => None,
        };
        let text = match (form, argument) {
            (Form::Json, None) => json!({ "command": command }).to_string(),
            (Form::Json, Some((name, value))) => json!({ "command": command, name: value }).to_string(),
            (Form::Plain, _) if matches!(self, Self::SetMediaDirection(_)) => {
                return Err(CommandError::JsonOnly { command });
            }
            (Form::Plain, None) => command.to_owned(),
            (Form::Plain, Some((_, value))) => format!("{command} {value}"),
        };
        match text.len() {
            length if length > MAX_COMMAND => Err(CommandError::TooLong { command, length }),
            _ => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_asterisk_reads_them() {
        let mark = Command::MarkMedia { correlation_id: "a 1" };
        assert_eq!(mark.encode(Form::Plain).unwrap(), "MARK_MEDIA a 1");
        assert_eq!(mark.encode(Form::Json).unwrap(), r#"{"command":"MARK_MEDIA","correlation_id":"a 1"}"#);
        let stop = Command::StopMediaBuffering { correlation_id: "" };
        assert_eq!(stop.encode(Form::Plain).unwrap(), "STOP_MEDIA_BUFFERING");
        assert_eq!(Command::Hangup.encode(Form::Json).unwrap(), r#"{"command":"HANGUP"}"#);
        let direction = Command::SetMediaDirection(Direction::In);
        assert_eq!(
            direction.encode(Form::Json).unwrap(),
            r#"{"command":"SET_MEDIA_DIRECTION","direction":"in"}"#
        );
    }

    #[test]
    fn what_asterisk_would_drop_is_refused() {
        let long = "x".repeat(120);
        let error = Command::MarkMedia { correlation_id: &long }.encode(Form::Plain).unwrap_err();
        assert!(error.to_string().contains("MARK_MEDIA would have 131 bytes"), "{error}");
        let error = Command::SetMediaDirection(Direction::Both).encode(Form::Plain).unwrap_err();
        assert!(error.to_string().contains("f(json)"), "{error}");
    }
}
