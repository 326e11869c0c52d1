use std::collections::HashMap;

use super::*;
use crate::media::leg::Leg;
use crate::speech::remote::ServiceWord;
use crate::speech::resample::Resampler;
use crate::speech::scripted::Script;
use crate::speech::segment::SegmentConfig;
use crate::speech::{TranscriptEvent, TranscriptKind};

const SPOKEN: &[u8] = include_bytes!("../../../../tests/fixtures/speech/agent-pass.ulaw");

/// 16 kHz: half a second of a quiet line, a prompt of 3.3 s without a pause in it as long as the hangover, and one and a half of a quiet line.
fn recording() -> Vec<i16> {
    let narrow = SPOKEN.iter().map(|code| {
        let code = !code;
        let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << (code >> 4 & 7);
        f32::from(if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }) / 32_768.0
    });
    let mut wide = vec![0.0; 8_000];
    let mut resampler = Resampler::new(8_000).unwrap();
    resampler.push(&narrow.collect::<Vec<_>>(), &mut wide);
    resampler.finish(&mut wide);
    wide.resize(wide.len() + 24_000, 0.0);
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 29) as i16 - 4
    };
    wide.into_iter().map(|s| ((s * 32_767.0) as i16).saturating_add(noise())).collect()
}

/// Ten words within the prompt, none of them in its pause from 2.0 to 2.25 s.
fn words() -> Vec<(String, f64, f64)> {
    let starts = [0.65, 0.9, 1.15, 1.4, 1.65, 2.3, 2.55, 2.8, 3.05, 3.3];
    starts.iter().enumerate().map(|(i, start)| (format!("w{i}"), *start, start + 0.2)).collect()
}

fn texts() -> Vec<String> {
    words().into_iter().map(|(text, ..)| text).collect()
}

/// What the service does with a stream.
#[derive(Clone, Copy, Debug, Default)]
enum Act {
    /// What a service does.
    #[default]
    Serve,
    /// The connection goes once so much audio has come, seconds.
    BreakAt(f64),
    /// It is refused.
    Refuse { is_passing: bool },
    /// Nothing ever comes.
    Hush,
    /// All words up to this many seconds are called final on the way, then the connection goes at the second number.
    FinalThenBreak(f64, f64),
    /// Interim results have no times.
    Timeless,
    /// After its last words it fails.
    FailAfter,
}

struct Served {
    act: Act,
    pcm: Vec<i16>,
    /// Seconds of the stream that are final.
    done: f64,
    is_over: bool,
}

struct Sim {
    session: Session,
    leg: RemoteLeg,
    now: MediaInstant,
    script: Script,
    acts: Vec<Act>,
    is_up: bool,
    streams: HashMap<u64, Served>,
    /// Where each stream began, seconds of the recording, in the order in which they were opened; `None`: it got no audio.
    begun: Vec<Option<f64>>,
    events: Vec<TranscriptEvent>,
    tally: RemoteTally,
    /// Final orders for the model in this process.
    local: Vec<u64>,
}

impl Sim {
    fn new(config: RemoteConfig, acts: &[Act]) -> Self {
        Self::cutting(config, acts, SegmentConfig::default())
    }

    fn cutting(config: RemoteConfig, acts: &[Act], segments: SegmentConfig) -> Self {
        Self {
            session: Session::new(Leg::Caller, "en".into(), 0.0, 1, segments),
            leg: RemoteLeg::new(config, "riva"),
            now: MediaInstant::from_nanos(1_000_000_000),
            script: Script::new(&recording(), words()),
            acts: acts.to_vec(),
            is_up: true,
            streams: HashMap::new(),
            begun: Vec::new(),
            events: Vec::new(),
            tally: RemoteTally::default(),
            local: Vec::new(),
        }
    }

