//! Media over TCP: AudioSocket, and chan_websocket in both directions. A task a leg reads its connection, and writes to it
//! every 20 ms; a peer that is slow or dead costs nobody else anything.
//!
//! Tell who is to come ([`Doors`]) or where to go ([`connect`]) before Asterisk is asked for the channel, and attach the [`Way`]
//! that results to a leg. The connection is all that the leg has: it is never received from anywhere else.

mod door;
mod leg;
mod link;
mod outlet;
mod voice;
mod websocket;

use std::net::SocketAddr;

pub use door::{DoorSettings, Doors};
pub use leg::StreamLeg;
pub use voice::StreamVoice;
pub use websocket::connect;

use futures_util::future::BoxFuture;
use link::Link;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The port cannot be listened on.
    #[error(
        "cannot listen on {address} ({setting}): {source}; choose a free port of an address of this machine"
    )]
    Bind {
        /// What was to be bound.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Asterisk's media WebSocket could not be opened.
    #[error(
        "cannot open the media WebSocket {url}: {reason}; check that http.conf is on and chan_websocket.so is loaded"
    )]
    Connect {
        /// Where it should be; its last part, which is secret, is left out.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// Nobody listens for this transport.
    #[error("no port is open for {transport}: set media.transport to it and start again")]
    Closed {
        /// The transport.
        transport: &'static str,
    },
    /// The place was given up.
    #[error("the connection is not waited for any more")]
    Withdrawn,
}

/// A connection that is there, or will be: what a leg is received from and sent to.
pub struct Way {
    pub(super) link: BoxFuture<'static, Result<Link, StreamError>>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").finish_non_exhaustive()
    }
}
