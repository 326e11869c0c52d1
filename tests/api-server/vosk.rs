//! vosk-server's protocol, by hand as Asterisk's module speaks it, and by the sequence of vosk-server's own example.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use sidetone::api::LivePolicy;
use tokio_tungstenite::tungstenite::Message;

use super::live::{KEY, bytes, client_is_content, embedded, server, service, speech, until, with};
use super::support::{Server, Setup, Socket, close_code, next};

async fn opened(server: &Server) -> Socket {
    let url = format!("ws://{}/?token={KEY}", server.vosk.unwrap());
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

async fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::Text(text.into())).await.unwrap();
}

/// Send `audio` piece by piece, each once the last one has its answer.
async fn answers(socket: &mut Socket, audio: &[u8], piece: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for piece in audio.chunks(piece) {
        socket.send(Message::Binary(piece.to_vec().into())).await.unwrap();
        all.push(next(socket).await.unwrap());
    }
    all
}

fn texts(answers: &[Value]) -> Vec<&str> {
    answers.iter().filter_map(|answer| answer["text"].as_str()).filter(|text| !text.is_empty()).collect()
}

#[tokio::test]
async fn every_message_has_one_answer_and_finals_come_where_their_utterances_end() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) = server(data.path()).await;
    let audio = speech(&["hello-world", "vm-goodbye"]);
    for piece in [3_200, 1_001] {
        let mut socket = opened(&server).await;
        say(&mut socket, r#"{ "config" : { "sample_rate" : 8000 } }"#).await;
        let answers = answers(&mut socket, &bytes(&audio), piece).await;
        assert_eq!(texts(&answers), ["hello world", "goodbye"], "{answers:?}");
        let partials = answers.iter().filter(|answer| answer.get("partial").is_some()).count();
        assert_eq!(partials, answers.len() - 2);
        let last = answers.iter().find(|answer| answer["text"] == "hello world").unwrap();
        let words = last["result"].as_array().unwrap();
        assert_eq!(words.iter().map(|w| w["word"].as_str().unwrap()).collect::<Vec<_>>(), ["hello", "world"]);
        for word in words {
            assert!(word["start"].as_f64() <= word["end"].as_f64() && word["conf"].is_f64(), "{word}");
        }
        say(&mut socket, r#"{"eof" : 1}"#).await;
        assert_eq!(next(&mut socket).await.unwrap(), json!({ "text": "" }));
        assert_eq!(close_code(&mut socket).await, Some(1000));
    }
    until("their places are free", || live.channels() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_open_at_the_end_or_at_a_reset_gets_its_final() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let mut spoken = speech(&["hello-world"]);
    spoken.truncate(spoken.len() - 8_000);
    let mut socket = opened(&server).await;
    say(&mut socket, r#"{"config":{"words":0,"partial_words":1,"model":"/another"}}"#).await;
    answers(&mut socket, &bytes(&spoken), 1_600).await;
    say(&mut socket, r#"{"reset":1}"#).await;
    assert_eq!(next(&mut socket).await.unwrap(), json!({ "text": "hello world" }));
    say(&mut socket, r#"{"config":{"max_alternatives":3}}"#).await;
    answers(&mut socket, &bytes(&spoken), 1_600).await;
    say(&mut socket, r#"{"eof":1}"#).await;
    let last = next(&mut socket).await.unwrap();
    assert_eq!(last["alternatives"][0]["text"], "hello world", "{last}");
    assert!(last["alternatives"][0]["confidence"].is_f64());
    assert_eq!(close_code(&mut socket).await, Some(1000));

    // Without any audio.
    let mut socket = opened(&server).await;
    say(&mut socket, r#"{"eof":1}"#).await;
    assert_eq!(next(&mut socket).await.unwrap(), json!({ "text": "" }));
    server.stop().await;
}

#[tokio::test]
async fn partials_are_told_while_someone_speaks() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let mut socket = opened(&server).await;
    say(&mut socket, r#"{"config":{"partial_words":true}}"#).await;
    let audio = bytes(&speech(&["ss-noservice"]));
    let mut seen = Vec::new();
    for piece in audio.chunks(3_200) {
        socket.send(Message::Binary(piece.to_vec().into())).await.unwrap();
        seen.push(next(&mut socket).await.unwrap());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let partial = seen
        .iter()
        .filter(|answer| answer["partial"].as_str().is_some_and(|text| !text.is_empty()))
        .collect::<Vec<_>>();
    assert!(!partial.is_empty(), "{seen:?}");
    let words = partial.last().unwrap()["partial_result"].as_array().unwrap();
    assert!(words.iter().all(|word| word["word"].is_string() && word["conf"].is_f64()), "{words:?}");
    server.stop().await;
}

/// Sends 3200 bytes at a time, waits for nothing, and takes the first text that is not empty for the result (res_speech_vosk).
#[tokio::test]
async fn asterisks_speech_module_gets_its_result() {
    let data = tempfile::tempdir().unwrap();
    let (server, live) = server(data.path()).await;
    let url = format!("ws://{}/?token={KEY}", server.vosk.unwrap());
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "ws".parse().unwrap());
    let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "ws");
    say(&mut socket, r#"{"config":{"phrase_list": ["hello world"], "sample_rate":8000,"words": 0}}"#).await;
    for piece in bytes(&speech(&["hello-world"])).chunks(3_200) {
        socket.send(Message::Binary(piece.to_vec().into())).await.unwrap();
    }
    let result = loop {
        let answer = next(&mut socket).await.unwrap();
        match answer["text"].as_str() {
            Some(text) if !text.is_empty() => break text.to_owned(),
            _ => {}
        }
    };
    assert_eq!(result, "hello world");
    // It does not wait for the last one.
    say(&mut socket, r#"{"eof" : 1}"#).await;
    drop(socket);
    until("its place is free", || live.channels() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_gives_the_final_of_what_came() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let mut spoken = speech(&["hello-world"]);
    spoken.truncate(spoken.len() - 8_000);
    let mut socket = opened(&server).await;
    answers(&mut socket, &bytes(&spoken), 1_600).await;
    server.begin_shutdown();
    assert_eq!(next(&mut socket).await.unwrap()["text"], "hello world");
    assert_eq!(close_code(&mut socket).await, Some(1001));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_of_the_protocol_is_named_and_keys_are_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let live = service(embedded(), LivePolicy::new(1, "en"));
    let (server, live) = with(data.path(), live, Setup::default()).await;
    let address = server.vosk.unwrap();
    let refused = tokio_tungstenite::connect_async(format!("ws://{address}/")).await;
    assert!(refused.unwrap_err().to_string().contains("401"));
    for bad in ["{", "hello", r#"{"config":{"sample_rate":7}}"#, "{}"] {
        until("the last one is gone", || live.channels() == 0).await;
        let mut socket = opened(&server).await;
        say(&mut socket, bad).await;
        assert_eq!(close_code(&mut socket).await, Some(1008), "{bad}");
    }
    until("the last one is gone", || live.channels() == 0).await;
    let _first = opened(&server).await;
    let second = tokio_tungstenite::connect_async(format!("ws://{address}/?token={KEY}")).await;
    assert!(second.unwrap_err().to_string().contains("429"));
    server.stop().await;
}

/// The message sequence of vosk-server's own test.py and its kin.
#[tokio::test]
async fn the_examples_of_vosk_server_are_content() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = server(data.path()).await;
    let audio = speech(&["hello-world", "vm-goodbye"]);
    let mut wav = sidetone::recording::wav::header(8_000, 1, 2 * audio.len() as u64).to_vec();
    wav.extend(bytes(&audio));
    let file = data.path().join("one.wav");
    std::fs::write(&file, wav).unwrap();
    let url = format!("ws://{}/?token={KEY}", server.vosk.unwrap());
    client_is_content("vosk_client.py", &[url, file.display().to_string()]).await;
    server.stop().await;
}
