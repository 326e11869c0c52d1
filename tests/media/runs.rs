//! Ten thousand calls that a seed made up: ring, live stream and the file on disk agree with the array.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sidetone::emulator::{Choice, Disagreement, MS, Reception, Rng, Scenario, instant};
use sidetone::media::clock::CallClock;
use sidetone::media::report::Gap;
use sidetone::media::slot::SlotState;
use sidetone::recording::Finished;

use super::tape::{Tape, channels, folder};

/// How often the writer gets its turn, as the pool's.
const TURN_MS: u64 = 100;

/// A call: one leg, or two on the same clock.
#[derive(Clone, Debug)]
struct Call {
    legs: Vec<Scenario>,
}

impl Call {
    fn of_seed(seed: u64) -> Self {
        let mut choice = Rng(seed);
        let left = Scenario::draw(&mut choice);
        let mut legs = vec![left.clone()];
        if choice.one_in(4) {
            let right = Scenario::draw(&mut choice);
            let (codec, repair_ms) = (left.codec, left.repair_ms);
            legs.push(Scenario { codec, repair_ms, voice: 1, ..right });
        }
        Self { legs }
    }

    /// Receive and record it in `folder`, and compare everything with everything.
    fn compare(&self, folder: &Path) -> Result<(), Disagreement> {
        let (codec, repair) = (self.legs[0].codec, Duration::from_millis(self.legs[0].repair_ms));
        let clock = Arc::new(CallClock::new(instant(0), codec.sample_rate(), self.legs.len() as u32));
        let (mut lines, ends): (Vec<_>, Vec<_>) = self.legs.iter().map(|leg| leg.line(&clock)).unzip();
        let end = ends.into_iter().max().unwrap();
        let path = folder.join("call.wav");
        let ring = |n: usize| lines.get(n).map(|line| line.ring().clone());
        let mut tape = Tape::begin(&path, &clock, [ring(0), ring(1)], repair);
        for now in (0..end).step_by((TURN_MS * MS) as usize) {
            lines.iter_mut().for_each(|line| line.run_until(now));
            tape.pump(now);
        }
        let legs: Vec<Reception> = lines.into_iter().map(|line| line.finish(end)).collect();
        let finished = tape.finish(end);
        let recorded = channels(&path);
        std::fs::remove_file(&path).unwrap();
        for (leg, reception) in legs.iter().enumerate() {
            reception.compare().map_err(|Disagreement(it)| Disagreement(format!("leg {leg}: {it}")))?;
            compare_file(reception, &finished, leg, &recorded[leg])
                .map_err(|Disagreement(it)| Disagreement(format!("file, leg {leg}: {it}")))?;
        }
        compare_end(&legs, &finished)
    }

    /// What goes wrong with it, if anything does.
    fn failure(&self, folder: &Path) -> Option<String> {
        match catch_unwind(AssertUnwindSafe(|| self.compare(folder))) {
            Ok(outcome) => outcome.err().map(|Disagreement(it)| it),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                Some(text.unwrap_or_else(|| "panicked".to_owned()))
            }
        }
    }

    fn shrink(self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut smallest = self;
        for leg in (0..smallest.legs.len()).rev() {
            let mut alone = smallest.clone();
            alone.legs.remove(leg);
            if !alone.legs.is_empty() && fails(&alone) {
                smallest = alone;
            }
        }
        for leg in 0..smallest.legs.len() {
            let with = |scenario: &Scenario| {
                let mut call = smallest.clone();
                call.legs[leg] = scenario.clone();
                call
            };
            let fails = |scenario: &Scenario| {
                let call = with(scenario);
                let same = |it: &Scenario| (it.codec, it.repair_ms) == (scenario.codec, scenario.repair_ms);
                call.legs.iter().all(same) && fails(&call)
            };
            let scenario = smallest.legs[leg].clone().shrink(fails);
            smallest = with(&scenario);
        }
        smallest
    }
}

fn disagree<T>(what: String) -> Result<T, Disagreement> {
    Err(Disagreement(what))
}

/// Sample by sample: the file has what the ring's recorder got from the recording's first sample on, and lists as a gap what
/// is not received audio.
fn compare_file(
    reception: &Reception,
    finished: &Finished,
    leg: usize,
    recorded: &[i16],
) -> Result<(), Disagreement> {
    let slot = reception.codec.sample_rate().slot_samples();
    let ring = &reception.recorder;
    let kinds = kinds(&finished.gaps[leg], recorded.len());
    let passed = passed_before_it_began(reception);
    for (n, (&pcm, &kind)) in recorded.iter().zip(&kinds).enumerate() {
        let at = finished.origin + n as i64 - reception.base;
        let (value, state) = match usize::try_from(at).ok().filter(|&at| at < ring.pcm.len()) {
            Some(at) => (ring.pcm[at], ring.states[at / slot]),
            None => (0, SlotState::Silence),
        };
        if finished.origin + (n as i64) < passed && (pcm, kind) == (0, Some(SlotState::Silence)) {
            continue;
        }
        if pcm != value {
            return disagree(format!("sample {n} is {pcm}; the ring has {value} ({state:?})"));
        }
        // What is left of a slot that was cut off after it had been read may be whole. What lay behind it stays in the file where
        // the other leg goes on, and is named as it was then.
        let cut_from = ring.states.len() as i64 - 1;
        let cut_to = (ring.pcm.len() + ring.taken_back).div_ceil(slot) as i64;
        let is_cut = ring.taken_back > 0 && (cut_from..cut_to).contains(&at.div_euclid(slot as i64));
        if !is_cut && kind != Some(state).filter(|state| !state.is_audio()) {
            return disagree(format!("sample {n} is listed as {kind:?}; the ring has {state:?}"));
        }
    }
    Ok(())
}

