//! `sidetone watch`, the program, against the server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sidetone::calls::hub::EventKind;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::support::{Server, Setup};

const SOON: Duration = Duration::from_secs(20);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command
        .arg("watch")
        .args(args)
        .env_remove("SIDETONE_KEY")
        .env_remove("SIDETONE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Exit code and standard error of a `watch` that ends by itself.
async fn refused(args: &[&str]) -> (i32, String) {
    let mut command = command(args);
    let ended = tokio::task::spawn_blocking(move || command.output());
    let ended = timeout(SOON, ended).await.expect("it ends").unwrap().unwrap();
    (ended.status.code().unwrap(), String::from_utf8(ended.stderr).unwrap())
}

/// A running `watch`, and what it prints.
struct Watching {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Watching {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = unbounded_channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        timeout(SOON, self.lines.recv()).await.expect("a line in time").expect("a line")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let mut watching = Watching::start(&["--url", &format!("http://{address}"), "--calls", "1"]);
    until_watched(&server).await;
    say(&server, "c1", "before");
    assert_eq!(watching.line().await, "call 1  running: +49c1  (c1)");
    assert!(watching.line().await.ends_with("caller: before"));

    server.stop().await;
    let lost = watching.line().await;
    assert!(lost.contains("the server stops: connecting again"), "{lost}");

    let at = Some(address);
    let server = Server::with(data.path(), Setup { at, ..Setup::default() }).await;
    server.live_call("acme", "c2");
    // Said before it is connected again.
    say(&server, "c2", "meanwhile");
    // What the first one said last, the second one does not know.
    let missed = watching.line().await;
    assert!(missed.starts_with("… 1 events missed") && missed.ends_with("started again"), "{missed}");
    assert_eq!(watching.line().await, "call 2  running: +49c2  (c2)");
    assert!(watching.line().await.ends_with("caller: meanwhile"));
    server.hub.publish("c2", EventKind::CallEnded, json!({ "outcome": "completed" })).unwrap();
    assert_eq!(watching.line().await, "call 2  ended: completed");
    assert_eq!(timeout(SOON, watching.lines.recv()).await.expect("it ends"), None);
    assert!(watching.child.wait().unwrap().success());
}
