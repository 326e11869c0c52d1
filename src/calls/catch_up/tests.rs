use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::owed::Owed;
use super::*;
use crate::audio::wav;
use crate::calls::hub::{EventKind, HubConfig};
use crate::calls::record::{CallMode, CallState, FileInfo, FileStatus};
use crate::config::Settings;
use crate::media::codec::Codec;
use crate::media::leg::Leg;
use crate::speech::recogniser::{
    Hypothesis, HypothesisWord, RecogniseError, Recogniser, Request, SpeechModel,
};
use crate::speech::{OwedSpan, SpeechConfig, TranscriptEvent, TranscriptKind, Word};

const CALL: &str = "018f0000000070008000000000000007";
const WITHIN: Duration = Duration::from_secs(30);
/// The recording says the prompt at these seconds, left; and once, at the first of them, right.
const SAID_AT: [f64; 4] = [1.0, 4.0, 7.0, 10.0];
const SECONDS: f64 = 13.0;

/// Hears one word in everything, `heard`, or fails.
struct Model {
    heard: AtomicUsize,
    fails: bool,
    /// What it was asked.
    asked: Mutex<Vec<Request>>,
}

impl SpeechModel for Arc<Model> {
    fn name(&self) -> &str {
        "model"
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(Hearing(self.clone())))
    }
}

struct Hearing(Arc<Model>);

impl Recogniser for Hearing {
    fn recognise(&mut self, audio: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        self.0.heard.fetch_add(1, Ordering::SeqCst);
        self.0.asked.lock().push(request.clone());
        let seconds = audio.len() as f64 / 16_000.0;
        if self.0.fails {
            return Err(RecogniseError::Failed { model: "model".into(), seconds, reason: "a test".into() });
        }
        let word = HypothesisWord { text: "heard".into(), start: 0.3, end: 0.6, p: 0.9 };
        let language = if request.language == "auto" { "de".into() } else { request.language.clone() };
        Ok(Hypothesis { words: vec![word], avg_logprob: -0.1, no_speech: None, language })
    }
}

fn speech() -> Vec<i16> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/speech/hello-world.ulaw");
    let payload = fs::read(file).unwrap();
    (0..payload.len()).map(|at| Codec::Ulaw.decode(&payload, at)).collect()
}

/// A data folder as a call's end leaves it.
struct Data {
    folder: TempDir,
}

impl Data {
    fn new() -> Self {
        let data = Self { folder: tempfile::tempdir().unwrap() };
        let directory = CallDirectory::open(data.folder.path(), 10).unwrap();
        let mut record =
            CallRecord::new(CALL, "default", CallMode::Tap, "2026-11-29T12:00:00Z".parse().unwrap());
        record.state = CallState::Ended;
        record.language = Some("en".into());
        record.duration_s = Some(SECONDS);
        record.transcript.status = FileStatus::Pending;
        let files = directory.files(&record).unwrap();
        let path = files.recording().strip_prefix(data.folder.path()).unwrap().to_owned();
        record.recording = FileInfo { status: FileStatus::Ready, path: Some(path), sha256: None };
        directory.insert(record).unwrap();
        directory.flush();
        data.record();
        data.publish(json!([
            ["call.started", {}],
            ["transcript.final", shown(1, SAID_AT[0], "one", TranscriptKind::Final)],
            ["transcript.partial", shown(2, SAID_AT[1], "two", TranscriptKind::Partial)],
            ["call.ended", { "outcome": "completed", "transcript": "pending" }],
        ]));
        data
    }

    /// A copy of what is on disk.
    fn copied(&self) -> Self {
        let copy = Self { folder: tempfile::tempdir().unwrap() };
        let status = std::process::Command::new("cp")
            .args(["-r", &format!("{}/.", self.folder.path().display())])
            .arg(copy.folder.path())
            .status();
        assert!(status.unwrap().success());
        copy
    }

    fn day(&self) -> PathBuf {
        self.folder.path().join("recordings/default/2026/11/29")
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.day().join(format!("{CALL}.{suffix}"))
    }

