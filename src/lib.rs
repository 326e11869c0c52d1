//! Sidetone: a real-time media server beside Asterisk. See ARCHITECTURE.md for the packet's way through these modules.

pub mod api;
pub mod asterisk;
pub mod audio;
pub mod calls;
pub mod cause;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod emulator;
pub mod files;
pub mod jobs;
pub mod media;
pub mod net;
pub mod recording;
pub mod speech;
pub mod store;
pub mod telemetry;
pub mod tls;