/// Up to where the other leg's recording may have gone on without this one: its first packets may be later than the repair
/// window, and are held for 200 ms. A tick and a turn of the writer come on top.
fn passed_before_it_began(reception: &Reception) -> i64 {
    let rate = reception.codec.sample_rate();
    let first = reception.arrived.iter().find(|datagram| datagram.sent.is_some());
    let begun = first.map_or(0, |first| rate.samples_in_nanos((first.at + (210 + TURN_MS) * MS) as i64));
    begun - rate.samples_in(reception.repair) as i64
}

fn kinds(gaps: &[Gap], frames: usize) -> Vec<Option<SlotState>> {
    let mut kinds = vec![None; frames];
    for gap in gaps {
        kinds[gap.start_sample as usize..(gap.start_sample + gap.samples) as usize].fill(Some(gap.kind));
    }
    kinds
}

/// The recording begins with its earliest leg and ends with its last.
fn compare_end(legs: &[Reception], finished: &Finished) -> Result<(), Disagreement> {
    let heard = || legs.iter().filter(|leg| !leg.stats.segments.is_empty());
    let Some(end) = heard().map(|leg| leg.base + leg.recorder.pcm.len() as i64).max() else {
        return Ok(());
    };
    let found = finished.origin + finished.frames as i64;
    if found != end {
        return disagree(format!("the file ends at {found}, its legs at {end}"));
    }
    let firsts = || heard().map(|leg| leg.stats.segments[0].first_sample);
    if !firsts().any(|first| first == finished.origin) {
        return disagree(format!(
            "the file begins at {}: {:?}",
            finished.origin,
            firsts().collect::<Vec<_>>()
        ));
    }
    Ok(())
}

fn agree(seeds: std::ops::Range<u64>) {
    let folder = folder();
    for seed in seeds {
        if let Some(failure) = Call::of_seed(seed).failure(folder.path()) {
            panic!("seed {seed}: {failure}\n{}", smallest(seed));
        }
    }
}

/// The smallest call found that fails as that of `seed` does, and how it fails.
fn smallest(seed: u64) -> String {
    let failure = |call: &Call| call.failure(folder().path());
    let kind = failure(&Call::of_seed(seed)).map(|it| kind(&it));
    let smallest = Call::of_seed(seed).shrink(|call| failure(call).map(|it| self::kind(&it)) == kind);
    let mut text = format!("smallest: {smallest:#?}\n");
    for leg in &smallest.legs {
        let reception = leg.run();
        for (datagram, outcome) in reception.arrived.iter().zip(&reception.outcomes) {
            let sent = datagram.sent.map(|sent| (sent.sequence, sent.position, sent.content));
            text += &format!("{:9.3} ms {sent:?} {outcome:?}\n", datagram.at as f64 / 1e6);
        }
    }
    text + &failure(&smallest).unwrap_or_default()
}

/// A failure less its numbers.
fn kind(failure: &str) -> String {
    failure.lines().next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit() && *c != '-').collect()
}

#[test]
fn ring_file_and_live_stream_agree_with_the_array_in_runs_0_to_2_500() {
    agree(0..2_500);
}

#[test]
fn ring_file_and_live_stream_agree_with_the_array_in_runs_2_500_to_5_000() {
    agree(2_500..5_000);
}

#[test]
fn ring_file_and_live_stream_agree_with_the_array_in_runs_5_000_to_7_500() {
    agree(5_000..7_500);
}

#[test]
fn ring_file_and_live_stream_agree_with_the_array_in_runs_7_500_to_10_000() {
    agree(7_500..10_000);
}

/// For exploration: `SEEDS=10000..20000 cargo nextest run --test media --run-ignored all --no-capture runs_of_any_seeds`
/// tells all failures of the range, and the smallest call of each kind.
#[test]
#[ignore = "only when asked for, with SEEDS=FROM..TO"]
fn runs_of_any_seeds() {
    let seeds = std::env::var("SEEDS").unwrap();
    let (from, to) = seeds.split_once("..").unwrap();
    let mut kinds = BTreeMap::new();
    let mut folder = folder();
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        if let Some(failure) = Call::of_seed(seed).failure(folder.path()) {
            println!("seed {seed}: {}", failure.lines().next().unwrap_or_default());
            kinds.entry(kind(&failure)).or_insert(seed);
            folder = super::tape::folder();
        }
    }
    for (kind, seed) in &kinds {
        println!("{kind}, first with seed {seed}\n{}\n", smallest(*seed));
    }
    assert!(kinds.is_empty(), "{} kinds of failures", kinds.len());
}
