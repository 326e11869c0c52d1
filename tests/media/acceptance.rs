//! What a recording must withstand, line by line; each line is a test named after it.
//!
//! For all of them: every sample that came stands at its RTP position and nowhere else (each sample of the emulator's voice
//! is a click of its own, so a click track is exact to the sample), and the recording is as long as its call, to within one
//! slot.

use std::collections::{BTreeMap, HashSet};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use sidetone::clock;
use sidetone::emulator::{Datagram, Jitter, Line, Loss, MS, Network, Reception, Rng, Sender, instant, voice};
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver, PacketOutcome};
use sidetone::media::report::{Gap, LegEvent};
use sidetone::media::slot::SlotState;
use sidetone::media::time::SampleRate;
use sidetone::net::plane::{PlaneConfig, RtpPlane};
use sidetone::recording::repair::{Outcome, mend};

use super::tape::{Tape, channels, folder};

/// Compare `reception` with the array, and its length with the call's.
fn holds(reception: &Reception, call_ms: u64) {
    reception.check();
    let rate = reception.codec.sample_rate();
    let off = reception.length().abs_diff((call_ms * u64::from(rate.hz()) / 1_000) as usize);
    assert!(off <= rate.slot_samples(), "{} samples for {call_ms} ms", reception.length());
}

/// A leg with concealment off: zeros where nothing came.
fn exact(clock: &Arc<CallClock>) -> LegConfig {
    LegConfig { conceal: false, ..LegConfig::new(Codec::Ulaw, clock.clone()) }
}

fn perfect(sender: &Sender, call_ms: u64) -> Reception {
    let reception = Reception::of_perfect(sender);
    holds(&reception, call_ms);
    reception
}

fn presses(reception: &Reception) -> Vec<(char, u32)> {
    let press = |event: &LegEvent| match *event {
        LegEvent::Dtmf { digit, duration_ms } => Some((digit, duration_ms)),
        _ => None,
    };
    reception.events.iter().filter_map(press).collect()
}

#[test]
fn wrap_of_seq_and_of_timestamp_mid_call_with_reordering_across_it() {
    let mut sender = Sender::beginning_at(Codec::Ulaw, 65_535 - 49, u32::MAX - 50 * 160 + 1);
    sender.talk(5_000);
    let mut network = Network { jitter: Jitter::Uniform(100 * MS), rng: Rng(7), ..Network::perfect() };
    let arrived = network.carry(&sender.wire);
    let wrapped = |d: &Datagram| d.sent.is_some_and(|sent| sent.sequence >= 65_536);
    let first_wrapped = arrived.iter().position(wrapped).unwrap();
    assert!(arrived[first_wrapped..].iter().any(|d| !wrapped(d)), "nothing changed places across the wrap");
    let reception = Reception::of(sender.codec, arrived, 5_200 * MS);
    holds(&reception, 5_000);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.stats.segments.len(), 1);
}

#[test]
fn first_packet_late_by_150_ms() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.rest(500).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[0].at += 150 * MS;
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, arrived, 3_500 * MS);
    holds(&reception, 3_000);
    // Five milliseconds is what the network takes at least.
    assert_eq!(reception.displacements(), [40]);
}

#[test]
fn leg_b_joins_40_s_later() {
    let clock = Arc::new(CallClock::new(instant(0), SampleRate::NARROWBAND, 2));
    let mut senders = [0, 1].map(|voice| Sender::new(Codec::Ulaw).with_voice(voice));
    senders[0].talk(42_000);
    senders[1].rest(40_000).talk(2_000);
    let mut lines = senders.map(|sender| {
        let arrived = Network::perfect().carry(&sender.wire);
        Line::new(exact(&clock), arrived)
    });
    let folder = folder();
    let path = folder.path().join("call.wav");
    let rings = lines.each_ref().map(|line| Some(line.ring().clone()));
    let mut tape = Tape::begin(&path, &clock, rings, Duration::from_secs(2));
    for ms in (0..42_000).step_by(100) {
        lines.iter_mut().for_each(|line| line.run_until(ms * MS));
        tape.pump(ms * MS);
    }
    let legs = lines.map(|line| line.finish(42_005 * MS));
    legs.iter().for_each(Reception::check);
    let first = |leg: &Reception| leg.stats.segments[0].first_sample;
    assert_eq!(first(&legs[1]) - first(&legs[0]), 40 * 8_000);

    let finished = tape.finish(42_005 * MS);
    assert_eq!(finished.frames, 42 * 8_000);
    let [left, right] = channels(&path);
    for at in 0..42 * 8_000 {
        assert_eq!(left[at], voice::sample(Codec::Ulaw, 0, at as i64), "{at}");
        let spoken = if at < 320_000 { 0 } else { voice::sample(Codec::Ulaw, 1, at as i64) };
        assert_eq!(right[at], spoken, "{at}");
    }
    assert_eq!(finished.gaps[0], []);
    assert_eq!(finished.gaps[1], [Gap { start_sample: 0, samples: 320_000, kind: SlotState::Silence }]);
}

