//! The call: its states, legs, ids, events, and its way through the parts.

pub mod adoption;
pub mod catch_up;
pub mod control;
pub mod directory;
pub mod event;
mod finish;
pub mod fitness;
pub mod hub;
pub mod ids;
pub mod machine;
mod media;
pub mod mode;
pub mod overload;
mod playlist;
pub mod record;
mod recover;
pub mod server;
pub mod services;
mod session;
pub mod sessions;
pub mod speech;
mod sweep;
mod table;
pub mod transcript;
mod translate;
pub mod transport;
mod voice;
