//! A network emulator: senders, what lies between, and a reference to hold a receiver against. Sans-IO, like
//! [`crate::media`], which it exercises: time is a number, chance has a seed, and the same run comes out the same for ever.
//!
//! Every sample that a [`Sender`] speaks has a value of its own, made from the moment at which it was spoken; so what comes
//! out of a recording says where it belongs. The [`Network`] loses, delays, reorders, copies and breaks what was sent. A
//! [`Line`] hands what is left to a [`LegReceiver`](crate::media::receiver::LegReceiver), with a recorder and a live reader
//! at its side; the [`Reception`] that comes of it is compared with one big array into which every packet is written at its
//! RTP position. A [`Scenario`] is all of that in one small value, drawn from a seed or from a fuzzer's bytes, and made
//! smaller while it still fails.
//!
//! ```
//! use sidetone::emulator::{Network, Reception, Sender};
//! use sidetone::media::codec::Codec;
//!
//! let mut sender = Sender::new(Codec::Ulaw);
//! sender.talk(2_000).rest(700).packet(true).talk(1_000);
//! let mut network = Network { jitter: sidetone::emulator::Jitter::Uniform(30_000_000), ..Network::perfect() };
//! let reception = Reception::of(sender.codec, network.carry(&sender.wire), sender.nanos_of(sender.now));
//! reception.compare().expect("the recording agrees with the array");
//! ```

mod chance;
mod line;
mod network;
mod reference;
mod scenario;
mod sender;
pub mod voice;

pub use chance::{Bytes, Choice, Rng};
pub use line::{Line, Listener, Reception};
pub use network::{Jitter, Loss, Network, Stop};
pub use reference::Disagreement;
pub use scenario::{Act, Scenario};
pub use sender::{Content, Datagram, Sender, Sent};

use crate::media::time::MediaInstant;

/// Nanoseconds of the emulation's zero on the media clock.
pub const EPOCH: u64 = 1_000_000_000_000;

/// A millisecond in the emulation's unit.
pub const MS: u64 = 1_000_000;

/// The media instant `nanos` into the emulation.
pub fn instant(nanos: u64) -> MediaInstant {
    MediaInstant::from_nanos(EPOCH + nanos)
}
