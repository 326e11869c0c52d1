//! `GET /v1/listen`, by hand and by Deepgram's own client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sidetone::api::{LivePolicy, SocketPolicy};
use sidetone::clock;
use sidetone::media::codec::opus;
use sidetone::speech::recogniser::{
    Hypothesis, HypothesisWord, RecogniseError, Recogniser, Request, SpeechModel,
};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::live::{
    KEY, bytes, client_is_content, embedded, interleaved, server, service, speech, until, with,
};
use super::support::{Server, Setup, Socket, close_code, next, problem};

const LINEAR: &str = "encoding=linear16&sample_rate=8000";

async fn opened(server: &Server, query: &str) -> Socket {
    server.socket(&format!("/v1/listen?token={KEY}&{query}")).await
}

async fn send(socket: &mut Socket, audio: &[u8], piece: usize) {
    for piece in audio.chunks(piece) {
        socket.send(Message::Binary(piece.to_vec().into())).await.unwrap();
    }
}

async fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::Text(text.into())).await.unwrap();
}

async fn done(socket: &mut Socket) {
    say(socket, r#"{"type":"CloseStream"}"#).await;
}

/// All that comes until the socket is closed.
async fn rest(socket: &mut Socket) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some(message) = next(socket).await {
        all.push(message);
    }
    all
}

fn of_type<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["type"] == kind).collect()
}

fn transcript(message: &Value) -> &str {
    message["channel"]["alternatives"][0]["transcript"].as_str().unwrap()
}

/// The final transcripts of a channel, put together.
fn finals(messages: &[Value], channel: u64) -> String {
    let results = of_type(messages, "Results");
    let finals = results.iter().filter(|m| m["is_final"] == true && m["channel_index"][0] == channel);
    finals.map(|m| transcript(m)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn words_come_as_deepgram_writes_them_whatever_the_size_of_the_pieces() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) = server(data.path()).await;
    let audio = speech(&["hello-world", "vm-goodbye"]);
    for piece in [160, 333, 100_000] {
        let query = format!("{LINEAR}&model=nova-3&interim_results=true&vad_events=true&punctuate=true");
        let mut socket = opened(&server, &query).await;
        send(&mut socket, &bytes(&audio), piece).await;
        done(&mut socket).await;
        let messages = rest(&mut socket).await;
        assert_eq!(finals(&messages, 0), "hello world goodbye", "{messages:#?}");
        for results in of_type(&messages, "Results") {
            assert_eq!(results["channel_index"], json!([0, 1]));
            assert_eq!(results["from_finalize"], false);
            assert!(results["start"].is_f64() && results["duration"].as_f64().unwrap() >= 0.0);
            assert!(results["metadata"]["model_info"]["name"].is_string());
            let alternative = &results["channel"]["alternatives"][0];
            assert!((0.0..=1.0).contains(&alternative["confidence"].as_f64().unwrap()));
            let words = alternative["words"].as_array().unwrap();
            assert!(words.iter().all(|w| w["word"].is_string() && w["punctuated_word"].is_string()));
            assert!(words.iter().all(|w| w["start"].as_f64() <= w["end"].as_f64()));
        }
        let ends = of_type(&messages, "Results").into_iter().filter(|m| m["speech_final"] == true).count();
        assert_eq!(ends, 2, "an end for each utterance");
        let started = of_type(&messages, "SpeechStarted");
        assert_eq!(started.len(), 2, "{messages:#?}");
        assert!((0.3..0.9).contains(&started[0]["timestamp"].as_f64().unwrap()), "{started:?}");
        let metadata = messages.last().unwrap();
        assert_eq!((&metadata["type"], &metadata["channels"]), (&json!("Metadata"), &json!(1)));
        let seconds = audio.len() as f64 / 8_000.0;
        assert!((metadata["duration"].as_f64().unwrap() - seconds).abs() < 0.001, "{metadata}");
        assert_eq!(metadata["sha256"].as_str().unwrap().len(), 64);
    }
    until("their places are free", || live.channels() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn channels_are_heard_apart_or_together() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) = server(data.path()).await;
    let left = speech(&["hello-world"]);
    let right = [vec![0; left.len()], speech(&["vm-goodbye"])].concat();
    let both = bytes(&interleaved(&left, &right));
    let mut socket = opened(&server, &format!("{LINEAR}&channels=2&multichannel=true")).await;
    send(&mut socket, &both, 1_001).await;
    assert_eq!(live.channels(), 2);
    done(&mut socket).await;
    let messages = rest(&mut socket).await;
    assert_eq!((finals(&messages, 0).as_str(), finals(&messages, 1).as_str()), ("hello world", "goodbye"));
    assert!(of_type(&messages, "Results").iter().all(|m| m["channel_index"][1] == 2));
    assert_eq!(messages.last().unwrap()["channels"], 2);

    // The same words in both are no echo.
    let same = bytes(&interleaved(&left, &left));
    let mut socket = opened(&server, &format!("{LINEAR}&channels=2&multichannel=true")).await;
    send(&mut socket, &same, 3_200).await;
    done(&mut socket).await;
    let messages = rest(&mut socket).await;
    assert_eq!(
        (finals(&messages, 0).as_str(), finals(&messages, 1).as_str()),
        ("hello world", "hello world")
    );

    let mut socket = opened(&server, &format!("{LINEAR}&channels=2")).await;
    send(&mut socket, &both, 3_200).await;
    done(&mut socket).await;
    assert_eq!(finals(&rest(&mut socket).await, 0), "hello world goodbye");
    server.stop().await;
}

