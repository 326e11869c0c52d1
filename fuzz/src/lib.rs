//! What is fuzzed: for each parser of anything from outside, a function that takes any bytes and panics where a promise is
//! broken. `cargo fuzz` calls them with what it makes up, `tests/fuzz-corpus.rs` with what is kept under `corpus/`.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use sidetone::asterisk::ari::AriEvent;
use sidetone::calls::ids::ObjectId;
use sidetone::calls::mode::CallOptions;
use sidetone::config::{Settings, Sources};
use sidetone::media::clock::CallClock;
use sidetone::media::codec::{Codec, Decoder, Encoder, MAX_STATEFUL_SAMPLES};
use sidetone::media::counter::{RtpTimestamp, Ssrc};
use sidetone::media::dtmf::TelephoneEvents;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::ring::SlotRead;
use sidetone::media::rtcp::{
    Compound, MAX_REPORT, NtpTimestamp, Packet, Reception, RtcpConfig, RtcpSession, SenderInfo,
};
use sidetone::media::time::MediaInstant;
use sidetone::net::capture::Capture;
use sidetone::net::capture::streams::StreamFinder;
use sidetone::recording::repair::{Outcome, mend};
use sidetone::recording::wav::WavReader;

/// A target by its name, which is that of its corpus' folder.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("ari_event", ari_event),
    ("capture", capture),
    ("codecs", codecs),
    ("dtmf", dtmf),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("settings", settings),
    ("stasis", stasis),
    ("wav_repair", wav_repair),
];

/// Any text as an event of Asterisk's.
pub fn ari_event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let event = AriEvent::parse(text);
    event.channel();
}

/// Any bytes as a capture: no panic, no unbounded memory, and every datagram through the stream finder.
pub fn capture(bytes: &[u8]) {
    let Ok(capture) = Capture::new(bytes) else { return };
    let mut finder = StreamFinder::new();
    capture.flatten().for_each(|datagram| finder.add(&datagram));
    finder.flows();
}

