//! The media path, sans-IO: bytes and an instant in, samples and facts out.
//!
//! No socket, file, thread, runtime or clock in here; a test holds that, and clippy bans the clocks. The same code is
//! driven by the receive shards ([`crate::net`]), by `sidetone replay` and by the simulated network of the tests.

pub mod audiosocket;
pub mod chan_websocket;
pub mod clock;
pub mod codec;
pub mod conceal;
pub mod counter;
pub mod dtmf;
mod gap;
mod hold;
pub mod leg;
pub mod pace;
pub mod quality;
pub mod random;
pub mod receiver;
pub mod report;
pub mod resample;
pub mod ring;
pub mod rtcp;
pub mod rtp;
pub mod rtp_send;
pub mod skew;
pub mod slot;
pub mod source;
pub mod statistics;
pub mod stream;
pub mod sync;
pub mod time;
pub mod timeline;