#[tokio::test]
async fn every_packing_of_the_same_words_is_read() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let audio = speech(&["hello-world"]);
    let ulaw: Vec<u8> = audio.iter().map(|&sample| sidetone::media::codec::g711::to_ulaw(sample)).collect();
    let alaw: Vec<u8> = audio.iter().map(|&sample| sidetone::media::codec::g711::to_alaw(sample)).collect();
    let mut wav = sidetone::recording::wav::header(8_000, 1, 2 * audio.len() as u64).to_vec();
    wav.extend(bytes(&audio));
    for (query, audio) in [("encoding=mulaw", &ulaw), ("encoding=alaw&sample_rate=8000", &alaw), ("", &wav)] {
        let mut socket = opened(&server, query).await;
        send(&mut socket, audio, 777).await;
        done(&mut socket).await;
        assert_eq!(finals(&rest(&mut socket).await, 0), "hello world", "{query}");
    }
    let mut encoder = opus::Encoder::new(0).unwrap();
    let mut socket = opened(&server, "encoding=opus&sample_rate=48000").await;
    for frame in audio.chunks_exact(160) {
        // Every sample twice is good enough for this.
        let wide: Vec<i16> = frame.iter().flat_map(|&sample| [sample; 2]).collect();
        let mut packet = Vec::new();
        encoder.encode(&wide, &mut packet).unwrap();
        send(&mut socket, &packet, packet.len()).await;
    }
    // Of old, an empty message was the end.
    socket.send(Message::Binary(Vec::new().into())).await.unwrap();
    let messages = rest(&mut socket).await;
    assert_eq!(finals(&messages, 0), "hello world");
    let seconds = messages.last().unwrap()["duration"].as_f64().unwrap();
    assert!((seconds - audio.len() as f64 / 8_000.0).abs() < 0.02, "{seconds}");
    server.stop().await;
}

