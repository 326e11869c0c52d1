//! The media path against the network emulator: no socket, no clock, no sleep, the same on every run.

mod acceptance;
mod content;
mod network;
mod properties;
mod restart;
mod runs;
mod tape;
mod timeline;