    /// Hear the recording, then time passes until nothing is waited for.
    fn run(mut self) -> Self {
        for part in recording().chunks(320) {
            let samples: Vec<f32> = part.iter().map(|&s| f32::from(s) / 32_768.0).collect();
            self.session.push(&samples);
            self.tick();
        }
        self.session.finish();
        for _ in 0..1_000 {
            self.tick();
        }
        self
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        self.leg.follow(&mut self.session, self.now, self.is_up);
        for order in self.leg.take_orders() {
            self.obey(order);
        }
        for order in self.session.take_orders() {
            let (Order::Recognise { ticket, class: Class::Final, .. } | Order::Promote { ticket }) = order
            else {
                continue;
            };
            self.local.push(ticket);
            self.session.on_result(ticket, Some(Ok(Hypothesis::default())));
        }
        self.events.append(&mut self.session.take_events());
        let tally = self.leg.take_tally();
        self.tally.opened += tally.opened;
        self.tally.completed += tally.completed;
        self.tally.failed += tally.failed;
        self.tally.taken_over += tally.taken_over;
        self.tally.owed += tally.owed;
    }

    fn obey(&mut self, order: StreamOrder) {
        match order {
            StreamOrder::Open { stream } => {
                let act = self.acts.get(self.begun.len()).copied().unwrap_or_default();
                self.begun.push(None);
                let served = Served { act, pcm: Vec::new(), done: 0.0, is_over: false };
                self.streams.insert(stream, served);
                if let Act::Refuse { is_passing } = act {
                    self.fail(stream, is_passing);
                }
            }
            StreamOrder::Audio { stream, pcm } => {
                let served = self.streams.get_mut(&stream).unwrap();
                served.pcm.extend(pcm);
                self.begun[stream as usize - 1] = Some(self.place(stream));
                self.hear(stream);
            }
            StreamOrder::Close { stream } => {
                let (act, is_over) = (self.streams[&stream].act, self.streams[&stream].is_over);
                if matches!(act, Act::Hush) || is_over {
                    return;
                }
                let length = self.streams[&stream].pcm.len() as f64 / f64::from(RATE);
                let last = self.said(stream, length, true);
                let heard = StreamHeard { results: vec![last], processed: Some(length) };
                self.news(stream, StreamNews::Heard(heard));
                match act {
                    Act::FailAfter => self.fail(stream, true),
                    _ => self.news(stream, StreamNews::Ended),
                }
            }
            StreamOrder::Drop { stream } => self.streams.get_mut(&stream).unwrap().is_over = true,
        }
    }

    fn place(&self, stream: u64) -> f64 {
        let audio: Vec<f32> = self.streams[&stream].pcm.iter().map(|&s| f32::from(s) / 32_768.0).collect();
        self.script.place_of(&audio).expect("audio of the recording")
    }

    /// What is said in `stream` behind what is final, up to `to`.
    fn said(&self, stream: u64, to: f64, is_final: bool) -> StreamResult {
        let (from, served) = (self.place(stream), &self.streams[&stream]);
        let words: Vec<ServiceWord> = self
            .script
            .recite(from + served.done, to - served.done)
            .into_iter()
            .filter(|word| !word.text.ends_with('~'))
            .map(|w| {
                let at = |t: f64| t + served.done;
                ServiceWord { text: w.text, start: at(w.start), end: at(w.end), p: Some(0.9) }
            })
            .collect();
        let text = words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ");
        let has_times = is_final || !matches!(served.act, Act::Timeless);
        let words = if has_times { words } else { Vec::new() };
        StreamResult { text, words, is_final, ..StreamResult::default() }
    }

    fn hear(&mut self, stream: u64) {
        let served = &self.streams[&stream];
        let length = served.pcm.len() as f64 / f64::from(RATE);
        match served.act {
            _ if served.is_over => return,
            Act::Hush | Act::Refuse { .. } => return,
            Act::BreakAt(at) if length >= at => return self.fail(stream, true),
            Act::FinalThenBreak(_, at) if length >= at => return self.fail(stream, true),
            Act::FinalThenBreak(at, _) if length >= at && served.done == 0.0 => {
                let results = vec![self.said(stream, at, true)];
                self.streams.get_mut(&stream).unwrap().done = at;
                return self.news(stream, StreamNews::Heard(StreamHeard { results, processed: Some(at) }));
            }
            _ => {}
        }
        let results = vec![self.said(stream, length, false)];
        self.news(stream, StreamNews::Heard(StreamHeard { results, processed: Some(length) }));
    }

    fn fail(&mut self, stream: u64, is_passing: bool) {
        self.streams.get_mut(&stream).unwrap().is_over = true;
        let error = StreamError { is_passing, reason: "as scripted".into() };
        self.news(stream, StreamNews::Failed(error));
    }