#[tokio::test]
async fn finalize_gives_what_was_said_up_to_it_and_the_stream_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let mut spoken = speech(&["hello-world"]);
    // Nothing but the request ends this utterance.
    spoken.truncate(spoken.len() - 8_000);
    let mut socket = opened(&server, LINEAR).await;
    for (n, expected) in ["hello world", "hello world", ""].iter().enumerate() {
        if !expected.is_empty() {
            send(&mut socket, &bytes(&spoken), 3_200).await;
        }
        say(&mut socket, r#"{"type":"Finalize"}"#).await;
        let results = next(&mut socket).await.unwrap();
        assert_eq!((&results["from_finalize"], &results["is_final"]), (&json!(true), &json!(true)), "{n}");
        assert_eq!(transcript(&results), *expected, "{n}: {results}");
    }
    say(&mut socket, r#"{"type":"Finalize","channel":3}"#).await;
    assert_eq!(next(&mut socket).await.unwrap()["variant"], "SchemaError");
    done(&mut socket).await;
    let messages = rest(&mut socket).await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_end_of_an_utterance_is_told_after_the_gap_that_was_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let query = format!("{LINEAR}&interim_results=true&utterance_end_ms=1000");
    let mut socket = opened(&server, &query).await;
    send(&mut socket, &bytes(&[speech(&["hello-world"]), vec![0; 24_000]].concat()), 3_200).await;
    let mut last = Value::Null;
    let end = loop {
        let message = next(&mut socket).await.unwrap();
        match message["type"].as_str().unwrap() {
            "UtteranceEnd" => break message,
            _ => last = message,
        }
    };
    let words = last["channel"]["alternatives"][0]["words"].as_array().unwrap();
    assert_eq!(end["last_word_end"], words.last().unwrap()["end"], "{last} {end}");
    assert_eq!(last["speech_final"], true);
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_or_asks_for_what_is_not_here_is_told_before_the_upgrade() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) = server(data.path()).await;
    let upgrade = |query: &str| {
        let request = server.request("GET", &format!("/v1/listen?{query}"));
        let request = request.header("connection", "upgrade").header("upgrade", "websocket");
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    problem(upgrade(LINEAR).send().await.unwrap(), 401).await;
    for query in
        ["encoding=flac", "encoding=linear16", "redact=pci", "language=klingon", "model=gpt-5", "language=de"]
    {
        let response = upgrade(query).bearer_auth(KEY).send().await.unwrap();
        assert!(response.headers().contains_key("dg-request-id"));
        let why = response.headers()["dg-error"].to_str().unwrap().to_owned();
        let told = problem(response, 400).await;
        assert!(why.starts_with(told["detail"].as_str().unwrap()), "{why}");
    }
    let plain = server.request("GET", &format!("/v1/listen?{LINEAR}")).bearer_auth(KEY).send().await.unwrap();
    problem(plain, 426).await;
    let posted = server.request("POST", "/v1/listen").bearer_auth(KEY).body("RIFF").send().await.unwrap();
    let told = problem(posted, 405).await;
    assert!(told["remedy"].as_str().unwrap().contains("/v1/audio/transcriptions"), "{told}");
    assert_eq!(live.channels(), 0);

    // As Deepgram's clients and browsers bring their keys.
    let url = format!("ws://{}/v1/listen?{LINEAR}", server.addr);
    for (name, value) in
        [("authorization", format!("Token {KEY}")), ("sec-websocket-protocol", format!("token, {KEY}"))]
    {
        let mut request = url.as_str().into_client_request().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        let chosen = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(chosen, (name != "authorization").then_some("token"));
        done(&mut socket).await;
        assert_eq!(rest(&mut socket).await.len(), 1, "the metadata alone");
    }
    server.stop().await;
    let deaf = Server::with(data.path(), Setup::default()).await;
    problem(deaf.get("/v1/listen").await, 503).await;
}

#[tokio::test]
async fn a_message_that_is_none_is_named_and_costs_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let mut socket = opened(&server, LINEAR).await;
    let audio = bytes(&speech(&["hello-world"]));
    send(&mut socket, &audio[..5_001], 3_200).await;
    for bad in ["{", "hello", r#"{"type":"Hello"}"#] {
        say(&mut socket, bad).await;
        let error = next(&mut socket).await.unwrap();
        assert_eq!(
            (&error["type"], &error["variant"], &error["message"]),
            (&json!("Error"), &json!("SchemaError"), &json!(bad))
        );
    }
    say(&mut socket, r#"{"type":"Configure","keyterms":["a"]}"#).await;
    assert_eq!(next(&mut socket).await.unwrap()["type"], "ConfigureFailure");
    say(&mut socket, r#"{"type":"KeepAlive"}"#).await;
    send(&mut socket, &audio[5_001..], 3_200).await;
    done(&mut socket).await;
    assert_eq!(finals(&rest(&mut socket).await, 0), "hello world");

    let mut socket = opened(&server, "model=nova-3").await;
    send(&mut socket, &[0x1a, 0x45, 0xdf, 0xa3, 1, 2, 3, 4, 5, 6, 7, 8, 9], 100).await;
    let error = next(&mut socket).await.unwrap();
    assert_eq!(error["code"], "DATA-0000");
    assert!(error["description"].as_str().unwrap().contains("encoding"), "{error}");
    assert_eq!(close_code(&mut socket).await, Some(1008));
    let mut socket = opened(&server, "encoding=opus").await;
    send(&mut socket, &[0xff; 3], 100).await;
    assert_eq!(close_code(&mut socket).await, Some(1008));
    let mut socket = opened(&server, LINEAR).await;
    // The rest of it cannot be sent any more, once the server has seen how long it is.
    let _ = socket.send(Message::Binary(vec![0; (4 << 20) + 1].into())).await;
    assert!(matches!(close_code(&mut socket).await, Some(1009) | None));
    server.stop().await;
}

#[tokio::test]
async fn whoever_neither_speaks_nor_keeps_alive_is_closed_with_what_was_said() {
    let data = tempfile::tempdir().unwrap();
    let policy = LivePolicy { silence: Duration::from_millis(500), ..LivePolicy::new(4, "en") };
    let (server, live) = with(data.path(), service(embedded(), policy), Setup::default()).await;
    let mut quiet = opened(&server, LINEAR).await;
    let mut kept = opened(&server, LINEAR).await;
    let mut spoken = speech(&["hello-world"]);
    spoken.truncate(spoken.len() - 8_000);
    send(&mut quiet, &bytes(&spoken), 3_200).await;
    for _ in 0..15 {
        say(&mut kept, r#"{"type":"KeepAlive"}"#).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(transcript(&next(&mut quiet).await.unwrap()), "hello world");
    let close = loop {
        match quiet.next().await.unwrap().unwrap() {
            Message::Close(frame) => break frame.unwrap(),
            other => assert!(!other.is_text(), "{other}"),
        }
    };
    assert_eq!(u16::from(close.code), 1011);
    assert!(close.reason.starts_with("NET-0001"), "{}", close.reason);
    send(&mut kept, &bytes(&speech(&["vm-goodbye"])), 3_200).await;
    done(&mut kept).await;
    assert_eq!(finals(&rest(&mut kept).await, 0), "goodbye");
    until("their places are free", || live.channels() == 0).await;
    server.stop().await;
}

/// Hears "word" in everything, in a while, and counts what was only for the time being.
#[derive(Clone)]
struct Slow(Duration, Arc<AtomicUsize>);

impl SpeechModel for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(self.clone()))
    }
}

impl Recogniser for Slow {
    fn recognise(&mut self, _: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        std::thread::sleep(self.0);
        self.1.fetch_add(usize::from(request.partial), Ordering::Relaxed);
        let word = HypothesisWord { text: "word".into(), start: 0.1, end: 0.2, p: 0.9 };
        let language = request.language.clone();
        Ok(Hypothesis { words: vec![word], avg_logprob: -0.1, language, ..Hypothesis::default() })
    }
}

#[tokio::test]
async fn a_client_that_is_faster_than_the_model_is_held_back_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let partials = Arc::new(AtomicUsize::new(0));
    let model = Arc::new(Slow(Duration::from_millis(100), partials.clone()));
    let (server, _) = with(data.path(), service(model, LivePolicy::new(4, "en")), Setup::default()).await;
    let mut socket = opened(&server, LINEAR).await;
    // A minute and a half, in one go.
    let said = 40;
    let audio = bytes(&speech(&["hello-world"]).repeat(said));
    let (mut sink, mut stream) = {
        send(&mut socket, &audio, 200_000).await;
        socket.split()
    };
    sink.send(Message::Text(r#"{"type":"CloseStream"}"#.into())).await.unwrap();
    let mut finals = 0;
    while let Some(Ok(Message::Text(text))) = stream.next().await {
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "Metadata" {
            let seconds = audio.len() as f64 / 16_000.0;
            assert!((message["duration"].as_f64().unwrap() - seconds).abs() < 0.001, "{message}");
        } else {
            finals += usize::from(message["speech_final"] == true);
        }
    }
    assert_eq!(finals, said);
    let partials = partials.load(Ordering::Relaxed);
    assert!(
        partials < said / 3,
        "{partials} results for the time being, though the next audio was there already"
    );
    server.stop().await;
}

#[tokio::test]
async fn no_more_are_heard_than_there_is_room_for_and_whoever_goes_makes_room() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) =
        with(data.path(), service(embedded(), LivePolicy::new(2, "en")), Setup::default()).await;
    let mut first = opened(&server, LINEAR).await;
    let refused = |query: &'static str| {
        let url = format!("ws://{}/v1/listen?token={KEY}&{LINEAR}&{query}", server.addr);
        async move {
            match tokio_tungstenite::connect_async(url).await {
                Err(Error::Http(response)) => response.status().as_u16(),
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(refused("channels=2&multichannel=true").await, 429);
    assert_eq!(refused("channels=3&multichannel=true").await, 400);
    // Gone in the middle of a word.
    send(&mut first, &bytes(&speech(&["hello-world"]))[..15_001], 3_200).await;
    drop(first);
    until("its place is free", || live.channels() == 0).await;
    let mut second = opened(&server, &format!("{LINEAR}&channels=2&multichannel=true")).await;
    done(&mut second).await;
    assert_eq!(rest(&mut second).await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped() {
    let data = tempfile::tempdir().unwrap();
    let sockets = SocketPolicy { send_timeout: Duration::from_millis(300), ..SocketPolicy::default() };
    let live = service(embedded(), LivePolicy::new(2, "en"));
    let (server, live) = with(data.path(), live, Setup { sockets, ..Setup::default() }).await;
    let mut socket = opened(&server, LINEAR).await;
    // Each is answered; nobody reads that.
    let bad = Message::Text("x".repeat(1_000).into());
    while socket.send(bad.clone()).await.is_ok() {}
    until("its place is free", || live.channels() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_gives_what_was_said() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let mut socket = opened(&server, LINEAR).await;
    let mut spoken = speech(&["hello-world"]);
    spoken.truncate(spoken.len() - 8_000);
    send(&mut socket, &bytes(&spoken), 3_200).await;
    say(&mut socket, "heard?").await;
    assert_eq!(next(&mut socket).await.unwrap()["type"], "Error", "all before has been taken in");
    server.begin_shutdown();
    assert_eq!(transcript(&next(&mut socket).await.unwrap()), "hello world");
    assert_eq!(close_code(&mut socket).await, Some(1001));
    server.stop().await;
}

/// As a telephone sends them. Prints what it took: `cargo nextest run -E 'test(in_real_time)' --no-capture`.
#[tokio::test(flavor = "multi_thread")]
async fn in_real_time_words_come_while_they_are_said() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let (mut interims, mut finals) = (Vec::new(), Vec::new());
    for name in ["ss-noservice", "agent-pass", "hello-world", "invalid", "vm-goodbye", "queue-thereare"] {
        let audio = bytes(&speech(&[name]));
        let socket = opened(&server, &format!("{LINEAR}&interim_results=true")).await;
        let (mut sink, mut stream) = socket.split();
        let began = clock::now();
        let sending = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            for piece in audio.chunks(320) {
                tick.tick().await;
                sink.send(Message::Binary(piece.to_vec().into())).await.unwrap();
            }
            sink.send(Message::Text(r#"{"type":"CloseStream"}"#.into())).await.unwrap();
        });
        let (mut first, mut last) = (None, 0.0);
        while let Some(Ok(Message::Text(text))) = stream.next().await {
            let at = clock::since(began).as_secs_f64();
            let message: Value = serde_json::from_str(&text).unwrap();
            let words =
                message["channel"]["alternatives"][0]["words"].as_array().cloned().unwrap_or_default();
            if let (Some(head), Some(tail)) = (words.first(), words.last()) {
                first.get_or_insert(at - head["end"].as_f64().unwrap());
                last = tail["end"].as_f64().unwrap();
            }
            // It has no words if an earlier `is_final` had the last.
            if message["speech_final"] == true {
                finals.push(at - last);
            }
        }
        interims.extend(first);
        sending.await.unwrap();
    }
    for (what, times) in
        [("first result after its first word", &mut interims), ("final after its last word", &mut finals)]
    {
        times.sort_by(f64::total_cmp);
        let of = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        println!("{what}: p50 {:.2} s, max {:.2} s of {}", of(0.5), of(1.0), times.len());
        assert!(of(1.0) < 4.0, "{what}: {times:?}");
    }
    assert!(interims.len() == 6 && finals.len() >= 6, "{interims:?} {finals:?}");
    server.stop().await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Some say goodbye, some do not. Prints what was left of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_short_streams_leave_nothing_behind() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) = server(data.path()).await;
    let (word, silence) = (bytes(&speech(&["digit-5"])[..8_000]), vec![0; 4_000]);
    let one = async |n: usize| {
        let mut socket = opened(&server, LINEAR).await;
        send(&mut socket, if n % 10 < 2 { &word } else { &silence }, 3_200).await;
        if n.is_multiple_of(2) {
            done(&mut socket).await;
            assert_eq!(rest(&mut socket).await.last().unwrap()["type"], "Metadata");
        }
    };
    for n in 0..50 {
        one(n).await;
    }
    let before = resident_kib();
    let began = clock::now();
    for n in 0..1_000 {
        one(n).await;
        // Those who went without a word are noticed a moment later.
        until("there is room", || live.channels() < 6).await;
    }
    until("their places are free", || live.channels() == 0).await;
    let after = resident_kib();
    println!(
        "1000 streams in {:.1} s: {before} KiB before, {after} KiB after",
        clock::since(began).as_secs_f64()
    );
    // Their rings alone would be 168 MB.
    assert!(after < before + (32 << 10), "{before} KiB before, {after} KiB after");
    server.stop().await;
}

/// The client that most people have.
#[tokio::test]
async fn deepgrams_own_client_is_content() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let left = speech(&["hello-world"]);
    let right = [vec![0; left.len()], speech(&["vm-goodbye"])].concat();
    let file = data.path().join("two.raw");
    std::fs::write(&file, bytes(&interleaved(&left, &right))).unwrap();
    let address = server.addr.to_string();
    client_is_content("deepgram_client.py", &[address, KEY.into(), file.display().to_string()]).await;
    server.stop().await;
}