    /// The recording: 8 kHz, both legs.
    fn record(&self) {
        let (prompt, frames) = (speech(), (SECONDS * 8_000.0) as usize);
        let mut noise = 1_u32;
        let mut hush = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 29) as i16 - 4
        };
        let mut legs = [vec![0_i16; frames], vec![0_i16; frames]];
        legs.iter_mut().flatten().for_each(|sample| *sample = hush());
        let mut say = |leg: usize, at: f64| {
            for (to, from) in legs[leg][(at * 8_000.0) as usize..].iter_mut().zip(&prompt) {
                *to = *from;
            }
        };
        SAID_AT.into_iter().for_each(|at| say(0, at));
        say(1, SAID_AT[0]);
        let mut bytes = wav::header(8_000, 2, 4 * frames as u64).to_vec();
        for (left, right) in legs[0].iter().zip(&legs[1]) {
            bytes.extend(left.to_le_bytes().into_iter().chain(right.to_le_bytes()));
        }
        fs::write(self.file("wav"), bytes).unwrap();
    }

    fn hub(&self) -> (Arc<EventHub>, Arc<CallDirectory>) {
        let directory = Arc::new(CallDirectory::open(self.folder.path(), 10).unwrap());
        (Arc::new(EventHub::new(HubConfig::default(), Some(directory.clone())).unwrap()), directory)
    }

    fn publish(&self, events: Value) {
        let (hub, _) = self.hub();
        hub.open_call("default", CALL, Some(self.file("events.jsonl"))).unwrap();
        for event in events.as_array().unwrap() {
            hub.publish(CALL, EventKind::from_name(event[0].as_str().unwrap()), &event[1]);
        }
    }

    /// The caller's second utterance, which was told of, its rest, and all of the callee.
    fn owes(&self) -> OwedCall {
        let owed = |leg, start, end, utterance| Owed::new(leg, OwedSpan { start, end, utterance });
        let spans = vec![
            owed(Leg::Caller, 3.5, 5.8, Some(2)),
            owed(Leg::Caller, 6.5, SECONDS, None),
            owed(Leg::Callee, 0.0, SECONDS, None),
        ];
        let owed = OwedCall::at_end(CALL, "model", None, spans, true);
        OwedStore::open(self.folder.path()).unwrap().save(&owed).unwrap();
        owed
    }

    /// The words that the call's tenant has of its own.
    fn expected(&self) -> Expectations {
        let mut settings = Settings::default();
        settings.speech.vocabulary = vec!["Sidetone".into()];
        settings.speech.tenants.entry("default".into()).or_default().vocabulary =
            Some(vec!["Ms. Okafor".into()]);
        Expectations::of(&settings)
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("events.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn caught_up(&self, model: Option<Arc<Model>>) -> Done {
        let (hub, directory) = self.hub();
        let config = SpeechConfig { workers: 2, ..SpeechConfig::default() };
        let speech = model.map(|model| Arc::new(SpeechEngine::start(config, Arc::new(model)).unwrap()));
        let caught_up =
            CatchUp::start(self.folder.path(), hub.clone(), directory.clone(), speech, self.expected())
                .unwrap();
        let mut state = caught_up.shared.state.lock();
        let waited =
            caught_up.shared.changed.wait_while_for(&mut state, |state| state.backlog().calls > 0, WITHIN);
        assert!(!waited.timed_out(), "{:?}", state.backlog());
        drop(state);
        let record = directory.get(CALL).unwrap();
        drop((caught_up, hub, directory));
        assert!(!self.folder.path().join("owed").join(format!("{CALL}.json")).exists(), "it is struck off");
        let transcript = fs::read(self.file("transcript.json")).unwrap();
        Done {
            events: self.events(),
            record: (*record).clone(),
            transcript: serde_json::from_slice(&transcript).unwrap(),
        }
    }
}

struct Done {
    events: Vec<Value>,
    record: CallRecord,
    transcript: Value,
}

impl Done {
    /// Leg, number and text of each final, in the order in which they came.
    fn finals(&self) -> Vec<(String, u64, String)> {
        let finals = self.events.iter().filter(|event| event["type"] == "transcript.final");
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        finals.map(|e| (text(e, "leg"), e["utterance"].as_u64().unwrap(), text(e, "text"))).collect()
    }
}

fn shown(utterance: u64, start: f64, text: &str, kind: TranscriptKind) -> TranscriptEvent {
    let word = |text: &str, start: f64, stable| Word {
        text: text.into(),
        start,
        end: start + 0.2,
        confidence: 0.9,
        stable,
    };
    let words =
        vec![word(text, start + 0.1, true), word("perhaps", start + 0.4, kind == TranscriptKind::Final)];
    TranscriptEvent {
        kind,
        leg: Leg::Caller,
        utterance,
        revision: 4,
        start,
        end: start + 0.7,
        text: format!("{text} perhaps"),
        language: "en".into(),
        words,
    }
}

