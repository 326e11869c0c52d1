//! The engine as calls use it: rings in, events out, on real threads.

#[path = "speech-support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sidetone::clock;
use sidetone::media::leg::Leg;
use sidetone::media::slot::SlotState;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::speech::recogniser::{Hypothesis, RecogniseError, Recogniser, Request, SpeechModel};
use sidetone::speech::scripted::{ScriptedCost, ScriptedModel};
use sidetone::speech::{LegAudio, SpeechConfig, SpeechEngine, SpeechError, TranscriptEvent, TranscriptKind};
use support::{Collected, LiveLeg, hush, prompt};

fn scripted(pcm: &[i16]) -> Arc<dyn SpeechModel> {
    let words = (0..20).map(|i| (format!("w{i}"), 0.6 + 0.25 * f64::from(i), 0.8 + 0.25 * f64::from(i)));
    Arc::new(ScriptedModel::new(pcm, words.collect()))
}

/// Speech at 16 kHz, which passes through the engine sample for sample.
fn speech() -> Vec<i16> {
    let doubled = prompt("agent-pass").pcm.into_iter().flat_map(|s| [s, s]);
    let mut pcm: Vec<i16> =
        std::iter::repeat_n(0, 8_000).chain(doubled).chain(std::iter::repeat_n(0, 16_000)).collect();
    for (sample, noise) in pcm.iter_mut().zip(hush(1_000_000, 3)) {
        *sample = sample.saturating_add(noise);
    }
    pcm
}

/// Each utterance: revisions without holes, stable words that stay, one final, and that last.
fn check(events: &[(MediaInstant, TranscriptEvent)]) {
    let mut last: HashMap<(Leg, u64), &TranscriptEvent> = HashMap::new();
    for (_, event) in events {
        if let Some(before) = last.insert((event.leg, event.utterance), event) {
            assert_eq!(before.kind, TranscriptKind::Partial);
            assert_eq!(event.revision, before.revision + 1);
            let stable = before.words.iter().take_while(|w| w.stable).count();
            assert_eq!(before.words[..stable], event.words[..stable]);
        }
    }
    assert!(last.values().all(|e| e.kind == TranscriptKind::Final));
}

#[tokio::test]
async fn an_event_is_the_body_of_the_envelope() {
    let pcm = speech();
    let engine = SpeechEngine::start(SpeechConfig::default(), scripted(&pcm)).unwrap();
    let leg = LiveLeg::new(pcm, SampleRate::WIDEBAND, 4);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { first_utterance: 7, ..leg.audio() }, collected.sink());
    tokio::task::spawn_blocking(move || leg.speak()).await.unwrap();
    let report = listener.finish().await;
    let events = collected.events();
    check(&events);
    assert!(
        report.complete && report.finals >= 1 && report.unfinished == 0 && report.missed_slots == 0,
        "{report:?}"
    );
    assert_eq!(report.finals + report.partials, events.len() as u64);
    let (_, event) = &events[0];
    assert_eq!(event.type_name(), "transcript.partial");
    let json = serde_json::to_value(event).unwrap();
    assert_eq!(json["leg"], "caller");
    assert_eq!(json["utterance"], 7);
    assert_eq!(json["revision"], 1);
    assert_eq!(json["words"][0]["text"], "w0");
    assert!(json["words"][0]["stable"].is_boolean() && json["words"][0]["confidence"].is_number());
    assert!(json.get("kind").is_none());
}

