//! More legs than the engine can transcribe, on its own threads: what is given up, in which order, and that nothing is lost.

#[path = "speech-support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidetone::clock;
use sidetone::media::time::SampleRate;
use sidetone::speech::engine::Overload;
use sidetone::speech::ladder::Rung;
use sidetone::speech::scripted::{ScriptedCost, ScriptedModel, ScriptedWord};
use sidetone::speech::{
    FinishReport, LegAudio, OwedSpan, SpeechConfig, SpeechEngine, TranscriptEvent, TranscriptKind,
};
use support::{Collected, LiveLeg, hush, prompt};

/// What each piece of audio keeps its worker busy for.
const COST: Duration = Duration::from_millis(200);
/// With this, two workers have room for some 15 legs that speak without a pause, if their partials are as rare as can be.
const FIT: usize = 15;
const MAX_LAG: Duration = Duration::from_secs(3);

/// The prompt twice at 16 kHz, with words all through it.
fn speech() -> (Vec<i16>, Vec<ScriptedWord>) {
    let spoken: Vec<i16> = prompt("agent-pass").pcm.into_iter().flat_map(|s| [s, s]).collect();
    let one: Vec<i16> = [vec![0; 8_000], spoken, vec![0; 12_000]].concat();
    let mut pcm = one.repeat(2);
    for (sample, noise) in pcm.iter_mut().zip(hush(2_000_000, 3)) {
        *sample = sample.saturating_add(noise);
    }
    let length = one.len() as f64 / 16_000.0;
    let words = ((length - 1.25 - 0.2) / 0.25) as usize;
    let word = |n: usize| {
        let start = 0.6 + 0.25 * (n % words) as f64 + length * (n / words) as f64;
        (format!("w{n}"), start, start + 0.2)
    };
    (pcm, (0..2 * words).map(word).collect())
}

struct Heard {
    events: Vec<(sidetone::media::time::MediaInstant, TranscriptEvent)>,
    report: FinishReport,
    start: sidetone::media::time::MediaInstant,
}

impl Heard {
    fn finals(&self) -> impl Iterator<Item = &(sidetone::media::time::MediaInstant, TranscriptEvent)> {
        self.events.iter().filter(|(_, event)| event.kind == TranscriptKind::Final)
    }

    /// Every word of the script is in a final or in what is owed, and what was told of has one final, or is owed by its number.
    fn check(&self, script: &[ScriptedWord]) {
        // Where a leg was left in the middle of an utterance that was told of, two spans meet. The script's words lie on a grid, and not
        // where the voice has its own: hence the margin, of what is owed as of what was said.
        let is_owed = |start: f64, end: f64| {
            let near = |span: &OwedSpan, at: f64| span.start - 0.3 <= at && at <= span.end + 0.3;
            let holds = |at: f64| self.report.owed.iter().any(|span| near(span, at));
            holds(start) && holds(end)
        };
        let is_said = |at: f64| {
            let near = |event: &TranscriptEvent| event.start - 0.3 <= at && at <= event.end + 0.3;
            self.finals().any(|(_, event)| near(event))
        };
        for (text, start, end) in script {
            assert!(is_said(*start) || is_owed(*start, *end), "{text} at {start}: {:?}", self.report);
        }
        let mut told: Vec<u64> = self.events.iter().map(|(_, event)| event.utterance).collect();
        told.dedup();
        for utterance in told {
            let finals = self.finals().filter(|(_, event)| event.utterance == utterance).count();
            let owed = self.report.owed.iter().filter(|span| span.utterance == Some(utterance)).count();
            assert_eq!(finals + owed, 1, "utterance {utterance}: {:?}", self.report);
        }
        assert_eq!(self.report.missed_slots, 0);
    }

    /// How long after its end the latest final came.
    fn latest(&self) -> f64 {
        let late = |(at, event): &(sidetone::media::time::MediaInstant, TranscriptEvent)| {
            at.nanos_since(self.start + Duration::from_secs_f64(event.end)) as f64 / 1e9
        };
        self.finals().map(late).fold(0.0, f64::max)
    }
}

