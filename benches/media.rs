//! What a packet costs from datagram to ring, and a slot from ring to reader. A leg sends 50 packets a second, so a core
//! carries 20 ms / (time a packet) legs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::codec::{Codec, Decoder, Encoder};
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::resample::Resampler;
use sidetone::media::ring::{SlotRead, ring};
use sidetone::media::rtp::RtpPacket;
use sidetone::media::slot::SlotState;
use sidetone::media::time::{MediaInstant, SampleRate};

const PTIME: Duration = Duration::from_millis(20);
const RATES: [SampleRate; 3] = [SampleRate::NARROWBAND, SampleRate::WIDEBAND, SampleRate::FULLBAND];

/// A sender whose packets are made in place.
struct Stream {
    datagram: Vec<u8>,
    n: u32,
    ticks: u32,
}

/// 20 ms of a tone as `codec` has it.
fn payload(codec: Codec) -> Vec<u8> {
    let samples = codec.sample_rate().hz() / 50;
    let pcm: Vec<_> = (0..samples).map(|i| (8_000.0 * (f64::from(i) * 0.3).sin()) as i16).collect();
    let mut payload = Vec::new();
    Encoder::new(codec).unwrap().encode(&pcm, &mut payload).unwrap();
    payload
}

impl Stream {
    fn new(codec: Codec) -> Self {
        let mut datagram = vec![0x80, codec.payload_type(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        datagram.extend(payload(codec));
        Self { datagram, n: 0, ticks: codec.rtp_clock_rate() / 50 }
    }

    fn next(&mut self) -> (MediaInstant, &[u8]) {
        self.datagram[2..4].copy_from_slice(&(self.n as u16).to_be_bytes());
        self.datagram[4..8].copy_from_slice(&(self.n.wrapping_mul(self.ticks)).to_be_bytes());
        self.n += 1;
        (MediaInstant::from_nanos(1_000_000_000) + PTIME * self.n, &self.datagram)
    }
}

fn packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    for codec in Codec::ALL {
        let mut stream = Stream::new(codec);
        let clock = Arc::new(CallClock::new(MediaInstant::from_nanos(0), codec.sample_rate(), 1));
        let (mut leg, _ring) = LegReceiver::new(LegConfig::new(codec, clock));
        group.bench_function(codec.name(), |bencher| {
            bencher.iter(|| {
                let (at, datagram) = stream.next();
                black_box(leg.on_packet(at, datagram))
            });
        });
    }
    let stream = Stream::new(Codec::Ulaw);
    group.bench_function("header only", |bencher| {
        bencher.iter(|| black_box(RtpPacket::parse(black_box(&stream.datagram))));
    });
    group.finish();
}

/// Legs that take turns: what a packet needs of its leg has been out of the cache for a while.
const LEGS: usize = 1_000;

/// What a network does to all legs.
#[derive(Clone, Copy)]
struct Line {
    name: &'static str,
    /// Of 100 packets, those lost: the last ones of each ten, one by one.
    lost: u32,
    /// By how much all come later than the first ones.
    late: Duration,
}

const LINES: [Line; 5] = [
    Line { name: "clean", lost: 0, late: Duration::ZERO },
    Line { name: "1 % lost", lost: 1, late: Duration::ZERO },
    Line { name: "10 % lost", lost: 10, late: Duration::ZERO },
    Line { name: "40 % lost", lost: 40, late: Duration::ZERO },
    Line { name: "0.9 s late", lost: 0, late: Duration::from_millis(900) },
];

impl Line {
    fn loses(self, n: u32) -> bool {
        let n = n % 100;
        if self.lost < 10 { n < self.lost } else { n % 10 < self.lost / 10 }
    }
}

/// Many legs on bad lines, packets and ticks as a shard has them. What is measured is a packet that came, with the ticks that
/// its leg got since the one before.
fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet, one of 1,000 legs");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(10)).sample_size(20);
    for line in LINES {
        let clock = Arc::new(CallClock::new(MediaInstant::from_nanos(0), SampleRate::NARROWBAND, 1));
        let config = LegConfig::new(Codec::Ulaw, clock);
        let (mut legs, _rings): (Vec<_>, Vec<_>) =
            (0..LEGS).map(|_| LegReceiver::new(config.clone())).unzip();
        let mut stream = Stream::new(Codec::Ulaw);
        let mut round = || {
            let n = stream.n;
            let (sent, datagram) = stream.next();
            // The first 15 anchor the leg; then the line is as bad as it is.
            let (late, is_lost) = if n < 15 { (Duration::ZERO, false) } else { (line.late, line.loses(n)) };
            for leg in &mut legs {
                while let Some(due) = leg.next_deadline().filter(|&due| due < sent + late) {
                    leg.on_tick(due);
                    leg.take_events().for_each(drop);
                }
                if !is_lost {
                    black_box(leg.on_packet(sent + late, datagram));
                    leg.take_events().for_each(drop);
                }
            }
            if is_lost { 0 } else { LEGS as u64 }
        };
        (0..200).for_each(|_| {
            round();
        });
        group.bench_function(line.name, |bencher| {
            bencher.iter_custom(|packets| {
                let begun = clock::now();
                let mut taken = 0;
                while taken < packets {
                    taken += round();
                }
                clock::since(begun).mul_f64(packets as f64 / taken as f64)
            });
        });
    }
    group.finish();
}

