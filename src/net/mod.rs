//! Sockets: where media comes in. The only `unsafe` of the house.
//!
//! [`plane`] is what the rest of the house uses: receive threads ("shards") with one UDP socket each, to which legs are
//! attached by the address their sender has. [`stream`] does the same for transports over TCP. [`capture`] reads the same datagrams from a pcap or pcapng file.

pub mod capture;
mod hold;
mod leg;
pub mod plane;
mod shard;
mod socket;
pub mod stream;
mod sys;
mod table;

pub use socket::NetError;
