//! A leg's session and a recogniser without threads or clock: every order is carried out at once.

#![allow(dead_code, reason = "each user needs a part of it")]

use std::time::Duration;

use sidetone::media::leg::Leg;
use sidetone::speech::recogniser::{Recogniser, Request};
use sidetone::speech::resample::Resampler;
use sidetone::speech::segment::SegmentConfig;
use sidetone::speech::session::{Order, Session};
use sidetone::speech::{TranscriptEvent, TranscriptKind};

/// As the engine cuts for the model inside the binary.
pub fn config() -> SegmentConfig {
    SegmentConfig { max_utterance: Duration::from_secs(8), ..SegmentConfig::default() }
}

/// 16 kHz, -1 to 1.
pub fn wide(pcm: &[i16]) -> Vec<f32> {
    let mut resampler = Resampler::new(8_000).unwrap();
    let mut out = Vec::new();
    resampler.push(&pcm.iter().map(|&s| f32::from(s) / 32_768.0).collect::<Vec<_>>(), &mut out);
    resampler.finish(&mut out);
    out
}

/// One leg.
pub struct Driven<'a> {
    pub session: Session,
    recogniser: &'a mut dyn Recogniser,
    pub events: Vec<TranscriptEvent>,
    /// Pieces of audio that went to the recogniser.
    pub decodes: usize,
}

impl<'a> Driven<'a> {
    pub fn new(recogniser: &'a mut dyn Recogniser) -> Self {
        let session = Session::new(Leg::Caller, "en".into(), 0.0, 1, config());
        Self { session, recogniser, events: Vec::new(), decodes: 0 }
    }

    /// All of `pcm` (8 kHz) as a live leg would get it, 20 ms at a time, with partials, until its last final.
    pub fn hear(&mut self, pcm: &[i16]) {
        self.hear_in_parts(pcm, 320);
    }

    /// The same, `part` samples of 16 kHz at a time: as a leg that is behind, or a client that does not wait.
    pub fn hear_in_parts(&mut self, pcm: &[i16], part: usize) {
        for part in wide(pcm).chunks(part) {
            self.session.push(part);
            if self.session.partial_due(Duration::from_millis(500)) {
                self.session.ask_partial();
            }
            self.obey();
        }
        self.session.finish();
        self.obey();
    }

    pub fn obey(&mut self) {
        for order in self.session.take_orders() {
            if let Order::Recognise { ticket, audio, class } = order {
                let partial = class == sidetone::speech::scheduler::Class::Partial;
                let prompt = self.session.prompt(class);
                let request = Request { language: "en".into(), prompt, partial };
                self.decodes += 1;
                let outcome = self.recogniser.recognise(&audio, &request);
                self.session.on_result(ticket, Some(outcome));
            }
        }
        self.events.extend(self.session.take_events());
    }

    /// The words of all finals.
    pub fn text(&self) -> String {
        let finals = self.events.iter().filter(|e| e.kind == TranscriptKind::Final);
        finals.map(|e| e.text.as_str()).filter(|t| !t.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Words of finals, and words of partials, whose utterance's final may not have them.
    pub fn words(&self) -> (usize, usize) {
        let of = |kind| self.events.iter().filter(|e| e.kind == kind).map(|e| e.words.len()).sum();
        (of(TranscriptKind::Final), of(TranscriptKind::Partial))
    }
}
