//! Codecs that have a memory, through a leg's receiver: what comes out of the ring is what their decoder makes of the
//! packets in the order in which they were sent, however they came.

use std::sync::Arc;
use std::time::Duration;

use sidetone::media::clock::CallClock;
use sidetone::media::codec::{Codec, Decoder, Encoder, opus};
use sidetone::media::receiver::{LegConfig, LegReceiver, PREROLL_SLOTS, PacketError, PacketOutcome};
use sidetone::media::report::LegStats;
use sidetone::media::resample::Resampler;
use sidetone::media::ring::{Ring, SlotRead};
use sidetone::media::slot::SlotState;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::net::capture::Capture;

const STATEFUL: [Codec; 3] = [Codec::G722, Codec::Gsm, Codec::Opus];
const START: MediaInstant = MediaInstant::from_nanos(5_000_000_000);

/// A packet, and the milliseconds after the start at which it comes.
type Sent = (u64, Vec<u8>);

/// A voice: a gliding tone with harmonics that swells and fades.
fn voice(codec: Codec, packets: usize) -> Vec<i16> {
    let rate = f64::from(codec.sample_rate().hz());
    let mut phase = 0.0;
    (0..packets * frame(codec))
        .map(|i| {
            let seconds = i as f64 / rate;
            phase += (140.0 + 40.0 * (seconds * 2.0).sin()) / rate;
            let harmonic = |n: f64| (phase * n * std::f64::consts::TAU).sin() / n;
            let loudness = 5_000.0 * (1.0 + 0.6 * (seconds * 9.0).sin());
            (loudness * (1..12).map(|n| harmonic(f64::from(n))).sum::<f64>()) as i16
        })
        .collect()
}

fn frame(codec: Codec) -> usize {
    codec.sample_rate().hz() as usize / 50
}

fn payloads(codec: Codec, pcm: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec).unwrap();
    let payload = |frame: &[i16]| {
        let mut payload = Vec::new();
        encoder.encode(frame, &mut payload).unwrap();
        payload
    };
    pcm.chunks(frame(codec)).map(payload).collect()
}