    fn news(&mut self, stream: u64, news: StreamNews) {
        self.leg.on_news(&mut self.session, stream, news, self.now);
    }

    fn finals(&self) -> Vec<&TranscriptEvent> {
        self.events.iter().filter(|event| event.kind == TranscriptKind::Final).collect()
    }

    fn said_finally(&self) -> Vec<String> {
        self.finals().iter().flat_map(|event| &event.words).map(|word| word.text.clone()).collect()
    }

    /// Utterances and revisions without holes, one final each and that last, stable words that stay.
    fn check(&self) {
        let mut last: HashMap<u64, &TranscriptEvent> = HashMap::new();
        for event in &self.events {
            let before = last.insert(event.utterance, event);
            assert_eq!(event.revision, before.map_or(1, |before| before.revision + 1));
            if let Some(before) = before {
                assert_eq!(before.kind, TranscriptKind::Partial);
                let stable = before.words.iter().take_while(|word| word.stable).count();
                assert_eq!(before.words[..stable], event.words[..stable]);
            }
        }
        assert!(last.values().all(|event| event.kind == TranscriptKind::Final), "{:?}", self.events);
        let numbers: Vec<u64> = self.finals().iter().map(|event| event.utterance).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(self.session.unfinished(), 0);
    }

    /// The finals have all words of the script, each once, at its time.
    fn check_words(&self) {
        self.check();
        assert_eq!(self.said_finally(), texts());
        let heard = self.finals().into_iter().flat_map(|event| &event.words);
        for (word, (text, start, end)) in heard.zip(words()) {
            let off = (word.start - start).abs().max((word.end - end).abs());
            assert!(off < 0.002, "{text}: {word:?}, said from {start} to {end}");
        }
    }
}

#[test]
fn words_are_shown_while_they_are_spoken_and_keep_the_services_times() {
    let sim = Sim::new(RemoteConfig::default(), &[]).run();
    sim.check_words();
    assert_eq!((sim.tally.opened, sim.tally.completed, sim.local.len()), (1, 1, 0));
    let partials = sim.events.len() - sim.finals().len();
    assert!(partials > 15, "an answer to every tenth of a second: {partials}");
    let stable = |event: &TranscriptEvent| event.words.iter().filter(|word| word.stable).count();
    assert!(sim.events[partials - 1..].iter().all(|event| stable(event) > 8));
}

#[test]
fn a_stream_that_breaks_loses_nothing_and_says_nothing_twice() {
    for at in [0.3, 1.0, 2.35, 3.0] {
        let sim = Sim::new(RemoteConfig::default(), &[Act::BreakAt(at)]).run();
        sim.check_words();
        assert_eq!((sim.tally.opened, sim.tally.failed, sim.local.len()), (2, 1, 0), "{at}");
        assert_eq!(sim.begun[0], sim.begun[1], "nothing was final: all of it is sent again");
    }
}

#[test]
fn what_the_service_called_final_is_not_sent_again() {
    let sim = Sim::new(RemoteConfig::default(), &[Act::FinalThenBreak(1.75, 2.5)]).run();
    sim.check_words();
    let (first, second) = (sim.begun[0].unwrap(), sim.begun[1].unwrap());
    assert!(second > first + 1.2 && second < first + 1.8, "{:?}", sim.begun);
}

#[test]
fn a_stream_that_fails_after_its_last_words_is_as_good_as_one_that_ends() {
    let sim = Sim::new(RemoteConfig::default(), &[Act::FailAfter]).run();
    sim.check_words();
    assert_eq!((sim.tally.opened, sim.tally.failed, sim.tally.completed), (1, 1, 1));
}

#[test]
fn a_stream_that_breaks_again_and_again_is_given_to_the_model_in_this_process() {
    let sim = Sim::new(RemoteConfig::default(), &[Act::BreakAt(0.2); 100]).run();
    sim.check();
    assert!((4..30).contains(&sim.tally.opened), "with growing pauses: {}", sim.tally.opened);
    assert_eq!((sim.tally.taken_over, sim.local.len()), (1, 1));
}

