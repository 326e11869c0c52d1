//! The text messages of chan_websocket, Asterisk's channel driver for media over WebSocket: what it tells, and what it can
//! be told. Binary messages are media as it is.
//!
//! There are two forms, chosen when the channel is made: plain text (`EVENT key:value …`), and JSON (`f(json)`, since Asterisk
//! 20.18, 22.8 and 23.2). Source: Asterisk's `chan_websocket.c` and
//! <https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/>.

mod command;
mod event;

pub use command::{Command, CommandError, Direction};
pub use event::{Event, EventError, MediaStart, Status};

/// The WebSocket sub-protocol of media.
pub const SUBPROTOCOL: &str = "media";
/// Longest message that Asterisk takes from us, bytes; it closes the connection (1009) at a longer one.
pub const MAX_MESSAGE: usize = 65_500;
/// Longest text that Asterisk takes from us, bytes; it drops a longer one and only logs that.
pub const MAX_COMMAND: usize = 128;
/// Frames that Asterisk queues before it says `MEDIA_XOFF`.
pub const XOFF_FRAMES: usize = 900;
/// Frames below which it says `MEDIA_XON` again.
pub const XON_FRAMES: usize = 800;
/// Frames that it queues at all: of a message that comes when so many wait, nothing is played.
pub const MAX_FRAMES: usize = 1_000;

/// How the two sides write their text messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON objects: `f(json)`.
    Json,
    /// The command, a space, its argument. What Asterisk does unless told otherwise.
    Plain,
}