fn packet(codec: Codec, ssrc: u32, n: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, codec.payload_type()];
    packet.extend((65_500_u16.wrapping_add(n as u16)).to_be_bytes());
    packet.extend((n as u32 * (codec.rtp_clock_rate() / 50)).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn stream(codec: Codec, payloads: &[Vec<u8>]) -> Vec<Sent> {
    payloads.iter().enumerate().map(|(n, payload)| (n as u64 * 20, packet(codec, 7, n, payload))).collect()
}

/// What a decoder that gets all packets in order makes of them.
fn decoded(codec: Codec, payloads: &[Vec<u8>]) -> Vec<i16> {
    let mut decoder = Decoder::new(codec).unwrap();
    let mut out = Vec::new();
    for payload in payloads {
        let mut pcm = vec![0; frame(codec)];
        assert_eq!(decoder.decode(payload, &mut pcm), Ok(frame(codec)));
        out.extend(pcm);
    }
    out
}

struct Heard {
    pcm: Vec<i16>,
    states: Vec<SlotState>,
    stats: LegStats,
    outcomes: Vec<PacketOutcome>,
}

fn at(ms: u64) -> MediaInstant {
    START + Duration::from_millis(ms)
}

fn leg(codec: Codec, conceal: bool) -> (LegReceiver, Arc<Ring>) {
    let clock = Arc::new(CallClock::new(START, codec.sample_rate(), 1));
    let mut config = LegConfig::new(codec, clock);
    config.conceal = conceal;
    LegReceiver::new(config)
}

/// Hand in what was `sent` in the order of its times, tell the time at every deadline, and read all that is in the ring
/// from the first packet on.
fn receive(codec: Codec, conceal: bool, mut sent: Vec<Sent>) -> Heard {
    sent.sort_by_key(|(ms, _)| *ms);
    let (mut leg, ring) = leg(codec, conceal);
    let mut outcomes = Vec::new();
    leg.on_tick(START);
    for (ms, datagram) in &sent {
        while let Some(due) = leg.next_deadline().filter(|due| *due < at(*ms)) {
            leg.on_tick(due);
        }
        outcomes.push(leg.on_packet(at(*ms), datagram));
    }
    let stats = leg.finish(at(sent.last().unwrap().0 + 20));
    let mut reader = ring.reader();
    let mut slot = vec![0; ring.slot_samples()];
    let (mut pcm, mut states) = (Vec::new(), Vec::new());
    loop {
        match reader.read_slot(0, &mut slot) {
            SlotRead::Ready { state, .. } => {
                pcm.extend_from_slice(&slot);
                states.push(state);
            }
            SlotRead::End => break,
            other => panic!("{other:?}"),
        }
    }
    pcm.drain(..PREROLL_SLOTS as usize * ring.slot_samples());
    states.drain(..PREROLL_SLOTS as usize);
    Heard { pcm, states, stats, outcomes }
}

#[test]
fn every_codec_with_a_memory_decodes_to_its_place() {
    for codec in STATEFUL {
        let payloads = payloads(codec, &voice(codec, 100));
        let heard = receive(codec, true, stream(codec, &payloads));
        assert!(heard.pcm == decoded(codec, &payloads), "{codec:?}");
        assert!(heard.states.iter().all(|&state| state == SlotState::Received), "{codec:?}");
        assert_eq!((heard.stats.packets_received, heard.stats.packets_lost), (100, 0));
    }
}

#[test]
fn reordering_within_the_live_lag_leaves_no_trace() {
    for codec in STATEFUL {
        let payloads = payloads(codec, &voice(codec, 100));
        let mut sent = stream(codec, &payloads);
        for n in (20..95).step_by(5) {
            // Behind the two packets after it.
            sent[n].0 += 45;
        }
        let heard = receive(codec, true, sent);
        assert!(heard.outcomes.contains(&PacketOutcome::Held));
        assert!(heard.pcm == decoded(codec, &payloads), "{codec:?}");
        assert_eq!(heard.stats.packets_late, 0);
        assert!(heard.stats.jitter_ms > 1.0, "jitter is that of the arrival: {}", heard.stats.jitter_ms);
    }
}

#[test]
fn duplicates_of_packets_that_wait_are_counted_once() {
    let payloads = payloads(Codec::G722, &voice(Codec::G722, 60));
    let mut sent = stream(Codec::G722, &payloads);
    sent[30].0 += 45;
    let copy = (sent[31].0 + 1, sent[31].1.clone());
    sent.push(copy);
    let heard = receive(Codec::G722, true, sent);
    assert_eq!(heard.stats.packets_duplicate, 1);
    assert!(heard.pcm == decoded(Codec::G722, &payloads));
}

#[test]
fn a_packet_that_comes_late_decodes_as_it_would_have_in_time() {
    for codec in [Codec::G722, Codec::Gsm] {
        let payloads = payloads(codec, &voice(codec, 100));
        let mut sent = stream(codec, &payloads);
        // Two in a row, later than anybody waits.
        sent[40].0 += 600;
        sent[41].0 += 600;
        let heard = receive(codec, true, sent);
        let whole = decoded(codec, &payloads);
        let span = 40 * frame(codec)..42 * frame(codec);
        assert!(heard.pcm[span.clone()] == whole[span.clone()], "{codec:?}: mended");
        assert!(heard.pcm[..span.start] == whole[..span.start], "{codec:?}: before");
        assert_eq!(heard.states[80..84], [SlotState::Repaired; 4]);
        assert_eq!(heard.stats.packets_repaired, 2);
        assert_eq!(heard.pcm.len(), whole.len());
    }
}

#[test]
fn a_late_packet_of_opus_mends_the_ring_without_history() {
    let payloads = payloads(Codec::Opus, &voice(Codec::Opus, 100));
    let mut sent = stream(Codec::Opus, &payloads);
    sent[40].0 += 600;
    let heard = receive(Codec::Opus, true, sent);
    let span = 40 * 320..41 * 320;
    let mut fresh = [0; 320];
    Decoder::new(Codec::Opus).unwrap().decode(&payloads[40], &mut fresh).unwrap();
    assert!(heard.pcm[span] == fresh);
    assert_eq!(heard.states[80..82], [SlotState::Repaired; 2]);
}

#[test]
fn waiting_for_a_missing_packet_ends_after_the_live_lag() {
    for codec in STATEFUL {
        let payloads = payloads(codec, &voice(codec, 40));
        let sent = stream(codec, &payloads);
        let (mut leg, ring) = leg(codec, true);
        for (ms, datagram) in &sent[..30] {
            leg.on_packet(at(*ms), datagram);
        }
        let head = ring.head();
        assert_eq!(leg.on_packet(at(sent[31].0), &sent[31].1), PacketOutcome::Held);
        let due = at(sent[31].0 + 60);
        assert!(leg.next_deadline().unwrap() <= due);
        leg.on_tick(due);
        assert_eq!(ring.head(), head + 2 * frame(codec) as u64, "{codec:?}");
    }
}

/// Mean square of the difference.
fn error(a: &[i16], b: &[i16]) -> f64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>() / a.len() as f64
}

