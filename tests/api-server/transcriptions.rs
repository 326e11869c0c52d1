//! `POST /v1/audio/transcriptions`, by hand and by OpenAI's own client.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Condvar, Mutex};
use reqwest::{Body, Response};
use serde_json::{Value, json};
use sidetone::api::{TranscriptionPolicy, Transcriptions};
use sidetone::calls::speech::Expectations;
use sidetone::config::Settings;
use sidetone::speech::recogniser::{
    Hypothesis, HypothesisWord, RecogniseError, Recogniser, Request, SpeechModel,
};
use sidetone::speech::{ModelFile, SpeechConfig, SpeechEngine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Server, Setup};

const PATH: &str = "/v1/audio/transcriptions";
const KEY: &str = "st_acme_0123456789abcdef";
const MIB: u64 = 1 << 20;

async fn server(data: &Path, model: Arc<dyn SpeechModel>) -> (Server, Arc<Transcriptions>) {
    server_of(data, model, &Settings::default()).await
}

async fn server_of(
    data: &Path,
    model: Arc<dyn SpeechModel>,
    settings: &Settings,
) -> (Server, Arc<Transcriptions>) {
    let config = SpeechConfig { workers: 2, ..SpeechConfig::default() };
    let engine = Arc::new(SpeechEngine::start(config, model).unwrap());
    let policy = TranscriptionPolicy {
        folder: data.join("uploads"),
        most_bytes: 4 * MIB,
        most_duration: Duration::from_secs(120),
        min_free_mib: 1,
        expected: Expectations::of(settings),
    };
    let service = Arc::new(Transcriptions::open(engine, policy).unwrap());
    let setup = Setup { keys: vec![KEY], transcriptions: Some(service.clone()), ..Setup::default() };
    (Server::with(data, setup).await, service)
}

fn embedded() -> Arc<dyn SpeechModel> {
    ModelFile::embedded().unwrap().load().unwrap()
}

fn prompt(name: &str) -> Vec<i16> {
    let file = format!("{}/tests/fixtures/speech/{name}.ulaw", env!("CARGO_MANIFEST_DIR"));
    let codes = std::fs::read(file).unwrap();
    let speech = codes.into_iter().map(|code| sidetone::media::codec::g711::ULAW[usize::from(code)]);
    [vec![0; 4_000], speech.collect(), vec![0; 8_000]].concat()
}

fn wav(channels: &[&[i16]]) -> Vec<u8> {
    let frames = channels.iter().map(|channel| channel.len()).max().unwrap();
    let mut wav =
        sidetone::recording::wav::header(8_000, channels.len() as u16, (2 * frames * channels.len()) as u64)
            .to_vec();
    for frame in 0..frames {
        for channel in channels {
            wav.extend(channel.get(frame).copied().unwrap_or(0).to_le_bytes());
        }
    }
    wav
}

/// Two people, one after the other.
fn two_speakers() -> Vec<u8> {
    let left = prompt("hello-world");
    let right = [vec![0; left.len()], prompt("vm-goodbye")].concat();
    wav(&[&left, &right])
}

const BOUNDARY: &str = "0123456789";

fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some((name, bytes)) = file {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    for (name, value) in fields {
        body.extend(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .as_bytes(),
        );
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn post(server: &Server, body: impl Into<Body>) -> Response {
    let request = server.request("POST", PATH).bearer_auth(KEY);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    request.header("content-type", kind).body(body).send().await.unwrap()
}

/// A connection on which a request has begun; `length` says how long its body is.
async fn connected(server: &Server, length: &str) -> TcpStream {
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{length}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

async fn transcribed(server: &Server, fields: &[(&str, &str)], file: &[u8]) -> (String, String) {
    let response = post(server, form(fields, Some(("a.wav", file)))).await;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status();
    let body = response.text().await.unwrap();
    assert_eq!(status, 200, "{fields:?}: {body}");
    (kind, body)
}

/// The body of a refusal of OpenAI's shape.
async fn refused(response: Response, status: u16) -> Value {
    assert_eq!(response.status(), status);
    let body: Value = response.json().await.unwrap();
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|words| words.len() > 10), "{body}");
    assert!(
        error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some(),
        "{body}"
    );
    error.clone()
}

#[tokio::test]
async fn every_format_of_openais_has_its_shape_and_stereo_has_speakers() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path(), embedded()).await;
    let file = two_speakers();
    let all = "hello world goodbye";

    let (kind, body) = transcribed(&server, &[("model", "whisper-1")], &file).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((kind.as_str(), &body["text"]), ("application/json", &json!(all)));
    assert_eq!(body["usage"]["type"], "duration");

    let with =
        |format: &'static str| [("response_format", format), ("prompt", "hello"), ("temperature", "0")];
    let (kind, body) = transcribed(&server, &with("text"), &file).await;
    assert_eq!((kind.as_str(), body), ("text/plain; charset=utf-8", format!("{all}\n")));
    let (_, srt) = transcribed(&server, &with("srt"), &file).await;
    assert!(srt.starts_with("1\n00:00:00,") && srt.contains("callee: goodbye"), "{srt}");
    let (_, vtt) = transcribed(&server, &with("vtt"), &file).await;
    assert!(vtt.starts_with("WEBVTT\n\n00:00:00.") && vtt.contains("<v caller>hello world"), "{vtt}");

    let words = [
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("language", "en"),
    ];
    let (_, body) = transcribed(&server, &words, &file).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["task"], &body["language"], &body["text"]),
        (&json!("transcribe"), &json!("en"), &json!(all))
    );
    let length = (file.len() as f64 - 80.0) / 4.0 / 8_000.0;
    assert!((body["duration"].as_f64().unwrap() - length).abs() < 0.002, "{body}");
    let speakers: Vec<_> =
        body["segments"].as_array().unwrap().iter().map(|s| s["speaker"].as_str().unwrap()).collect();
    assert_eq!(speakers, ["caller", "callee"]);
    let words = body["words"].as_array().unwrap();
    assert_eq!(words.iter().map(|w| w["word"].as_str().unwrap()).collect::<Vec<_>>().join(" "), all);
    assert!(words.windows(2).all(|pair| pair[0]["start"].as_f64() <= pair[1]["start"].as_f64()));
    assert!(words.iter().all(|w| (0.0..=1.0).contains(&w["confidence"].as_f64().unwrap())));

    // The same words from what compresses, and from what has no header.
    let codes =
        std::fs::read(format!("{}/tests/fixtures/speech/hello-world.ulaw", env!("CARGO_MANIFEST_DIR")))
            .unwrap();
    let response = post(&server, form(&[("response_format", "text")], Some(("hello.ULAW", &codes)))).await;
    assert_eq!(response.text().await.unwrap(), "hello world\n");
    assert_eq!(std::fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_adds_up_to_its_end() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path(), embedded()).await;
    let file = two_speakers();
    for (format, segments) in [("json", 0), ("verbose_json", 2)] {
        let fields = [("stream", "true"), ("response_format", format)];
        let (kind, body) = transcribed(&server, &fields, &file).await;
        assert_eq!(kind, "text/event-stream");
        let events: Vec<Value> = body
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        let of = |kind: &str| events.iter().filter(|e| e["type"] == kind).collect::<Vec<_>>();
        let deltas: String =
            of("transcript.text.delta").iter().map(|e| e["delta"].as_str().unwrap()).collect();
        assert_eq!(deltas, "hello world goodbye");
        assert_eq!(of("transcript.text.delta").len(), 2);
        let done = events.last().unwrap();
        assert_eq!((&done["type"], &done["text"]), (&json!("transcript.text.done"), &json!(deltas)));
        assert_eq!(of("transcript.text.segment").len(), segments);
        if segments > 0 {
            assert_eq!(of("transcript.text.segment")[1]["speaker"], "callee");
        }
    }
    server.stop().await;
}

/// Fields, a file by its name, and the status and the field of the refusal.
type Case<'a> = (&'a [(&'a str, &'a str)], Option<(&'a str, &'a [u8])>, u16, &'a str);

