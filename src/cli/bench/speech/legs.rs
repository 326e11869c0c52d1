//! Live legs at the pace of the clock, in front of an engine of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::track::Track;
use crate::cli::bench::machine;
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::leg::Leg;
use crate::media::ring::{RingWriter, ring};
use crate::media::slot::SlotState;
use crate::media::time::MediaInstant;
use crate::speech::engine::EventSink;
use crate::speech::{FinishReport, LegAudio, LegListener, SpeechEngine, TranscriptKind};

/// A packet, as phones send it.
const PACKET: Duration = Duration::from_millis(20);
/// So far behind the newest sample the engine listens, as with a call.
const LIVE_LAG: Duration = Duration::from_millis(60);
/// Legs begin their tracks apart by this share of them, so that never all speak at once nor none (the golden ratio, which
/// spreads any number of them evenly).
const APART: f64 = 0.618_033_988_75;

/// What was told of a leg.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// When.
    pub at: MediaInstant,
    /// Of which leg.
    pub leg: usize,
    /// Of which of its utterances.
    pub utterance: u64,
    /// Whether that was the last word on it.
    pub is_final: bool,
    /// Where its speech starts, on the legs' clock.
    pub start: MediaInstant,
    /// Where the speech heard so far ends, on the legs' clock.
    pub end: MediaInstant,
}

/// What became of some legs.
#[derive(Debug, Default)]
pub struct Heard {
    /// All that was told, in order.
    pub told: Vec<Told>,
    /// Of each leg.
    pub reports: Vec<FinishReport>,
    /// How long they spoke.
    pub length: Duration,
    /// When they stopped.
    pub stopped: Option<MediaInstant>,
    /// Processor time of the thread that listens, and of those that recognise.
    pub listening: Duration,
    pub recognising: Duration,
    /// By how much the speaker was late at most: a machine that cannot even play is no measure.
    pub behind: Duration,
}

/// Have `legs` legs say their `tracks` for `length`.
pub async fn speak(
    engine: &SpeechEngine,
    tracks: &[Track],
    language: &str,
    legs: usize,
    length: Duration,
    ring_slots: usize,
) -> anyhow::Result<Heard> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let start = clock::now();
    let mut speakers = Vec::with_capacity(legs);
    let mut listeners: Vec<LegListener> = Vec::with_capacity(legs);
    let mut call: Option<Arc<CallClock>> = None;
    for index in 0..legs {
        let track = &tracks[index % tracks.len()];
        let is_first = index % 2 == 0 || tracks[(index - 1) % tracks.len()].rate != track.rate;
        let new = || Arc::new(CallClock::new(start, track.rate, 1));
        let clock = if is_first { call.insert(new()).clone() } else { call.get_or_insert_with(new).clone() };
        clock.decide_origin(0);
        let (writer, ring) = ring(track.rate, ring_slots);
        let audio = LegAudio {
            call_id: format!("bench-{}", index / 2),
            leg: if is_first { Leg::Caller } else { Leg::Callee },
            ring,
            clock,
            language: language.to_owned(),
            live_lag: LIVE_LAG,
            first_utterance: 1,
            vocabulary: None,
            service: None,
            caught_up: false,
            pushed: None,
        };
        listeners.push(engine.listen(audio, sink(&told, index, start)));
        let from = (track.pcm.len() as f64 * (index as f64 * APART).fract()) as usize;
        let (pcm, packet) = (Arc::from(&track.pcm[..]), track.rate.slot_samples() * 2);
        speakers.push(Speaker { writer, pcm, from, packet, said: 0 });
    }

    let before = [machine::time_of_threads("asr-listen"), machine::time_of_threads("asr-")];
    let stop = Arc::new(AtomicBool::new(false));
    let speaking = {
        let stop = stop.clone();
        std::thread::Builder::new().name("speakers".into()).spawn(move || play(speakers, start, &stop))?
    };
    tokio::time::sleep(length).await;
    let spent = [machine::time_of_threads("asr-listen"), machine::time_of_threads("asr-")];
    stop.store(true, Ordering::Release);
    let behind = tokio::task::spawn_blocking(move || speaking.join()).await?;
    let behind = behind.map_err(|_| anyhow::anyhow!("the thread that plays to the legs has panicked"))?;
    let stopped = clock::now();
    let mut reports = Vec::with_capacity(legs);
    for ending in listeners.into_iter().map(|listener| tokio::spawn(listener.finish())).collect::<Vec<_>>() {
        reports.push(ending.await?);
    }
    let listening = spent[0].saturating_sub(before[0]);
    let recognising = spent[1].saturating_sub(before[1]).saturating_sub(listening);
    let told = std::mem::take(&mut *told.lock());
    Ok(Heard { told, reports, length, stopped: Some(stopped), listening, recognising, behind })
}

fn sink(told: &Arc<Mutex<Vec<Told>>>, leg: usize, start: MediaInstant) -> EventSink {
    let told = told.clone();
    Arc::new(move |event| {
        told.lock().push(Told {
            at: clock::now(),
            leg,
            utterance: event.utterance,
            is_final: event.kind == TranscriptKind::Final,
            start: start + Duration::from_secs_f64(event.start),
            end: start + Duration::from_secs_f64(event.end),
        });
    })
}

struct Speaker {
    writer: RingWriter,
    pcm: Arc<[i16]>,
    from: usize,
    /// Samples of a packet, and of all so far.
    packet: usize,
    said: u64,
}

impl Speaker {
    fn speak(&mut self) {
        let (pcm, at) = (&self.pcm, self.from + self.said as usize);
        self.writer.place(self.said, self.packet, |n| pcm[(at + n) % pcm.len()], SlotState::Silence);
        self.said += self.packet as u64;
    }
}

/// A packet of every leg every 20 ms; how late the latest was.
fn play(mut speakers: Vec<Speaker>, start: MediaInstant, stop: &AtomicBool) -> Duration {
    let mut behind = Duration::ZERO;
    for packet in 1.. {
        let due = start + PACKET * packet;
        let now = clock::now();
        std::thread::sleep(due.saturating_since(now));
        behind = behind.max(now.saturating_since(due));
        if stop.load(Ordering::Acquire) {
            break;
        }
        speakers.iter_mut().for_each(Speaker::speak);
    }
    behind
}