/// 20 ms of each codec, without the way to it.
fn decoders(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for codec in Codec::ALL {
        let payload = payload(codec);
        let mut decoder = Decoder::new(codec).unwrap();
        let mut pcm = vec![0; codec.sample_rate().hz() as usize / 50];
        group.bench_function(codec.name(), |bencher| {
            bencher.iter(|| black_box(decoder.decode(black_box(&payload), &mut pcm)));
        });
    }
    group.finish();
}

/// Into a ring of ten seconds, as many as `rtp.ring_seconds` is unless it is set.
fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring write, 20 ms");
    group.throughput(Throughput::Elements(1));
    for rate in RATES {
        let (mut writer, _shared) = ring(rate, 1_000);
        let pcm: Vec<_> = (0..2 * rate.slot_samples()).map(|i| i as i16).collect();
        let mut at = 0;
        group.bench_function(format!("{} Hz", rate.hz()), |bencher| {
            bencher.iter(|| {
                let pcm = black_box(&pcm);
                let placed = writer.place(at, pcm.len(), |i| pcm[i], SlotState::Lost);
                at += pcm.len() as u64;
                black_box(placed)
            });
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring read, a slot");
    group.throughput(Throughput::Elements(1));
    for rate in RATES {
        let (mut writer, shared) = ring(rate, 1_024);
        let len = rate.slot_samples();
        writer.place(0, len * 1_023, |i| i as i16, SlotState::Lost);
        let first = shared.reader();
        let mut reader = first.clone();
        let mut pcm = vec![0; len];
        group.bench_function(format!("{} Hz", rate.hz()), |bencher| {
            bencher.iter(|| {
                let read = reader.read_slot(0, black_box(&mut pcm));
                if read == SlotRead::Pending {
                    reader = first.clone();
                }
                black_box(read)
            });
        });
    }
    group.finish();
}

/// 20 ms at a time, as a stream.
fn resamplers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resample, 20 ms");
    group.throughput(Throughput::Elements(1));
    for (from, to) in
        [(8_000, SampleRate::WIDEBAND), (16_000, SampleRate::NARROWBAND), (48_000, SampleRate::WIDEBAND)]
    {
        let input: Vec<_> = (0..from / 50).map(|i| 0.3 * (f64::from(i) * 0.3).sin() as f32).collect();
        let mut resampler = Resampler::between(from, to).unwrap();
        let mut output = Vec::with_capacity(2 * to.hz() as usize / 50);
        group.bench_function(format!("{from} to {} Hz", to.hz()), |bencher| {
            bencher.iter(|| {
                output.clear();
                resampler.push(black_box(&input), &mut output);
                black_box(output.last().copied())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, packets, lines, decoders, writes, reads, resamplers);
criterion_main!(benches);
