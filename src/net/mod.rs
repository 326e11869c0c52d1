//! Sockets: where media comes in. The only `unsafe` of the house.
//!
//! [`plane`] is what the rest of the house uses: receive threads ("shards") with one UDP socket each, to which legs are
//! attached by the address their sender has, and from which [`voice`]s are sent. [`stream`] does the same for transports over TCP. [`capture`] reads the same
//! datagrams from a pcap or pcapng file; [`load`] sends them, for measurements.

pub mod capture;
mod cpus;
mod hold;
mod leg;
pub mod load;
pub mod plane;
mod route;
mod rtcp;
mod shard;
mod socket;
pub mod stream;
mod sys;
mod table;
pub mod voice;
mod wheel;

pub use socket::NetError;
