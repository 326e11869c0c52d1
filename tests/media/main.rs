//! The media path against a simulated network: no socket, no clock, no sleep, the same on every run.

mod content;
mod emulator;
mod model;
mod network;
mod properties;
mod timeline;
