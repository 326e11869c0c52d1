//! What is fuzzed: for each parser of anything from outside, a function that takes any bytes and panics where a promise is
//! broken. `cargo fuzz` calls them with what it makes up, `tests/fuzz-corpus.rs` with what is kept under `corpus/`.

mod ami;
mod audio_file;
mod codecs;
mod dtmf;
mod ggml;
mod job;
mod listen;
mod path;
mod rtcp;
mod tiny_model;

pub use ami::ami;
pub use audio_file::audio_file;
pub use codecs::codecs;
pub use dtmf::dtmf;
pub use ggml::ggml;
pub use job::job;
pub use listen::listen;
pub use path::path;
pub use rtcp::rtcp;

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use sidetone::asterisk::ari::AriEvent;
use sidetone::calls::ids::ObjectId;
use sidetone::calls::mode::CallOptions;
use sidetone::config::{Settings, Sources};
use sidetone::media::audiosocket::{Decoder, Frame, MAX_PAYLOAD};
use sidetone::media::chan_websocket::{Command, Event, Form, MAX_COMMAND};
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::ring::SlotRead;
use sidetone::media::stream::{StreamConfig, StreamReceiver};
use sidetone::media::time::MediaInstant;
use sidetone::net::capture::Capture;
use sidetone::net::capture::streams::StreamFinder;
use sidetone::recording::repair::{Outcome, mend};
use sidetone::recording::wav::WavReader;

/// A target by its name, which is that of its corpus' folder.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 17] = [
    ("ami", ami),
    ("ari_event", ari_event),
    ("audio_file", audio_file),
    ("audiosocket", audiosocket),
    ("capture", capture),
    ("chan_websocket", chan_websocket),
    ("codecs", codecs),
    ("dtmf", dtmf),
    ("ggml", ggml),
    ("job", job),
    ("listen", listen),
    ("path", path),
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

/// Any bytes as what comes over an AudioSocket, and its audio as that of a leg. The bytes come in pieces whose lengths, and the
/// milliseconds between them, follow from the bytes themselves.
pub fn audiosocket(bytes: &[u8]) {
    let start = MediaInstant::from_nanos(1_000_000_000);
    let codec = Codec::Slin;
    let clock = Arc::new(CallClock::new(start, codec.sample_rate(), 1));
    let (mut leg, ring) = StreamReceiver::new(StreamConfig::new(codec, clock));
    let mut reader = ring.reader();
    let mut slot = vec![0; ring.slot_samples()];
    let (mut decoder, mut rest, mut now, mut taken) = (Decoder::default(), bytes, start, 0);
    'stream: while let Some(&first) = rest.first() {
        let space = decoder.space();
        assert!(!space.is_empty(), "a frame always fits");
        let length = (usize::from(first) * 3 + 1).min(rest.len()).min(space.len());
        let (piece, tail) = rest.split_at(length);
        space[..length].copy_from_slice(piece);
        decoder.filled(length);
        (rest, now) = (tail, now + Duration::from_millis(u64::from(first) * 7));
        loop {
            match decoder.next_frame() {
                Ok(Some(Frame::Audio { payload, .. })) => {
                    assert!(payload.len() <= MAX_PAYLOAD);
                    taken += payload.len();
                    leg.on_audio(now, payload);
                }
                Ok(Some(Frame::Dtmf(digit))) => leg.on_digit(digit),
                Ok(Some(Frame::Hangup)) => leg.on_connected(now),
                Ok(Some(Frame::Id(_) | Frame::Error(_))) => leg.on_invalid(),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_frame(), Err(error), "there is no way back");
                    break 'stream;
                }
            }
        }
        assert!(taken <= bytes.len());
        leg.take_events().for_each(drop);
        while let SlotRead::Ready { .. } | SlotRead::Missed { .. } = reader.read_slot(0, &mut slot) {}
    }
    let stats = leg.finish(now + Duration::from_secs(1));
    assert!(stats.jitter_ms.is_finite() && stats.packets_lost == 0);
    loop {
        match reader.read_slot(0, &mut slot) {
            SlotRead::End => break,
            SlotRead::Pending => panic!("a ring that is closed has an end"),
            SlotRead::Ready { .. } | SlotRead::Missed { .. } => {}
        }
    }
}

/// Any text as a message of chan_websocket's, and as the argument of a command to it.
pub fn chan_websocket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Event::parse(text) {
        let words = error.to_string();
        assert!(!words.is_empty() && words.len() < 1_024, "{words}");
    }
    for form in [Form::Plain, Form::Json] {
        if let Ok(message) = (Command::MarkMedia { correlation_id: text }).encode(form) {
            assert!(message.len() <= MAX_COMMAND);
        }
    }
}

/// Any bytes as a capture: no panic, no unbounded memory, and every datagram through the stream finder.
pub fn capture(bytes: &[u8]) {
    let Ok(capture) = Capture::new(bytes) else { return };
    let mut finder = StreamFinder::new();
    capture.flatten().for_each(|datagram| finder.add(&datagram));
    finder.flows();
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
