//! Real calls on a real Asterisk, heard by the real binary. One binary, so that it is linked once.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "../support/mod.rs"]
mod support;

mod audio;
mod bad_input;
mod calls;
mod catch_up;
mod check;
mod crash;
mod detection;
mod disk;
mod formats;
#[cfg(feature = "riva")]
mod riva;
mod streams;
mod transports;
mod voice;
mod wire;
