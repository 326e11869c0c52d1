//! The sender: all streams at 50 packets a second, each packet at its time, from one socket.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use sidetone::clock;
use sidetone::media::time::MediaInstant;
use sidetone::net::load::{MAX_BYTES, MAX_STREAMS, Senders};

use crate::Run;
use crate::content::{PACKETS_A_SECOND, SAMPLES, mix, payload};
use crate::line::Fate;

const PACKET_MS: u64 = 1_000 / PACKETS_A_SECOND as u64;
/// Packets wait here for their time, a bucket a millisecond; longer than anything is late.
const WHEEL: usize = 128;
/// A sender that stood still catches up with this much, as a network does that held packets back; what it is late by beyond
/// that stays late.
const MOST_MADE_UP: Duration = Duration::from_millis(100);
const HEADER: usize = 12;
/// RFC 3551: PCMU.
const PAYLOAD_TYPE: u8 = 0;
const MARKER: u8 = 0x80;

struct Stream {
    number: usize,
    target: SocketAddrV4,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    silent: bool,
}

/// A packet under way: what of it is not the same for all of its stream.
struct Waiting {
    /// Its index.
    stream: usize,
    packet: u32,
    sequence: u16,
    marker: u8,
    copies: u8,
}

#[derive(Debug, Default)]
struct Sent {
    packets: u64,
    most_behind: Duration,
    /// What was not made up, in all.
    slipped: Duration,
}

pub fn run(targets: &Path, run: &Run) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(targets).with_context(|| format!("cannot read {}", targets.display()))?;
    let mut streams = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| *line != "-") {
        anyhow::ensure!(number < MAX_STREAMS, "more than {MAX_STREAMS} streams have no addresses");
        let target = line.parse().with_context(|| format!("{} line {}", targets.display(), number + 1))?;
        streams.push(Stream::new(number, target));
    }
    let senders =
        Senders::bind(run.port).with_context(|| format!("cannot send from port {} of 127/8", run.port))?;
    let sent = Sender::new(senders, streams, run).run(clock::now() + Duration::from_millis(100));
    let sent = sent.context("cannot send")?;
    println!(
        "{}",
        json!({
            "packets": sent.packets,
            "most_behind_ms": sent.most_behind.as_secs_f64() * 1e3,
            "slipped_ms": sent.slipped.as_secs_f64() * 1e3,
        })
    );
    Ok(())
}

impl Stream {
    fn new(number: usize, target: SocketAddrV4) -> Self {
        let random = mix(!(number as u64));
        Self {
            number,
            target,
            // Near the end, so that every stream wraps in its first half minute.
            sequence: u16::MAX - (random % 1_000) as u16,
            timestamp: (random >> 16) as u32,
            ssrc: (random >> 32) as u32,
            silent: true,
        }
    }

    /// Write a packet; its length.
    fn write(&self, waiting: &Waiting, bytes: &mut [u8; MAX_BYTES]) -> usize {
        bytes[0] = 0x80;
        bytes[1] = PAYLOAD_TYPE | waiting.marker;
        bytes[2..4].copy_from_slice(&waiting.sequence.to_be_bytes());
        let timestamp = self.timestamp.wrapping_add(waiting.packet * SAMPLES as u32);
        bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
        bytes[8..HEADER].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes[HEADER..HEADER + SAMPLES].copy_from_slice(&payload(self.number, waiting.packet));
        HEADER + SAMPLES
    }
}

struct Sender<'a> {
    senders: Senders,
    streams: Vec<Stream>,
    /// Streams by their turn within a packet time; the legs of a call speak at the same time.
    turns: Vec<Vec<usize>>,
    run: &'a Run,
    wheel: Vec<Vec<Waiting>>,
    sent: Sent,
}

impl<'a> Sender<'a> {
    fn new(senders: Senders, streams: Vec<Stream>, run: &'a Run) -> Self {
        let mut turns = vec![Vec::new(); PACKET_MS as usize];
        for (index, stream) in streams.iter().enumerate() {
            turns[stream.number / 2 % PACKET_MS as usize].push(index);
        }
        let wheel = (0..WHEEL).map(|_| Vec::new()).collect();
        Self { senders, streams, turns, run, wheel, sent: Sent::default() }
    }

    fn run(mut self, begin: MediaInstant) -> std::io::Result<Sent> {
        let last = u64::from(self.run.seconds) * 1_000 + WHEEL as u64;
        let mut begin = begin;
        for ms in 0..last {
            let due = begin + Duration::from_millis(ms);
            let now = clock::now();
            std::thread::sleep(due.saturating_since(now));
            // Who made up for everything would measure how much the peer's socket holds, and who made up for nothing, with one
            // pause after the other, telephones whose clocks run slow by percents.
            let behind = now.saturating_since(due);
            if behind > MOST_MADE_UP {
                let slip = behind - MOST_MADE_UP;
                begin = begin + slip;
                self.sent.slipped += slip;
            }
            self.speak(ms);
            self.post(ms, due)?;
        }
        Ok(self.sent)
    }

    /// What the streams whose turn it is have to say.
    fn speak(&mut self, ms: u64) {
        let packet = (ms / PACKET_MS) as u32;
        if packet >= self.run.seconds * PACKETS_A_SECOND {
            return;
        }
        for &index in &self.turns[(ms % PACKET_MS) as usize] {
            let stream = &mut self.streams[index];
            let (late, copies) = match self.run.line.fate(stream.number, packet, self.run.seconds) {
                Fate::Unspoken => {
                    stream.silent = true;
                    continue;
                }
                Fate::Lost => (Duration::ZERO, 0),
                Fate::Delivered { late, twice } => (late, 1 + u8::from(twice)),
            };
            let marker = if stream.silent { MARKER } else { 0 };
            let bucket = (ms as usize + late.as_millis() as usize) % WHEEL;
            let sequence = stream.sequence;
            self.wheel[bucket].push(Waiting { stream: index, packet, sequence, marker, copies });
            stream.sequence = sequence.wrapping_add(1);
            stream.silent = false;
        }
    }

    fn post(&mut self, ms: u64, due: MediaInstant) -> std::io::Result<()> {
        for waiting in self.wheel[ms as usize % WHEEL].drain(..) {
            let stream = &self.streams[waiting.stream];
            for _ in 0..waiting.copies {
                self.senders.push(stream.number, stream.target, |bytes| stream.write(&waiting, bytes))?;
            }
            self.sent.packets += u64::from(waiting.copies);
        }
        self.senders.flush()?;
        let behind = clock::now().saturating_since(due);
        self.sent.most_behind = self.sent.most_behind.max(behind);
        Ok(())
    }
}