fn model() -> Arc<Model> {
    Arc::new(Model { heard: AtomicUsize::new(0), fails: false, asked: Mutex::default() })
}

fn expected() -> Vec<(String, u64, String)> {
    let of = |leg: &str, number, text: &str| (leg.to_owned(), number, text.to_owned());
    vec![
        of("caller", 1, "one perhaps"),
        of("callee", 1, "heard"),
        // What was stable stands, and what was not makes room.
        of("caller", 2, "two heard"),
        of("caller", 3, "heard"),
        of("caller", 4, "heard"),
    ]
}

#[test]
fn what_is_owed_comes_under_its_number_or_the_next_and_the_transcript_last() {
    let data = Data::new();
    data.owes();
    let done = data.caught_up(Some(model()));
    let mut finals = done.finals();
    finals.sort_by_key(|(leg, number, _)| (*number, leg.clone()));
    let mut wanted = expected();
    wanted.sort_by_key(|(leg, number, _)| (*number, leg.clone()));
    assert_eq!(finals, wanted);
    let types: Vec<_> = done.events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((types[3], types[types.len() - 1]), ("call.ended", "transcript.saved"), "{types:?}");
    assert!(done.events.iter().enumerate().all(|(at, event)| event["seq"] == at as u64 + 1));
    let saved = &done.events[types.len() - 1];
    assert_eq!((&saved["complete"], &saved["duration"]), (&json!(true), &json!(SECONDS)), "{saved}");
    assert_eq!((&done.transcript["complete"], &done.transcript["duration"]), (&json!(true), &json!(SECONDS)));
    assert_eq!(done.transcript["utterances"].as_array().unwrap().len(), 5);
    assert_eq!((done.record.transcript.status, done.record.error), (FileStatus::Ready, None));
    // On the recording's clock.
    let of = |leg: &str, number: u64| {
        let is_it =
            |e: &&Value| e["type"] == "transcript.final" && e["leg"] == leg && e["utterance"] == number;
        done.events.iter().find(is_it).unwrap().clone()
    };
    for (leg, number, at) in [("caller", 2, SAID_AT[1]), ("caller", 4, SAID_AT[3]), ("callee", 1, SAID_AT[0])]
    {
        let event = of(leg, number);
        let (start, end) = (event["start"].as_f64().unwrap(), event["end"].as_f64().unwrap());
        assert!((start - at).abs() < 0.5 && end > start && end < at + 2.0, "{event}");
    }
    assert_eq!(of("caller", 2)["revision"], 5, "the one after the partial's");
}

/// Whatever a crash left of the journal, and however old the note of what is done, all comes out once.
#[test]
fn a_crash_at_any_point_costs_no_final_and_doubles_none() {
    let before = Data::new();
    let owed = before.owes();
    let whole = before.copied();
    let done = whole.caught_up(Some(model()));
    let journal = fs::read_to_string(whole.file("events.jsonl")).unwrap();
    let lines: Vec<&str> = journal.split_inclusive('\n').collect();
    let known = before.events().len();
    assert_eq!(lines.len(), known + 5, "four finals and the end");
    for kept in known..=lines.len() {
        // Nothing was noted, or what was in the journal was; and half a line after it.
        for noted in [false, true] {
            let crashed = before.copied();
            let torn = lines.get(kept).map_or("", |line| &line[..line.len() / 2]);
            fs::write(crashed.file("events.jsonl"), lines[..kept].concat() + torn).unwrap();
            let mut owed = OwedCall { first_free: Some([3, 1]), attempts: 1, ..owed.clone() };
            if kept == known && !noted {
                owed.first_free = None;
            }
            let finals = lines[known..kept].iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            for event in finals.filter(|event| noted && event["type"] == "transcript.final") {
                let end = event["end"].as_f64().unwrap();
                let within =
                    |o: &&mut Owed| event["leg"] == o.leg.name() && o.span.start < end && end < o.span.end;
                owed.spans.iter_mut().find(within).unwrap().done_to = end;
            }
            OwedStore::open(crashed.folder.path()).unwrap().save(&owed).unwrap();
            let again = crashed.caught_up(Some(model()));
            assert_eq!(again.finals(), done.finals(), "{kept} lines, noted: {noted}");
            let saved = again.events.iter().filter(|event| event["type"] == "transcript.saved").count();
            assert_eq!((saved, &again.transcript), (1, &done.transcript), "{kept} lines, noted: {noted}");
        }
    }
}

