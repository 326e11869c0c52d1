//! A real Asterisk for a test: started by `scripts/lab`, with callers that speak known words.
//!
//! ```no_run
//! let lab = Lab::start(Version::V22);
//! let call = Call::tap().caller(&["1", "vm-goodbye"]).callee(&["hello-world"]).place(&lab).await;
//! call.ended(Duration::from_secs(10)).await;
//! lab.assert_clean().await;
//! ```
//!
//! Prompts are the stock English ones: speech whose text (`prompt_text`) and samples (`prompt_samples`) are known.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Samples in one RTP packet of Asterisk's: 20 ms at 8 kHz.
pub const FRAME: usize = 160;

/// How long `assert_clean` lets a hangup take to reach every channel and bridge.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V22,
    V16,
}

impl Version {
    fn number(self) -> &'static str {
        match self {
            Version::V22 => "22",
            Version::V16 => "16",
        }
    }
}

/// A running Asterisk of this test's own. It ends when this is dropped, and also when the test process ends.
pub struct Lab {
    folder: PathBuf,
    env: HashMap<String, String>,
    http: reqwest::Client,
}

impl Lab {
    /// Starts an Asterisk whose dialplan names the application `sidetone`.
    pub fn start(version: Version) -> Lab {
        Lab::start_as(version, "sidetone")
    }

    /// Starts an Asterisk whose dialplan names the application `app`.
    pub fn start_as(version: Version, app: &str) -> Lab {
        // Not below the target folder: the path has to stay short for Asterisk's control socket.
        let folder =
            tempfile::Builder::new().prefix("sidetone-lab-").tempdir().expect("a temporary folder").keep();
        let owner = std::process::id().to_string();
        script(&[
            "start",
            "--dir",
            path_text(&folder),
            "--version",
            version.number(),
            "--app",
            app,
            "--owner",
            &owner,
            "--remove",
        ]);
        let env = read_env(&folder);
        Lab { folder, env, http: http_client() }
    }