#[test]
fn ssrc_change_with_timestamp_continuity() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).change_source(0x2222, 40_000).talk(3_000);
    let mut network = Network { jitter: Jitter::Uniform(15 * MS), rng: Rng(3), ..Network::perfect() };
    let reception = Reception::of(sender.codec, network.carry(&sender.wire), 6_000 * MS);
    holds(&reception, 6_000);
    let displacements = reception.displacements();
    assert_eq!(displacements[0], displacements[1], "to the sample");
    assert_eq!(reception.stats.ssrcs, [0x1111, 0x2222]);
    assert_eq!(reception.stats.packets_lost, 0);
    assert!(reception.states(0, 6_000).iter().all(|&state| state == SlotState::Received));
}

#[test]
fn ssrc_change_without_timestamp_continuity() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).change_source(0x2222, 40_000).begin_timeline(0xfeed_beef).talk(3_000);
    let mut network = Network { jitter: Jitter::Uniform(8 * MS), rng: Rng(5), ..Network::perfect() };
    let reception = Reception::of(sender.codec, network.carry(&sender.wire), 6_000 * MS);
    holds(&reception, 6_000);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.length(), 48_000);
    assert!(reception.states(0, 6_000).iter().all(|&state| state == SlotState::Received));
    assert!(matches!(reception.events[1], LegEvent::Resegmented { .. }));
}

#[test]
fn restart_with_same_ssrc() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).restart(30_000).begin_timeline(0x1234_5678).talk(3_000);
    let reception = perfect(&sender, 6_000);
    assert_eq!(reception.displacements(), [40, 40]);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.stats.packets_received, 300);
    assert_eq!(reception.length(), 48_000);
}

#[test]
fn segments_whose_anchor_is_written_once() {
    // Every packet of the second half comes 150 ms later: a path that got longer moves nothing.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(20_000);
    let mut network = Network { jitter: Jitter::Exponential(10 * MS), rng: Rng(2), ..Network::perfect() };
    let mut arrived = network.carry(&sender.wire);
    arrived[500..].iter_mut().for_each(|datagram| datagram.at += 150 * MS);
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, arrived, 20_400 * MS);
    holds(&reception, 20_000);
    assert_eq!(reception.stats.segments.len(), 1);
    assert_eq!(reception.stats.packets_lost, 0);
}

#[test]
fn hold_of_35_s() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).rest(35_000).packet(true).talk(1_980);
    let reception = perfect(&sender, 40_000);
    assert!(reception.states(3_000, 38_000).iter().all(|&state| state == SlotState::Silence));
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.events.len(), 4, "{:?}", reception.events);
    assert_eq!(reception.events[1], LegEvent::Stalled);
    assert_eq!(reception.events[2], LegEvent::Resumed { silent_ms: 35_020 });
    let gap = LegEvent::Gap { start: 24_040, samples: 35 * 8_000, kind: SlotState::Silence };
    assert_eq!(reception.events[3], gap);
}

#[test]
fn dtx_with_marker() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.spurts(10, 500, 700).talk(1_000);
    let reception = perfect(&sender, 13_200);
    assert_eq!(reception.stats.packets_lost, 0);
    assert!(reception.states(520, 1_220).iter().all(|&state| state == SlotState::Silence));
    assert_eq!(reception.stats.jitter_ms, 0.0);
}

