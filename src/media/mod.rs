//! The media path, sans-IO: bytes and an instant in, samples and facts out.
//!
//! No socket, file, thread, runtime or clock in here; a test holds that, and clippy bans the clocks. The same code is
//! driven by the receive shards ([`crate::net`]), by `sidetone replay` and by the simulated network of the tests.

pub mod clock;
pub mod leg;
pub mod report;
pub mod ring;
pub mod slot;
pub mod sync;
pub mod time;
