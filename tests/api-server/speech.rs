use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidetone::speech::synthesis::{Engine, SynthesisConfig, Synthesiser};

use crate::support::{Server, Setup};

const KEY: &str = "st_acme_0123456789abcdef0123456789abcdef";

fn synthesiser(data: &std::path::Path, program: &str) -> Option<Arc<Synthesiser>> {
    let config = SynthesisConfig {
        engine: Engine::Espeak { program: program.into() },
        voice: String::new(),
        language: "en".into(),
        most_chars: 4_096,
        timeout: Duration::from_secs(20),
        level_dbov: -20.0,
        cache: data.join("tts"),
        cache_bytes: 1 << 20,
        at_once: 2,
    };
    Some(Arc::new(Synthesiser::new(config).unwrap()))
}

async fn start(data: &std::path::Path, program: &str) -> Server {
    let setup = Setup { keys: vec![KEY], synthesiser: synthesiser(data, program), ..Setup::default() };
    Server::with(data, setup).await
}

#[tokio::test]
async fn openais_own_client_has_texts_spoken() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), "espeak-ng").await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/tools/python/bin/python");
    assert!(python.exists(), "scripts/setup makes {}", python.display());
    let mut command = std::process::Command::new(python);
    command.arg(root.join("tests/api-server/openai_speech.py")).arg(server.url("/v1")).arg(KEY);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    assert!(ran.status.success(), "{said:?}");
    assert_eq!(said[0], "all as expected");
    server.stop().await;
}

#[tokio::test]
async fn what_is_said_to_a_caller_is_played_and_what_cannot_be_is_told() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), "espeak-ng").await;
    server.live_call("acme", "c1");
    let say = |call: &str, body: Value| {
        let request = server.request("POST", &format!("/api/calls/{call}/say")).bearer_auth(KEY);
        request.body(body.to_string()).send()
    };
    let said = say("c1", json!({ "text": "Please hold the line.", "language": "en-us" })).await.unwrap();
    assert_eq!(said.status(), 202);
    let reply: Value = said.json().await.unwrap();
    assert_eq!(reply["playback"], 1);
    assert!((0.8..4.0).contains(&reply["duration"].as_f64().unwrap()), "{reply}");
    assert_eq!(*server.control.asked.lock(), ["play c1"]);

    for (body, words) in [
        (json!({ "text": "" }), "there is no text"),
        (json!({ "words": "hello" }), "missing field `text`"),
        (json!({ "text": "hello", "voice": "nobody" }), "no voice"),
    ] {
        let refused = say("c1", body).await.unwrap();
        assert_eq!(refused.status(), 400);
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    assert_eq!(say("nobody", json!({ "text": "hello" })).await.unwrap().status(), 404);
    server.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_with_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path(), "no-such-program").await;
    server.live_call("acme", "c1");
    let said = server
        .request("POST", "/api/calls/c1/say")
        .bearer_auth(KEY)
        .body(json!({ "text": "hello" }).to_string())
        .send();
    let said = said.await.unwrap();
    assert_eq!(said.status(), 502);
    let problem: Value = said.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("apt-get install espeak-ng"), "{problem}");
    server.stop().await;

    let silent = tempfile::tempdir().unwrap();
    let server = Server::start(silent.path()).await;
    let asked = server.request("POST", "/v1/audio/speech").body(json!({ "input": "hello" }).to_string());
    let asked = asked.send().await.unwrap();
    assert_eq!(asked.status(), 503);
    assert_eq!(asked.json::<Value>().await.unwrap()["error"]["code"], "no_voice");
    server.stop().await;
}