#[test]
fn cn_run() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(2_000);
    for _ in 0..5 {
        sender.comfort_noise().rest(200);
    }
    sender.talk(2_000);
    let reception = perfect(&sender, 5_000);
    assert!(reception.states(2_000, 3_000).iter().all(|&state| state == SlotState::ComfortNoise));
    assert_eq!(reception.stats.packets_lost, 0);
}

#[test]
fn three_end_packets() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000).press(5, 5, 3).talk(1_000).press(11, 10, 3).talk(1_000);
    let reception = perfect(&sender, 3_380);
    assert_eq!(presses(&reception), [('5', 100), ('#', 200)]);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.states(1_000, 1_140), [SlotState::Silence; 14]);
}

#[test]
fn a_lost_end() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000).press(9, 5, 0).talk(1_000);
    assert_eq!(presses(&perfect(&sender, 2_100)), [('9', 100)]);
}

#[test]
fn duplicates_of_every_packet() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(10_000).press(1, 5, 3).rest(100).press(1, 5, 3).talk(1_000);
    let mut network = Network { duplicates: 1.0, rng: Rng(2), ..Network::perfect() };
    let reception = Reception::of(sender.codec, network.carry(&sender.wire), 11_600 * MS);
    holds(&reception, 11_380);
    assert_eq!((reception.stats.packets_duplicate, reception.stats.packets_received), (564, 564));
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(presses(&reception), [('1', 100), ('1', 100)]);
}

/// Ten seconds, of which packet 250 comes `late` ms late.
fn with_late_packet(late: u64) -> Reception {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[250].at += late * MS;
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, arrived, 10_000 * MS);
    holds(&reception, 10_000);
    assert_eq!(reception.stats.packets_lost, 0);
    reception
}

#[test]
fn late_by_100_ms() {
    let reception = with_late_packet(100);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Repaired; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_repaired), (1, 1));
    let gap = LegEvent::Gap { start: 40_040, samples: 160, kind: SlotState::Lost };
    assert_eq!(reception.events[1..], [gap]);
}

#[test]
fn late_by_1500_ms() {
    let reception = with_late_packet(1_500);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Repaired; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_repaired), (1, 1));
}

#[test]
fn late_by_3_s() {
    let reception = with_late_packet(3_000);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Lost; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_repaired), (1, 0));
    assert_eq!(reception.count(PacketOutcome::TooLate), 1);
}

#[test]
fn late_packets_repair_inside_the_window_and_are_counted_beyond() {
    let (mut repaired, mut too_late) = (0, 0);
    // Behind the third packet after it, at 61 ms, live readers have passed it; behind the hundredth the recorder has.
    for late in (61..2_400).step_by(60) {
        let reception = with_late_packet(late);
        let stats = &reception.stats;
        if late < 2_000 {
            assert_eq!((stats.packets_late, stats.packets_repaired), (1, 1), "{late} ms");
            assert_eq!(reception.states(5_000, 5_020), [SlotState::Repaired; 2]);
            repaired += 1;
        } else {
            assert_eq!((stats.packets_late, stats.packets_repaired), (1, 0), "{late} ms");
            assert_eq!(reception.states(5_000, 5_020), [SlotState::Lost; 2]);
            assert_eq!(reception.count(PacketOutcome::TooLate), 1);
            too_late += 1;
        }
    }
    assert_eq!((repaired, too_late), (33, 6));
}

#[test]
fn ptime_20_to_40() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(2_000);
    sender.ptime_ms = 40;
    sender.talk(2_000);
    sender.ptime_ms = 10;
    sender.talk(2_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    // One lost at each change, one amid the long ones.
    for lost in [150, 120, 100] {
        arrived.remove(lost);
    }
    let reception = Reception::of(sender.codec, arrived, 6_000 * MS);
    holds(&reception, 6_000);
    assert_eq!(reception.stats.packets_lost, 3);
    assert_eq!(reception.states(2_000, 2_040), [SlotState::Lost; 4]);
    assert_eq!(reception.states(2_800, 2_840), [SlotState::Lost; 4]);
    assert_eq!(reception.states(4_000, 4_010), [SlotState::Lost]);
}

