//! Four times the legs that this machine can transcribe, for minutes: what is given up, how late words come, and whether anything is lost.
//!
//! `cargo bench --bench overload [-- --seconds 180 --times 4 --model auto]`. Legs say the prompts of `tests/fixtures/speech` one after
//! another, with a pause between, at the pace of the clock. How many fit is what admission by measured cost lets in; then all of
//! them come at once. Every prompt of every leg has to be covered by a final or by what the leg's report says is owed; exit code 1
//! if one is not.

#[path = "../../tests/speech-support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use sidetone::clock;
use sidetone::config::Settings;
use sidetone::media::clock::CallClock;
use sidetone::media::leg::Leg;
use sidetone::media::ring::{RingWriter, ring};
use sidetone::media::slot::SlotState;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::speech::engine::Overload;
use sidetone::speech::ladder::{Rung, RungChange};
use sidetone::speech::models::Shelf;
use sidetone::speech::{
    FinishReport, LegAudio, LegListener, ModelChoice, SpeechConfig, SpeechEngine, TranscriptKind,
};
use support::{Collected, Prompt, hush, prompts};

const RATE: SampleRate = SampleRate::NARROWBAND;
/// 20 ms.
const PACKET: usize = 160;
/// Between two prompts of a leg.
const PAUSE: f64 = 1.5;
/// Legs heard first, so that their cost is known.
const FIRST: usize = 2;
const FIRST_FOR: Duration = Duration::from_secs(20);

struct Arguments {
    seconds: u64,
    times: usize,
    model: String,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut parsed = Arguments { seconds: 180, times: 4, model: "auto".into() };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--seconds" => parsed.seconds = value.parse()?,
            "--times" => parsed.times = value.parse()?,
            "--model" => parsed.model = value,
            _ => anyhow::bail!("unknown argument {name}: --seconds, --times, --model"),
        }
    }
    Ok(parsed)
}

/// A leg that talks as long as it is asked to.
struct Talker {
    writer: RingWriter,
    clock: Arc<CallClock>,
    collected: Collected,
    listener: Option<LegListener>,
    pcm: Arc<Vec<i16>>,
    /// Where in `pcm` it began.
    phase: usize,
    said: usize,
}

impl Talker {
    fn new(engine: &SpeechEngine, pcm: Arc<Vec<i16>>, phase: usize) -> Self {
        let (writer, ring) = ring(RATE, 1_000);
        let clock = Arc::new(CallClock::new(clock::now(), RATE, 1));
        clock.propose_origin(0, clock.start());
        let collected = Collected::default();
        let audio = LegAudio {
            call_id: format!("call-{phase}"),
            leg: Leg::Caller,
            ring,
            clock: clock.clone(),
            language: "en".into(),
            live_lag: Duration::from_millis(60),
            first_utterance: 1,
            vocabulary: None,
            caught_up: true,
            pushed: None,
            service: None,
        };
        let listener = Some(engine.listen(audio, collected.sink()));
        Self { writer, clock, collected, listener, pcm, phase, said: 0 }
    }

    /// Say what is due by now.
    fn talk(&mut self, now: MediaInstant) {
        let due = self.clock.sample_at(now).max(0) as usize;
        while self.said + PACKET <= due {
            let (from, pcm) = (self.phase + self.said, &self.pcm);
            let at = |i: usize| pcm[(from + i) % pcm.len()];
            self.writer.place(self.said as u64, PACKET, at, SlotState::Silence);
            self.said += PACKET;
        }
    }
}

/// All prompts with pauses between, and where each lies, samples.
fn monologue(prompts: &[Prompt]) -> (Vec<i16>, Vec<(usize, usize)>) {
    let (mut pcm, mut places) = (Vec::new(), Vec::new());
    for (n, prompt) in prompts.iter().enumerate() {
        pcm.extend(hush((PAUSE * f64::from(RATE.hz())) as usize, n as u64 + 1));
        places.push((pcm.len(), pcm.len() + prompt.pcm.len()));
        pcm.extend(&prompt.pcm);
    }
    (pcm, places)
}

