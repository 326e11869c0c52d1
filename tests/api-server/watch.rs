//! `sidetone watch`, the program, against the server.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sidetone::calls::hub::EventKind;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::{Server, Setup};

const SOON: Duration = Duration::from_secs(20);

fn watch(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    let command = command.arg("watch").args(args).env_remove("SIDETONE_KEY").kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Exit code and standard error of a `watch` that ends by itself.
async fn refused(args: &[&str]) -> (i32, String) {
    let ended = timeout(SOON, watch(args).wait_with_output()).await.expect("it ends").unwrap();
    (ended.status.code().unwrap(), String::from_utf8(ended.stderr).unwrap())
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    timeout(SOON, lines.next_line()).await.expect("a line in time").unwrap().expect("a line")
}

/// Wait until the server has one subscriber more than none: what is published then is seen.
async fn until_watched(server: &Server) {
    let watched = async {
        while !server.get("/metrics").await.text().await.unwrap().contains("sidetone_ws_subscribers 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, watched).await.expect("a subscriber");
}

fn say(server: &Server, call: &str, text: &str) {
    let said = json!({ "leg": "caller", "start": 1.0, "text": text });
    server.hub.publish(call, EventKind::TranscriptFinal, said).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_the_words_of_the_server_with_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let (code, err) = refused(&["--url", &server.url(""), "--call", "nope"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("There is no call `nope`.") && err.contains("GET /api/calls"), "{err}");
    assert!(!err.contains("is `sidetone serve` running"), "it is: {err}");

    let data = tempfile::tempdir().unwrap();
    let keys = vec!["st_acme_0123456789abcdef"];
    let locked = Server::with(data.path(), Setup { keys, ..Setup::default() }).await;
    for more in [&[][..], &["--key", "st_acme_fedcba9876543210"]] {
        let address = locked.addr.to_string();
        let (code, err) = refused(&[&["--url", &address], more].concat()).await;
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("no API key that is known here") && err.contains("--key"), "{err}");
    }

    let (code, err) = refused(&["--url", "ftp://127.0.0.1"]).await;
    assert!(code == 1 && err.contains("write it as http://HOST:PORT"), "{err}");
    let (code, err) = refused(&["--url", "http://127.0.0.1:1"]).await;
    assert!(code == 1 && err.contains("is `sidetone serve` running there?"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_already_is_introduced_and_a_restart_of_the_server_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let address = server.addr;
    server.live_call("acme", "c1");
    let mut watching = watch(&["--url", &format!("http://{address}"), "--calls", "1"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    until_watched(&server).await;
    say(&server, "c1", "before");
    assert_eq!(line(&mut lines).await, "call 1  running: +49c1  (c1)");
    assert!(line(&mut lines).await.ends_with("caller: before"));

    server.stop().await;
    let lost = line(&mut lines).await;
    assert!(lost.contains("the server stops: connecting again"), "{lost}");

    let at = Some(address);
    let server = Server::with(data.path(), Setup { at, ..Setup::default() }).await;
    server.live_call("acme", "c2");
    // Said before it is connected again.
    say(&server, "c2", "meanwhile");
    assert_eq!(line(&mut lines).await, "call 2  running: +49c2  (c2)");
    assert!(line(&mut lines).await.ends_with("caller: meanwhile"));
    server.hub.publish("c2", EventKind::CallEnded, json!({ "outcome": "completed" })).unwrap();
    assert_eq!(line(&mut lines).await, "call 2  ended: completed");
    let status = timeout(SOON, watching.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
}
