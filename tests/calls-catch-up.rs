//! What live transcription leaves out of a call, or a crash cuts off, is caught up from the recording.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fake_ari::FakeAri;
use futures_util::StreamExt;
use serde_json::{Value, json};
use sidetone::media::codec::g711::ULAW;
use support::server::Sidetone;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, interval, sleep};
use tokio_tungstenite::tungstenite::Message;

const APP: &str = "sidetone";
const SOON: Duration = Duration::from_secs(40);
const ULAW_SILENCE: u8 = 0xff;

/// A leg that sends without end: what it is told to say, and silence.
struct Speaker {
    say: UnboundedSender<Vec<u8>>,
    port: u16,
}

impl Speaker {
    fn start(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("its port").port();
        let (say, mut said) = unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(20));
            let (mut queue, mut number) = (Vec::new(), 0_u32);
            while !said.is_closed() {
                tick.tick().await;
                while let Ok(more) = said.try_recv() {
                    queue.extend(more);
                }
                let rest = queue.split_off(queue.len().min(160));
                let mut payload = std::mem::replace(&mut queue, rest);
                payload.resize(160, ULAW_SILENCE);
                let mut packet = vec![0x80, 0];
                packet.extend((number as u16).to_be_bytes());
                packet.extend((160 * number).to_be_bytes());
                packet.extend([0, 0, 0, 9]);
                packet.extend(payload);
                // Nobody may be there to take it.
                let _ = socket.send_to(&packet, to);
                number += 1;
            }
        });
        Self { say, port }
    }

    /// Say these prompts, with half a second of silence before each; how long that takes.
    fn say(&self, prompts: &[&str]) -> Duration {
        let mut all = Vec::new();
        for prompt in prompts {
            all.extend([ULAW_SILENCE; 4_000]);
            all.extend(codes(prompt));
        }
        all.extend([ULAW_SILENCE; 4_000]);
        let takes = Duration::from_millis(all.len() as u64 / 8);
        self.say.send(all).expect("it speaks");
        takes
    }
}

fn codes(prompt: &str) -> Vec<u8> {
    let file = format!("tests/fixtures/speech/{prompt}.ulaw");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a prompt")
}

/// The words of a prompt and where in it each lies, seconds, as the model hears it in one piece.
fn words_of(prompt: &str) -> Vec<(String, f64, f64)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/speech/{prompt}.ulaw"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command.args(["transcribe", "--quiet", "--format", "json", "--model", "sidetone-prompts-en"]).arg(file);
    let done = command.output().expect("it runs");
    let transcript: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let utterances = transcript["utterances"].as_array().expect("utterances");
    let words = utterances.iter().flat_map(|utterance| utterance["words"].as_array().expect("words"));
    let word = |word: &Value| {
        let at = |key: &str| word[key].as_f64().expect("seconds");
        (word["text"].as_str().expect("a text").to_owned(), at("start"), at("end"))
    };
    words.map(word).collect()
}