/// Any bytes as the payloads of one source. The first byte chooses the codec; then each payload has two bytes for its length
/// and what becomes of it (lost, or kept as the state to go on from). What was decoded is encoded again.
pub fn codecs(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let codec = Codec::ALL[usize::from(first) % Codec::ALL.len()];
    let mut decoder = Decoder::new(codec).expect("memory");
    let mut encoder = Encoder::new(codec).expect("memory");
    let mut saved = decoder.snapshot();
    let mut pcm = vec![0; codec.sample_rate().hz() as usize];
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high & 7])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        rest = tail;
        if high & 0x80 != 0 {
            let frame = pcm.len() / 50;
            let made = decoder.decode_fec(payload, &mut pcm[..frame]).unwrap_or(0);
            assert!(made == 0 || made == frame);
        }
        match decoder.decode(payload, &mut pcm) {
            Ok(made) => {
                assert_eq!(Some(made), codec.samples_in(payload));
                assert!(made <= if codec.is_stateful() { MAX_STATEFUL_SAMPLES } else { pcm.len() });
                let mut again = Vec::new();
                // Opus has frames of certain lengths only.
                if encoder.encode(&pcm[..made], &mut again).is_ok() && codec != Codec::Opus {
                    assert_eq!(again.len(), payload.len());
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        match (high >> 5 & 3, &saved) {
            (1, _) => saved = decoder.snapshot(),
            (2, Some(saved)) => decoder.restore(saved),
            (3, _) => decoder.reset(),
            _ => {}
        }
    }
}

/// Any telephone events at any times. Each has a byte for the milliseconds since the one before (from 250 on: seconds), one for its
/// source, one for the steps of its timestamp, and four bytes of payload. No key is told that was not pressed, none without a
/// packet of its own, and none is held for ever.
pub fn dtmf(bytes: &[u8]) {
    let mut events = TelephoneEvents::default();
    let (mut now, mut timestamp) = (MediaInstant::from_nanos(1_000_000_000), u32::MAX - 1_000);
    let (mut packets, mut presses, mut pressed) = (0_u64, 0_u64, HashSet::new());
    for packet in bytes.chunks_exact(7) {
        let &[pause, source, step, ref payload @ ..] = packet else { break };
        now = after(now, pause);
        timestamp = timestamp.wrapping_add_signed(i32::from(step as i8) * 160);
        packets += 1;
        if let Some(digit) = b"0123456789*#ABCD".get(usize::from(payload[0])) {
            pressed.insert(char::from(*digit));
        }
        let mut told = |press: sidetone::media::dtmf::Press| {
            presses += 1;
            assert!(pressed.contains(&press.digit), "{} was never pressed", press.digit);
        };
        events.on_deadline(now, &mut told);
        events.on_packet(Ssrc(u32::from(source % 4)), RtpTimestamp(timestamp), payload, now, &mut told);
        if let Some(due) = events.deadline() {
            assert!(due > now, "a key that was just heard of is not over");
        }
    }
    if let Some(due) = events.deadline() {
        events.on_deadline(due, |_| presses += 1);
    }
    assert_eq!(events.deadline(), None);
    assert!(presses <= packets);
}

/// Any datagrams at any times as RTCP of a peer. Each has a byte for the milliseconds since the one before (from 250 on: seconds)
/// and one for its length. What is valid holds no more than its bytes do, and what is answered is valid.
pub fn rtcp(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let mut now = MediaInstant::from_nanos(1_000_000_000);
    let config = RtcpConfig {
        source: Ssrc(u32::from(first)),
        cname: "fuzz@".repeat(usize::from(first)),
        peer_configured: first % 2 == 0,
        bandwidth: f64::from(first),
        seed: u64::from(first),
    };
    let mut session = RtcpSession::new(config, now);
    let (mut buffer, mut count) = ([0; MAX_REPORT], 0_u64);
    while let [pause, length, tail @ ..] = rest {
        now = after(now, *pause);
        let (datagram, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        if let Ok(compound) = Compound::parse(datagram) {
            let mut packets = 0;
            for packet in compound.packets() {
                packets += 1;
                match packet {
                    Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                        assert!(blocks.count() * 24 < datagram.len());
                    }
                    Packet::Goodbye { sources, .. } => assert!(sources.count() * 4 < datagram.len()),
                    _ => {}
                }
            }
            assert!(packets > 0 && packets * 4 <= datagram.len());
        }
        let heard = session.on_packet(now, datagram);
        assert_eq!(heard.is_ok(), Compound::parse(datagram).is_ok());
        count += 1;
        let reception = Reception {
            source: session.peer_report().map_or(Ssrc(9), |peer| peer.sender),
            highest_sequence: count as u32,
            expected: count * u64::from(first),
            received: count * u64::from(*length),
            jitter: u32::from(*pause),
        };
        let info = SenderInfo {
            ntp: NtpTimestamp(now.as_nanos()),
            rtp: RtpTimestamp(count as u32),
            packets: count as u32,
            octets: 0,
        };
        let sending = (length % 2 == 0).then_some(&info);
        if let Some(report) = session.report(now, Some(&reception), sending, &mut buffer) {
            assert!(Compound::parse(report).is_ok_and(|report| report.packets().count() == 2));
        }
        assert!(session.next_deadline().is_none_or(|due| due > now));
    }
    if let Some(last) = session.goodbye(now, None, None, &mut buffer) {
        assert!(Compound::parse(last).is_ok_and(|last| last.packets().count() == 3));
    }
}

/// Milliseconds later or, from 250 on, seconds.
fn after(now: MediaInstant, pause: u8) -> MediaInstant {
    now + match pause {
        250.. => Duration::from_secs(u64::from(pause - 249)),
        _ => Duration::from_millis(u64::from(pause)),
    }
}

/// Any datagrams at any times as those of a leg. The first byte chooses the codec; then each datagram has a byte for the
/// milliseconds since the one before (from 250 on: seconds) and one for its kind: below 192, a packet whose sequence number
/// and timestamp are given as steps; above, so many bytes as they stand.
pub fn rtp(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let codec = Codec::ALL[usize::from(first) % Codec::ALL.len()];
    let rate = codec.sample_rate();
    let start = MediaInstant::from_nanos(1_000_000_000);
    let clock = Arc::new(CallClock::new(start, rate, 1));
    let (mut leg, ring) = LegReceiver::new(LegConfig::new(codec, clock.clone()));
    let mut reader = ring.reader();
    let mut slot = vec![0; ring.slot_samples()];

    let (mut now, mut datagrams, mut read) = (start, 0_u64, 0_u64);
    let (mut sequence, mut timestamp) = (65_530_u16, u32::MAX - 400);
    while let [pause, kind, tail @ ..] = rest {
        now = after(now, *pause);
        let datagram;
        if *kind < 192 {
            let [step, ticks, tail @ ..] = tail else { break };
            sequence = sequence.wrapping_add_signed(i16::from(*step as i8));
            timestamp = timestamp.wrapping_add_signed(i32::from(*ticks as i8) * 80);
            let payload_type = match kind % 8 {
                0 => 101,
                1 => 13,
                _ => codec.payload_type(),
            };
            let mut packet = vec![0x80, payload_type | kind & 0x80];
            packet.extend(sequence.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend([0, 0, 0, kind >> 5]);
            packet.resize(12 + if payload_type == 101 { 4 } else { usize::from(*kind) * 4 }, *step);
            (datagram, rest) = (packet, tail);
        } else {
            let length = usize::from(kind - 192).min(tail.len());
            let (raw, tail) = tail.split_at(length);
            (datagram, rest) = (raw.to_vec(), tail);
        }
        leg.on_packet(now, &datagram);
        datagrams += 1;
        leg.take_events().for_each(drop);
        while let SlotRead::Ready { .. } | SlotRead::Missed { .. } = reader.read_slot(0, &mut slot) {
            read += 1;
        }
        // An hour's worth of slots is enough of one run.
        if read > 360_000 {
            break;
        }
    }

    let end = now + Duration::from_millis(100);
    let stats = leg.finish(end);
    assert!(stats.packets_received + stats.packets_duplicate + stats.packets_invalid <= datagrams);
    assert!(stats.packets_lost <= stats.packets_expected);
    assert!(stats.jitter_ms.is_finite() && stats.jitter_ms >= 0.0);
    loop {
        match reader.read_slot(0, &mut slot) {
            SlotRead::End => break,
            SlotRead::Pending => panic!("a ring that is closed has an end"),
            SlotRead::Ready { .. } | SlotRead::Missed { .. } => {}
        }
    }
}

/// Any text as a settings file: refused with words, or settings that pass their own validation.
pub fn settings(bytes: &[u8]) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let file = folder.path().join("sidetone.toml");
    std::fs::write(&file, bytes).expect("a file in memory");
    let loaded: Result<Settings, _> = Sources { file: Some(file), ..Sources::default() }.load();
    if let Err(error) = loaded {
        assert!(!error.to_string().trim().is_empty());
    }
}

/// Any lines as the arguments of `Stasis()`, and as ids of channels and bridges.
pub fn stasis(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let arguments: Vec<_> = text.lines().collect();
    if let Err(error) = CallOptions::parse(&arguments) {
        assert!(!error.to_string().trim().is_empty());
    }
    for id in arguments {
        if let Some(object) = ObjectId::parse(id) {
            assert_eq!(object.to_string(), id, "an id has one spelling");
        }
    }
}

/// Any bytes as a WAV file, and as what a crash left of a recording with its journal (parted by the last 0xff): nothing is
/// made up, and what is mended is readable.
pub fn wav_repair(bytes: &[u8]) {
    if let Ok(mut reader) = WavReader::new(Cursor::new(bytes)) {
        let format = reader.format();
        let samples = reader.read_all().expect("what is there can be read");
        assert!(samples.len() <= bytes.len());
        assert_eq!(samples.len() as u64, format.frames * u64::from(format.channels));
    }

    let cut = bytes.iter().rposition(|&byte| byte == 0xff).unwrap_or(bytes.len());
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let part = dir.path().join("c.wav.part");
    std::fs::write(&part, &bytes[..cut]).expect("a file in memory");
    std::fs::write(dir.path().join("c.wav.part.gaps"), bytes.get(cut + 1..).unwrap_or_default())
        .expect("likewise");
    for mended in mend(dir.path(), &HashSet::new()) {
        match mended.outcome {
            Outcome::Repaired { finished, report } => {
                let reader = WavReader::open(&finished.path).expect("a mended file is readable");
                assert_eq!(reader.format().frames, finished.frames);
                for leg in &report.legs {
                    let mut end = 0;
                    for gap in &leg.gaps {
                        assert!(gap.start_sample >= end && gap.samples > 0);
                        end = gap.start_sample + gap.samples;
                    }
                    assert!(end <= finished.frames);
                }
            }
            Outcome::Broken { .. } => {}
            Outcome::Failed { source, .. } => panic!("{source}"),
        }
    }
    assert!(mend(dir.path(), &HashSet::new()).is_empty(), "mending twice finds nothing");
}
