//! Files on the workers: side by side, in order, in little memory, and given up when asked. By models that need no time.

#[path = "speech-support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use sidetone::audio::{AudioError, PcmSource, PcmSpec, Samples};
use sidetone::media::leg::Leg;
use sidetone::speech::batch::{Batch, BatchError, BatchNews, BatchOptions, transcribe};
use sidetone::speech::recogniser::{
    Hypothesis, HypothesisWord, RecogniseError, Recogniser, Request, SpeechModel,
};
use sidetone::speech::scheduler::Class;
use sidetone::speech::transcript::Transcript;
use sidetone::speech::{SpeechConfig, SpeechEngine, TranscriptEvent};
use support::{hush, prompt};
use tokio_util::sync::CancellationToken;

type Hear = Arc<dyn Fn(&Request) -> String + Send + Sync>;

/// Hears what the function says in every utterance.
struct Model(Hear);

impl SpeechModel for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(Hearing(self.0.clone())))
    }
}

struct Hearing(Hear);

impl Recogniser for Hearing {
    fn recognise(&mut self, _: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        let word = HypothesisWord { text: (self.0)(request), start: 0.3, end: 0.4, p: 0.9 };
        Ok(Hypothesis {
            words: vec![word],
            avg_logprob: -0.1,
            language: request.language.clone(),
            ..Hypothesis::default()
        })
    }
}

fn engine(workers: usize, hear: impl Fn(&Request) -> String + Send + Sync + 'static) -> SpeechEngine {
    let config = SpeechConfig { workers, ..SpeechConfig::default() };
    SpeechEngine::start(config, Arc::new(Model(Arc::new(hear)))).unwrap()
}

/// What it came to, and the finals in the order in which they were told.
fn run(engine: &SpeechEngine, source: &mut dyn PcmSource) -> (Batch, Vec<TranscriptEvent>, Vec<f64>) {
    let (mut told, mut shares) = (Vec::new(), Vec::new());
    let options = BatchOptions { language: "en", prompt: Some("names"), class: Class::Job };
    let batch = transcribe(engine, source, options, &CancellationToken::new(), &mut |news| match news {
        BatchNews::Final(event) => told.push(event),
        BatchNews::Read(share) => shares.push(share),
    });
    (batch.unwrap(), told, shares)
}

/// The prompt between silences.
fn said(before: f64, after: f64) -> Vec<i16> {
    let silence = |seconds: f64, seed| hush((seconds * 8_000.0) as usize, seed);
    [silence(before, 1), prompt("hello-world").pcm, silence(after, 2)].concat()
}

#[test]
fn both_channels_are_recognised_at_the_same_time() {
    // Nobody is done before both have begun.
    let both = Arc::new(Barrier::new(2));
    let engine = engine(2, move |_| {
        both.wait();
        "word".to_owned()
    });
    let one = said(0.5, 1.0);
    let (batch, told, _) = run(&engine, &mut Samples::new(8_000, &[&one, &one]));
    assert_eq!(told.iter().map(|event| event.leg).collect::<Vec<_>>(), [Leg::Caller, Leg::Callee]);
    assert_eq!(batch.events, told);
}

#[test]
fn finals_are_told_in_the_order_of_the_transcript_however_they_come() {
    let count = AtomicUsize::new(0);
    // Every other one comes late.
    let engine = engine(3, move |request| {
        assert_eq!(request.prompt.as_deref(), Some("names"));
        let n = count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(if n.is_multiple_of(2) { 30 } else { 0 }));
        format!("w{n}")
    });
    let left = said(0.3, 1.2).repeat(8);
    let right = [hush(9_000, 3), said(0.2, 0.9).repeat(9)].concat();
    let (batch, told, shares) = run(&engine, &mut Samples::new(8_000, &[&left, &right]));
    assert_eq!(told.len(), 17);
    let transcript = Transcript::new(None, batch.duration, 2, "m", batch.events.clone());
    let order: Vec<_> = transcript.utterances.iter().map(|u| u.text.clone()).collect();
    assert_eq!(told.iter().map(|event| event.text.clone()).collect::<Vec<_>>(), order);
    assert!(told.windows(2).any(|pair| pair[0].leg != pair[1].leg), "they take turns");
    for leg in Leg::BOTH {
        let numbers: Vec<_> =
            told.iter().filter(|event| event.leg == leg).map(|event| event.utterance).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    }
    assert!(shares.is_sorted() && shares.last() == Some(&1.0), "{shares:?}");
    let frames = left.len().max(right.len());
    assert!((batch.duration - frames as f64 / 8_000.0).abs() < 1e-9);
}

#[test]
fn what_is_cancelled_ends_and_takes_its_tasks_along() {
    let begun = Arc::new(AtomicUsize::new(0));
    let cancel = CancellationToken::new();
    let (seen, stop) = (begun.clone(), cancel.clone());
    let engine = engine(1, move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        stop.cancel();
        "word".to_owned()
    });
    let long = said(0.5, 1.0).repeat(20);
    let options = BatchOptions { language: "en", prompt: None, class: Class::Job };
    let mut source = Samples::new(8_000, &[&long]);
    let outcome = transcribe(&engine, &mut source, options, &cancel, &mut |_| {});
    assert!(matches!(outcome, Err(BatchError::Cancelled)));
    let after = begun.load(Ordering::Relaxed);
    let (_, told, _) = run(&engine, &mut Samples::new(8_000, &[&said(0.5, 1.0)]));
    assert_eq!(told.len(), 1);
    // What a worker had taken already is all that was still done.
    assert!(begun.load(Ordering::Relaxed) <= after + 2);
}

/// An hour in two channels, made up as it is read; it fails at its end if asked to.
struct Hour {
    said: Vec<i16>,
    at: usize,
    fails: bool,
}

const HOUR: usize = 3_600 * 8_000;

impl PcmSource for Hour {
    fn spec(&self) -> PcmSpec {
        PcmSpec { rate_hz: 8_000, channels: 2 }
    }

    fn read(&mut self, out: &mut [i16]) -> Result<usize, AudioError> {
        let frames = (out.len() / 2).min(HOUR - self.at);
        if frames == 0 && self.fails {
            return Err(AudioError::Io(std::io::Error::other("the disk is gone")));
        }
        for frame in out.as_chunks_mut::<2>().0.iter_mut().take(frames) {
            *frame = [self.said[self.at % self.said.len()], 0];
            self.at += 1;
        }
        Ok(frames)
    }

    fn share(&self) -> f64 {
        self.at as f64 / HOUR as f64
    }
}

/// The most memory that this process has had, MiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[test]
fn the_length_of_a_file_does_not_show_in_memory_and_its_failure_does_in_the_end() {
    let engine = engine(2, |_| "word".to_owned());
    let mut hour = Hour { said: said(1.0, 20.0), at: 0, fails: false };
    let before = most_memory();
    let (batch, told, _) = run(&engine, &mut hour);
    assert_eq!(batch.duration, 3_600.0);
    assert!(told.len() > 100, "{}", told.len());
    // The hour itself is 110 MiB, and 440 where it is recognised.
    let grown = most_memory() - before;
    assert!(grown < 48, "{grown} MiB");

    let mut hour = Hour { said: said(1.0, 20.0), at: HOUR - 80_000, fails: true };
    let options = BatchOptions { language: "en", prompt: None, class: Class::Job };
    let outcome = transcribe(&engine, &mut hour, options, &CancellationToken::new(), &mut |_| {});
    assert!(matches!(outcome, Err(BatchError::Audio(AudioError::Io(_)))));
}