/// The prompt's words of which the recording has all: none of a gap within `margin` seconds of them. What was said of it is found by its
/// first half second.
fn recorded_words(server: &Sidetone, call: &Value, prompt: &str, margin: f64) -> Vec<String> {
    let recorded = server.recorded(call);
    let start: Vec<i16> = codes(prompt)[2_000..6_000].iter().map(|code| ULAW[usize::from(*code)]).collect();
    let find = |leg: &Vec<i16>| leg.windows(start.len()).position(|samples| *samples == start[..]);
    let found = recorded.legs.iter().enumerate().find_map(|(leg, samples)| Some((leg, find(samples)?)));
    let (leg, at) = found.expect("its beginning is in the recording");
    let begin = (at - 2_000) as f64 / 8_000.0;
    let gaps = recorded.report["legs"][leg]["gaps"].as_array().expect("gaps");
    let gaps: Vec<(f64, f64)> = gaps
        .iter()
        .map(|gap| {
            let of = |key: &str| gap[key].as_f64().expect("samples") / 8_000.0;
            (of("start_sample"), of("start_sample") + of("samples"))
        })
        .collect();
    assert!(!gaps.is_empty(), "the hole of the crash: {:#}", recorded.report);
    let is_whole = |(_, start, end): &(String, f64, f64)| {
        gaps.iter().all(|(from, to)| begin + end + margin < *from || begin + start - margin > *to)
    };
    words_of(prompt).into_iter().filter(is_whole).map(|(text, ..)| text).collect()
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

/// What was said, on the leg that speaks: which of the two that is, is up to whose media channel is made first.
fn text(events: &[Value]) -> String {
    let mut finals = of_type(events, "transcript.final");
    assert!(finals.iter().all(|event| event["leg"] == finals[0]["leg"]), "the other is silent: {finals:#?}");
    finals.sort_by(|a, b| a["start"].as_f64().unwrap().total_cmp(&b["start"].as_f64().unwrap()));
    finals.iter().filter_map(|event| event["text"].as_str()).collect::<Vec<_>>().join(" ")
}

/// Numbers without holes; of each utterance one final, which nothing follows and that leaves stable words alone; `call.ended` says that the
/// transcript is pending, and `transcript.saved` is the last of all.
fn assert_promised(events: &[Value]) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "{event}");
    }
    let utterances = events.iter().filter(|event| event["utterance"].is_u64());
    let mut last = std::collections::HashMap::new();
    for event in utterances {
        let key = (event["leg"].to_string(), event["utterance"].as_u64().unwrap());
        let Some(before) = last.insert(key, event.clone()) else { continue };
        assert_eq!(before["type"], "transcript.partial", "after its final: {event}");
        assert_eq!(event["revision"].as_u64(), before["revision"].as_u64().map(|r| r + 1), "{event}");
        for (word, stood) in
            event["words"].as_array().unwrap().iter().zip(before["words"].as_array().unwrap())
        {
            assert!(stood["stable"] != true || stood == word, "{stood} became {word}");
        }
    }
    assert!(last.values().all(|event| event["type"] == "transcript.final"), "{last:#?}");
    let ended = of_type(events, "call.ended");
    assert_eq!((ended.len(), &ended[0]["transcript"]), (1, &json!("pending")));
    let saved = events.last().expect("events");
    assert_eq!((&saved["type"], &saved["complete"]), (&json!("transcript.saved"), &json!(true)), "{saved}");
    assert_eq!(of_type(events, "transcript.saved").len(), 1);
}