#[test]
fn asterisk_640_tick_jump() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).asterisk_reanchors().talk(2_000);
    let reception = perfect(&sender, 5_100);
    assert_eq!(reception.stats.segments.len(), 1);
    assert!(reception.states(3_000, 3_080).iter().all(|&state| state == SlotState::Silence));

    // Without any time passing: ahead of the clock by 80 ms from then on.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).jump(640).packet(true).talk(2_000);
    let reception = Reception::of_perfect(&sender);
    holds(&reception, 5_100);
    assert_eq!(reception.stats.segments.len(), 1);
}

#[test]
fn burst_of_50_queued_packets() {
    for queued in [50, 100, 150] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(10_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        let released = arrived[200 + queued].at;
        for (n, datagram) in arrived[200..200 + queued].iter_mut().enumerate() {
            datagram.at = released - (queued - n) as u64 * MS / 10;
        }
        let reception = Reception::of(sender.codec, arrived, 10_000 * MS);
        assert_eq!(reception.stats.segments.len(), 1, "{queued} queued");
        holds(&reception, 10_000);
        assert_eq!(reception.stats.packets_lost, 0);
        assert_eq!(reception.stats.packets_invalid, 0);
    }
}

#[test]
fn drift_of_100_ppm_for_1_h() {
    for ppm in [-100.0, 100.0] {
        let mut sender = Sender::new(Codec::Ulaw).with_ppm(ppm);
        sender.talk(3_600_000);
        let mut network = Network { jitter: Jitter::Uniform(10 * MS), rng: Rng(11), ..Network::perfect() };
        let end = sender.nanos_of(sender.now);
        let reception = Reception::of(sender.codec, network.carry(&sender.wire), end);
        holds(&reception, 3_600_000);
        assert_eq!(reception.stats.segments.len(), 1);
        assert!(reception.states(0, 3_600_000).iter().all(|&state| state == SlotState::Received));
        let found = reception.stats.clock_ppm.unwrap();
        assert!((found - ppm).abs() < 1.0, "{ppm} ppm told as {found}");
    }
}

/// RFC 3550 A.8 over what came, in the order in which it did, copies aside: milliseconds at 8 kHz.
fn rfc_jitter(arrived: &[Datagram]) -> f64 {
    let mut seen = HashSet::new();
    let packets = arrived.iter().filter_map(|datagram| Some((datagram.at, datagram.sent?)));
    let transits: Vec<f64> = packets
        .filter(|(_, sent)| seen.insert(sent.id))
        .map(|(at, sent)| at as f64 / 1e9 * 8_000.0 - f64::from(sent.timestamp))
        .collect();
    transits.windows(2).fold(0.0, |j, pair| j + ((pair[1] - pair[0]).abs() - j) / 16.0) / 8.0
}

