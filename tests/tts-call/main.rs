//! Text-to-speech calls on real Asterisks: placed, followed to their end, and told of, whatever is cut in between.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "../real/audio.rs"]
#[allow(dead_code, reason = "a part of it")]
mod audio;
mod desk;
mod outcomes;
mod restarts;
mod sip;
#[path = "../support/mod.rs"]
mod support;