/// Its events once its transcript is saved.
async fn caught_up(server: &Sidetone, call: &Value) -> Vec<Value> {
    server.until_events(call, "transcript.saved", 1).await;
    let id = call["call_id"].as_str().expect("its id");
    let deadline = Instant::now() + SOON;
    while server.get(&format!("/api/calls/{id}")).await["transcript"]["status"] != "ready"
        || server.metric("sidetone_asr_owing_calls").await > 0.0
    {
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
    let owed = server.data().join("owed").join(format!("{id}.json"));
    assert!(!owed.exists(), "it is struck off");
    server.events(call)
}

async fn until_told(server: &Sidetone, call: &Value) -> Value {
    server.until_events(call, "transcript.partial", 2).await.pop().expect("a partial")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_listened_to_is_transcribed_after_it() {
    let ari = FakeAri::start().await;
    let mut server = Sidetone::spawn(&ari.url, "change-me", &[("speech.live", "false")]);
    server.until_ready().await;
    let caller = Speaker::start(server.rtp());
    ari.media_comes_from(caller.port);
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = server.call_in_state("live").await;
    let id = call["call_id"].as_str().expect("its id");
    let url = format!("ws://{}/ws/calls/{id}/events?after=0", server.http());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a subscription");
    sleep(caller.say(&["hello-world", "vm-goodbye"])).await;
    assert_eq!(server.get(&format!("/api/calls/{id}/transcript")).await["complete"], false);
    ari.far_end_hangs_up("c1");
    let events = caught_up(&server, &call).await;
    assert_promised(&events);
    assert_eq!(text(&events), "hello world goodbye");
    assert!(of_type(&events, "transcript.partial").is_empty());
    let place = |kind: &str| events.iter().position(|event| event["type"] == kind).expect("it is there");
    assert!(place("call.ended") < place("transcript.final"), "the end is not held up");
    // A subscriber has got all of it, and is told that there is no more.
    let mut followed = Vec::new();
    let closed = loop {
        match tokio::time::timeout(SOON, socket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => {
                followed.push(serde_json::from_str::<Value>(&text).expect("JSON"))
            }
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((followed, closed), (events, Some(1_000)));
    let transcript = server.get(&format!("/api/calls/{id}/transcript")).await;
    assert_eq!(
        (&transcript["complete"], &transcript["utterances"][0]["text"]),
        (&json!(true), &json!("hello world"))
    );
    assert!(server.metric("sidetone_asr_caught_up_seconds_total").await >= 4.0);
    // The debt is struck off the list once the last event is out.
    let deadline = Instant::now() + SOON;
    while server.get("/ready").await["dependencies"]["transcripts"]["pending"] != 0 {
        assert!(Instant::now() < deadline, "still pending: {}", server.log());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_a_crash_cut_off_come_when_the_call_is_over() {
    let ari = FakeAri::start().await;
    let mut server = Sidetone::spawn(&ari.url, "change-me", &[]);
    server.until_ready().await;
    let caller = Speaker::start(server.rtp());
    ari.media_comes_from(caller.port);
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = server.call_in_state("live").await;
    sleep(caller.say(&["hello-world"])).await;
    caller.say(&["ss-noservice"]);
    let told = until_told(&server, &call).await;
    sleep(Duration::from_secs(2)).await;
    server.kill();
    server.respawn();
    server.until_ready().await;
    server.call_in_state("live").await;
    // Whatever is left of it, spoken into the hole or after it.
    sleep(Duration::from_secs(4)).await;
    sleep(caller.say(&["vm-goodbye"])).await;
    ari.far_end_hangs_up("c1");
    let events = caught_up(&server, &call).await;
    assert_promised(&events);
    let said = text(&events);
    assert!(said.starts_with("hello world the number"), "{said}");
    assert!(said.ends_with("goodbye"), "{said}");
    // Every word that the recording has whole; what was said while nobody was there it has not.
    let call = server.ended_calls(1, SOON).await.remove(0);
    let whole = recorded_words(&server, &call, "ss-noservice", 0.3);
    let mut heard: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
    let mut missing = Vec::new();
    for word in &whole {
        match heard.iter().position(|heard| heard == word) {
            Some(at) => drop(heard.drain(..=at)),
            None => missing.push(word),
        }
    }
    // One beside the hole may be heard as another.
    assert!(whole.len() >= 5 && missing.len() <= 1, "{missing:?} of {whole:?} in {said}");
    let of_told =
        |event: &&Value| event["type"] == "transcript.final" && event["utterance"] == told["utterance"];
    assert_eq!(events.iter().filter(of_told).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ended_while_the_server_was_dead_has_all_its_recorded_words() {
    let ari = FakeAri::start().await;
    let mut server = Sidetone::spawn(&ari.url, "change-me", &[]);
    server.until_ready().await;
    let caller = Speaker::start(server.rtp());
    ari.media_comes_from(caller.port);
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = server.call_in_state("live").await;
    caller.say(&["hello-world", "ss-noservice"]);
    let told = until_told(&server, &call).await;
    sleep(Duration::from_secs(3)).await;
    server.kill();
    ari.far_end_hangs_up("c1");
    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, SOON).await;
    assert_eq!(calls[0]["outcome"], "partial");
    let events = caught_up(&server, &call).await;
    assert_promised(&events);
    let said = text(&events);
    assert!(said.starts_with("hello world"), "{said} after {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_it_is_caught_up_costs_nothing_and_a_stop_neither() {
    let ari = FakeAri::start().await;
    let settings = [("speech.live", "false"), ("speech.workers", "1")];
    let mut server = Sidetone::spawn(&ari.url, "change-me", &settings);
    server.until_ready().await;
    let caller = Speaker::start(server.rtp());
    ari.media_comes_from(caller.port);
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = server.call_in_state("live").await;
    sleep(caller.say(&["hello-world", "vm-goodbye", "invalid", "queue-thereare", "digit-5"])).await;
    ari.far_end_hangs_up("c1");
    let mut finals = 0;
    // Once at its end, and whenever there is a final more.
    for round in 0..6 {
        let deadline = Instant::now() + SOON;
        while of_type(&server.events(&call), "call.ended").is_empty()
            || of_type(&server.events(&call), "transcript.final").len() < finals
        {
            assert!(Instant::now() < deadline, "{}", server.log());
            sleep(Duration::from_millis(1)).await;
        }
        if round % 2 == 0 {
            server.kill();
        } else {
            // Only then does it take the signal.
            server.until_ready().await;
            assert!(server.stop().await.success());
        }
        finals = (of_type(&server.events(&call), "transcript.final").len() + 1).min(5);
        server.respawn();
    }
    server.until_ready().await;
    let events = caught_up(&server, &call).await;
    assert_promised(&events);
    let said = text(&events);
    assert!(said.starts_with("hello world goodbye") && said.ends_with("five"), "{said}");
}