/// Legs that speak at once, each a little after the one before.
async fn talk(engine: &SpeechEngine, legs: usize, pcm: &[i16], caught_up: bool) -> Vec<Heard> {
    let mut running = Vec::new();
    for _ in 0..legs {
        let leg = LiveLeg::new(pcm.to_vec(), SampleRate::WIDEBAND, 1);
        let (collected, start) = (Collected::default(), leg.clock.start());
        let listener = engine.listen(LegAudio { caught_up, ..leg.audio() }, collected.sink());
        let speaking = tokio::task::spawn_blocking(move || leg.speak());
        running.push((collected, start, listener, speaking));
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let ends = running.into_iter().map(|(collected, start, listener, speaking)| async move {
        speaking.await.unwrap();
        let report = listener.finish().await;
        Heard { events: collected.events(), report, start }
    });
    futures_util::future::join_all(ends).await
}

async fn until_calm(engine: &SpeechEngine) {
    let begun = clock::now();
    while engine.rung() != Rung::Calm {
        assert!(clock::since(begun) < Duration::from_secs(60), "{:?}", engine.rung());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_four_times_the_legs_that_fit_nothing_is_lost_and_what_is_said_live_is_in_time() {
    let (pcm, script) = speech();
    let cost: ScriptedCost = |_| COST;
    let model = Arc::new(ScriptedModel::with_cost(&pcm, script.clone(), cost));
    let config = SpeechConfig { workers: 2, max_lag: MAX_LAG, ..SpeechConfig::default() };
    let engine = SpeechEngine::start(config, model).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    engine.on_overload(Arc::new(move |overload| sink.lock().unwrap().push(overload.clone())));

    // Nothing is known of costs: all of them are taken in.
    let heard = talk(&engine, 4 * FIT, &pcm, true).await;
    heard.iter().for_each(|leg| leg.check(&script));
    let finals: u64 = heard.iter().map(|leg| leg.report.finals).sum();
    let partials: u64 = heard.iter().map(|leg| leg.report.partials).sum();
    let owed = heard.iter().filter(|leg| !leg.report.owed.is_empty()).count();
    let whole = heard.iter().filter(|leg| leg.report.owed.is_empty()).count();
    let latest = heard.iter().map(Heard::latest).fold(0.0, f64::max);
    eprintln!("{finals} finals, {partials} partials, latest {latest:.1} s, {owed} legs owe, {whole} do not");
    assert!(whole >= FIT / 2 && owed >= FIT, "{whole} legs live to their end, {owed} left");
    // The bound, what may be in the queue when it is seen to be passed, and the hangover.
    assert!(latest < MAX_LAG.as_secs_f64() + 3.0, "{latest}");

    until_calm(&engine).await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    let rungs: Vec<u8> = told
        .iter()
        .filter_map(|overload| match overload {
            Overload::Ladder(change) => Some(change.rung.number()),
            Overload::Leg(_) => None,
        })
        .collect();
    assert_eq!(rungs[..4], [1, 2, 3, 4], "climbed in order");
    assert_eq!(rungs.last(), Some(&0), "and descended: {rungs:?}");
    assert!(rungs.windows(2).all(|pair| pair[0].abs_diff(pair[1]) == 1), "{rungs:?}");
    let left = told.iter().filter(|o| matches!(o, Overload::Leg(leg) if !leg.live)).count();
    assert!(left >= owed, "each is told of");

    // By now it is known what a leg costs.
    let heard = talk(&engine, 4 * FIT, &pcm, true).await;
    heard.iter().for_each(|leg| leg.check(&script));
    let refused = heard.iter().filter(|leg| leg.report.finals + leg.report.partials == 0).count();
    let latest = heard.iter().map(Heard::latest).fold(0.0, f64::max);
    eprintln!("once costs are known: {refused} legs not taken in, latest {latest:.1} s");
    assert!(refused >= FIT, "{refused}");
    assert!(latest < MAX_LAG.as_secs_f64() + 1.0, "{latest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_catches_up_with_is_late_and_never_left() {
    let (pcm, script) = speech();
    let cost: ScriptedCost = |_| COST;
    let model = Arc::new(ScriptedModel::with_cost(&pcm, script.clone(), cost));
    let config = SpeechConfig {
        workers: 2,
        max_lag: Duration::from_secs(2),
        finish_timeout: Duration::from_secs(60),
        ..SpeechConfig::default()
    };
    let engine = SpeechEngine::start(config, model).unwrap();
    let heard = talk(&engine, 3 * FIT, &pcm, false).await;
    for leg in &heard {
        leg.check(&script);
        assert!(leg.report.complete && leg.report.owed.is_empty(), "{:?}", leg.report);
    }
}
