//! Standard output that is closed or full: a command ends in order, whatever it was about to say.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Each command that writes without an Asterisk, and the code with which it ends when all can be written.
const COMMANDS: [(&[&str], i32); 6] = [
    (&["config", "example"], 0),
    (&["config", "show"], 0),
    (&["models", "list"], 0),
    (&["models", "verify"], 0),
    (&["check", "--set", "ari.url=http://127.0.0.1:1"], 1),
    (&["check", "--json", "--set", "ari.url=http://127.0.0.1:1"], 1),
];

fn sidetone(args: &[&str], out: Stdio, err: Stdio) -> (i32, String) {
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    let command = command.args(args).current_dir(folder.path()).stdin(Stdio::null()).stdout(out).stderr(err);
    let Output { status, stderr, .. } =
        command.spawn().and_then(|run| run.wait_with_output()).expect("it runs");
    (status.code().expect("no signal"), String::from_utf8_lossy(&stderr).into_owned())
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("/dev/full").into()
}

fn without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    OwnedFd::from(writer).into()
}

#[test]
fn a_reader_that_went_away_is_a_quiet_end() {
    for (args, _) in COMMANDS {
        assert_eq!(sidetone(args, without_reader(), Stdio::piped()), (0, String::new()), "{args:?}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_said() {
    for (args, _) in COMMANDS {
        let (code, err) = sidetone(args, full(), Stdio::piped());
        assert_eq!(code, 1, "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
        assert!(err.contains("sidetone: cannot write to standard output: No space left"), "{args:?}: {err}");
    }
}

#[test]
fn a_full_disk_behind_standard_error_changes_no_outcome() {
    for (args, code) in COMMANDS {
        assert_eq!(sidetone(args, Stdio::null(), full()).0, code, "{args:?}");
    }
    let missing = ["transcribe", "none.wav", "--set", "log.level=trace"];
    assert_eq!(sidetone(&missing, Stdio::null(), full()).0, 1);
}
