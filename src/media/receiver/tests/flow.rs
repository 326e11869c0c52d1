//! Packets that come as expected take a shorter way: nobody can tell.

use std::sync::Arc;
use std::time::Duration;

use super::{LegConfig, LegReceiver};
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::ring::{RingReader, SlotRead};
use crate::media::time::MediaInstant;

const SEEDS: u64 = 500;
const PACKETS: u64 = 400;

struct Random(u64);

impl Random {
    /// Below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Datagrams and when they come, milliseconds after the call's start; the seed tells how bad the sender and the network are.
fn arrivals(codec: Codec, seed: u64) -> Vec<(u64, Vec<u8>)> {
    let mut random = Random(seed);
    let rarity = [8, 30, 150, 1_000_000][seed as usize % 4];
    let jitter = [1, 1, 30, 90][seed as usize / 4 % 4];
    let per_ms = codec.sample_rate().hz() / 1_000;
    let (mut number, mut timestamp, mut ssrc, mut at, mut ptime) =
        (65_400_u16, 3_u32 << 30, 7_u32, 1_000, 20_u32);
    let mut arrivals = Vec::new();
    for _ in 0..PACKETS {
        let mut kind = codec.payload_type();
        if random.one_in(rarity) {
            match random.below(10) {
                0 => kind = 13,
                1 => kind = 101,
                2 => kind = 77,
                3 => ssrc += 1,
                4 => timestamp = timestamp.wrapping_add(per_ms * 7_000),
                5 => number = number.wrapping_add(5_000),
                6 => ptime = [10, 15, 20, 30, 60][random.below(5) as usize],
                // A pause in which nothing is sent.
                7 => (at, timestamp) = (at + 900, timestamp.wrapping_add(per_ms * 900)),
                // One in which the network holds everything back.
                8 => at += 300,
                _ => at += 3_000,
            }
        }
        let mut datagram = vec![0x80, kind, (number >> 8) as u8, number as u8];
        datagram.extend(timestamp.to_be_bytes().into_iter().chain(ssrc.to_be_bytes()));
        let bytes = match kind {
            13 => 1,
            101 => 4,
            _ => codec.payload_bytes((ptime * per_ms) as usize),
        };
        datagram.extend((0..bytes).map(|_| random.below(256) as u8));
        if !random.one_in(rarity) {
            arrivals.push((at + random.below(jitter), datagram.clone()));
        }
        if random.one_in(rarity) {
            arrivals.push((at + random.below(200), datagram));
        }
        number = number.wrapping_add(1);
        timestamp = timestamp.wrapping_add(ptime * per_ms);
        at += u64::from(ptime);
    }
    arrivals.sort_by_key(|(at, _)| *at);
    arrivals
}

fn slots(reader: &mut RingReader) -> Vec<(SlotRead, Vec<i16>)> {
    let mut pcm = vec![0; reader.ring().slot_samples()];
    let read = || {
        let read = reader.read_slot(0, &mut pcm);
        (!matches!(read, SlotRead::Pending | SlotRead::End)).then(|| (read, pcm.clone()))
    };
    std::iter::from_fn(read).collect()
}

/// Both ways, packet by packet: outcome, ring, events and figures.
#[test]
fn expected_packets_and_all_others_have_one_outcome() {
    let mut expected = 0;
    for seed in 0..SEEDS {
        let codec = Codec::STATELESS[seed as usize % Codec::STATELESS.len()];
        let (repair_window, conceal) = (Duration::from_millis(1_000 + seed % 5 * 500), seed % 3 > 0);
        let leg = || {
            let clock = Arc::new(CallClock::new(MediaInstant::default(), codec.sample_rate(), 1));
            LegReceiver::new(LegConfig { repair_window, conceal, ..LegConfig::new(codec, clock) })
        };
        let ((mut short, ring), (mut long, other)) = (leg(), leg());
        let (mut heard, mut others) = (ring.reader(), other.reader());
        let mut now = MediaInstant::default();
        for (ms, datagram) in arrivals(codec, seed) {
            // Ticks come in time for both, as a shard's do.
            let arrival = MediaInstant::from_nanos(ms * 1_000_000);
            while let Some(due) = long.next_deadline().filter(|due| *due < arrival) {
                now = now.max(due);
                short.on_tick(now);
                long.on_tick(now);
            }
            let outcome = short.on_packet(arrival, &datagram);
            expected += u64::from(short.is_flowing());
            assert_eq!(outcome, long.on_other_packet(arrival, &datagram), "seed {seed} at {ms} ms");
            assert_eq!(slots(&mut heard), slots(&mut others), "seed {seed} at {ms} ms");
            let events = |leg: &mut LegReceiver| leg.take_events().collect::<Vec<_>>();
            assert_eq!(events(&mut short), events(&mut long), "seed {seed} at {ms} ms");
        }
        assert_eq!(short.reception(), long.reception(), "seed {seed}");
        let end = now + Duration::from_secs(2);
        assert_eq!(short.finish(end), long.finish(end), "seed {seed}");
        assert_eq!(slots(&mut heard), slots(&mut others), "seed {seed}");
    }
    let share = expected as f64 / (SEEDS * PACKETS) as f64;
    assert!((0.3..0.95).contains(&share), "{share} of the packets came as expected");
}

/// What is lost takes the long way a few times, however many legs there are and whatever is lost besides: the packet after it,
/// then concealment, the news of it, and the end of its watch.
#[test]
fn a_loss_takes_five_packets_the_long_way_at_most() {
    for (lost, of) in [(1, 100), (1, 10), (2, 10)] {
        let clock = Arc::new(CallClock::new(MediaInstant::default(), Codec::Ulaw.sample_rate(), 1));
        let (mut leg, _ring) = LegReceiver::new(LegConfig::new(Codec::Ulaw, clock));
        let (mut long, mut gaps) = (0, 0);
        for n in 0..2_000_u32 {
            gaps += usize::from(n > 20 && n % of == 0);
            if n > 20 && n % of < lost {
                continue;
            }
            let mut datagram = vec![0x80, 0, (n >> 8) as u8, n as u8];
            datagram.extend((160 * n).to_be_bytes());
            datagram.extend([0, 0, 0, 7]);
            datagram.resize(172, 0x55);
            let arrival = MediaInstant::from_nanos(1_000_000_000 + u64::from(n) * 20_000_000);
            while let Some(due) = leg.next_deadline().filter(|due| *due < arrival) {
                leg.on_tick(due);
            }
            leg.on_packet(arrival, &datagram);
            long += usize::from(!leg.is_flowing());
        }
        // Before the anchor is known there is no other way.
        assert!(long <= 20 + 5 * gaps, "{lost} of {of}: {long} packets for {gaps} gaps");
        assert!(long >= gaps, "{lost} of {of}: nothing was lost");
    }
}
