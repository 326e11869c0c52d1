//! What a packet costs from datagram to ring, and a slot from ring to reader. A leg sends 50 packets a second, so a core
//! carries 20 ms / (time a packet) legs.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::ring::{SlotRead, ring};
use sidetone::media::rtp::RtpPacket;
use sidetone::media::slot::SlotState;
use sidetone::media::time::{MediaInstant, SampleRate};

const PTIME: Duration = Duration::from_millis(20);

/// A sender whose packets are made in place.
struct Stream {
    datagram: Vec<u8>,
    n: u32,
    samples: u32,
}

impl Stream {
    fn new(codec: Codec) -> Self {
        let samples = codec.sample_rate().hz() / 50;
        let mut datagram = vec![0x80, codec.payload_type(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        codec.encode(&vec![1_234; samples as usize], &mut datagram);
        Self { datagram, n: 0, samples }
    }

    fn next(&mut self) -> (MediaInstant, &[u8]) {
        self.datagram[2..4].copy_from_slice(&(self.n as u16).to_be_bytes());
        self.datagram[4..8].copy_from_slice(&(self.n.wrapping_mul(self.samples)).to_be_bytes());
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

fn slots(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot");
    group.throughput(Throughput::Elements(1));
    for rate in [SampleRate::NARROWBAND, SampleRate::WIDEBAND] {
        let (mut writer, shared) = ring(rate, 1_024);
        let len = rate.slot_samples();
        writer.place(0, len * 1_023, |i| i as i16, SlotState::Lost);
        let first = shared.reader();
        let mut reader = first.clone();
        let mut pcm = vec![0; len];
        group.bench_function(format!("read at {} Hz", rate.hz()), |bencher| {
            bencher.iter(|| {
                if reader.read_slot(0, &mut pcm) == SlotRead::Pending {
                    reader = first.clone();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, packets, slots);
criterion_main!(benches);
