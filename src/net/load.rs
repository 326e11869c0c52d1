//! A load generator: many streams of RTP from this machine to itself, paced as phones are.
//!
//! Legs are told apart by their senders' addresses, so each stream has one: of 127.0.0.0/8 all addresses are this machine's,
//! and a datagram's source is chosen as it is sent. One socket and one thread do for all. [`Load`] sends the same payload
//! over and over; [`Senders`] sends what it is given.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::sys::{SEND_SLOT, SendBatch};
use crate::clock;

/// A packet of each stream this often.
pub const PACKET_TIME: Duration = Duration::from_millis(20);
/// Streams at most: 127.1.0.0 to 127.255.255.255, less the broadcast address.
pub const MAX_STREAMS: usize = (255 << 16) - 1;
/// Bytes of a datagram at most.
pub const MAX_BYTES: usize = SEND_SLOT;
/// Streams take their turns spread over the packet time in so many steps, a millisecond each.
const STEPS: usize = 20;
/// Ticks of the timestamp in a packet: 20 ms at 8 kHz.
const TICKS: u32 = 160;
/// RTP's header without extensions.
const HEADER: usize = 12;

/// Many senders in one socket. Datagrams are collected and sent many at a time.
pub struct Senders {
    socket: UdpSocket,
    batch: SendBatch,
}

impl Senders {
    /// Senders whose port is `port`, or one that is free if that is 0.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(port: u16) -> io::Result<Self> {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).map(Self::of)
    }

    fn of(socket: UdpSocket) -> Self {
        Self { socket, batch: SendBatch::new() }
    }

    /// Have sender `n`, below [`MAX_STREAMS`], send a datagram to `to`, whose bytes `fill` writes and counts. It leaves with the batch that it fills,
    /// or with [`flush`](Self::flush).
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush).
    pub fn push(
        &mut self,
        n: usize,
        to: SocketAddrV4,
        fill: impl FnOnce(&mut [u8; MAX_BYTES]) -> usize,
    ) -> io::Result<()> {
        self.batch.push(address_of(n), to, fill);
        if self.batch.is_full() { self.flush() } else { Ok(()) }
    }

    /// Send all that was pushed. Whether anybody listens there is not found out.
    ///
    /// # Errors
    /// The system's; what had not been sent yet is discarded.
    pub fn flush(&mut self) -> io::Result<()> {
        self.batch.send(self.socket.as_fd())
    }
}

/// Where sender `n`, below [`MAX_STREAMS`], sends from if its port is `port`.
pub fn source(n: usize, port: u16) -> SocketAddr {
    SocketAddrV4::new(address_of(n), port).into()
}

fn address_of(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x7f01_0000 + n as u32)
}

/// The senders' socket, and the addresses that streams will have.
#[derive(Debug)]
pub struct Load {
    socket: UdpSocket,
    port: u16,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets of each stream.
    pub rounds: u64,
    /// By how much the sender was behind its timetable at most.
    pub behind: Duration,
}

impl Load {
    /// A socket to send from.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, port })
    }

    /// Where stream `n` comes from.
    pub fn source(&self, n: usize) -> SocketAddr {
        source(n, self.port)
    }

    /// Send a stream of `payload` to each of `to`, until stopped; at most [`MAX_STREAMS`], with payloads of up to 500 bytes.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(self, to: Vec<SocketAddrV4>, payload: Vec<u8>) -> io::Result<RunningLoad> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let body = move || send_all(Senders::of(self.socket), &to, &payload, &stopped);
        let thread = std::thread::Builder::new().name("load".into()).spawn(body)?;
        Ok(RunningLoad { stop, thread })
    }
}

/// A load under way. It ends with [`RunningLoad::stop`].
#[derive(Debug)]
pub struct RunningLoad {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Sent>>,
}

impl RunningLoad {
    /// End after the round under way: every stream has sent as many packets.
    ///
    /// # Errors
    /// Sending failed, which ended it before.
    pub fn stop(self) -> io::Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the load generator panicked")))
    }
}

fn send_all(
    mut senders: Senders,
    to: &[SocketAddrV4],
    payload: &[u8],
    stop: &AtomicBool,
) -> io::Result<Sent> {
    let begun = clock::now();
    let mut sent = Sent::default();
    while !stop.load(Ordering::Relaxed) {
        for step in 0..STEPS {
            let due = begun + PACKET_TIME * sent.rounds as u32 + PACKET_TIME * step as u32 / STEPS as u32;
            let now = clock::now();
            sent.behind = sent.behind.max(now.saturating_since(due));
            std::thread::sleep(due.saturating_since(now));
            let turn = to.len() * step / STEPS..to.len() * (step + 1) / STEPS;
            for (n, &to) in turn.clone().zip(&to[turn]) {
                senders.push(n, to, |bytes| packet(bytes, n as u32, sent.rounds as u32, payload))?;
            }
            senders.flush()?;
        }
        sent.rounds += 1;
    }
    Ok(sent)
}

/// Packet `round` of stream `ssrc`, G.711 µ-law; its length.
fn packet(bytes: &mut [u8; MAX_BYTES], ssrc: u32, round: u32, payload: &[u8]) -> usize {
    bytes[0] = 0x80;
    bytes[1] = 0;
    bytes[2..4].copy_from_slice(&(round as u16).to_be_bytes());
    bytes[4..8].copy_from_slice(&round.wrapping_mul(TICKS).to_be_bytes());
    bytes[8..HEADER].copy_from_slice(&ssrc.to_be_bytes());
    let length = payload.len().min(MAX_BYTES - HEADER);
    bytes[HEADER..HEADER + length].copy_from_slice(&payload[..length]);
    HEADER + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_sends_as_many_packets_from_an_address_of_its_own() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("an IPv4 address was bound") };
        let load = Load::new().unwrap();
        let sources: Vec<SocketAddr> = (0..7).map(|n| load.source(n)).collect();
        let running = load.start(vec![to; 7], vec![0x55; 160]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let sent = running.stop().unwrap();
        let mut next = [0_u16; 7];
        let mut bytes = [0; 2_000];
        while let Ok((len, from)) = receiver.recv_from(&mut bytes) {
            let n = sources.iter().position(|&source| source == from).unwrap();
            assert_eq!((len, &bytes[..2]), (172, &[0x80, 0][..]));
            assert_eq!(bytes[2..4], next[n].to_be_bytes());
            assert_eq!(bytes[8..12], (n as u32).to_be_bytes());
            next[n] += 1;
            if next.iter().all(|&n| u64::from(n) == sent.rounds) {
                break;
            }
        }
        assert!(sent.rounds > 0);
        assert_eq!(next, [sent.rounds as u16; 7]);
    }
}
