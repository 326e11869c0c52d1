//! Legs that NVIDIA Riva hears: over gRPC, against a server of our own and one made of NVIDIA's stubs.

#![cfg(feature = "riva")]
#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/proxy.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod proxy;
#[path = "support/riva_server.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod riva_server;
#[path = "speech-support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use proxy::Proxy;
use riva_server::{Act, Knows, RivaServer};
use sidetone::media::leg::Leg;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::speech::remote::{Fallback, RemoteConfig, StreamingService};
use sidetone::speech::riva::{RivaConfig, RivaService, RivaState};
use sidetone::speech::scripted::{Script, ScriptedModel, ScriptedWord};
use sidetone::speech::{
    FinishReport, LegAudio, NoModel, SpeechConfig, SpeechEngine, TranscriptEvent, TranscriptKind,
};
use support::{Collected, LiveLeg, hush, prompt};
use tokio::runtime::Handle;
use tonic::Code;

/// Longest wait for what takes a moment.
const SOON: Duration = Duration::from_secs(20);

/// 16 kHz, which passes through the engine sample for sample: a prompt of 3.3 s in a quiet line.
fn speech() -> Vec<i16> {
    let doubled = prompt("agent-pass").pcm.into_iter().flat_map(|s| [s, s]);
    let mut pcm: Vec<i16> =
        std::iter::repeat_n(0, 8_000).chain(doubled).chain(std::iter::repeat_n(0, 16_000)).collect();
    for (sample, noise) in pcm.iter_mut().zip(hush(1_000_000, 3)) {
        *sample = sample.saturating_add(noise);
    }
    pcm
}

/// Ten words in it, none of them in its pause; `prefix` tells whose they are.
fn words(prefix: &str) -> Vec<ScriptedWord> {
    let starts = [0.65, 0.9, 1.15, 1.4, 1.65, 2.3, 2.55, 2.8, 3.05, 3.3];
    starts.iter().enumerate().map(|(i, start)| (format!("{prefix}{i}"), *start, start + 0.2)).collect()
}

fn knows() -> Knows {
    Knows::Recording(Script::new(&speech(), words("r")))
}

fn to(url: &str) -> RivaConfig {
    RivaConfig {
        url: url.into(),
        connections: 1,
        connect_timeout: Duration::from_millis(500),
        remote: RemoteConfig {
            final_timeout: Duration::from_millis(800),
            retry_for: Duration::from_millis(1_500),
            ..RemoteConfig::default()
        },
        ..RivaConfig::default()
    }
}

fn service(config: RivaConfig) -> RivaService {
    RivaService::new(config, Handle::current()).expect("a client")
}

/// An engine whose own model says `w0 w1 …`.
fn engine() -> SpeechEngine {
    let model = Arc::new(ScriptedModel::new(&speech(), words("w")));
    SpeechEngine::start(SpeechConfig { workers: 1, ..SpeechConfig::default() }, model).expect("an engine")
}

struct Heard {
    /// The instant of the recording's first sample.
    began: MediaInstant,
    report: FinishReport,
    events: Vec<(MediaInstant, TranscriptEvent)>,
}

impl Heard {
    fn finals(&self) -> Vec<&TranscriptEvent> {
        self.events.iter().map(|(_, event)| event).filter(|e| e.kind == TranscriptKind::Final).collect()
    }