#[test]
fn frames_of_opus_that_are_lost_come_from_the_next_packet_or_are_concealed() {
    let mut encoder = opus::Encoder::new(20).unwrap();
    encoder.set_bitrate(24_000).unwrap();
    let mut payloads = Vec::new();
    for frame in voice(Codec::Opus, 200).chunks(320) {
        let mut payload = Vec::new();
        encoder.encode(frame, &mut payload).unwrap();
        payloads.push(payload);
    }
    let whole = decoded(Codec::Opus, &payloads);
    let lost: Vec<_> = (50..190).step_by(9).collect();
    assert!(lost.iter().any(|n| opus::has_fec(&payloads[n + 1])));
    let remaining = || {
        let sent = stream(Codec::Opus, &payloads).into_iter().enumerate();
        sent.filter(|(n, _)| !lost.contains(n)).map(|(_, sent)| sent).collect::<Vec<_>>()
    };
    let heard = receive(Codec::Opus, true, remaining());
    let mut silent = 0.0;
    let mut recovered = 0.0;
    for &n in &lost {
        assert_eq!(heard.states[2 * n..2 * n + 2], [SlotState::Concealed; 2], "packet {n}");
        let span = n * 320..(n + 1) * 320;
        recovered += error(&heard.pcm[span.clone()], &whole[span.clone()]);
        silent += error(&[0; 320], &whole[span]);
    }
    assert!(recovered * 4.0 < silent, "{recovered} {silent}");
    assert_eq!(heard.stats.packets_lost, lost.len() as u64);
    assert_eq!(heard.pcm.len(), whole.len());

    let evidence = receive(Codec::Opus, false, remaining());
    for &n in &lost {
        assert_eq!(evidence.states[2 * n..2 * n + 2], [SlotState::Lost; 2]);
        assert!(evidence.pcm[n * 320..(n + 1) * 320].iter().all(|&sample| sample == 0));
    }
}

#[test]
fn a_long_loss_of_opus_is_not_made_up() {
    let payloads = payloads(Codec::Opus, &voice(Codec::Opus, 100));
    let mut sent = stream(Codec::Opus, &payloads);
    sent.drain(40..60);
    let heard = receive(Codec::Opus, true, sent);
    // But for the last packet's copy, where the one after it has it.
    assert!(heard.states[80..118].iter().all(|&state| state == SlotState::Lost));
    assert_eq!(heard.pcm.len(), 100 * 320);
}

#[test]
fn what_opus_does_not_send_is_silence_and_no_loss() {
    let mut encoder = opus::Encoder::new(0).unwrap();
    encoder.set_dtx(true).unwrap();
    let mut pcm = voice(Codec::Opus, 50);
    pcm.resize(pcm.len() + 100 * 320, 0);
    let mut number = 0;
    let mut sent = Vec::new();
    for (n, frame) in pcm.chunks(320).enumerate() {
        let mut payload = Vec::new();
        encoder.encode(frame, &mut payload).unwrap();
        // A sender leaves out what has nothing but a table of contents, and numbers what it does send.
        if payload.len() > 1 || n == 149 {
            let mut datagram = packet(Codec::Opus, 7, n, &payload);
            datagram[2..4].copy_from_slice(&(number as u16).to_be_bytes());
            sent.push((n as u64 * 20, datagram));
            number += 1;
        }
    }
    assert!(number < 120, "{number} were sent");
    let heard = receive(Codec::Opus, true, sent);
    assert_eq!(heard.pcm.len(), 150 * 320);
    assert_eq!(heard.stats.packets_lost, 0);
    let count = |wanted: SlotState| heard.states.iter().filter(|&&state| state == wanted).count();
    assert_eq!(count(SlotState::Lost) + count(SlotState::Concealed), 0);
    assert!(count(SlotState::Silence) > 100);
}

