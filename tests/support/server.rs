//! A real Sidetone for a test: the binary, as a user runs it, beside a lab's Asterisk.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::lab::Lab;
use super::proxy::Proxy;

/// Longest wait for anything that a healthy server does at once.
const SOON: Duration = Duration::from_secs(20);

/// A running server. Dropping it kills it.
pub struct Sidetone {
    child: Child,
    settings: BTreeMap<String, String>,
    /// Where it dies by itself (`sidetone::crash`).
    crash_at: Option<String>,
    folder: TempDir,
    http: reqwest::Client,
    starts: u32,
}

/// A call's recording, read back.
pub struct Recorded {
    pub rate: u32,
    /// Caller, callee.
    pub legs: [Vec<i16>; 2],
    pub report: Value,
}

impl Sidetone {
    /// Start beside `lab` and wait until it takes calls.
    pub async fn start(lab: &Lab) -> Sidetone {
        Sidetone::start_with(lab, &[]).await
    }

    /// The same with settings of its own (`speech.model` = `off`, …).
    pub async fn start_with(lab: &Lab, settings: &[(&str, &str)]) -> Sidetone {
        let mut server = Sidetone::spawn(lab.ari_url(), lab.ari_password(), settings);
        server.until_ready().await;
        server
    }

    /// Start with a wire in between that can be cut.
    pub async fn start_through(lab: &Lab, proxy: &Proxy, settings: &[(&str, &str)]) -> Sidetone {
        let mut server = Sidetone::spawn(&proxy.url(), lab.ari_password(), settings);
        server.until_ready().await;
        server
    }

    /// Start without waiting for anything.
    pub fn spawn(ari_url: &str, ari_password: &str, settings: &[(&str, &str)]) -> Sidetone {
        Sidetone::spawn_to_crash(ari_url, ari_password, settings, None)
    }

    /// The same, to die at a step of [`sidetone::crash`]. The next start does not.
    pub fn spawn_to_crash(
        ari_url: &str,
        ari_password: &str,
        settings: &[(&str, &str)],
        step: Option<&str>,
    ) -> Sidetone {
        let folder = tempfile::Builder::new().prefix("sidetone-data-").tempdir().expect("a temporary folder");
        let mut all = BTreeMap::from([
            ("ari.url".to_owned(), ari_url.to_owned()),
            ("ari.password".to_owned(), ari_password.to_owned()),
            ("http.bind".to_owned(), free_tcp().to_string()),
            ("rtp.bind".to_owned(), free_udp().to_string()),
            ("node.data".to_owned(), folder.path().join("data").display().to_string()),
            ("log.level".to_owned(), "info,sidetone=debug".to_owned()),
        ]);
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let crash_at = step.map(str::to_owned);
        let child = launch(&all, folder.path(), 1, crash_at.as_deref());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(SOON).build().expect("an HTTP client");
        Sidetone { child, settings: all, crash_at, folder, http, starts: 1 }
    }