/// All words of the finals of a leg that `speak` speaks.
async fn said(engine: &SpeechEngine, speak: impl FnOnce(LiveLeg) + Send + 'static) -> Vec<String> {
    let leg = LiveLeg::new(speech(), SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let listener = engine.listen(leg.audio(), collected.sink());
    tokio::task::spawn_blocking(move || speak(leg)).await.unwrap();
    listener.finish().await;
    let events = collected.events();
    check(&events);
    let finals = events.into_iter().filter(|(_, e)| e.kind == TranscriptKind::Final);
    finals.flat_map(|(_, e)| e.words).map(|w| w.text).collect()
}

#[tokio::test]
async fn packets_that_come_late_for_seconds_on_end_cost_no_word() {
    let engine = SpeechEngine::start(SpeechConfig::default(), scripted(&speech())).unwrap();
    let in_time = said(&engine, LiveLeg::speak);
    let late = said(&engine, |leg| leg.speak_late(Duration::from_millis(450)));
    let (in_time, late) = tokio::join!(in_time, late);
    assert!(in_time.len() > 5, "{in_time:?}");
    assert_eq!(late, in_time);
}

#[tokio::test]
async fn what_comes_too_late_to_be_heard_is_owed() {
    let pcm = speech();
    let engine = SpeechEngine::start(SpeechConfig::default(), scripted(&pcm)).unwrap();
    let leg = LiveLeg::new(pcm, SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { caught_up: true, ..leg.audio() }, collected.sink());
    tokio::task::spawn_blocking(move || leg.speak_late(Duration::from_millis(1_500))).await.unwrap();
    let report = listener.finish().await;
    let events = collected.events();
    check(&events);
    let finals: Vec<_> = events.iter().filter(|(_, e)| e.kind == TranscriptKind::Final).collect();
    assert!(!report.owed.is_empty(), "{report:?}");
    let last = finals.iter().map(|(_, e)| e.end).fold(0.0, f64::max);
    for (_, start, end) in (0..20).map(|i| (i, 0.6 + 0.25 * f64::from(i), 0.8 + 0.25 * f64::from(i))) {
        let is_said = finals.iter().flat_map(|(_, e)| &e.words).any(|w| (w.start - start).abs() < 0.05);
        let is_owed = report.owed.iter().any(|span| span.start < end && span.end > start);
        assert!(is_said || is_owed || start > last, "{start}: {report:?}");
    }
}

#[tokio::test]
async fn words_are_timed_on_the_recordings_clock() {
    let pcm = speech();
    let engine = SpeechEngine::start(SpeechConfig::default(), scripted(&pcm)).unwrap();
    let mut leg = LiveLeg::new(pcm, SampleRate::WIDEBAND, 4);
    // Another leg's audio began 2 s earlier: the recording starts there.
    let call = sidetone::media::clock::CallClock::new(clock::now(), SampleRate::WIDEBAND, 1);
    call.propose_origin(-32_000, call.start());
    leg.clock = Arc::new(call);
    let collected = Collected::default();
    let listener = engine.listen(leg.audio(), collected.sink());
    tokio::task::spawn_blocking(move || leg.speak()).await.unwrap();
    listener.finish().await;
    let events = collected.events();
    let first = &events.last().unwrap().1;
    let word = events.iter().flat_map(|(_, e)| &e.words).find(|w| w.text == "w4").unwrap();
    assert!((word.start - (2.0 + 0.6 + 1.0)).abs() < 0.01, "{word:?} in {first:?}");
}

#[tokio::test]
async fn a_leg_without_media_ends_at_once_and_one_without_end_when_time_is_up() {
    let pcm = speech();
    let config = SpeechConfig { finish_timeout: Duration::from_millis(300), ..SpeechConfig::default() };
    let engine = SpeechEngine::start(config, scripted(&pcm)).unwrap();
    let mute = LiveLeg::new(Vec::new(), SampleRate::WIDEBAND, 1);
    let listener = engine.listen(mute.audio(), Collected::default().sink());
    mute.speak();
    let report = listener.finish().await;
    assert!(report.complete && report.finals == 0, "{report:?}");

    let endless = LiveLeg::new(pcm, SampleRate::WIDEBAND, 1);
    let listener = engine.listen(endless.audio(), Collected::default().sink());
    let started = clock::now();
    let report = listener.finish().await;
    assert!(!report.complete, "{report:?}");
    assert!(clock::since(started) < Duration::from_secs(3));
}

#[tokio::test]
async fn an_utterance_that_time_did_not_suffice_for_ends_with_the_words_last_shown() {
    let pcm = speech();
    let words = (0..20).map(|i| (format!("w{i}"), 0.6 + 0.25 * f64::from(i), 0.8 + 0.25 * f64::from(i)));
    let slow: ScriptedCost =
        |audio| Duration::from_secs(if audio > Duration::from_millis(1_500) { 3 } else { 0 });
    let model = Arc::new(ScriptedModel::with_cost(&pcm, words.collect(), slow));
    let config =
        SpeechConfig { workers: 1, finish_timeout: Duration::from_millis(500), ..SpeechConfig::default() };
    let engine = SpeechEngine::start(config, model).unwrap();
    let leg = LiveLeg::new(pcm, SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let listener = engine.listen(leg.audio(), collected.sink());
    tokio::task::spawn_blocking(move || leg.speak()).await.unwrap();
    let report = listener.finish().await;
    assert!(!report.complete && report.unfinished > 0, "{report:?}");
    let events = collected.events();
    check(&events);
    let [.., (_, shown), (_, last)] = &events[..] else { panic!("partials and a final: {events:#?}") };
    assert_eq!((&last.text, &last.language), (&shown.text, &shown.language));
    assert!(!last.text.is_empty() && last.words.iter().all(|word| word.stable), "{last:#?}");
}

#[tokio::test]
async fn what_something_catches_up_with_is_owed_and_gets_no_final_now() {
    let pcm = speech();
    let words = (0..20).map(|i| (format!("w{i}"), 0.6 + 0.25 * f64::from(i), 0.8 + 0.25 * f64::from(i)));
    let slow: ScriptedCost =
        |audio| Duration::from_secs(if audio > Duration::from_millis(1_500) { 3 } else { 0 });
    let model = Arc::new(ScriptedModel::with_cost(&pcm, words.collect(), slow));
    let config =
        SpeechConfig { workers: 1, finish_timeout: Duration::from_millis(500), ..SpeechConfig::default() };
    let engine = SpeechEngine::start(config, model).unwrap();
    let leg = LiveLeg::new(pcm.clone(), SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { caught_up: true, ..leg.audio() }, collected.sink());
    tokio::task::spawn_blocking(move || leg.speak()).await.unwrap();
    let report = listener.finish().await;
    assert!(!report.complete && report.unfinished > 0, "{report:?}");
    let events = collected.events();
    let (_, shown) = events.last().expect("partials");
    assert_eq!(shown.kind, TranscriptKind::Partial, "{events:#?}");
    let of_shown = report.owed.iter().find(|span| span.utterance == Some(shown.utterance)).expect("its span");
    assert!(of_shown.start <= shown.start && of_shown.end >= shown.end, "{of_shown:?} for {shown:?}");
    // Everything behind it is owed as well.
    let last = report.owed.last().unwrap();
    assert!(report.owed.is_sorted_by(|a, b| a.start <= b.start) && last.end > 3.0, "{report:?}");
}

/// Hears nothing but errors.
struct Broken;

impl SpeechModel for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(Broken))
    }
}