#[test]
fn what_cannot_be_decoded_is_invalid_and_lost() {
    let payloads = payloads(Codec::Gsm, &voice(Codec::Gsm, 100));
    let mut sent = stream(Codec::Gsm, &payloads);
    sent[50].1[12] = 0x10;
    let heard = receive(Codec::Gsm, false, sent);
    assert!(matches!(heard.outcomes[50], PacketOutcome::Invalid(PacketError::Decode { sequence: 14, .. })));
    assert_eq!(heard.states[100..102], [SlotState::Lost; 2]);
    assert_eq!((heard.stats.packets_invalid, heard.stats.packets_received), (1, 99));
    assert_eq!(heard.pcm.len(), 100 * 160);
}

#[test]
fn another_source_begins_with_a_fresh_decoder() {
    for codec in STATEFUL {
        let payloads = payloads(codec, &voice(codec, 100));
        let (first, second) = payloads.split_at(50);
        let mut sent = stream(codec, first);
        sent.extend(
            second
                .iter()
                .enumerate()
                .map(|(n, payload)| (1_000 + n as u64 * 20, packet(codec, 8, n, payload))),
        );
        let heard = receive(codec, true, sent);
        let fresh = decoded(codec, second);
        assert!(heard.pcm[50 * frame(codec)..] == fresh, "{codec:?}");
    }
}

#[test]
fn packets_of_other_lengths_have_their_own_length() {
    let pcm = voice(Codec::Opus, 30);
    let mut encoder = Encoder::new(Codec::Opus).unwrap();
    let mut sent = Vec::new();
    for (n, frame) in pcm.chunks(640).enumerate() {
        let mut payload = Vec::new();
        encoder.encode(frame, &mut payload).unwrap();
        let mut datagram = packet(Codec::Opus, 7, n, &payload);
        datagram[4..8].copy_from_slice(&(n as u32 * 1_920).to_be_bytes());
        sent.push((n as u64 * 40, datagram));
    }
    let heard = receive(Codec::Opus, true, sent);
    assert_eq!(heard.pcm.len(), 30 * 320);
    assert!(heard.states.iter().all(|&state| state == SlotState::Received));
}

/// The best match of `wanted` within the first 300 ms of `got`, at any level: decibels over what differs.
fn best_snr(wanted: &[f32], got: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let cosine = |at: usize| {
        let part = &got[at..at + wanted.len()];
        dot(part, wanted) / (dot(part, part) * dot(wanted, wanted)).sqrt().max(1e-9)
    };
    let best = (0..2_400).map(cosine).fold(0.0, f64::max);
    10.0 * (best * best / (1.0 - best * best)).log10()
}

#[test]
fn packets_of_asterisk_22_decode_to_the_prompt_that_it_played() {
    // `asterisk -rx 'channel originate UnicastRTP/127.0.0.1:PORT/c(FORMAT) application Playback vm-intro'`, one second of it.
    let captures: [(Codec, &[u8], f64); 3] = [
        (Codec::G722, include_bytes!("captures/asterisk/asterisk-22-g722.pcap"), 20.0),
        (Codec::Gsm, include_bytes!("captures/asterisk/asterisk-22-gsm.pcap"), 6.0),
        (Codec::Opus, include_bytes!("captures/asterisk/asterisk-22-opus.pcap"), 6.0),
    ];
    let prompt = include_bytes!("../src/media/codec/testdata/signal-8k.raw").as_chunks::<2>().0;
    let prompt: Vec<_> = prompt[..4_000].iter().map(|bytes| f32::from(i16::from_le_bytes(*bytes))).collect();
    for (codec, capture, least) in captures {
        let datagrams = Capture::new(capture).unwrap().flatten();
        let sent = datagrams.enumerate().map(|(n, datagram)| (n as u64 * 20, datagram.payload.to_vec()));
        let heard = receive(codec, true, sent.collect());
        assert_eq!((heard.stats.packets_received, heard.stats.packets_lost), (50, 0), "{codec:?}");
        assert_eq!(heard.pcm.len(), 50 * frame(codec));
        let pcm: Vec<_> = heard.pcm.iter().map(|&sample| f32::from(sample)).collect();
        let mut narrow = Vec::new();
        let mut resampler = Resampler::between(codec.sample_rate().hz(), SampleRate::NARROWBAND).unwrap();
        resampler.push(&pcm, &mut narrow);
        resampler.finish(&mut narrow);
        let snr = best_snr(&prompt, &narrow);
        assert!(snr > least, "{codec:?}: {snr} dB");
    }
}