/// A minute of `loss` and 60 ms of jitter, recorded. The report and every slot are compared with what the network did.
fn minute_of(loss: Loss, seed: u64) {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(60_000);
    let jitter = Jitter::Uniform(60 * MS);
    let mut network = Network { loss, rng: Rng(seed), jitter, ..Network::perfect() };
    // The first and the last arrive, so that the receiver can know of all the others.
    let mut arrived = network.carry(&sender.wire[1..2_999]);
    arrived.extend(Network::perfect().carry(&[sender.wire[0].clone(), sender.wire[2_999].clone()]));
    arrived.sort_by_key(|datagram| datagram.at);
    let came: HashSet<usize> = arrived.iter().filter_map(|datagram| Some(datagram.sent?.id)).collect();
    let expected_jitter = rfc_jitter(&arrived);

    let clock = Arc::new(CallClock::new(instant(0), SampleRate::NARROWBAND, 1));
    let mut line = Line::new(exact(&clock), arrived);
    let folder = folder();
    let path = folder.path().join("call.wav");
    let mut tape = Tape::begin(&path, &clock, [Some(line.ring().clone()), None], Duration::from_secs(2));
    for ms in (0..60_060).step_by(100) {
        line.run_until(ms * MS);
        tape.pump(ms * MS);
    }
    let reception = line.finish(60_060 * MS);
    let finished = tape.finish(60_060 * MS);
    holds(&reception, 60_000);

    let lost = 3_000 - came.len() as u64;
    assert!(lost > 0);
    let stats = &reception.stats;
    assert_eq!((stats.packets_expected, stats.packets_received), (3_000, came.len() as u64));
    assert_eq!((stats.packets_lost, stats.packets_invalid, stats.packets_duplicate), (lost, 0, 0));
    assert!(stats.mos.is_some_and(|mos| mos < 4.4));
    assert!((stats.jitter_ms - expected_jitter).abs() < 1e-4, "{} of {expected_jitter} ms", stats.jitter_ms);
    for (id, slots) in reception.states(0, 60_000).chunks(2).enumerate() {
        let is_lost = slots.iter().all(|&slot| slot == SlotState::Lost);
        let is_here = slots.iter().all(|slot| slot.is_audio());
        assert!(if came.contains(&id) { is_here } else { is_lost }, "packet {id}: {slots:?}");
    }

    assert_eq!(finished.frames, 480_000);
    let mut gaps: BTreeMap<u64, u64> = BTreeMap::new();
    for id in (0..3_000).filter(|id| !came.contains(id)) {
        let start =
            gaps.range(..).next_back().filter(|(start, samples)| *start + *samples == id as u64 * 160);
        *gaps.entry(start.map_or(id as u64 * 160, |(start, _)| *start)).or_default() += 160;
    }
    let gaps =
        gaps.into_iter().map(|(start_sample, samples)| Gap { start_sample, samples, kind: SlotState::Lost });
    assert_eq!(finished.gaps[0], gaps.collect::<Vec<_>>());
    for (at, pcm) in channels(&path)[0].iter().enumerate() {
        let spoken = if came.contains(&(at / 160)) { voice::sample(Codec::Ulaw, 0, at as i64) } else { 0 };
        assert_eq!(*pcm, spoken, "sample {at}");
    }
}

#[test]
fn random_loss_of_1_5_and_10_percent() {
    for (seed, share) in [0.01, 0.05, 0.10].into_iter().enumerate() {
        minute_of(Loss::Random(share), 90 + seed as u64);
    }
}

#[test]
fn bursty_loss_of_1_5_and_10_percent() {
    for (seed, share) in [0.01, 0.05, 0.10].into_iter().enumerate() {
        minute_of(Loss::Bursty { share, burst: 4.0 }, 30 + seed as u64);
    }
}

#[test]
fn only_lost_slots_are_concealed() {
    for (seed, loss) in [Loss::Random(0.05), Loss::Bursty { share: 0.10, burst: 2.0 }].into_iter().enumerate()
    {
        // Silence of two kinds between, to be left alone.
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(8_000).rest(40).packet(true).talk(8_000).comfort_noise().rest(300).talk(8_000);
        let mut network = Network { loss, rng: Rng(70 + seed as u64), ..Network::perfect() };
        let arrived = network.carry(&sender.wire);
        let of = |conceal| {
            Reception::with(Codec::Ulaw, arrived.clone(), 24_400 * MS, |config| config.conceal = conceal)
        };
        let (off, on) = (of(false), of(true));
        off.check();
        on.check();
        assert!(!off.recorder.states.contains(&SlotState::Concealed));
        let (mut concealed, mut left) = (0, 0);
        for (slot, (&before, &after)) in off.recorder.states.iter().zip(&on.recorder.states).enumerate() {
            let samples = slot * 80..(slot * 80 + 80).min(on.recorder.pcm.len());
            let (zeros, filled) = (&off.recorder.pcm[samples.clone()], &on.recorder.pcm[samples]);
            if after == SlotState::Concealed {
                assert_eq!(before, SlotState::Lost, "slot {slot}");
                assert!(zeros.iter().zip(filled).all(|(&came, &is)| came == 0 || came == is), "slot {slot}");
                concealed += 1;
            } else {
                assert_eq!((before, zeros), (after, filled), "slot {slot}");
                left += usize::from(after == SlotState::Lost);
            }
        }
        assert!(concealed > 50, "{loss:?}: {concealed} concealed, {left} too long for that");
    }
}

#[test]
fn garbage_and_truncated_rtp() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut network = Network { garbage: 1.0, rng: Rng(4), ..Network::perfect() };
    let reception = Reception::of(sender.codec, network.carry(&sender.wire), 10_010 * MS);
    holds(&reception, 10_000);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.stats.ssrcs, [0x1111]);
    assert_eq!(reception.stats.packets_received, 500);
    assert_eq!(reception.stats.packets_invalid, 500);
}