/// What a leg came to.
struct Outcome {
    report: FinishReport,
    latencies: Vec<f64>,
    prompts: usize,
    /// Prompts that are in no final and not owed.
    uncovered: Vec<f64>,
    /// Utterances told of without a final, that are not owed either; or with both.
    wrong: usize,
}

fn judge(talker: &Talker, report: FinishReport, places: &[(usize, usize)]) -> Outcome {
    let events = talker.collected.events();
    let finals: Vec<_> = events.iter().filter(|(_, e)| e.kind == TranscriptKind::Final).collect();
    let latency = |at: MediaInstant, end: f64| {
        at.nanos_since(talker.clock.start() + Duration::from_secs_f64(end)) as f64 / 1e9
    };
    let rate = f64::from(RATE.hz());
    let (mut prompts, mut uncovered) = (0, Vec::new());
    let length = talker.pcm.len();
    for round in 0..=(talker.phase + talker.said) / length {
        for (from, to) in places {
            let (from, to) = (from + round * length, to + round * length);
            // Those that were said whole.
            if from < talker.phase || to + PACKET > talker.phase + talker.said {
                continue;
            }
            prompts += 1;
            let middle = ((from + to) / 2 - talker.phase) as f64 / rate;
            let (start, end) = ((from - talker.phase) as f64 / rate, (to - talker.phase) as f64 / rate);
            let is_said = finals.iter().any(|(_, e)| e.start < end && e.end > start);
            let is_owed = report.owed.iter().any(|span| span.start <= middle && middle <= span.end);
            if !(is_said || is_owed) {
                uncovered.push(start);
            }
        }
    }
    let mut told: Vec<u64> = events.iter().map(|(_, e)| e.utterance).collect();
    told.dedup();
    let wrong = told.iter().filter(|&&utterance| {
        let ends = finals.iter().filter(|(_, e)| e.utterance == utterance).count();
        let owed = report.owed.iter().filter(|span| span.utterance == Some(utterance)).count();
        ends + owed != 1
    });
    let wrong = wrong.count();
    let latencies = finals.iter().map(|(at, e)| latency(*at, e.end)).collect();
    Outcome { report, latencies, prompts, uncovered, wrong }
}

/// Have them talk until `until`; what the ladder did is noted elsewhere.
fn talk(talkers: &Mutex<Vec<Talker>>, until: MediaInstant) {
    while clock::now() < until {
        let now = clock::now();
        talkers.lock().iter_mut().for_each(|talker| talker.talk(now));
        std::thread::sleep(Duration::from_millis(20).saturating_sub(clock::since(now)));
    }
}