impl Recogniser for Broken {
    fn recognise(&mut self, _: &[f32], _: &Request) -> Result<Hypothesis, RecogniseError> {
        Err(RecogniseError::Panicked { model: "broken".into() })
    }
}

#[tokio::test]
async fn what_failed_is_owed() {
    let engine = SpeechEngine::start(SpeechConfig::default(), Arc::new(Broken)).unwrap();
    let leg = LiveLeg::new(speech(), SampleRate::WIDEBAND, 4);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { caught_up: true, ..leg.audio() }, collected.sink());
    tokio::task::spawn_blocking(move || leg.speak()).await.unwrap();
    let report = listener.finish().await;
    assert!(report.complete && report.failed > 0 && report.finals == 0, "{report:?}");
    assert_eq!(report.owed.len() as u64, report.failed);
    assert!(report.owed.iter().all(|span| span.utterance.is_none() && span.end > span.start + 0.2));
    assert!(collected.events().is_empty());
}

#[tokio::test]
async fn a_flush_ends_the_utterance_and_waits_for_its_final() {
    let pcm = speech();
    let slow: ScriptedCost = |_| Duration::from_millis(60);
    let words: Vec<_> =
        (0..20).map(|i| (format!("w{i}"), 0.6 + 0.25 * f64::from(i), 0.8 + 0.25 * f64::from(i))).collect();
    let model = Arc::new(ScriptedModel::with_cost(&pcm, words, slow));
    let engine = SpeechEngine::start(SpeechConfig::default(), model).unwrap();
    let (mut writer, ring) = sidetone::media::ring::ring(SampleRate::WIDEBAND, 1_000);
    let leg = LiveLeg::new(Vec::new(), SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let audio = LegAudio { ring, live_lag: Duration::from_secs(5), ..leg.audio() };
    let listener = engine.listen(audio, collected.sink());
    listener.flush().await;
    assert!(collected.events().is_empty(), "nothing was said");
    // In the middle of a word, and of a slot.
    writer.place(0, 32_100, |i| pcm[i], SlotState::Silence);
    listener.flush().await;
    let finals = |collected: &Collected| -> Vec<TranscriptEvent> {
        let events = collected.events().into_iter().map(|(_, event)| event);
        events.filter(|event| event.kind == TranscriptKind::Final).collect()
    };
    let first = finals(&collected);
    let last_word = first.last().and_then(|event| event.words.last()).expect("a final by now").clone();
    assert!(last_word.end > 1.7 && last_word.end < 2.1, "{last_word:?}");
    writer.place(32_100, pcm.len() - 32_100, |i| pcm[32_100 + i], SlotState::Silence);
    drop(writer);
    listener.flush().await;
    let told = finals(&collected);
    let report = listener.finish().await;
    assert_eq!(report.finals, told.len() as u64, "all of them came before the second flush was answered");
    let starts: Vec<_> = told.iter().flat_map(|event| &event.words).map(|word| word.start).collect();
    let gap = starts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    assert!(gap < 0.6 && told.len() > first.len(), "no word is missing: {starts:?}");
    check(&collected.events());
}

#[tokio::test]
async fn words_over_lost_audio_are_less_sure() {
    let pcm = speech();
    let engine = SpeechEngine::start(SpeechConfig::default(), scripted(&pcm)).unwrap();
    let (mut writer, ring) = sidetone::media::ring::ring(SampleRate::WIDEBAND, 1_000);
    let leg = LiveLeg::new(Vec::new(), SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { ring, ..leg.audio() }, collected.sink());
    // Half of the word from 1.1 to 1.3 s, and nothing else.
    let (from, to) = (1.2 * 16_000.0, 1.3 * 16_000.0);
    writer.place(0, from as usize, |i| pcm[i], SlotState::Silence);
    writer.place(to as u64, pcm.len() - to as usize, |i| pcm[to as usize + i], SlotState::Lost);
    drop(writer);
    listener.finish().await;
    let events = collected.events();
    let finals = events.iter().filter(|(_, e)| e.kind == TranscriptKind::Final);
    let words: Vec<_> = finals.flat_map(|(_, e)| &e.words).collect();
    let lost = words.iter().find(|w| w.start <= 1.21 && w.end >= 1.29).expect("the word");
    assert!((lost.confidence - 0.45).abs() < 0.06, "{lost:?}");
    let others: Vec<_> = words.iter().filter(|w| w.end <= 1.19 || w.start >= 1.31).collect();
    assert!(others.len() > 3 && others.iter().all(|w| w.confidence > 0.89), "{words:?}");
}

#[tokio::test]
async fn what_the_ring_lost_is_silence_and_counted() {
    let pcm = speech();
    let engine = SpeechEngine::start(SpeechConfig::default(), scripted(&pcm)).unwrap();
    let (mut writer, ring) = sidetone::media::ring::ring(SampleRate::WIDEBAND, 128);
    let leg = LiveLeg::new(Vec::new(), SampleRate::WIDEBAND, 1);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { ring, caught_up: true, ..leg.audio() }, collected.sink());
    // Nobody can read while a whole recording goes through a ring of 1.28 s.
    writer.place(0, 1_600, |i| pcm[i], SlotState::Silence);
    tokio::time::sleep(Duration::from_millis(100)).await;
    writer.place(1_600, pcm.len() - 1_600, |i| pcm[1_600 + i], SlotState::Silence);
    drop(writer);
    let report = listener.finish().await;
    assert!(report.complete && report.missed_slots > 100, "{report:?}");
    let lost: f64 = report.owed.iter().map(|span| span.end - span.start).sum();
    assert!((lost - report.missed_slots as f64 * 0.01).abs() < 0.02, "{report:?}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let config = SpeechConfig { hangover: Duration::from_millis(50), ..SpeechConfig::default() };
    let refused = SpeechEngine::start(config, scripted(&speech()));
    assert!(matches!(refused, Err(SpeechError::Setting { setting: "hangover_ms", value_ms: 50, .. })));
}

#[cfg(feature = "embedded-model")]
#[tokio::test]
async fn both_parties_of_a_call_come_out_word_for_word_in_real_time() {
    use sidetone::speech::ModelFile;
    use support::word_errors;

    let engine =
        SpeechEngine::start(SpeechConfig::default(), ModelFile::embedded().unwrap().load().unwrap()).unwrap();
    let script = [["auth-incorrect", "digit-5", "queue-thereare"], ["invalid", "hello-world", "vm-goodbye"]];
    let collected = Collected::default();
    let mut listeners = Vec::new();
    let mut speakers = Vec::new();
    let mut call = None;
    for (leg, names) in Leg::BOTH.into_iter().zip(script) {
        let said = names.iter().flat_map(|name| [hush(6_400, 5), prompt(name).pcm, hush(6_400, 6)]);
        let live = LiveLeg::new(said.collect::<Vec<_>>().concat(), SampleRate::NARROWBAND, 1);
        let audio = LegAudio { leg, ..live.audio() };
        call.get_or_insert_with(|| live.clock.clone());
        listeners.push(engine.listen(audio, collected.sink()));
        speakers.push(tokio::task::spawn_blocking(move || live.speak()));
    }
    for speaker in speakers {
        speaker.await.unwrap();
    }
    for listener in listeners {
        let report = listener.finish().await;
        assert!(report.complete && report.failed == 0 && report.missed_slots == 0, "{report:?}");
    }
    let events = collected.events();
    check(&events);
    let start = call.unwrap().start();
    let (mut errors, mut words) = (0, 0);
    for (leg, names) in Leg::BOTH.into_iter().zip(script) {
        let finals: Vec<_> =
            events.iter().filter(|(_, e)| e.leg == leg && e.kind == TranscriptKind::Final).collect();
        let heard = finals.iter().map(|(_, e)| e.text.as_str()).collect::<Vec<_>>().join(" ");
        let said = names.map(|name| prompt(name).text).join(" ");
        let (wrong, of) = word_errors(&said, &heard);
        errors += wrong;
        words += of;
        if wrong > 0 {
            eprintln!("{heard:?} instead of {said:?}");
        }
        for (at, event) in finals {
            let late = at.nanos_since(start + Duration::from_secs_f64(event.end)) as f64 / 1e9;
            assert!(late < 1.5, "{late} s for {:?}", event.text);
        }
    }
    assert!(errors as f64 <= 0.05 * words as f64, "{errors} of {words} words wrong");
}
