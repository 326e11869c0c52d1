//! A model that is slow on purpose.

#![allow(dead_code, reason = "each user needs a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sidetone::speech::recogniser::{Hypothesis, RecogniseError, Recogniser, Request, SpeechModel};

/// A model that takes longer than it needs to, for as long as it is told to.
pub struct Slowed {
    model: Arc<dyn SpeechModel>,
    more_ms: Arc<AtomicU64>,
}

/// By how much a [`Slowed`] model is.
#[derive(Clone)]
pub struct Brake(Arc<AtomicU64>);

impl Brake {
    pub fn set(&self, more: Duration) {
        self.0.store(more.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Slowed {
    pub fn by(more: Duration, model: Arc<dyn SpeechModel>) -> (Arc<Self>, Brake) {
        let more_ms = Arc::new(AtomicU64::new(more.as_millis() as u64));
        (Arc::new(Self { model, more_ms: more_ms.clone() }), Brake(more_ms))
    }
}

impl SpeechModel for Slowed {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn longest_utterance(&self) -> Option<Duration> {
        self.model.longest_utterance()
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(SlowedRecogniser { recogniser: self.model.recogniser()?, more_ms: self.more_ms.clone() }))
    }
}

struct SlowedRecogniser {
    recogniser: Box<dyn Recogniser>,
    more_ms: Arc<AtomicU64>,
}

impl Recogniser for SlowedRecogniser {
    fn recognise(&mut self, audio: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        std::thread::sleep(Duration::from_millis(self.more_ms.load(Ordering::Relaxed)));
        self.recogniser.recognise(audio, request)
    }
}