    /// SIGKILL: a crash.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("its end");
    }

    /// SIGTERM, and its exit status.
    pub async fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        self.exit().await
    }

    /// Its exit status, once it has ended by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Wait until it has died where it was to.
    pub async fn crashes(&mut self) {
        use std::os::unix::process::ExitStatusExt as _;
        let step = self.crash_at.clone().expect("a step where it dies");
        let deadline = Instant::now() + 2 * SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not come to `{step}`:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(status.signal(), Some(9), "at `{step}`: {status}");
    }

    /// Change a setting, for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(key.to_owned(), value.to_owned());
    }

    /// Start again with the same settings and data, without waiting.
    pub fn respawn(&mut self) {
        self.starts += 1;
        self.crash_at = None;
        self.child = launch(&self.settings, self.folder.path(), self.starts, None);
    }

    pub async fn until_ready(&mut self) {
        let deadline = Instant::now() + SOON;
        while self.try_get("/ready").await.is_none_or(|r| r["dependencies"]["asterisk"]["state"] != "ok") {
            if let Some(status) = self.child.try_wait().expect("its state") {
                panic!("it ended ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "it does not become ready:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn data(&self) -> PathBuf {
        PathBuf::from(&self.settings["node.data"])
    }

    pub fn http(&self) -> &str {
        &self.settings["http.bind"]
    }

    pub fn rtp(&self) -> SocketAddr {
        self.settings["rtp.bind"].parse().expect("an address")
    }

    /// Everything it has logged, all starts together.
    pub fn log(&self) -> String {
        let read =
            |n| std::fs::read_to_string(self.folder.path().join(format!("log.{n}"))).unwrap_or_default();
        (1..=self.starts).map(read).collect()
    }

    /// Its open file descriptors: sockets and files, sorted.
    pub fn descriptors(&self) -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("its descriptors");
        let links = entries.filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
        let mut names: Vec<_> = links.map(|l| l.display().to_string()).collect();
        names.sort();
        names
    }

    /// Its threads, those that tokio keeps for blocking work (and lets go after 10 s) among them.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads").count()
    }

    async fn try_get(&self, path: &str) -> Option<Value> {
        let reply = self.http.get(format!("http://{}{path}", self.http())).send().await.ok()?;
        reply.json().await.ok()
    }

    pub async fn get(&self, path: &str) -> Value {
        let Some(value) = self.try_get(path).await else { panic!("GET {path} failed:\n{}", self.log()) };
        value
    }

    pub async fn text(&self, path: &str) -> String {
        let reply = self.http.get(format!("http://{}{path}", self.http())).send().await.expect("a reply");
        reply.text().await.expect("its text")
    }

    pub async fn post(&self, path: &str) -> u16 {
        let reply = self.http.post(format!("http://{}{path}", self.http())).send().await.expect("a reply");
        reply.status().as_u16()
    }

    /// Has `samples`, at 8 kHz, played to the caller; the answer.
    pub async fn play(&self, call: &Value, samples: &[i16]) -> (u16, Value) {
        let mut wav = sidetone::recording::wav::header(8_000, 1, 2 * samples.len() as u64).to_vec();
        wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        let id = call["call_id"].as_str().expect("its id");
        let url = format!("http://{}/api/calls/{id}/play", self.http());
        let reply = self.http.post(url).body(wav).send().await.expect("a reply");
        (reply.status().as_u16(), reply.json().await.expect("JSON"))
    }

    /// Has `text` spoken to the caller; the answer.
    pub async fn say(&self, call: &Value, text: &str) -> (u16, Value) {
        let id = call["call_id"].as_str().expect("its id");
        let url = format!("http://{}/api/calls/{id}/say", self.http());
        let reply =
            self.http.post(url).json(&serde_json::json!({ "text": text })).send().await.expect("a reply");
        (reply.status().as_u16(), reply.json().await.expect("JSON"))
    }

    /// The events of `call` of type `kind`, once there are `count`.
    pub async fn until_events(&self, call: &Value, kind: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            let mut events = self.events(call);
            events.retain(|event| event["type"] == kind);
            if events.len() >= count {
                return events;
            }
            assert!(Instant::now() < deadline, "{count} times {kind}: {events:#?}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a metric, all its series added up.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.text("/metrics").await;
        let mine = text.lines().filter(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with([' ', '{'])));
        mine.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// All calls, newest first.
    pub async fn calls(&self) -> Vec<Value> {
        self.get("/api/calls?limit=500").await["calls"].as_array().cloned().unwrap_or_default()
    }

    /// The calls, once `count` have ended.
    pub async fn ended_calls(&self, count: usize, within: Duration) -> Vec<Value> {
        let deadline = Instant::now() + within;
        loop {
            let calls = self.calls().await;
            if calls.iter().filter(|c| c["state"] == "ended").count() >= count {
                return calls;
            }
            assert!(Instant::now() < deadline, "{count} calls should have ended: {calls:#?}\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The one call, once it is in `state`.
    pub async fn call_in_state(&self, state: &str) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let calls = self.calls().await;
            if let Some(call) = calls.iter().find(|c| c["state"] == state) {
                return call.clone();
            }
            assert!(Instant::now() < deadline, "no call became {state}: {calls:#?}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Recording and report of an ended call.
    pub fn recorded(&self, call: &Value) -> Recorded {
        let path = call["recording"]["path"].as_str().unwrap_or_else(|| panic!("no recording: {call:#}"));
        read_recording(&self.data().join(path))
    }

    /// All events of a call, from its journal.
    pub fn events(&self, call: &Value) -> Vec<Value> {
        let id = call["call_id"].as_str().expect("its id");
        let journal = find(&self.data(), &format!("{id}.events.jsonl")).expect("its journal");
        let text = std::fs::read_to_string(journal).expect("its events");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Sidetone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("Sidetone's last words:\n{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}

fn launch(settings: &BTreeMap<String, String>, folder: &Path, start: u32, crash_at: Option<&str>) -> Child {
    let log = File::create(folder.join(format!("log.{start}"))).expect("a log file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command.arg("serve").current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1");
    command.stdout(log.try_clone().expect("the log again")).stderr(log);
    for (key, value) in settings {
        command.args(["--set", &format!("{key}={value}")]);
    }
    #[cfg(debug_assertions)]
    if let Some(step) = crash_at {
        command.env(sidetone::crash::VARIABLE, step);
    }
    #[cfg(not(debug_assertions))]
    assert!(crash_at.is_none(), "this build does not die by itself");
    command.spawn().expect("the server starts")
}

/// Stereo 16-bit WAV and its report.
pub fn read_recording(path: &Path) -> Recorded {
    let mut reader = sidetone::recording::wav::WavReader::open(path).expect("a readable recording");
    let format = reader.format();
    assert_eq!(format.channels, 2);
    let samples = reader.read_all().expect("its samples");
    let leg = |at: usize| samples.iter().skip(at).step_by(2).copied().collect();
    let report = std::fs::read(path.with_extension("json")).expect("its report");
    Recorded {
        rate: format.rate_hz,
        legs: [leg(0), leg(1)],
        report: serde_json::from_slice(&report).expect("JSON"),
    }
}

pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .find_map(|path| if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) })
}

pub fn free_tcp() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

pub fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port")
}
