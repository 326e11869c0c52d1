//! What the tests of the RTP plane share.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::net::{SocketAddr, UdpSocket};

use std::sync::Arc;

use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::ring::Ring;
use sidetone::media::time::SampleRate;

/// A receiver of mu-law on a clock that starts now, and its ring.
pub fn receiver_and_ring() -> (LegReceiver, Arc<Ring>) {
    let clock = Arc::new(CallClock::new(clock::now(), SampleRate::NARROWBAND, 1));
    LegReceiver::new(LegConfig::new(Codec::Ulaw, clock))
}

/// A receiver of mu-law whose audio nobody hears.
pub fn receiver() -> LegReceiver {
    receiver_and_ring().0
}

/// Sends one RTP stream to a port of this machine.
pub struct RtpSender {
    socket: UdpSocket,
    sequence: u16,
    timestamp: u32,
}

impl RtpSender {
    /// A stream to 127.0.0.1 `port`.
    pub fn new(port: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        Self { socket, sequence: 65_500, timestamp: 1_000 }
    }

    /// Where it sends from.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// The next packet: 20 ms of mu-law.
    pub fn send(&mut self) {
        self.send_of(160);
    }

    /// The next packet, of `samples` of mu-law.
    pub fn send_of(&mut self, samples: u32) {
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(u32::from(self.address().port()).to_be_bytes());
        packet.resize(12 + samples as usize, 0xff);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(samples);
        self.send_bytes(&packet);
    }

    /// The next packet gets lost.
    pub fn lose(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    /// Any bytes.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send(bytes).unwrap();
    }
}
