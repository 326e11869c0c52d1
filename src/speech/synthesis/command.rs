//! Engines that are programs: text goes in at their standard input, a WAV file comes out.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::{SynthesisError, Wanted};

/// Words a minute at espeak-ng's own pace, and those that it takes.
const ESPEAK_WORDS: f64 = 175.0;
const ESPEAK_RANGE: (f64, f64) = (80.0, 450.0);
/// Bytes that a program may say: an hour at 48 kHz is 346 MB, which nobody asks of a telephone.
const MOST_OUTPUT: u64 = 128 << 20;
/// Of what it complains, so much is passed on.
const MOST_COMPLAINT: u64 = 4 << 10;

pub(super) async fn espeak(
    program: &Path,
    wanted: &Wanted,
    after: Duration,
) -> Result<Vec<Vec<u8>>, SynthesisError> {
    let voice = if wanted.voice.is_empty() { &wanted.language } else { &wanted.voice };
    let words = (ESPEAK_WORDS * wanted.speed).clamp(ESPEAK_RANGE.0, ESPEAK_RANGE.1).round();
    let mut command = Command::new(program);
    command.args(["--stdin", "--stdout", "-s", &words.to_string(), "-v", voice]);
    let outcome = run("espeak", program, command, &wanted.text, after).await;
    outcome.map_err(|error| match error {
        SynthesisError::Failed { engine, reason } if reason.contains("voice does not exist") => {
            let reason = "`espeak-ng --voices` lists those it has".to_owned();
            SynthesisError::UnknownVoice { engine, voice: voice.clone(), reason }
        }
        other => other,
    })
}

pub(super) async fn piper(
    program: &Path,
    voices: &Path,
    wanted: &Wanted,
    after: Duration,
) -> Result<Vec<Vec<u8>>, SynthesisError> {
    let model = voices.join(format!("{}.onnx", wanted.voice));
    if wanted.voice.is_empty() || !model.is_file() {
        let reason = match wanted.voice.as_str() {
            "" => format!("name one of those in {} (tts.voice, tts.voices_dir)", voices.display()),
            _ => format!("there is no {} (tts.voice, tts.voices_dir)", model.display()),
        };
        return Err(SynthesisError::UnknownVoice { engine: "piper", voice: wanted.voice.clone(), reason });
    }
    let mut command = Command::new(program);
    // Its scale is one of length.
    let scale = (1.0 / wanted.speed).to_string();
    command.arg("--model").arg(&model).args(["--length-scale", &scale, "--output-file", "-"]);
    run("piper", program, command, &wanted.text, after).await
}

async fn run(
    engine: &'static str,
    program: &Path,
    mut command: Command,
    text: &str,
    after: Duration,
) -> Result<Vec<Vec<u8>>, SynthesisError> {
    let failed = |reason: String| SynthesisError::Failed { engine, reason };
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child =
        spawned.map_err(|source| SynthesisError::NoProgram { program: program.to_owned(), source })?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed("its pipes could not be had".into()));
    };
    let talk = async {
        let (mut audio, mut complaint) = (Vec::new(), Vec::new());
        let say = async {
            let said = stdin.write_all(text.as_bytes()).await;
            drop(stdin);
            said
        };
        let mut stdout = stdout.take(MOST_OUTPUT + 1);
        let mut stderr = stderr.take(MOST_COMPLAINT);
        let (said, heard, complained) =
            tokio::join!(say, stdout.read_to_end(&mut audio), stderr.read_to_end(&mut complaint));
        let status = if audio.len() as u64 > MOST_OUTPUT { None } else { Some(child.wait().await) };
        (said, heard.and(complained), audio, complaint, status)
    };
    let (said, heard, audio, complaint, status) =
        tokio::time::timeout(after, talk).await.map_err(|_| SynthesisError::Timeout { engine, after })?;
    let Some(status) = status else {
        return Err(failed(format!("it said more than {} MiB", MOST_OUTPUT >> 20)));
    };
    let status = status.map_err(|error| failed(error.to_string()))?;
    heard.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let words = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(failed(if words.is_empty() { status.to_string() } else { words }));
    }
    // A program that has heard enough closes its end; its exit status says whether that was well.
    said.or_else(|error| {
        if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(failed(error.to_string())) }
    })?;
    Ok(vec![audio])
}
