//! Senders' addresses as keys of the route table, hashed in a few cycles.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// The address of a sender, an IPv4 one mapped into IPv6. In bytes, so that a table's place for one is 24 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    ip: [u8; 16],
    port: u16,
}

impl From<SocketAddr> for Sender {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: address.port() }
    }
}

impl Hash for Sender {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ip = u128::from_be_bytes(self.ip);
        state.write_u64((ip >> 64) as u64 ^ u64::from(self.port).rotate_left(48));
        state.write_u64(ip as u64);
    }
}

/// Folded multiplication. Not keyed: the table holds only addresses that Asterisk named, so that no stranger can fill it
/// with ones that collide, and a lookup of any other ends at the first empty place.
#[derive(Default)]
pub(super) struct FoldHasher(u64);

pub(super) type BuildFoldHasher = BuildHasherDefault<FoldHasher>;

impl Hasher for FoldHasher {
    fn write_u64(&mut self, word: u64) {
        // 2^64 / golden ratio, odd.
        let product = u128::from(self.0.rotate_left(23) ^ word ^ 0x9e37_79b9_7f4a_7c15)
            * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    fn hash(ip: [u8; 4], port: u16) -> u64 {
        BuildFoldHasher::default().hash_one(Sender::from(SocketAddr::from((ip, port))))
    }

    #[test]
    fn an_ipv4_address_and_its_mapping_are_one_sender() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:4000".parse().unwrap();
        assert_eq!(Sender::from(mapped), Sender::from(SocketAddr::from(([10, 0, 0, 1], 4000))));
        assert_ne!(Sender::from(mapped), Sender::from(SocketAddr::from(([10, 0, 0, 1], 4002))));
    }

    /// hashbrown takes the place from the low bits and a tag from the top seven.
    #[test]
    fn the_ports_of_one_asterisk_spread_over_places_and_tags() {
        let hashes: Vec<_> = (10_000..20_000).step_by(2).map(|port| hash([192, 0, 2, 7], port)).collect();
        let places: HashSet<_> = hashes.iter().map(|hash| hash % 8_192).collect();
        // 5,000 thrown at random into 8,192 places hit about 3,740 of them.
        assert!(places.len() > 3_500, "{}", places.len());
        assert_eq!(hashes.iter().map(|hash| hash >> 57).collect::<HashSet<_>>().len(), 128);
    }

    #[test]
    fn all_of_an_ipv6_address_counts() {
        let hashes: HashSet<_> = (0..128)
            .map(|bit| Sender { ip: (1_u128 << bit).to_be_bytes(), port: 7 })
            .map(|sender| BuildFoldHasher::default().hash_one(sender))
            .collect();
        assert_eq!(hashes.len(), 128);
    }
}