#[tokio::test]
async fn refusals_are_in_openais_shape_and_name_the_field() {
    let data = tempfile::tempdir().unwrap();
    let (server, service) = server(data.path(), embedded()).await;
    let file = wav(&[&prompt("digit-5")]);
    let good = form(&[], Some(("a.wav", &file)));

    let error = refused(server.request("POST", PATH).body(good.clone()).send().await.unwrap(), 401).await;
    assert_eq!(error["code"], "invalid_api_key");
    refused(server.request("GET", PATH).bearer_auth(KEY).send().await.unwrap(), 405).await;
    refused(server.request("POST", PATH).bearer_auth(KEY).body(good.clone()).send().await.unwrap(), 400)
        .await;

    let cases: [Case<'_>; 7] = [
        (&[("model", "gpt-5")], Some(("a.wav", &file)), 404, "model"),
        (&[("response_format", "docx")], Some(("a.wav", &file)), 400, "response_format"),
        (&[("language", "xx")], Some(("a.wav", &file)), 400, "language"),
        (&[("language", "de")], Some(("a.wav", &file)), 400, "language"),
        (&[], None, 400, "file"),
        (&[], Some(("a.wav", b"")), 400, "file"),
        (&[], Some(("a.docx", b"this is no audio at all, whatever it is")), 400, "file"),
    ];
    for (fields, file, status, param) in cases {
        let error = refused(post(&server, form(fields, file)).await, status).await;
        assert_eq!(error["param"], param, "{error}");
    }
    let three = wav(&[&[0; 800], &[0; 800], &[0; 800]]);
    let error = refused(post(&server, form(&[], Some(("a.wav", &three)))).await, 400).await;
    assert!(error["message"].as_str().unwrap().contains("3 channels"), "{error}");
    let long = wav(&[&[0; 121 * 8_000]]);
    let error = refused(post(&server, form(&[], Some(("a.wav", &long)))).await, 400).await;
    assert_eq!(error["code"], "audio_too_long");
    refused(post(&server, good[..good.len() / 2].to_vec()).await, 400).await;

    // Too large: told so, or found out.
    let large = form(&[], Some(("a.wav", &vec![0; 5 * MIB as usize])));
    let error = refused(post(&server, large.clone()).await, 413).await;
    assert_eq!((&error["code"], &error["param"]), (&json!("file_too_large"), &json!("file")));
    let mut client = connected(&server, "Transfer-Encoding: chunked").await;
    for piece in large.chunks(100_000) {
        client
            .write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
            .await
            .unwrap();
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    let fields = form(&[("prompt", &"x".repeat(70_000))], Some(("a.wav", &file)));
    refused(post(&server, fields).await, 400).await;

    assert_eq!(service.in_progress(), 0);
    assert_eq!(std::fs::read_dir(data.path().join("uploads")).unwrap().count(), 0);
    assert_eq!(post(&server, good).await.status(), 200, "and goes on");
    server.stop().await;
}

#[tokio::test]
async fn without_a_model_it_is_said_so() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let request = server.request("POST", PATH).header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(refused(request.send().await.unwrap(), 503).await["code"], "no_model");
}

/// Hears "word" in everything, once the gate is open.
#[derive(Clone, Default)]
struct Gated(Arc<(Mutex<Gate>, Condvar)>);

#[derive(Default)]
struct Gate {
    is_open: bool,
    begun: usize,
    /// Language and prompt of each piece.
    asked: Vec<(String, Option<String>)>,
}

impl SpeechModel for Gated {
    fn name(&self) -> &str {
        "gated"
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(self.clone()))
    }
}

impl Recogniser for Gated {
    fn recognise(&mut self, _: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        let (gate, changed) = &*self.0;
        let mut gate = gate.lock();
        gate.begun += 1;
        gate.asked.push((request.language.clone(), request.prompt.clone()));
        changed.notify_all();
        changed.wait_while(&mut gate, |gate| !gate.is_open);
        let word = HypothesisWord { text: "word".into(), start: 0.1, end: 0.2, p: 0.9 };
        Ok(Hypothesis {
            words: vec![word],
            avg_logprob: -0.1,
            language: request.language.clone(),
            ..Hypothesis::default()
        })
    }
}

impl Gated {
    fn begun(&self) -> usize {
        self.0.0.lock().begun
    }

    fn open(&self) {
        self.0.0.lock().is_open = true;
        self.0.1.notify_all();
    }
}