#[test]
fn a_refusal_that_will_not_change_is_not_asked_for_twice() {
    let sim = Sim::new(RemoteConfig::default(), &[Act::Refuse { is_passing: false }; 9]).run();
    sim.check();
    assert_eq!((sim.tally.opened, sim.tally.taken_over, sim.local.len()), (1, 1, 1));
    let sim = Sim::new(RemoteConfig::default(), &[Act::Refuse { is_passing: true }]).run();
    sim.check_words();
    assert_eq!((sim.tally.opened, sim.local.len()), (2, 0));
}

#[test]
fn a_service_that_never_answers_is_waited_for_no_longer_than_said() {
    let config = RemoteConfig::default();
    let sim = Sim::new(config, &[Act::Hush; 9]).run();
    sim.check();
    assert_eq!((sim.tally.opened, sim.tally.taken_over, sim.local.len()), (1, 1, 1));
}

#[test]
fn without_a_fallback_what_was_not_recognised_is_owed_and_the_next_utterance_is_tried_again() {
    let config = RemoteConfig { fallback: Fallback::None, ..RemoteConfig::default() };
    let sim = Sim::new(config, &[Act::Refuse { is_passing: false }]).run();
    sim.check();
    assert_eq!((sim.tally.owed, sim.session.tally().failed, sim.local.len()), (1, 1, 0));
    let mut sim = Sim::new(config, &[]);
    sim.is_up = false;
    let sim = sim.run();
    sim.check_words();
}

#[test]
fn while_the_service_is_known_to_be_away_the_model_in_this_process_has_it_all() {
    let mut sim = Sim::new(RemoteConfig::default(), &[]);
    sim.is_up = false;
    let sim = sim.run();
    assert_eq!((sim.tally.opened, sim.tally.taken_over, sim.local.len()), (0, 1, 1));
}

#[test]
fn words_without_times_are_shown_but_not_promised() {
    let sim = Sim::new(RemoteConfig::default(), &[Act::Timeless]).run();
    sim.check_words();
    let partials = sim.events.iter().filter(|event| event.kind == TranscriptKind::Partial);
    let shown: Vec<_> = partials.flat_map(|event| &event.words).collect();
    assert!(shown.len() > 50 && shown.iter().all(|word| !word.stable));
}

#[test]
fn an_utterance_that_is_cut_has_each_word_on_one_side_of_the_cut() {
    let segments = SegmentConfig { max_utterance: Duration::from_secs(2), ..SegmentConfig::default() };
    let sim = Sim::cutting(RemoteConfig::default(), &[], segments).run();
    sim.check();
    assert!(sim.finals().len() >= 2);
    let said = sim.said_finally();
    let mut once = said.clone();
    once.dedup();
    assert_eq!(said, once, "nothing twice");
    // The cut itself may fall into a word.
    assert!(said.len() + sim.finals().len() > texts().len(), "{said:?}");
}

#[test]
fn a_silent_leg_opens_no_stream() {
    let mut sim = Sim::new(RemoteConfig::default(), &[]);
    for _ in 0..500 {
        sim.session.push(&[0.0; 320]);
        sim.tick();
    }
    assert_eq!(sim.tally.opened, 0);
}

#[test]
fn news_of_streams_that_nobody_knows_and_odd_answers_do_no_harm() {
    let mut sim = Sim::new(RemoteConfig::default(), &[]);
    for stream in [0, 1, 7] {
        sim.news(stream, StreamNews::Ended);
        sim.news(
            stream,
            StreamNews::Heard(StreamHeard {
                results: vec![StreamResult::default(); 3],
                processed: Some(1e9),
            }),
        );
    }
    for part in recording().chunks(320) {
        let samples: Vec<f32> = part.iter().map(|&s| f32::from(s) / 32_768.0).collect();
        sim.session.push(&samples);
        sim.tick();
        let word = ServiceWord { text: "x".into(), start: 9e9, end: -1.0, p: None };
        let odd = StreamResult { text: "x y z".into(), words: vec![word], ..StreamResult::default() };
        sim.news(1, StreamNews::Heard(StreamHeard { results: vec![odd], processed: Some(1e9) }));
    }
    sim.session.finish();
    for _ in 0..1_000 {
        sim.tick();
    }
    sim.check();
}