#[test]
fn without_a_recording_or_a_model_what_was_told_of_keeps_the_words_last_shown() {
    let gone = Data::new();
    gone.owes();
    fs::remove_file(gone.file("wav")).unwrap();
    let off = Data::new();
    off.owes();
    let failing = Data::new();
    failing.owes();
    let fails = Arc::new(Model { heard: AtomicUsize::new(0), fails: true, asked: Mutex::default() });
    for (data, model, why) in [
        (&gone, Some(model()), "recording is gone"),
        (&off, None, "speech.model"),
        (&failing, Some(fails.clone()), "could not be recognised: a test"),
    ] {
        let done = data.caught_up(model);
        assert_eq!(done.finals()[1..], [("caller".to_owned(), 2, "two perhaps".to_owned())], "{why}");
        assert_eq!(done.transcript["complete"], false);
        assert_eq!(done.events.last().unwrap()["complete"], false);
        let error = done.record.error.unwrap_or_default();
        assert!(error.contains(why), "{error}");
        assert_eq!(done.record.transcript.status, FileStatus::Ready);
    }
    assert_eq!(fails.heard.load(Ordering::SeqCst), 4 * 3, "each piece three times");
}

#[test]
fn a_paused_recording_holds_no_words_and_takes_none_back() {
    let data = Data::new();
    data.owes();
    let mut bytes = fs::read(data.file("wav")).unwrap();
    let frame = |seconds: f64| wav::HEADER_LEN + (seconds * 8_000.0) as usize * 4;
    bytes[frame(3.4)..frame(6.0)].fill(0);
    fs::write(data.file("wav"), bytes).unwrap();
    let done = data.caught_up(Some(model()));
    assert!(done.finals().contains(&("caller".to_owned(), 2, "two perhaps".to_owned())));
    assert_eq!(done.transcript["complete"], false);
    assert!(done.record.error.unwrap().contains("blank from"));
}

#[test]
fn a_piece_that_ends_the_process_time_and_again_is_passed_over() {
    let data = Data::new();
    let owed = OwedCall { first_free: Some([3, 1]), attempts: 3, ..data.owes() };
    OwedStore::open(data.folder.path()).unwrap().save(&owed).unwrap();
    let done = data.caught_up(Some(model()));
    let finals = done.finals();
    // The callee's, the first by time.
    assert!(!finals.iter().any(|(leg, ..)| leg == "callee"), "{finals:?}");
    assert_eq!(finals.len(), 4);
    assert!(done.record.error.unwrap().contains("three times"));
}

/// A final is told of before it is noted that something came of it, and the process may end in between, time and again.
#[test]
fn a_piece_is_not_passed_over_for_ends_that_came_after_finals() {
    let data = Data::new();
    let owed = OwedCall { first_free: Some([3, 1]), attempts: 3, finals: Some(0), ..data.owes() };
    OwedStore::open(data.folder.path()).unwrap().save(&owed).unwrap();
    let done = data.caught_up(Some(model()));
    assert_eq!(done.finals().len(), 5);
    assert_eq!((&done.transcript["complete"], done.record.error), (&json!(true), None));
}

#[test]
fn what_a_removed_call_owes_is_dropped() {
    let data = Data::new();
    data.owes();
    let (hub, directory) = data.hub();
    let config = SpeechConfig { workers: 1, ..SpeechConfig::default() };
    let engine = Arc::new(SpeechEngine::start(config, Arc::new(model())).unwrap());
    let caught_up =
        CatchUp::start(data.folder.path(), hub.clone(), directory.clone(), Some(engine), data.expected())
            .unwrap();
    caught_up.forget(CALL);
    assert_eq!(caught_up.backlog().calls, 0);
    directory.remove(CALL).unwrap();
    drop(caught_up);
    drop((hub, directory));
    assert_eq!(fs::read_dir(data.day()).unwrap().count(), 0, "nothing comes back");
    assert_eq!(fs::read_dir(data.folder.path().join("owed")).unwrap().count(), 0);

    // A crash between the two: the record is gone, what it owes is not.
    let data = Data::new();
    data.owes();
    fs::remove_file(data.file("call.json")).unwrap();
    let (hub, directory) = data.hub();
    let caught_up = CatchUp::start(data.folder.path(), hub, directory, None, data.expected()).unwrap();
    assert_eq!(caught_up.backlog().calls, 0);
    assert_eq!(fs::read_dir(data.folder.path().join("owed")).unwrap().count(), 0);
}