/// Wait for what has to come.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn whoever_goes_away_is_worked_for_no_more() {
    for stream in ["false", "true"] {
        let data = tempfile::tempdir().unwrap();
        let model = Gated::default();
        let (server, service) = server(data.path(), Arc::new(model.clone())).await;
        let many = prompt("hello-world").repeat(15);
        let body = form(&[("stream", stream)], Some(("a.wav", &wav(&[&many]))));
        let mut client = connected(&server, &format!("Content-Length: {}", body.len())).await;
        client.write_all(&body).await.unwrap();
        until("it begins", || model.begun() == 2).await;
        assert_eq!(service.in_progress(), 1);
        assert_eq!(std::fs::read_dir(data.path().join("uploads")).unwrap().count(), 0, "it has no name");
        drop(client);
        until("it is given up", || service.in_progress() == 0).await;
        model.open();

        // The workers have nothing else to do than what comes now.
        let response = post(&server, form(&[], Some(("a.wav", &wav(&[&prompt("digit-5")]))))).await;
        assert_eq!(response.json::<Value>().await.unwrap()["text"], "word");
        assert_eq!(model.begun(), 3);
        server.stop().await;
    }
}

#[tokio::test]
async fn language_and_vocabulary_are_those_of_the_keys_tenant_and_a_prompt_comes_on_top() {
    let mut settings = Settings::default();
    settings.speech.vocabulary = vec!["Sidetone".into()];
    let own = settings.speech.tenants.entry("acme".into()).or_default();
    own.language = Some("de".into());
    own.vocabulary = Some(vec!["Ms. Okafor".into(), "Frau Özgür".into()]);
    let data = tempfile::tempdir().unwrap();
    let model = Gated::default();
    let (server, _) = server_of(data.path(), Arc::new(model.clone()), &settings).await;
    model.open();
    let file = wav(&[&prompt("digit-5")]);
    for fields in [&[][..], &[("prompt", "Herr Yıldız"), ("language", "tr")]] {
        transcribed(&server, fields, &file).await;
    }
    let asked = |language: &str, prompt: &str| (language.to_owned(), Some(prompt.to_owned()));
    let wanted = [asked("de", "Ms. Okafor, Frau Özgür"), asked("tr", "Ms. Okafor, Frau Özgür Herr Yıldız")];
    assert_eq!(model.0.0.lock().asked, wanted);
    server.stop().await;
}

#[tokio::test]
async fn more_files_than_there_is_room_for_are_told_to_come_again() {
    let data = tempfile::tempdir().unwrap();
    let model = Gated::default();
    let (server, service) = server(data.path(), Arc::new(model.clone())).await;
    let file = wav(&[&prompt("digit-5")]);
    let body = form(&[], Some(("a.wav", &file)));
    let waiting = join_all((0..32).map(|_| post(&server, body.clone())));
    let refusal = async {
        until("all are in", || service.in_progress() == 32).await;
        let response = post(&server, body.clone()).await;
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(refused(response, 429).await["code"], "rate_limit_exceeded");
        model.open();
    };
    let (answers, ()) = tokio::join!(waiting, refusal);
    for answer in answers {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(model.begun(), 32);
    server.stop().await;
}

#[tokio::test]
async fn an_upload_that_never_ends_holds_nothing_back() {
    let data = tempfile::tempdir().unwrap();
    let (server, service) = server(data.path(), embedded()).await;
    let mut client = connected(&server, "Transfer-Encoding: chunked").await;
    // The head of a field that goes on and on.
    let field = format!("--{BOUNDARY}\r\nX-Long: {}", "x".repeat(10_000));
    client.write_all(format!("{:x}\r\n{field}\r\n0\r\n\r\n", field.len()).as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 400");
    until("its place is free", || service.in_progress() == 0).await;
    server.stop().await;
}

/// The client that most people have, in the environment that `scripts/setup` makes.
#[tokio::test]
async fn openais_own_client_is_content() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path(), embedded()).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/tools/python/bin/python");
    assert!(python.exists(), "no Python with the package openai: run scripts/setup");
    let file = data.path().join("two.wav");
    std::fs::write(&file, two_speakers()).unwrap();
    let mut command = std::process::Command::new(python);
    command.arg(root.join("tests/api-server/openai_client.py")).arg(server.url("/v1")).arg(KEY).arg(&file);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "all as expected");
    server.stop().await;
}
