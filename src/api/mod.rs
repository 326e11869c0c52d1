//! HTTP and WebSocket: what users see of calls.
//!
//! Handlers translate: they find the call that the caller may see, read what [`crate::calls`] has, and answer. They
//! own no state but open sockets.

mod access;
mod auth;
mod calls;
mod events;
mod health;
mod jobs;
mod listen;
mod live;
mod observe;
mod page;
mod play;
mod problem;
mod recording;
mod server;
mod speech;
mod state;
mod transcript;
mod transcriptions;
mod unread;
mod vosk;
mod ws;

pub use auth::{Auth, BindRefused, KeyError, check_bind};
pub use jobs::{CallsApi, JobsApi};
pub use listen::{Control as ListenControl, ListenOptions};
pub use live::{LivePolicy, LiveSpeech};
pub use problem::Problem;
pub use server::{ServeError, bind, bind_vosk, router, serve, serve_vosk};
pub use state::{AppState, SocketPolicy};
pub use transcriptions::{TranscriptionPolicy, Transcriptions};
pub use vosk::{Config as VoskConfig, Message as VoskMessage};