async fn end(talkers: Mutex<Vec<Talker>>, places: &[(usize, usize)]) -> Vec<Outcome> {
    let ends = talkers.into_inner().into_iter().map(|mut talker| async move {
        let Some(listener) = talker.listener.take() else { unreachable!("each has one") };
        let Talker { writer, clock, collected, pcm, phase, said, .. } = talker;
        drop(writer);
        let report = listener.finish().await;
        let (writer, _) = ring(RATE, 2);
        let talker = Talker { writer, clock, collected, listener: None, pcm, phase, said };
        judge(&talker, report, places)
    });
    futures_util::future::join_all(ends).await
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { seconds, times, model } = arguments()?;
    let choice = ModelChoice::parse(&model);
    let Some(model) = choice.resolve(&Shelf::of(&Settings::default()))? else { anyhow::bail!("no model") };
    let engine = SpeechEngine::start(SpeechConfig::default(), model.load()?)?;
    let changes: Arc<Mutex<Vec<(MediaInstant, RungChange)>>> = Arc::default();
    let left = Arc::new(Mutex::new((0_u32, 0_u32)));
    let (noted, moved) = (changes.clone(), left.clone());
    engine.on_overload(Arc::new(move |overload| match overload {
        Overload::Ladder(change) => noted.lock().push((clock::now(), *change)),
        Overload::Leg(leg) if leg.live => moved.lock().1 += 1,
        Overload::Leg(_) => moved.lock().0 += 1,
    }));
    let (pcm, places) = monologue(&prompts());
    let pcm = Arc::new(pcm);
    let phase = |n: usize| places[n * 7 % places.len()].0.saturating_sub(PACKET * (n % 50));

    println!(
        "{} on {} workers; {FIRST} legs for {FIRST_FOR:?} to learn their cost",
        engine.model(),
        engine.workers()
    );
    let talkers = Mutex::new((0..FIRST).map(|n| Talker::new(&engine, pcm.clone(), phase(n))).collect());
    talk(&talkers, clock::now() + FIRST_FOR);
    // As many as are let in, silent: they are expected to talk as the first ones did.
    let mut silent = Vec::new();
    while engine.admits() && silent.len() < 5_000 {
        silent.push(Talker::new(&engine, Arc::new(vec![0; 8_000]), 0));
        std::thread::sleep(Duration::from_millis(1));
    }
    let fit = FIRST + silent.len();
    drop(silent);
    end(talkers, &places).await;
    println!("{fit} legs fit");

    while engine.rung() != Rung::Calm {
        std::thread::sleep(Duration::from_millis(100));
    }
    changes.lock().clear();
    *left.lock() = (0, 0);
    let legs = fit * times;
    println!("{legs} legs for {seconds} s");
    let begun = clock::now();
    let talkers = Mutex::new((0..legs).map(|n| Talker::new(&engine, pcm.clone(), phase(n))).collect());
    talk(&talkers, begun + Duration::from_secs(seconds));
    let outcomes = end(talkers, &places).await;
    while engine.rung() != Rung::Calm && clock::since(begun) < Duration::from_secs(seconds + 120) {
        std::thread::sleep(Duration::from_millis(100));
    }

    let mut latencies: Vec<f64> = outcomes.iter().flat_map(|o| o.latencies.clone()).collect();
    latencies.sort_by(f64::total_cmp);
    let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let owed: f64 = outcomes.iter().flat_map(|o| &o.report.owed).map(|span| span.end - span.start).sum();
    let all = legs as f64 * seconds as f64;
    println!(
        "rungs: {}",
        changes
            .lock()
            .iter()
            .map(|(at, c)| {
                format!(
                    "{:.1} s {} (lag {} s, utilisation {})",
                    at.nanos_since(begun) as f64 / 1e9,
                    c.name,
                    c.lag_s,
                    c.utilisation
                )
            })
            .collect::<Vec<_>>()
            .join(", ")
    );
    let (off, again) = *left.lock();
    println!(
        "legs: {} live to their end, {off} left to the recording, {again} taken up again",
        outcomes.iter().filter(|o| o.report.owed.is_empty()).count()
    );
    println!(
        "finals {}, partials {}, failed {}, slots missed {}",
        sum(&|o| o.report.finals),
        sum(&|o| o.report.partials),
        sum(&|o| o.report.failed),
        sum(&|o| o.report.missed_slots)
    );
    println!(
        "final after the end of speech: median {:.2} s, 95 % {:.2} s, 99 % {:.2} s, worst {:.2} s",
        at(&latencies, 0.5),
        at(&latencies, 0.95),
        at(&latencies, 0.99),
        at(&latencies, 1.0)
    );
    println!("owed {owed:.0} of {all:.0} s of legs ({:.0} %)", 100.0 * owed / all);
    let (prompts, uncovered, wrong) =
        (sum(&|o| o.prompts as u64), sum(&|o| o.uncovered.len() as u64), sum(&|o| o.wrong as u64));
    println!(
        "{prompts} prompts said, {uncovered} in no final and not owed; {wrong} utterances without one end"
    );
    let climbed = changes.lock().iter().map(|(_, change)| change.rung).max();
    println!("highest rung {climbed:?}, at the end {:?}", engine.rung());
    let is_good =
        uncovered == 0 && wrong == 0 && sum(&|o| o.report.missed_slots) == 0 && engine.rung() == Rung::Calm;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
