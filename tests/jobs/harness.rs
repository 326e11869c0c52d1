//! A server that does jobs, and what its tests ask of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::support;
use super::support::server::Sidetone;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Longest wait for what happens in a moment on a machine that does nothing else.
pub const SOON: Duration = Duration::from_secs(60);

/// A server that does jobs, beside no Asterisk at all, and the folder that it may work in.
pub struct Bench {
    pub server: Sidetone,
    pub root: TempDir,
    client: reqwest::Client,
}

impl Bench {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_to_crash(settings, None).await
    }

    /// It dies at that step.
    pub async fn start_to_crash(settings: &[(&str, &str)], step: Option<&str>) -> Self {
        let root = tempfile::Builder::new().prefix("sidetone-root-").tempdir().unwrap();
        let mut all = vec![
            ("jobs.roots".to_owned(), json!([root.path()]).to_string()),
            ("jobs.retry_ms".to_owned(), "200".to_owned()),
            ("speech.model".to_owned(), "off".to_owned()),
            ("tts.engine".to_owned(), "off".to_owned()),
        ];
        for (key, value) in settings {
            all.retain(|(known, _)| known != key);
            all.push(((*key).to_owned(), (*value).to_owned()));
        }
        let all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let nobody = support::server::free_tcp();
        let server = Sidetone::spawn_to_crash(&format!("http://{nobody}"), "none", &all, step);
        let client = reqwest::Client::new();
        let bench = Self { server, root, client };
        bench.until_up().await;
        bench
    }

    pub async fn until_up(&self) {
        let deadline = Instant::now() + SOON;
        while self.try_get("/queue/stats").await.is_none() {
            assert!(Instant::now() < deadline, "it does not come up:\n{}", self.server.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Wait until it has died where it was to, and start it again.
    pub async fn crashes_and_comes_back(&mut self) {
        self.server.crashes().await;
        self.server.respawn();
        self.until_up().await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http())
    }

    pub async fn try_get(&self, path: &str) -> Option<Value> {
        self.client.get(self.url(path)).send().await.ok()?.json().await.ok()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.client.post(self.url(path)).json(body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The status; `None` if it dies meanwhile.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<u16> {
        let response = self.client.post(self.url(path)).json(body).send().await.ok()?;
        Some(response.status().as_u16())
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.client.put(self.url(path)).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// A place in the root.
    pub fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The job once it is over.
    pub async fn over(&self, id: &str) -> Value {
        self.until(id, |job| matches!(job["status"].as_str(), Some("completed" | "failed" | "cancelled")))
            .await
    }

    pub async fn until(&self, id: &str, good: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let job = self.try_get(&format!("/api/jobs/{id}")).await.unwrap_or_default();
            if good(&job) {
                return job;
            }
            assert!(Instant::now() < deadline, "{job:#}\n{}", self.server.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many jobs of a kind are in a state.
    pub async fn count(&self, kind: &str, state: &str) -> i64 {
        self.get("/queue/stats").await["kinds"][kind]["jobs"][state].as_i64().unwrap()
    }

    pub async fn until_count(&self, kind: &str, state: &str, wanted: i64) {
        let deadline = Instant::now() + SOON;
        loop {
            let count = match self.try_get("/queue/stats").await {
                Some(stats) => stats["kinds"][kind]["jobs"][state].as_i64().unwrap(),
                None => -1,
            };
            if count == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{count} {kind} {state}, not {wanted}:\n{}",
                self.server.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A GSM file of so many frames of 20 ms; which one it is, its samples tell.
pub fn gsm(path: &Path, frames: usize, which: usize) {
    let mut bytes = Vec::with_capacity(frames * 33);
    for n in 0..frames {
        // 0xd: the signature of a frame (GSM 06.10 in Asterisk's and RTP's packing); the rest is any frame.
        let frame: [u8; 33] =
            std::array::from_fn(
                |at| if at == 0 { 0xd8 } else { ((n * 7 + which * 13 + at * 31) % 251) as u8 },
            );
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).unwrap();
}

/// Samples of a mono WAV file of 16 bits.
pub fn wav_samples(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..4], b"RIFF", "{}", path.display());
    let data = bytes.windows(4).position(|four| four == b"data").unwrap();
    u32::from_le_bytes(bytes[data + 4..data + 8].try_into().unwrap()) as usize / 2
}
