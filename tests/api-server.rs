//! The HTTP and WebSocket server as its users see it: a real one on a port of its own, spoken to over TCP.

#[path = "api-server/access.rs"]
mod access;
#[path = "api-server/events.rs"]
mod events;
#[path = "api-server/files.rs"]
mod files;
#[cfg(feature = "embedded-model")]
#[path = "api-server/full.rs"]
mod full;
#[cfg(feature = "embedded-model")]
#[path = "api-server/listen.rs"]
mod listen;
#[cfg(feature = "embedded-model")]
#[path = "api-server/live.rs"]
mod live;
#[cfg(feature = "embedded-model")]
#[path = "speech-support/slowed.rs"]
mod slowed;
#[path = "api-server/speech.rs"]
mod speech;
#[path = "api-server/subscribers.rs"]
mod subscribers;
#[path = "api-server/support.rs"]
mod support;
#[cfg(feature = "embedded-model")]
#[path = "api-server/transcriptions.rs"]
mod transcriptions;
#[cfg(feature = "embedded-model")]
#[path = "api-server/vosk.rs"]
mod vosk;
#[path = "api-server/watch.rs"]
mod watch;
