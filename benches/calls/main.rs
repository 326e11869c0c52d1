//! Real calls, measured: `make bench-calls`, or `cargo bench --bench calls -- --calls 20 --at-once 4`.
//!
//! A lab's Asterisk plays calls of two speaking parties (the demo's, or with `--drawn` prompts drawn from all the stock ones) and the
//! binary, as a user runs it, taps them. What is measured is what a subscriber of `/ws/events` sees, against what was really said:
//!
//! - *What was said* is known: the prompts' texts. *When* is read off the recording: each prompt is found in its leg sample for
//!   sample, and its loud 10 ms frames are the speech. Neither asks the recogniser or its voice detector.
//! - *Where a word ends* nobody but a recogniser knows: each prompt is cut out of the recording and recognised alone, in one piece,
//!   by the same model; words that are right there are given the ends that they have there.
//! - *Recording's clock to wall clock*: the report's `started_at` is the wall clock of sample 0, and a sample's place is its RTP
//!   timestamp, so sample N sounded at `started_at` + N / rate.
//! - *When it was known* is the wall clock of this process when the event has come over the WebSocket and been parsed.
//!
//! WER is the edit distance between all finals of a leg and all its prompts, so that it does not matter which prompts came to
//! share an utterance. Beside it stands what the same model makes of the same recording offline: `sidetone transcribe`, each prompt in
//! one piece, each leg in one piece. A first partial counts from the first loud frame of its utterance; a final from the last
//! loud frame of its utterance (so it includes the silence that `speech.hangover_ms` waits for); a pause is the longest time
//! without a new event of an utterance while its speaker still spoke.

#![allow(clippy::disallowed_methods, reason = "a bench runs on the real clock")]

#[path = "../../tests/real/audio.rs"]
#[allow(dead_code, reason = "the tests need the rest of it")]
mod audio;
mod measure;
mod offline;
mod report;
mod said;
#[path = "../../tests/speech-support/mod.rs"]
mod speech;
#[path = "../../tests/support/mod.rs"]
mod support;
mod text;

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value;
use support::callers::Call;
use support::lab::{Lab, Version};
use support::server::Sidetone;
use tokio_tungstenite::tungstenite::Message;

use measure::{Bench, Measured};
use offline::Offline;
use report::Report;
use said::Script;

/// A call of the demo takes 24 s; the rest is patience with a busy machine.
const LONGEST_CALL: Duration = Duration::from_secs(90);
/// `/proc/PID/stat` counts in these, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Parser)]
#[command(about = "Real calls, measured")]
struct Args {
    /// Calls to place.
    #[arg(long, default_value_t = 5)]
    calls: usize,
    /// Calls at a time.
    #[arg(long, default_value_t = 1)]
    at_once: usize,
    /// Setting of the server, e.g. `speech.workers=1`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Calls of prompts drawn from all the stock ones, each call other ones, in place of the demo's.
    #[arg(long)]
    drawn: bool,
    /// Draw other ones.
    #[arg(long, default_value_t = 1, requires = "drawn")]
    seed: u64,
    /// Print what was heard wrongly, and each call's figures.
    #[arg(long, short)]
    verbose: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// An event, and when it came.
pub struct Seen {
    at: f64,
    event: Value,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let load_before = first_line("/proc/loadavg");
    let began = Timestamp::now();
    let lab = Lab::start(Version::V22);
    let settings: Vec<(&str, &str)> = args.set.iter().filter_map(|s| s.split_once('=')).collect();
    let server = Sidetone::start_with(&lab, &settings).await;
    let seen = follow(server.http(), args.calls);

    let script = |call: usize| match args.drawn {
        true => Script::drawn(&lab, args.seed * 10_000 + call as u64),
        false => Script::demo(),
    };
    let cpu_before = cpu_seconds(server.pid());
    let mut placed = 0;
    while placed < args.calls {
        let wave = args.at_once.clamp(1, args.calls - placed);
        for call in placed..placed + wave {
            let Script { caller, callee } = script(call);
            let (caller, callee) = (as_strs(&caller), as_strs(&callee));
            // Its number, to tell calls of different scripts apart.
            let call = Call::tap().caller(&caller).callee(&callee).caller_id(&format!("{}", 1_000 + call));
            call.callee_hangs_up().tail(1.0).place(&lab).await;
        }
        placed += wave;
        wait_ended(&server, placed).await;
    }
    let cpu = cpu_seconds(server.pid()) - cpu_before;
    let calls = server.calls().await;
    // The last events are on their way; a call that never ended would be waited for in vain.
    let seen = tokio::time::timeout(Duration::from_secs(5), seen).await;
    let seen = seen.ok().and_then(Result::ok).unwrap_or_default();

