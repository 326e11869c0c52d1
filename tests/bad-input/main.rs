//! Bad input that needs no Asterisk: settings, ports, models, captures, files. Each message names the thing and the remedy.

#![cfg(feature = "embedded-model")]
#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

mod replay;
mod settings;
mod start;
mod transcribe;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest run of a command here; what `serve` refuses it refuses at once.
const SOON: Duration = Duration::from_secs(30);

struct Ran {
    code: i32,
    out: String,
    /// Standard error: messages and log.
    err: String,
}

impl Ran {
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        let message = self.err.lines().find(|l| l.starts_with("sidetone: ")).unwrap_or_default();
        let all = self.err.split_once("sidetone: ").map_or("", |(_, rest)| rest);
        for word in words {
            assert!(all.contains(word), "`{word}` is not in: {all}");
        }
        // The cause of an error is said once.
        let repeated = message.match_indices("(os error").count();
        assert!(repeated <= 1, "{message}");
    }
}

fn sidetone(folder: &Path, args: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_sidetone")).args(args).current_dir(folder))
}

fn run(command: &mut Command) -> Ran {
    let piped =
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program");
    let begun = Instant::now();
    while child.try_wait().expect("its state").is_none() {
        if begun.elapsed() > SOON {
            let _ = child.kill();
            let Output { stderr, .. } = child.wait_with_output().expect("its output");
            panic!("it does not end: {}", String::from_utf8_lossy(&stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// `serve` with free ports and `settings`, which keep it from starting.
fn serve(settings: &[&str]) -> Ran {
    let folder = folder();
    let http = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let rtp = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port");
    let own = [format!("http.bind={http}"), format!("rtp.bind={rtp}"), "node.data=data".to_owned()];
    let mut args = vec!["serve"];
    for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
        args.extend(["--set", setting]);
    }
    sidetone(folder.path(), &args)
}

fn ulaw(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 132) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 132 } else { 132 - magnitude }
}