    /// One Asterisk for all tests of this process that can live with each other's calls.
    pub fn shared(version: Version) -> &'static Lab {
        static V22: OnceLock<Lab> = OnceLock::new();
        static V16: OnceLock<Lab> = OnceLock::new();
        let cell = match version {
            Version::V22 => &V22,
            Version::V16 => &V16,
        };
        cell.get_or_init(|| Lab::start(version))
    }

    /// A value of the instance's `env` file, e.g. `LAB_SPOOL`.
    pub fn env(&self, key: &str) -> &str {
        self.env.get(key).unwrap_or_else(|| panic!("the lab's env file has no {key}"))
    }

    /// E.g. `http://127.0.0.1:18105`, to which `/ari/...` is added.
    pub fn ari_url(&self) -> &str {
        self.env("LAB_ARI_URL")
    }

    pub fn ari_user(&self) -> &str {
        self.env("LAB_ARI_USER")
    }

    pub fn ari_password(&self) -> &str {
        self.env("LAB_ARI_PASSWORD")
    }

    pub fn ami_addr(&self) -> SocketAddr {
        self.loopback("LAB_AMI_PORT")
    }

    pub fn ami_user(&self) -> &str {
        self.env("LAB_AMI_USER")
    }

    pub fn ami_password(&self) -> &str {
        self.env("LAB_AMI_PASSWORD")
    }

    pub fn sip_addr(&self) -> SocketAddr {
        self.loopback("LAB_SIP_PORT")
    }

    pub fn rtp_ports(&self) -> RangeInclusive<u16> {
        self.port("LAB_RTP_START")..=self.port("LAB_RTP_END")
    }

    /// The Stasis application the dialplan names.
    pub fn app(&self) -> &str {
        self.env("LAB_APP")
    }

    /// E.g. `22.10.1+dfsg…`.
    pub fn release(&self) -> &str {
        self.env("LAB_RELEASE")
    }

    /// Asterisk's process id: it changes with `restart`.
    pub fn pid(&self) -> u32 {
        self.env("LAB_PID").parse().expect("a process id")
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asterisk's own log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.env("LAB_LOG")).unwrap_or_default()
    }

    /// Recordings of what called parties heard (`Local/100@lab-phones`), oldest first.
    pub fn heard(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.env("LAB_HEARD"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort_by_key(|file| fs::metadata(file).and_then(|data| data.modified()).ok());
        files
    }

    /// Runs a command on Asterisk's console and returns what it printed.
    pub fn cli(&self, command: &str) -> String {
        script(&["cli", "--dir", path_text(&self.folder), command])
    }

    /// Ends Asterisk as a crash would. `restart` brings it back.
    pub fn crash(&self) {
        script(&["kill", "--dir", path_text(&self.folder)]);
    }

    /// Stops Asterisk, if it runs, and starts it again on the same ports.
    pub fn restart(&mut self) {
        let owner = std::process::id().to_string();
        script(&["restart", "--dir", path_text(&self.folder), "--owner", &owner, "--remove"]);
        self.env = read_env(&self.folder);
        self.http = http_client(); // the old one holds connections to the Asterisk that is gone
    }

    pub async fn ari_get(&self, path: &str) -> Reply {
        self.ari(reqwest::Method::GET, path, &[], None).await
    }

    pub async fn ari_post(&self, path: &str, query: &[(&str, &str)], body: Option<Value>) -> Reply {
        self.ari(reqwest::Method::POST, path, query, body).await
    }

    pub async fn ari_delete(&self, path: &str) -> Reply {
        self.ari(reqwest::Method::DELETE, path, &[], None).await
    }

    async fn ari(
        &self,
        method: reqwest::Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        let url = format!("{}/ari{path}", self.ari_url());
        let mut request = self
            .http
            .request(method, &url)
            .query(query)
            .basic_auth(self.ari_user(), Some(self.ari_password()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        Reply { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    /// The ids of all channels and the ids of all bridges.
    pub async fn everything(&self) -> (Vec<String>, Vec<String>) {
        let ids = |reply: Reply| {
            reply
                .ok()
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|it| it["id"].as_str().map(str::to_owned))
                .collect()
        };
        (ids(self.ari_get("/channels").await), ids(self.ari_get("/bridges").await))
    }

    /// Fails unless every channel and every bridge is gone, within a moment.
    pub async fn assert_clean(&self) {
        let deadline = Instant::now() + SETTLE;
        loop {
            let (channels, bridges) = self.everything().await;
            if channels.is_empty() && bridges.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: channels {channels:?}, bridges {bridges:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a stock prompt says, e.g. `vm-goodbye` → `Goodbye`.
    pub fn prompt_text(&self, name: &str) -> String {
        let list = fs::read(self.env("LAB_SOUNDS_TEXT")).expect("the list of prompts");
        String::from_utf8_lossy(&list)
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|text| text.trim().to_owned()))
            .unwrap_or_else(|| panic!("no stock prompt has the name {name}"))
    }

    /// A stock prompt's samples, 8 kHz.
    pub fn prompt_samples(&self, name: &str) -> Vec<i16> {
        let file = Path::new(self.env("LAB_SOUNDS")).join(name).with_extension("wav");
        let wav = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // These files are all plain: 44 bytes of header, then 16-bit mono at 8 kHz.
        assert_eq!(&wav[36..40], b"data", "{} has a header of another shape", file.display());
        wav[44..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    /// What a perfect receiver of a snoop in u-law decodes while a test caller plays that prompt: Asterisk swallows the last
    /// frame if it is not full.
    pub fn prompt_as_snooped(&self, name: &str) -> Vec<i16> {
        let samples = self.prompt_samples(name);
        let full = samples.len() - samples.len() % FRAME;
        samples[..full].iter().map(|&sample| ulaw_decode(ulaw_encode(sample))).collect()
    }

    fn loopback(&self, key: &str) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port(key)))
    }

    fn port(&self, key: &str) -> u16 {
        self.env(key).parse().expect("a port")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("Asterisk's last words:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let _ = lab_script().args(["kill", "--dir", path_text(&self.folder)]).output();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// ARI's answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// `Null` where there is none.
    pub body: Value,
}

impl Reply {
    /// The body of a success; fails the test otherwise.
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "ARI answered {}: {}", self.status, self.body);
        self.body
    }
}

/// u-law as Asterisk does it: the classic 16-bit encoder on a table that has one entry for four samples.
pub fn ulaw_encode(sample: i16) -> u8 {
    const CLIP: i32 = 32635;
    const BIAS: i32 = 132;
    let sample = i32::from(sample | 3);
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.abs().min(CLIP) + BIAS;
    let exponent = magnitude.ilog2() - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

/// u-law to linear, as everybody does it.
pub fn ulaw_decode(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 132) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 132 } else { 132 - magnitude }
}

fn http_client() -> reqwest::Client {
    // No test talks TLS to the lab, but reqwest builds no client without a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Asterisk closes an idle connection after 15 s: leave it before that.
    reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(5)).build().expect("an HTTP client")
}

pub(super) fn lab_script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
}

/// Runs `scripts/lab` and returns what it printed; fails the test with its message.
fn script(args: &[&str]) -> String {
    let output = lab_script().args(args).output().expect("scripts/lab");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "scripts/lab {}: {}", args.join(" "), text(&output.stderr));
    text(&output.stdout)
}

fn read_env(folder: &Path) -> HashMap<String, String> {
    let file = fs::read_to_string(folder.join("env")).expect("the lab's env file");
    file.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

pub(super) fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
