//! SIGHUP: what can change while calls run does, what cannot is named, and what is wrong changes nothing.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/mod.rs"]
mod support;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::server::{free_tcp, free_udp};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(20);
const KEY: &str = "st_acme_0123456789abcdef";

/// A server with a settings file of its own and no Asterisk: it waits for one and serves HTTP meanwhile.
struct Server {
    child: Child,
    folder: TempDir,
    http: String,
    rtp: String,
    client: reqwest::Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start(more: &str) -> Server {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let (http, rtp) = (free_tcp().to_string(), free_udp().to_string());
        let file = folder.path().join("s.toml");
        std::fs::write(&file, settings(&http, &rtp, more)).expect("the settings");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
        command.arg("--config").arg(file).arg("serve").current_dir(folder.path());
        let child =
            command.env("NO_COLOR", "1").stdin(Stdio::null()).stderr(log).spawn().expect("the server");
        let client = reqwest::Client::builder().timeout(SOON).no_proxy().build().expect("a client");
        let server = Server { child, folder, http, rtp, client };
        let deadline = Instant::now() + SOON;
        while server.status("/health", None).await != Some(200) {
            assert!(Instant::now() < deadline, "it does not start: {}", server.log());
            sleep(Duration::from_millis(20)).await;
        }
        server
    }

    async fn status(&self, path: &str, key: Option<&str>) -> Option<u16> {
        let mut request = self.client.get(format!("http://{}{path}", self.http));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        Some(request.send().await.ok()?.status().as_u16())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the log")
    }

    /// Write the settings anew, tell the server, and wait until it has said `word`.
    async fn reload(&self, more: &str, word: &str) {
        let text = settings(&self.http, &self.rtp, more);
        std::fs::write(self.folder.path().join("s.toml"), text).expect("the settings");
        let told = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(told.expect("kill").success());
        let deadline = Instant::now() + SOON;
        while !self.log().contains(word) {
            assert!(Instant::now() < deadline, "no `{word}`: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn settings(http: &str, rtp: &str, more: &str) -> String {
    // The discard port: no Asterisk.
    format!(
        "ari.url = \"http://127.0.0.1:9\"\nspeech.model = \"off\"\nnode.data = \"data\"\n\
         http.bind = \"{http}\"\nrtp.bind = \"{rtp}\"\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_signal_applies_what_can_change_and_names_what_needs_a_restart() {
    let server = Server::start("log.level = \"warn\"").await;
    assert_eq!(server.status("/api/calls", None).await, Some(200), "no key is needed yet");
    assert!(!server.log().contains("INFO"), "{}", server.log());

    let more = format!("log.level = \"info\"\nhttp.keys = [\"{KEY}\"]\nrtp.shards = 2\nrtp.repair_ms = 1000");
    server.reload(&more, "rtp.repair_ms").await;
    let log = server.log();
    let reloaded = log.lines().find(|l| l.contains("settings reloaded")).unwrap_or_default();
    assert!(reloaded.contains("INFO") && reloaded.contains("http.keys log.level"), "{log}");
    for setting in ["rtp.shards", "rtp.repair_ms"] {
        let named = log.lines().find(|l| l.contains(setting)).unwrap_or_default();
        assert!(named.contains("WARN") && named.contains("needs a restart"), "{log}");
    }
    assert!(!log.contains("0123456789abcdef"), "the log shows a secret: {log}");
    assert_eq!(server.status("/api/calls", None).await, Some(401));
    assert_eq!(server.status("/api/calls", Some(KEY)).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_signal_with_wrong_settings_is_an_error_and_changes_nothing() {
    let keys = format!("http.keys = [\"{KEY}\"]");
    let server = Server::start(&keys).await;
    let cases = [
        ("rtp.shard = 2", "did you mean `rtp.shards`?"),
        ("http.keys = [\"short\"]", "entry 1 of `http.keys`"),
        ("http.keys = []\nlog.level = \"sidetone=loud\"", "`log.level`"),
    ];
    for (count, (more, word)) in cases.into_iter().enumerate() {
        server.reload(more, word).await;
        let errors =
            server.log().lines().filter(|l| l.contains("ERROR") && l.contains("those in force stay")).count();
        assert_eq!(errors, count + 1, "{}", server.log());
        assert_eq!(server.status("/api/calls", None).await, Some(401), "{more}");
        assert_eq!(server.status("/api/calls", Some(KEY)).await, Some(200), "{more}");
    }
    server.reload(&keys, "settings reloaded").await;
}
