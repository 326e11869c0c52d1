//! What the receiver says of a stream, against plain computations of the RFC's formulas on the same arrivals.

use super::*;
use crate::media::rtcp::{LossPrior, Reception};

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    arrival_ms: u64,
}

/// Packets 0 to `count`, 20 ms apart, with delays below `jitter_ms`, in the order in which they come in; of 1000, `lost` are lost
/// and `doubled` come twice. The first and the last always come.
fn arrivals(seed: u64, count: u64, jitter_ms: u64, lost: u64, doubled: u64) -> Vec<Sent> {
    let mut chance = Chance(seed);
    let mut sent = Vec::new();
    for number in 0..count {
        let is_edge = number == 0 || number == count - 1;
        if !is_edge && chance.below(1_000) < lost {
            continue;
        }
        let delay = if is_edge { 0 } else { chance.below(jitter_ms + 1) };
        sent.push(Sent { number, arrival_ms: 20 * number + delay });
        if chance.below(1_000) < doubled {
            sent.push(Sent { number, arrival_ms: 20 * number + delay + chance.below(40) });
        }
    }
    sent.sort_by_key(|sent| sent.arrival_ms);
    sent
}

/// RFC 3550 A.8, its floating-point form, in ticks of 8 kHz, of first copies: every estimate.
fn jitter(arrivals: &[Sent]) -> Vec<f64> {
    let mut came = std::collections::HashSet::new();
    let (mut jitter, mut previous, mut estimates) = (0.0, None, Vec::new());
    for sent in arrivals.iter().filter(|sent| came.insert(sent.number)) {
        let transit = sent.arrival_ms as f64 * 8.0 - sent.number as f64 * 160.0;
        if let Some(before) = previous.replace(transit) {
            jitter += ((transit - before) - 0.0_f64).abs() / 16.0 - jitter / 16.0;
            estimates.push(jitter);
        }
    }
    estimates
}

#[test]
fn jitter_loss_and_reception_are_those_of_the_formulas() {
    // The sequence number wraps, in 16 bits and more than once.
    let first = 60_000_u64;
    for (seed, (count, jitter_ms, lost, doubled)) in [
        (20_000, 0, 0, 0),
        (20_000, 15, 10, 0),
        (20_000, 60, 50, 0),
        (20_000, 60, 100, 30),
        (90_000, 30, 10, 1_000),
    ]
    .into_iter()
    .enumerate()
    {
        let case = (count, jitter_ms, lost, doubled);
        let arrivals = arrivals(seed as u64, count, jitter_ms, lost, doubled);
        let mut leg = Leg::new();
        let mut counts = leg.receiver.counts();
        for sent in &arrivals {
            let sequence = (first + sent.number) as u16;
            leg.send(sent.arrival_ms, sequence, 160 * sent.number as u32, 1);
            let now = leg.receiver.counts();
            assert!(now.lost >= counts.lost, "{case:?}: what was counted as lost stays counted");
            counts = now;
        }
        let distinct = arrivals.iter().map(|sent| sent.number).collect::<std::collections::HashSet<_>>();
        let missing = count - distinct.len() as u64;
        let estimates = jitter(&arrivals);
        let ticks = estimates.last().copied().unwrap_or(0.0);

        let reception = Reception {
            source: crate::media::counter::Ssrc(1),
            highest_sequence: (first + count - 1) as u32,
            expected: count,
            received: arrivals.len() as u64,
            jitter: ticks as u32,
        };
        assert_eq!(leg.receiver.reception(), Some(reception), "{case:?}");
        assert_eq!(i64::from(reception.cumulative_lost()), count as i64 - arrivals.len() as i64);
        let fraction = (256 * count.saturating_sub(arrivals.len() as u64) / count) as u8;
        assert_eq!(LossPrior::default().fraction_since(&reception), fraction);

        let stats = leg.receiver.stats();
        assert_eq!(stats.packets_expected, count);
        assert_eq!(stats.packets_lost, missing, "{case:?}");
        assert_eq!(stats.packets_duplicate, arrivals.len() as u64 - distinct.len() as u64);
        let near = |ms: f64, ticks: f64| assert!((ms - ticks / 8.0).abs() < 1e-6, "{case:?}: {ms} {ticks}");
        near(stats.jitter_ms, ticks);
        near(stats.max_jitter_ms, estimates.iter().copied().fold(0.0, f64::max));
        near(stats.mean_jitter_ms, estimates.iter().sum::<f64>() / estimates.len() as f64);

        // Whatever is late comes within 100 ms here: all loss is final by the end of the window.
        let (mut runs, mut in_bursts, mut run) = (0, 0, 0);
        for number in 0..count {
            if !distinct.contains(&number) {
                run += 1;
            } else {
                runs += u64::from(run > 0);
                in_bursts += if run > 1 { run } else { 0 };
                run = 0;
            }
        }
        assert_eq!((stats.loss_bursts, stats.packets_lost_in_bursts), (runs, in_bursts), "{case:?}");
        if let Some(ratio) = stats.burst_ratio {
            assert!((0.85..1.15).contains(&ratio), "{case:?}: losses at random, and {ratio}");
        }
        let counted = leg.receiver.counts();
        assert!(counted.lost <= missing, "{case:?}");
        leg.receiver.on_tick(at(20 * count + 10_000));
        leg.receiver.on_tick(at(20 * count + 20_000));
        assert_eq!(leg.receiver.counts().lost, missing, "{case:?}");
    }
}