    fn text(&self) -> String {
        self.finals().iter().map(|event| event.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Revisions without holes, stable words that stay, one final, and that last.
    fn check(&self) -> &Self {
        let mut last: HashMap<u64, &TranscriptEvent> = HashMap::new();
        for (_, event) in &self.events {
            let before = last.insert(event.utterance, event);
            assert_eq!(event.revision, before.map_or(1, |before| before.revision + 1));
            if let Some(before) = before {
                assert_eq!(before.kind, TranscriptKind::Partial);
                let stable = before.words.iter().take_while(|w| w.stable).count();
                assert_eq!(before.words[..stable], event.words[..stable]);
            }
        }
        assert!(last.values().all(|event| event.kind == TranscriptKind::Final));
        self
    }

    /// Riva's words, each once and at its time.
    fn check_words(&self) -> &Self {
        self.check();
        let heard: Vec<_> = self.finals().into_iter().flat_map(|event| &event.words).collect();
        let texts: Vec<_> = heard.iter().map(|word| word.text.as_str()).collect();
        assert_eq!(texts, words("r").iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>());
        for (word, (text, start, end)) in heard.iter().zip(words("r")) {
            let off = (word.start - start).abs().max((word.end - end).abs());
            assert!(off < 0.003, "{text}: {word:?}, said from {start} to {end}");
        }
        assert!(self.report.complete && self.report.failed == 0, "{:?}", self.report);
        self
    }
}

/// A leg that says [`speech`] at the pace of the clock, heard by `service`, or by the engine's own model.
async fn hear(engine: &SpeechEngine, service: Option<&RivaService>, vocabulary: Option<&str>) -> Heard {
    let live = LiveLeg::new(speech(), SampleRate::WIDEBAND, 1);
    let began = live.clock.start();
    let collected = Collected::default();
    let service = service.map(|service| Arc::new(service.clone()) as Arc<dyn StreamingService>);
    let audio = LegAudio { service, vocabulary: vocabulary.map(Into::into), ..live.audio() };
    let listener = engine.listen(audio, collected.sink());
    tokio::task::spawn_blocking(move || live.speak()).await.expect("it speaks");
    Heard { began, report: listener.finish().await, events: collected.events() }
}

async fn until(service: &RivaService, wanted: impl Fn(&RivaState) -> bool) {
    let mut state = service.watch();
    tokio::time::timeout(SOON, state.wait_for(|state| wanted(state))).await.expect("in time").expect("known");
}

#[tokio::test(flavor = "multi_thread")]
async fn riva_hears_a_leg_with_exact_words_times_and_one_final() {
    let server = RivaServer::start(knows()).await;
    let service = service(RivaConfig {
        metadata: vec![("Function-Id".into(), "abc".into()), ("authorization".into(), "Bearer x".into())],
        model: "parakeet".into(),
        endpointing: Some(Duration::from_millis(320)),
        boost: 12.0,
        ..to(&server.url())
    });
    let heard = hear(&engine(), Some(&service), Some("Sidetone, Ms. Okafor")).await;
    heard.check_words();
    assert_eq!(heard.finals().len(), 1);
    assert!(heard.report.partials > 10, "{:?}", heard.report);
    let (at_final, last) = heard.events.last().expect("a final");
    assert!(last.words.iter().all(|word| word.stable && word.confidence > 0.89));
    let latency = at_final.saturating_since(heard.began + Duration::from_secs_f64(last.end));
    println!("final {latency:?} behind the end of the last word");
    // The hangover, the live lag, and what a busy machine adds.
    assert!(latency < Duration::from_millis(1_500), "{latency:?}");
    let (at_first, first) = &heard.events[0];
    let latency = at_first.saturating_since(heard.began + Duration::from_secs_f64(first.words[0].end));
    println!("first partial {latency:?} behind the end of its first word");
    assert!(first.words[0].text == "r0" && at_first < at_final);

    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    let config = seen[0].config.config.clone().expect("a configuration");
    assert!(
        seen[0].config.interim_results
            && config.enable_word_time_offsets
            && config.enable_automatic_punctuation
    );
    assert_eq!((config.encoding, config.sample_rate_hertz, config.audio_channel_count), (1, 16_000, 1));
    assert_eq!((config.language_code.as_str(), config.model.as_str()), ("en-US", "parakeet"));
    assert_eq!(config.speech_contexts[0].phrases, ["Sidetone", "Ms. Okafor"]);
    assert_eq!(config.speech_contexts[0].boost, 12.0);
    assert_eq!(config.endpointing_config.and_then(|e| e.stop_history), Some(320));
    assert_eq!(seen[0].metadata["function-id"], "abc");
    assert_eq!(seen[0].metadata["authorization"], "Bearer x");
    assert!(seen[0].metadata.contains_key("grpc-timeout"));
    assert!(seen[0].is_closed);
    // Of the quiet line around the 3.3 s of speech next to nothing is sent.
    let seconds = seen[0].audio.len() as f64 / 16_000.0;
    assert!((3.2..4.4).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_within_an_utterance_loses_nothing() {
    let server = RivaServer::start(knows()).await;
    let (service, engine) = (service(to(&server.url())), engine());
    for code in [Code::Unavailable, Code::Internal] {
        server.act(&[Act::FailAt(1.0, code)]);
        hear(&engine, Some(&service), None).await.check_words();
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[0].audio[..8_000], seen[1].audio[..8_000], "what was not final is sent again");

    server.act(&[Act::FinalThenFail(1.75, 2.6)]);
    hear(&engine, Some(&service), None).await.check_words();
    let seen = server.seen();
    assert!(seen[5].audio.len() < seen[3].audio.len() - 8_000, "what was final is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_within_an_utterance_loses_nothing() {
    let server = RivaServer::start(knows()).await;
    let proxy = Proxy::to(&server.url()).await;
    let (service, engine) = (service(to(&proxy.url())), engine());
    let cut = async {
        let deadline = tokio::time::Instant::now() + SOON;
        while server.seen().first().is_none_or(|seen| seen.audio.len() < 16_000) {
            assert!(tokio::time::Instant::now() < deadline, "nothing is sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy.cut().await;
    };
    let (heard, ()) = tokio::join!(hear(&engine, Some(&service), None), cut);
    heard.check_words();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_riva_is_away_the_model_in_this_process_takes_over_and_gives_back() {
    let server = RivaServer::start(knows()).await;
    let (address, url) = (server.address(), server.url());
    drop(server);
    let (service, engine) = (service(to(&url)), engine());
    until(&service, |state| matches!(state, RivaState::Down(_))).await;
    let RivaState::Down(reason) = service.watch().borrow().clone() else { panic!("it is away") };
    assert!(reason.contains("riva.url") && reason.contains(&url), "{reason}");
    let heard = hear(&engine, Some(&service), None).await;
    let own: Vec<_> = words("w").into_iter().map(|(text, ..)| text).collect();
    assert_eq!(heard.check().text(), own.join(" "));
    assert!(heard.report.partials > 2, "partials as well: {:?}", heard.report);

    let _server = RivaServer::start_on(address, knows(), None).await;
    until(&service, |state| *state == RivaState::Up).await;
    hear(&engine, Some(&service), None).await.check_words();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_riva_answers_never_wrongly_or_not_in_time_the_model_in_this_process_says() {
    let server = RivaServer::start(knows()).await;
    let (service, engine) = (service(to(&server.url())), engine());
    let acts = [
        vec![Act::Hush],
        vec![Act::Late(Duration::from_secs(9))],
        vec![Act::Garbage; 50],
        vec![Act::Refuse(Code::InvalidArgument, "no such model")],
        vec![Act::Refuse(Code::Unauthenticated, "who are you?")],
    ];
    for act in acts {
        // Each in a world of its own: the ones before may not have been used up.
        let server = RivaServer::start(knows()).await;
        let service = self::service(to(&server.url()));
        server.act(&act);
        let heard = hear(&engine, Some(&service), None).await;
        let own: Vec<_> = words("w").into_iter().map(|(text, ..)| text).collect();
        assert_eq!(heard.check().text(), own.join(" "), "{:?}", act[0]);
        assert!(heard.report.complete && heard.report.failed == 0, "{:?}: {:?}", act[0], heard.report);
    }
    // And what is only slow is waited for.
    server.act(&[Act::Late(Duration::from_millis(10))]);
    hear(&engine, Some(&service), None).await.check_words();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_the_report_says_what_is_missing() {
    let server = RivaServer::start(knows()).await;
    let mut config = to(&server.url());
    config.remote.fallback = Fallback::None;
    let service = service(config);
    server.act(&[Act::Refuse(Code::InvalidArgument, "no such model")]);
    // There need not be a model in this process.
    let engine =
        SpeechEngine::start(SpeechConfig { workers: 1, ..SpeechConfig::default() }, Arc::new(NoModel))
            .expect("an engine");
    let heard = hear(&engine, Some(&service), None).await;
    assert_eq!(heard.report.failed, 1, "{:?}", heard.report);
    assert_eq!(heard.check().text(), "");
    hear(&engine, Some(&service), None).await.check_words();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_leg_has_the_engine_that_was_chosen_for_it() {
    let server = RivaServer::start(knows()).await;
    let (service, engine) = (service(to(&server.url())), engine());
    let (one, other) = tokio::join!(hear(&engine, Some(&service), None), hear(&engine, None, None));
    one.check_words();
    let own: Vec<_> = words("w").into_iter().map(|(text, ..)| text).collect();
    assert_eq!(other.check().text(), own.join(" "));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_without_a_tag_is_refused_with_the_setting_and_falls_back() {
    let server = RivaServer::start(knows()).await;
    let (service, engine) = (service(to(&server.url())), engine());
    let live = LiveLeg::new(speech(), SampleRate::WIDEBAND, 1);
    let began = live.clock.start();
    let collected = Collected::default();
    let audio = LegAudio { language: "sv".into(), service: Some(Arc::new(service)), ..live.audio() };
    let listener = engine.listen(audio, collected.sink());
    tokio::task::spawn_blocking(move || live.speak()).await.unwrap();
    let heard = Heard { began, report: listener.finish().await, events: collected.events() };
    assert!(heard.check().text().starts_with("w0 w1"));
    assert!(server.seen().is_empty());
    assert_eq!(heard.finals()[0].leg, Leg::Caller);
}

fn pem(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    std::fs::read_to_string(path).expect("a certificate")
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_by_the_authority_the_name_and_our_own_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let identity = (pem("server.pem"), pem("server.key"));
    let server = RivaServer::start_secure(knows(), (&identity.0, &identity.1), &pem("ca.pem")).await;
    let bytes = |name: &str| pem(name).into_bytes();
    let secure = RivaConfig {
        authorities: Some(bytes("ca.pem")),
        identity: Some((bytes("client.pem"), bytes("client.key"))),
        tls_name: Some("riva.test".into()),
        ..to(&server.url())
    };
    hear(&engine(), Some(&service(secure.clone())), None).await.check_words();
    for wrong in [
        RivaConfig { authorities: None, ..secure.clone() },
        RivaConfig { tls_name: Some("other.test".into()), ..secure.clone() },
        RivaConfig { identity: None, ..secure },
    ] {
        let refused = service(wrong).models().await.expect_err("no trust").to_string();
        assert!(refused.contains(&server.url()), "{refused}");
    }
}

fn check(server: &str, settings: &[&str]) -> serde_json::Value {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command.args(["check", "--json", "--set", &format!("node.data={}", data.path().display())]);
    // Nobody listens there: it is not Asterisk that is looked at here.
    command.args(["--set", "ari.url=http://127.0.0.1:9", "--set", &format!("riva.url={server}")]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("it runs");
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = all["findings"].as_array().expect("findings");
    findings.iter().find(|finding| finding["what"] == "riva").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_whether_riva_is_there_and_has_what_is_asked_for() {
    let server = RivaServer::start(knows()).await;
    server.has(&[("parakeet-en", "en-US"), ("conformer-de", "de-DE,de-AT")]);
    let url = server.url();
    let look = move |settings: &[&'static str]| {
        let (url, settings) = (url.clone(), settings.to_vec());
        tokio::task::spawn_blocking(move || check(&url, &settings))
    };
    let good = look(&["speech.engine=riva", "speech.tenants.acme.language=de"]).await.unwrap();
    assert_eq!(good["verdict"], "good", "{good}");
    assert!(good["message"].as_str().unwrap().contains("parakeet-en, conformer-de"), "{good}");
    let bad = look(&["riva.model=nosuch"]).await.unwrap();
    assert_eq!(bad["verdict"], "bad", "{bad}");
    assert!(bad["message"].as_str().unwrap().contains("`nosuch`"), "{bad}");
    let bad = look(&["speech.language=fr"]).await.unwrap();
    assert!(bad["message"].as_str().unwrap().contains("fr-FR"), "{bad}");
    let bad = look(&["speech.language=sv"]).await.unwrap();
    assert!(bad["message"].as_str().unwrap().contains("riva.languages"), "{bad}");
    let away = tokio::task::spawn_blocking(|| check("http://127.0.0.1:9", &[])).await.unwrap();
    assert_eq!(away["verdict"], "bad", "{away}");
    assert!(away["message"].as_str().unwrap().contains("riva.url"), "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nvidias_own_stubs_understand_us_and_we_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/tools/python/bin/python");
    assert!(python.exists(), "no Python with the package nvidia-riva-client: run scripts/setup");
    let mut command = Command::new(python);
    command.arg(root.join("tests/riva/server.py")).arg("each word at its time");
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(server.stdout.take().expect("its output")).lines();
    let port = lines.next().expect("a port").expect("a line");

    let service = service(RivaConfig {
        metadata: vec![("authorization".into(), "Bearer x".into())],
        endpointing: Some(Duration::from_millis(320)),
        verbatim: true,
        ..to(&format!("http://127.0.0.1:{port}"))
    });
    let models = service.models().await.expect("models");
    assert_eq!((models[0].name.as_str(), models[0].is_streaming), ("parakeet", true));
    assert_eq!(models[0].languages, ["en-US"]);

    let heard = hear(&engine(), Some(&service), Some("Sidetone, Ms. Okafor")).await;
    assert_eq!(heard.check().text(), "each word at its time");
    let first = &heard.finals()[0].words[0];
    assert!((first.confidence - 0.905).abs() < 0.001, "exp(-0.1): {first:?}");
    drop(server.stdin.take());
    let told = lines.next().expect("what it was told").expect("a line");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let wanted = serde_json::json!({
        "interim_results": true,
        "config": {
            "encoding": "LINEAR_PCM",
            "sample_rate_hertz": 16_000,
            "language_code": "en-US",
            "max_alternatives": 1,
            "audio_channel_count": 1,
            "enable_word_time_offsets": true,
            "enable_automatic_punctuation": true,
            "verbatim_transcripts": true,
            "speech_contexts": [{"phrases": ["Sidetone", "Ms. Okafor"], "boost": 10.0}],
            "endpointing_config": {"stop_history": 320},
        }
    });
    assert_eq!(told["config"], wanted);
    assert_eq!(told["metadata"]["authorization"], "Bearer x");
    assert!(told["samples"].as_u64().is_some_and(|samples| (48_000..80_000).contains(&samples)), "{told}");
    server.wait().expect("its end");
}
