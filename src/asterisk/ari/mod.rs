//! The Asterisk REST Interface: requests ([`AriClient`]), events ([`connect`]), and who may hold the application
//! ([`ensure_app_is_free`]).
//!
//! What to know before using it, all seen on Asterisk 16.28 and 22.10:
//! - StasisStart of a channel that a request makes can arrive before the reply to that request: choose the id, register
//!   whoever waits for it, then send the request.
//! - Events that happen while the socket is down are gone. After [`AriNotice::Connected`] with `first: false`, list channels
//!   and bridges and compare.
//! - A request that timed out may have been carried out. Ids chosen by us make it safe to undo by `DELETE`.

mod channels;
mod client;
mod error;
mod event;
mod guard;
mod model;
mod path;
mod resources;
mod socket;

pub use channels::{
    ExternalMedia, ExternalMediaReply, HangupReason, Originate, Spy, StreamKind, StreamMedia, Then,
};
pub use client::{AriClient, AriConfig};
pub use error::AriError;
pub use event::AriEvent;
pub use guard::{PROBE_PREFIX, ensure_app_is_free};
pub use model::{
    Application, AsteriskInfo, Bridge, CallerId, Channel, ChannelState, Dialplan, Module, Playback,
};
pub use resources::BridgeKind;
pub use socket::{AriNotice, Disconnect, EventStream, SocketConfig, connect};