#[test]
fn loss_in_bursts_is_told_from_loss_at_random() {
    let mut leg = Leg::new();
    for n in (0..10_000_u64).filter(|n| n % 100 < 95) {
        leg.stream(n..n + 1);
    }
    let stats = leg.receiver.stats();
    assert_eq!((stats.packets_lost, stats.loss_bursts), (495, 99));
    assert_eq!(stats.packets_lost_in_bursts, 495);
    let ratio = stats.burst_ratio.unwrap();
    assert!((ratio - 5.0 * (1.0 - 495.0 / 9_995.0)).abs() < 1e-9, "{ratio}");
    assert!((stats.max_delta_ms - 120.0).abs() < 1e-9);
}

/// Comfort noise says nothing of the path: neither it nor the packet behind it is compared.
#[test]
fn comfort_noise_and_silence_are_no_jitter() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    for n in 20..200_u64 {
        let late = if n % 2 == 0 { 9 } else { 0 };
        // Noise, late; then audio at once, without any gap.
        leg.receiver.on_packet(at(20 * n + late), &packet(13, (2 * n - 20) as u16, 160 * n as u32, 1, &[60]));
        leg.send(20 * n + 10, (2 * n - 19) as u16, 160 * n as u32, 1);
        leg.receiver.on_tick(at(20 * n + 11));
    }
    assert_eq!(leg.receiver.stats().max_jitter_ms, 0.0);
}

#[test]
fn an_interval_without_a_source_has_no_report_block() {
    let mut leg = Leg::new();
    assert_eq!(leg.receiver.reception(), None);
    leg.send(0, 0, 0, 1);
    assert_eq!(leg.receiver.reception(), None, "held until its anchor is known");
    leg.stream(1..20);
    let reception = leg.receiver.reception().unwrap();
    assert_eq!((reception.highest_sequence, reception.expected, reception.received), (19, 20, 20));
}

/// Copies of packets that were held count once, whatever is held later.
#[test]
fn copies_of_packets_that_were_held_are_received_too() {
    let mut leg = Leg::new();
    leg.stream(0..5);
    leg.stream(3..5);
    leg.stream(5..20);
    let received =
        |leg: &mut Leg| leg.receiver.reception().map(|reception| (reception.expected, reception.received));
    assert_eq!(received(&mut leg), Some((20, 22)));
    // The timestamps jump by a minute: held again, on the same source.
    for n in 20..60_u64 {
        leg.send(20 * n, n as u16, 160 * n as u32 + 480_000, 1);
    }
    assert_eq!(leg.receiver.stats().segments.len(), 2);
    assert_eq!(received(&mut leg), Some((60, 62)));
}
