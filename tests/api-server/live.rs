//! What the tests of both protocols of live audio need.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sidetone::api::{LivePolicy, LiveSpeech};
use sidetone::speech::recogniser::SpeechModel;
use sidetone::speech::{ModelFile, SpeechConfig, SpeechEngine};

use super::support::{Server, Setup};

pub const KEY: &str = "st_acme_0123456789abcdef";

pub fn embedded() -> Arc<dyn SpeechModel> {
    ModelFile::embedded().unwrap().load().unwrap()
}

pub fn service(model: Arc<dyn SpeechModel>, policy: LivePolicy) -> Arc<LiveSpeech> {
    let config = SpeechConfig { workers: 2, ..SpeechConfig::default() };
    Arc::new(LiveSpeech::new(Arc::new(SpeechEngine::start(config, model).unwrap()), policy))
}

/// A server with the model in the binary, and what it hears with.
pub async fn server(data: &Path) -> (Server, Arc<LiveSpeech>) {
    with(data, service(embedded(), LivePolicy::new(8, "en")), Setup::default()).await
}

pub async fn with(data: &Path, live: Arc<LiveSpeech>, setup: Setup) -> (Server, Arc<LiveSpeech>) {
    let setup = Setup { keys: vec![KEY], live: Some(live.clone()), ..setup };
    (Server::with(data, setup).await, live)
}

/// A stock prompt as its µ-law file has it.
pub fn codes(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/speech/{name}.ulaw", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Prompts at 8 kHz, half a second of silence before each, and a second at the end.
pub fn speech(names: &[&str]) -> Vec<i16> {
    let decoded = |name: &&str| {
        codes(name).into_iter().map(|code| sidetone::media::codec::g711::ULAW[usize::from(code)])
    };
    let spoken =
        names.iter().flat_map(|name| vec![0; 4_000].into_iter().chain(decoded(name).collect::<Vec<_>>()));
    spoken.chain(vec![0; 8_000]).collect()
}

pub fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Both at once, the shorter one with silence behind it.
pub fn interleaved(left: &[i16], right: &[i16]) -> Vec<i16> {
    let frames = left.len().max(right.len());
    let at = |channel: &[i16], n: usize| channel.get(n).copied().unwrap_or(0);
    (0..frames).flat_map(|n| [at(left, n), at(right, n)]).collect()
}

/// Wait for what has to come.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Run a client of others', in the environment that `scripts/setup` makes.
pub async fn client_is_content(script: &str, arguments: &[String]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/tools/python/bin/python");
    assert!(
        python.exists(),
        "no Python with the packages of tests/python-requirements.txt: run scripts/setup"
    );
    let mut command = Command::new(python);
    command.arg(root.join("tests/api-server").join(script)).args(arguments);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
}
