//! What the speech tests and the latency example share: prompts with their texts, error rates, and legs fed like live ones.

#![allow(dead_code, reason = "each user needs a part of it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::leg::Leg;
use sidetone::media::receiver::STALL_MARGIN;
use sidetone::media::ring::{Ring, RingWriter, ring};
use sidetone::media::slot::SlotState;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::speech::engine::EventSink;
use sidetone::speech::{LegAudio, TranscriptEvent};

/// A spoken prompt.
#[derive(Clone)]
pub struct Prompt {
    /// Its name.
    pub name: String,
    /// What is said, in lower case.
    pub text: String,
    /// 8 kHz, through G.711.
    pub pcm: Vec<i16>,
}

/// The prompts in the repository.
pub fn prompts() -> Vec<Prompt> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/speech");
    listed(&directory.join("texts.txt"), |name| directory.join(format!("{name}.ulaw")))
}

/// The prompts of a list of `name: text` lines, their mu-law files found by `path`; what is missing is left out.
pub fn listed(list: &Path, path: impl Fn(&str) -> PathBuf) -> Vec<Prompt> {
    let list = std::fs::read_to_string(list).unwrap();
    let prompt = |line: &str| {
        let (name, text) = line.split_once(':')?;
        let bytes = std::fs::read(path(name)).ok()?;
        Some(Prompt {
            name: name.into(),
            text: text.trim().into(),
            pcm: bytes.into_iter().map(ulaw).collect(),
        })
    };
    list.lines().filter_map(prompt).collect()
}

/// One prompt of the repository.
pub fn prompt(name: &str) -> Prompt {
    prompts().into_iter().find(|p| p.name == name).unwrap()
}

fn ulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << (code >> 4 & 7);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// Nearly silent noise, as lines have it: a few units, different each time.
pub fn hush(samples: usize, seed: u64) -> Vec<i16> {
    noise(samples, seed, 4)
}

/// White noise of this amplitude.
pub fn noise(samples: usize, seed: u64, amplitude: i16) -> Vec<i16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as i64
    };
    (0..samples).map(|_| (next() % (2 * i64::from(amplitude) + 1) - i64::from(amplitude)) as i16).collect()
}

/// Wrong words (substituted, added, left out) and words in `reference`.
pub fn word_errors(reference: &str, heard: &str) -> (usize, usize) {
    let (reference, heard): (Vec<_>, Vec<_>) =
        (reference.split_whitespace().collect(), heard.split_whitespace().collect());
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, r) in reference.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, h) in heard.iter().enumerate() {
            let substituted = diagonal + usize::from(r != h);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    (row[heard.len()], reference.len())
}

/// A leg that is fed like a live one: 20 ms packets at the pace of the clock, or `speed` times that.
pub struct LiveLeg {
    /// The leg's ring.
    pub ring: Arc<Ring>,
    /// The call's clock; its origin is the first sample.
    pub clock: Arc<CallClock>,
    writer: RingWriter,
    pcm: Vec<i16>,
    speed: u32,
}

impl LiveLeg {
    /// A leg that will say `pcm`.
    pub fn new(pcm: Vec<i16>, rate: SampleRate, speed: u32) -> Self {
        let (writer, ring) = ring(rate, 1_000);
        let clock = Arc::new(CallClock::new(clock::now(), rate, 1));
        clock.propose_origin(0, clock.start());
        Self { ring, clock, writer, pcm, speed }
    }

    /// The leg as the engine wants it.
    pub fn audio(&self) -> LegAudio {
        LegAudio {
            call_id: "test".into(),
            leg: Leg::Caller,
            ring: self.ring.clone(),
            clock: self.clock.clone(),
            language: "en".into(),
            live_lag: Duration::from_millis(60),
            first_utterance: 1,
            vocabulary: None,
            caught_up: false,
            pushed: None,
            service: None,
        }
    }

    /// Say it all, then end.
    pub fn speak(mut self) {
        let packet = self.ring.rate().slot_samples() * 2;
        for (index, samples) in self.pcm.chunks(packet).enumerate() {
            let due = Duration::from_millis(20 * (index as u64 + 1)) / self.speed;
            std::thread::sleep(due.saturating_sub(clock::since(self.clock.start())));
            self.writer.place((index * packet) as u64, samples.len(), |i| samples[i], SlotState::Silence);
        }
    }
}

impl LiveLeg {
    /// Say it all, the second half of it `late`; meanwhile time alone moves the ring's head on, as the receiver does it.
    pub fn speak_late(mut self, late: Duration) {
        let rate = self.ring.rate();
        let packet = rate.slot_samples() * 2;
        for (index, samples) in self.pcm.chunks(packet).enumerate() {
            let at = index * packet;
            let delay = if at * 2 < self.pcm.len() { Duration::ZERO } else { late };
            let due = Duration::from_millis(20 * (index as u64 + 1)) + delay;
            while clock::since(self.clock.start()) < due {
                std::thread::sleep(Duration::from_millis(5));
                let passed = clock::since(self.clock.start()).saturating_sub(STALL_MARGIN);
                self.writer.advance(rate.samples_in(passed), SlotState::Silence);
            }
            self.writer.place(at as u64, samples.len(), |i| samples[i], SlotState::Silence);
        }
    }
}

/// Events as they come, each with the instant.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<(MediaInstant, TranscriptEvent)>>>);

impl Collected {
    /// A sink that collects here.
    pub fn sink(&self) -> EventSink {
        let events = self.0.clone();
        Arc::new(move |event| events.lock().unwrap().push((clock::now(), event)))
    }

    /// What has come so far.
    pub fn events(&self) -> Vec<(MediaInstant, TranscriptEvent)> {
        self.0.lock().unwrap().clone()
    }
}