#[tokio::test]
async fn unknown_source() {
    let bind = "127.0.0.1:0".parse().unwrap();
    let plane = RtpPlane::start(PlaneConfig::new(bind, 1)).unwrap();
    let seat = plane.seat();
    let [known, stranger] = [0, 1].map(|_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", seat.port())).unwrap();
        socket
    });
    let call_clock = Arc::new(CallClock::new(clock::now(), SampleRate::NARROWBAND, 1));
    let (receiver, ring) = LegReceiver::new(LegConfig::new(Codec::Ulaw, call_clock));
    let leg = seat.attach(known.local_addr().unwrap(), receiver.into(), Arc::new(|_| ())).unwrap();
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000);
    // The stranger has the same SSRC and says something else.
    let mut impostor = Sender::new(Codec::Ulaw).with_voice(1);
    impostor.talk(1_000);
    for (packet, forged) in sender.wire.iter().zip(&impostor.wire) {
        stranger.send(&forged.bytes).unwrap();
        known.send(&packet.bytes).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = leg.finish(clock::now()).await;
    assert_eq!((stats.packets_received, stats.packets_invalid, stats.packets_duplicate), (50, 0, 0));
    // They are kept for half a second, lest their leg be attached late.
    for _ in 0..400 {
        if plane.totals().unroutable == 50 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(plane.totals().unroutable, 50);
    let mut heard = sidetone::emulator::Listener::new(&ring, 0);
    heard.read();
    let spoken: Vec<i16> = (0..8_000).map(|at| voice::sample(Codec::Ulaw, 0, at)).collect();
    assert_eq!(heard.pcm[8_000..], spoken);
}

#[test]
fn ring_overrun() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let arrived = Network::perfect().carry(&sender.wire);
    let whole = perfect(&sender, 10_000);
    let reception = Reception::with(sender.codec, arrived, 10_000 * MS, |config| {
        // A recorder that reads two seconds behind the head of a ring of 1.28 s.
        config.ring_slots = 128;
    });
    let (recorder, whole) = (&reception.recorder, &whole.recorder);
    assert_eq!(recorder.pcm.len(), whole.pcm.len());
    // One slot of the 128 is the writer's.
    let held = recorder.pcm.len() - 127 * 80;
    assert_eq!(recorder.pcm[held..], whole.pcm[held..]);
    assert_eq!(
        recorder.overrun,
        (recorder.pcm.len() / 80 - 127) as u64,
        "every slot that is gone, and no other"
    );
    assert!(recorder.pcm[..held].iter().all(|&pcm| pcm == 0));
}

#[test]
fn crash_then_readable_wav() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived.drain(100..110);
    let clock = Arc::new(CallClock::new(instant(0), SampleRate::NARROWBAND, 1));
    let mut line = Line::new(exact(&clock), arrived);
    let folder = folder();
    let path = folder.path().join("call.wav");
    let mut tape = Tape::begin(&path, &clock, [Some(line.ring().clone()), None], Duration::from_secs(2));
    for ms in (0..8_000).step_by(100) {
        line.run_until(ms * MS);
        tape.pump(ms * MS);
    }
    // Neither finished nor sealed: as a killed process leaves it.
    drop(tape);
    let mended = mend(folder.path(), &HashSet::new());
    let [mended] = &mended[..] else { panic!("{mended:?}") };
    let Outcome::Repaired { finished, .. } = &mended.outcome else { panic!("{mended:?}") };
    let left = &channels(&path)[0];
    assert_eq!(left.len() as u64, finished.frames);
    // Written every half second up to 60 ms behind the head, though late packets might still have mended it.
    assert!((7_000 * 8..8_000 * 8).contains(&left.len()), "{} frames", left.len());
    for (at, &pcm) in left.iter().enumerate() {
        let lost = (16_000..17_600).contains(&at);
        assert_eq!(pcm, if lost { 0 } else { voice::sample(Codec::Ulaw, 0, at as i64) }, "sample {at}");
    }
    assert_eq!(finished.gaps[0], [Gap { start_sample: 16_000, samples: 1_600, kind: SlotState::Lost }]);
}
