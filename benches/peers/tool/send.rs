//! The sender: all streams at 50 packets a second, each packet at its time.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use sidetone::clock;
use sidetone::media::time::MediaInstant;
use socket2::{Domain, Protocol, Socket, Type};

use crate::content::{PACKETS_A_SECOND, SAMPLES, mix, payload};
use crate::line::Fate;
use crate::{Run, source};

const PACKET_MS: u64 = 1_000 / PACKETS_A_SECOND as u64;
/// Packets wait here for their time, a bucket a millisecond; longer than anything is late.
const WHEEL: usize = 128;
/// What is late by more than this stays late.
const MOST_MADE_UP: Duration = Duration::from_millis(10);
const HEADER: usize = 12;
/// What peers send back is not read: let little of it lie about.
const RECEIVE_BUFFER: usize = 4 << 10;
/// RFC 3551: PCMU.
const PAYLOAD_TYPE: u8 = 0;
const MARKER: u8 = 0x80;

struct Stream {
    number: usize,
    socket: UdpSocket,
    target: SocketAddr,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    silent: bool,
}

#[derive(Debug, Default)]
struct Sent {
    packets: u64,
    refused: u64,
    most_behind: Duration,
    behind_10ms: u64,
}

pub fn run(targets: &Path, run: &Run, threads: usize) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(targets).with_context(|| format!("cannot read {}", targets.display()))?;
    let mut shares: Vec<Vec<Stream>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| *line != "-") {
        let target = line.parse().with_context(|| format!("{} line {}", targets.display(), number + 1))?;
        shares[number / 2 % threads.max(1)].push(Stream::new(number, target, run.port)?);
    }
    let begin = clock::now() + Duration::from_millis(100);
    let sent: Vec<Sent> = std::thread::scope(|scope| {
        let running: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || Sender::new(share, run).run(begin))).collect();
        running.into_iter().map(|thread| thread.join().expect("a sending thread")).collect()
    });
    let total = sent.iter().fold(Sent::default(), |sum, one| Sent {
        packets: sum.packets + one.packets,
        refused: sum.refused + one.refused,
        most_behind: sum.most_behind.max(one.most_behind),
        behind_10ms: sum.behind_10ms + one.behind_10ms,
    });
    println!(
        "{}",
        json!({
            "packets": total.packets,
            "refused": total.refused,
            "most_behind_ms": total.most_behind.as_secs_f64() * 1e3,
            "packets_10ms_behind": total.behind_10ms,
        })
    );
    Ok(())
}

impl Stream {
    fn new(number: usize, target: SocketAddr, port: u16) -> anyhow::Result<Self> {
        let from = source(number, port);
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&from.into()).with_context(|| format!("cannot send from {from}"))?;
        // So that the route is looked up once, not for every packet.
        socket.connect(&target.into()).with_context(|| format!("cannot send to {target}"))?;
        let random = mix(!(number as u64));
        Ok(Self {
            number,
            socket: socket.into(),
            target,
            // Near the end, so that every stream wraps in its first half minute.
            sequence: u16::MAX - (random % 1_000) as u16,
            timestamp: (random >> 16) as u32,
            ssrc: (random >> 32) as u32,
            silent: true,
        })
    }

    fn packet(&mut self, packet: u32) -> [u8; HEADER + SAMPLES] {
        let mut bytes = [0; HEADER + SAMPLES];
        bytes[0] = 0x80;
        bytes[1] = PAYLOAD_TYPE | if self.silent { MARKER } else { 0 };
        bytes[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        let timestamp = self.timestamp.wrapping_add(packet * SAMPLES as u32);
        bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes[HEADER..].copy_from_slice(&payload(self.number, packet));
        bytes
    }
}

struct Waiting {
    stream: usize,
    bytes: [u8; HEADER + SAMPLES],
    copies: u8,
}

struct Sender<'a> {
    streams: Vec<Stream>,
    run: &'a Run,
    wheel: Vec<Vec<Waiting>>,
    sent: Sent,
}

impl<'a> Sender<'a> {
    fn new(streams: Vec<Stream>, run: &'a Run) -> Self {
        Self { streams, run, wheel: (0..WHEEL).map(|_| Vec::new()).collect(), sent: Sent::default() }
    }

    fn run(mut self, begin: MediaInstant) -> Sent {
        let last = u64::from(self.run.seconds) * 1_000 + WHEEL as u64;
        let mut begin = begin;
        for ms in 0..last {
            let due = begin + Duration::from_millis(ms);
            let now = clock::now();
            std::thread::sleep(due.saturating_since(now));
            // Telephones do not make up for lost time: whoever stood still goes on at the same pace, or else measures how
            // much the peer's socket holds.
            let behind = now.saturating_since(due);
            if behind > MOST_MADE_UP {
                begin = begin + (behind - MOST_MADE_UP);
            }
            self.speak(ms);
            self.post(ms, due);
        }
        self.sent
    }

    /// What the streams whose turn it is have to say; the legs of a call speak at the same time.
    fn speak(&mut self, ms: u64) {
        let packet = (ms / PACKET_MS) as u32;
        if packet >= self.run.seconds * PACKETS_A_SECOND {
            return;
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if (stream.number / 2) as u64 % PACKET_MS != ms % PACKET_MS {
                continue;
            }
            let (late, copies) = match self.run.line.fate(stream.number, packet, self.run.seconds) {
                Fate::Unspoken => {
                    stream.silent = true;
                    continue;
                }
                Fate::Lost => (Duration::ZERO, 0),
                Fate::Delivered { late, twice } => (late, 1 + u8::from(twice)),
            };
            let bytes = stream.packet(packet);
            stream.sequence = stream.sequence.wrapping_add(1);
            stream.silent = false;
            let bucket = (ms as usize + late.as_millis() as usize) % WHEEL;
            self.wheel[bucket].push(Waiting { stream: index, bytes, copies });
        }
    }

    fn post(&mut self, ms: u64, due: MediaInstant) {
        for Waiting { stream, bytes, copies } in self.wheel[ms as usize % WHEEL].drain(..) {
            let Stream { socket, target, .. } = &self.streams[stream];
            for _ in 0..copies {
                match socket.send(&bytes) {
                    Ok(_) => self.sent.packets += 1,
                    // Nobody listens there (any more): a fact about the peer, and counted.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.sent.refused += 1,
                    Err(error) => panic!("cannot send to {target}: {error}"),
                }
            }
        }
        let behind = clock::now().saturating_since(due);
        self.sent.most_behind = self.sent.most_behind.max(behind);
        self.sent.behind_10ms += u64::from(behind > Duration::from_millis(10));
    }
}
