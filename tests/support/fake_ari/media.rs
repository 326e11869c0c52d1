//! What legs send.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What legs send once something is played to them.
#[derive(Clone, Copy)]
pub(super) struct FakeMedia {
    pub(super) payload_type: u8,
    pub(super) told_address: IpAddr,
}

/// A leg's way out.
pub(super) struct Rtp {
    pub(super) socket: std::net::UdpSocket,
    pub(super) to: SocketAddr,
    pub(super) payload_type: u8,
}

/// A second of it, faster than it would be played.
pub(super) async fn send_rtp(leg: Arc<Rtp>) {
    for sequence in 0..50_u16 {
        let mut packet = vec![0x80, leg.payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.resize(12 + 160, 0xff);
        let _ = leg.socket.send_to(&packet, leg.to);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