    let model =
        settings.iter().rev().find(|(key, _)| *key == "speech.model").map_or("auto", |(_, model)| model);
    let mut offline = Offline::new(model);
    let mut all = Measured::default();
    let mut bad = Vec::new();
    for call in &calls {
        let number =
            call["channel"]["caller"]["number"].as_str().and_then(|number| number.parse::<usize>().ok());
        let number = number.and_then(|number| number.checked_sub(1_000));
        let (Some(number), true) =
            (number, call["outcome"] == "completed" && call["recording"]["status"] == "ready")
        else {
            bad.push(format!("{}: {} {}", call["call_id"], call["outcome"], call["error"]));
            continue;
        };
        let mut bench = Bench { lab: &lab, server: &server, offline: &mut offline, verbose: args.verbose };
        let one = bench.call(call, &seen, &script(number));
        if args.verbose {
            println!("{}: {one:?}", call["call_id"]);
        }
        all.add(one);
    }
    bad.extend((calls.len()..placed).map(|_| "placed, and never seen".to_owned()));

    let minutes: f64 = calls.iter().filter_map(|c| c["duration_s"].as_f64()).sum::<f64>() / 60.0;
    println!(
        "\n{} calls of {:.1} s, {} at a time\n",
        calls.len(),
        minutes * 60.0 / calls.len().max(1) as f64,
        args.at_once
    );
    let mut report = Report::default();
    report.of_speech(&mut all);
    let lost = server.metric("sidetone_rtp_packets_lost_total").await;
    let received = server.metric("sidetone_rtp_packets_received_total").await;
    report.row("RTP packets lost", format!("{lost} of {received}"), "0", lost == 0.0);
    report.row("CPU of the server", format!("{:.1} s per minute of call", cpu / minutes.max(1e-9)), "", true);
    let memory = |name| memory(&server, name);
    let memory = format!("{} MiB now, {} MiB at most", memory("VmRSS:"), memory("VmHWM:"));
    report.row("memory of the server", memory, "", true);
    report.row("calls failed", bad.len().to_string(), "0", bad.is_empty());
    print!("{}", report.table());
    println!(
        "\nMachine: {} × {}; load {load_before} before, {} after.",
        cores(),
        cpu_model(),
        first_line("/proc/loadavg")
    );
    println!(
        "{}, `make bench-calls`{}; Asterisk {}.",
        began.strftime("%Y-%m-%d %H:%M UTC"),
        arguments(),
        lab.release()
    );
    for text in &bad {
        eprintln!("CALL FAILED {text}");
    }
    if report.is_missed() {
        eprintln!("A TARGET IS MISSED: see `--verbose`, and the load above");
    }
    ExitCode::from(u8::from(report.is_missed()))
}

fn as_strs(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// Events of all calls until `calls` have ended.
fn follow(http: &str, calls: usize) -> tokio::task::JoinHandle<Vec<Seen>> {
    let url = format!("ws://{http}/ws/events?after=0");
    tokio::spawn(async move {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.expect("the server's events");
        let (mut seen, mut ended) = (Vec::new(), 0);
        while ended < calls {
            let Some(Ok(message)) = socket.next().await else { panic!("the server's events broke off") };
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            assert_ne!(event["type"], "gap", "this subscriber was too slow");
            ended += usize::from(event["type"] == "call.ended");
            seen.push(Seen { at: seconds(Timestamp::now()), event });
        }
        seen
    })
}

/// Until so many calls have ended, or the patience.
async fn wait_ended(server: &Sidetone, count: usize) {
    let give_up = std::time::Instant::now() + LONGEST_CALL;
    while std::time::Instant::now() < give_up {
        if server.calls().await.iter().filter(|c| c["state"] == "ended").count() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!("CALLS DO NOT END within {LONGEST_CALL:?}");
}

/// Seconds since the epoch.
fn seconds(at: Timestamp) -> f64 {
    at.as_nanosecond() as f64 / 1e9
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    // The name in brackets may hold anything; fields 14 and 15 are the times, counted from 1.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>()
        / TICKS_PER_SECOND
}

/// MiB, by a name in `/proc/PID/status`.
fn memory(server: &Sidetone, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let machine = || {
        Command::new("uname")
            .arg("-m")
            .output()
            .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    model.map_or_else(|| machine().unwrap_or_default(), str::to_owned)
}

/// Load averages, without what follows them.
fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// This run's own arguments, as `make` takes them.
fn arguments() -> String {
    let args: Vec<_> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.is_empty() { String::new() } else { format!(" with `ARGS='{}'`", args.join(" ")) }
}