#[test]
fn a_pending_call_whose_debt_could_not_be_kept_is_looked_through() {
    let data = Data::new();
    let done = data.caught_up(Some(model()));
    let finals = done.finals();
    let of = |leg: &str, number, text: &str| (leg.to_owned(), number, text.to_owned());
    let wanted = [
        of("caller", 1, "one perhaps"),
        of("callee", 1, "heard"),
        // The first final ends at 1.7 s, and its prompt at 2.3: no final covers what is between.
        of("caller", 3, "heard"),
        // Its piece begins a pre-roll before what was shown, so that the one word heard lies where `two` stands, which stays.
        of("caller", 2, "two"),
        of("caller", 4, "heard"),
        of("caller", 5, "heard"),
    ];
    assert_eq!(finals, wanted);
    assert_eq!(done.transcript["complete"], true);
}

#[test]
fn what_was_cut_off_is_all_that_no_final_covers() {
    let span = |leg, start: f64, end: f64, utterance| {
        (leg, (start * 100.0).round(), (end * 100.0).round(), utterance)
    };
    let of = |owed: &OwedCall| {
        owed.spans.iter().map(|o| span(o.leg, o.span.start, o.span.end, o.span.utterance)).collect::<Vec<_>>()
    };
    let told = Told {
        finals: vec![
            shown(1, 1.0, "one", TranscriptKind::Final),
            shown(3, 5.0, "three", TranscriptKind::Final),
        ],
        open: vec![
            shown(2, 3.0, "two", TranscriptKind::Partial),
            shown(4, 8.0, "four", TranscriptKind::Partial),
        ],
        ..Told::default()
    };
    let first = OwedCall::cut_off(CALL, "m", None, &told, 10.0);
    let wanted = [
        span(Leg::Caller, 0.0, 1.0, None),
        span(Leg::Callee, 0.0, 10.0, None),
        span(Leg::Caller, 1.7, 2.75, None),
        span(Leg::Caller, 2.75, 5.0, Some(2)),
        span(Leg::Caller, 5.7, 7.75, None),
        span(Leg::Caller, 7.75, 10.0, Some(4)),
    ];
    assert_eq!(of(&first), wanted);
    // Another crash: what is owed by then stays so, and nothing of it is owed twice.
    let mut told = told;
    told.finals.push(shown(5, 12.0, "five", TranscriptKind::Final));
    let second = OwedCall::cut_off(CALL, "m", Some(first), &told, 14.0);
    let spans = of(&second);
    assert_eq!(spans.len(), wanted.len() + 1, "{spans:?}");
    assert!(spans.contains(&span(Leg::Caller, 7.75, 12.0, Some(4))), "{spans:?}");
    assert!(spans.contains(&span(Leg::Caller, 12.7, 14.0, None)), "{spans:?}");
    assert!(spans.contains(&span(Leg::Callee, 0.0, 14.0, None)), "{spans:?}");
}

#[test]
fn the_model_leans_on_the_words_of_the_tenant() {
    let data = Data::new();
    data.owes();
    let model = model();
    data.caught_up(Some(model.clone()));
    let asked = model.asked.lock();
    let prompts: Vec<_> = asked.iter().map(|request| request.prompt.as_deref()).collect();
    assert!(prompts.len() >= 4 && prompts.iter().all(|prompt| *prompt == Some("Ms. Okafor")), "{prompts:?}");
}

#[test]
fn a_language_left_to_the_model_is_settled_by_the_rule_of_live_calls() {
    let data = Data::new();
    let (_, directory) = data.hub();
    directory.update(CALL, |record| record.language = Some("auto".into())).unwrap();
    directory.flush();
    drop(directory);
    data.owes();
    let model = model();
    let done = data.caught_up(Some(model.clone()));
    let asked = model.asked.lock();
    let of = |language: &str| asked.iter().filter(|request| request.language == language).count();
    // What the caller's final of before says is known; the callee has none, and is asked about until it is known.
    assert!(of("en") >= 3 && of("auto") >= 1 && of("en") + of("auto") + of("de") == asked.len(), "{asked:?}");
    let language = |event: &Value| (event["leg"].clone(), event["language"].clone());
    let finals = done.events.iter().filter(|event| event["type"] == "transcript.final").map(language);
    for (leg, language) in finals {
        assert_eq!(language, if leg == "caller" { "en" } else { "de" });
    }
}
