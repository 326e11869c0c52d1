//! Bad input that needs no Asterisk: settings, ports, models, captures, files. Each message names the thing and the remedy.

#![cfg(feature = "embedded-model")]
#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sidetone::recording::wav::WavReader;
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

// ---- settings --------------------------------------------------------------------------------------------------------

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_name_wherever_it_stands() {
    let folder = folder();
    let file = folder.path().join("s.toml");
    std::fs::write(&file, "[rtp]\nshard = 2\n").unwrap();
    let nearest = "there is no setting `rtp.shard`; did you mean `rtp.shards`?";
    let by_file = sidetone(folder.path(), &["--config", "s.toml", "serve"]);
    by_file.refused(64, &["s.toml", nearest]);
    let by_flag = sidetone(folder.path(), &["serve", "--set", "rtp.shard=2"]);
    by_flag.refused(64, &["--set rtp.shard=2", nearest]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    let by_environment =
        run(command.arg("serve").current_dir(folder.path()).env("SIDETONE__RTP__SHARD", "2"));
    by_environment.refused(64, &["environment variable SIDETONE__RTP__SHARD", nearest]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    let of_one = run(command.arg("serve").current_dir(folder.path()).env("SIDETONE_ARI_PASSWORD", "2"));
    of_one.refused(64, &["SIDETONE_ARI_PASSWORD", "it is SIDETONE__ARI__PASSWORD"]);
    sidetone(folder.path(), &["serve", "--set", "ari.foo=1"])
        .refused(64, &["no setting `ari.foo`", "config example"]);
    // Whatever the command: none runs on settings that are not understood.
    for command in [&["transcribe", "x.wav"][..], &["replay", "x.pcap", "--out", "o"], &["config", "show"]] {
        let ran = sidetone(folder.path(), &[&["--config", "s.toml"], command].concat());
        ran.refused(64, &[nearest]);
    }
}

#[test]
fn a_wrong_type_is_refused_with_its_line_or_its_flag() {
    let folder = folder();
    std::fs::write(folder.path().join("s.toml"), "[rtp]\nshards = \"many\"\n").unwrap();
    sidetone(folder.path(), &["-c", "s.toml", "serve"]).refused(64, &["s.toml", "line 2", "shards"]);
    std::fs::write(folder.path().join("s.toml"), "[rtp\n").unwrap();
    sidetone(folder.path(), &["-c", "s.toml", "serve"]).refused(64, &["s.toml", "line 1"]);
    serve(&["rtp.shards=many"]).refused(64, &["--set rtp.shards=many", "`rtp.shards`", "\"many\""]);
    serve(&["rtp.shards"]).refused(64, &["section.key=value"]);
    sidetone(folder.path(), &["-c", "none.toml", "serve"]).refused(64, &["none.toml", "No such file"]);
}

#[test]
fn values_that_cannot_work_are_refused_all_at_once() {
    let refused = serve(&["rtp.shards=99", "node.name=a b", "ari.url=localhost"]);
    refused.refused(64, &["rtp.shards is 99: use 1 to 16", "node.name", "ari.url", "http://host:port"]);
    serve(&["log.level=sidetone=loud"]).refused(64, &["`log.level`", "sidetone=loud", "info"]);
    let secret = serve(&["ari.password_file=/nowhere/secret"]);
    secret.refused(64, &["ari.password_file", "/nowhere/secret", "No such file"]);
    assert!(!secret.err.contains("settings file"), "{}", secret.err);
    serve(&["speech.hangover_ms=199"]).refused(64, &["speech.hangover_ms", "200 to 5000"]);
    for level in ["loud", "info,loud"] {
        serve(&[&format!("log.level={level}")])
            .refused(64, &["`log.level`", "`loud` is no level", "error, warn, info, debug, trace"]);
        let checked = sidetone(Path::new("."), &["check", "--set", &format!("log.level={level}")]);
        assert_eq!(checked.code, 64, "{}", checked.out);
        assert!(checked.out.contains("`loud` is no level"), "{}", checked.out);
    }
}

#[test]
fn keys_that_are_none_and_addresses_without_a_key_are_refused_without_showing_a_secret() {
    let ran = serve(&["http.keys=[\"st_acme_0123456789abcdef\", \"hunter2\"]"]);
    ran.refused(64, &["entry 2 of `http.keys`", "openssl rand -hex 32"]);
    assert!(!ran.err.contains("hunter2") && !ran.err.contains("0123456789abcdef"), "{}", ran.err);
    let folder = folder();
    let keys = folder.path().join("keys");
    let setting = format!("http.keys_file={}", keys.display());
    std::fs::write(&keys, "st_acme_0123456789abcdef\n\n# of the old dashboard\nhunter2\n").unwrap();
    let ran = serve(&[&setting]);
    ran.refused(64, &["entry 2 of `http.keys`", "openssl rand -hex 32"]);
    assert!(!ran.err.contains("hunter2") && !ran.err.contains("0123456789abcdef"), "{}", ran.err);
    std::fs::remove_file(&keys).unwrap();
    serve(&[&setting]).refused(64, &["http.keys_file", keys.to_str().unwrap(), "No such file"]);
    serve(&["http.keys=[\"st_acme_short\"]"]).refused(64, &["entry 1 of `http.keys`", "16 characters"]);
    serve(&["http.bind=0.0.0.0:18099"]).refused(64, &["http.bind", "http.keys", "127.0.0.1"]);
}

// ---- what is taken, and what is not there ----------------------------------------------------------------------------

#[test]
fn a_data_folder_is_for_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let other = std::fs::File::create(folder.path().join(".lock")).unwrap();
    other.lock().unwrap();
    let data = format!("node.data={}", folder.path().display());
    serve(&[&data]).refused(1, &["another Sidetone uses node.data", "a folder of its own"]);
}

#[test]
fn a_port_in_use_is_named_by_its_setting() {
    let http = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = http.local_addr().unwrap();
    serve(&[&format!("http.bind={address}")])
        .refused(1, &["`http.bind`", &address.to_string(), "another process has this port"]);
    let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = rtp.local_addr().unwrap();
    serve(&[&format!("rtp.bind={address}")])
        .refused(1, &["rtp.bind", &address.port().to_string(), "in use", "set rtp.bind to a free port"]);
    serve(&["rtp.bind=192.0.2.1:14000"])
        .refused(1, &["rtp.bind", "192.0.2.1", "not an address of this machine"]);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused_at_the_start() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let below = file.join("data");
    // Not even root may make files in /proc.
    for data in [below.to_str().unwrap(), "/proc"] {
        let setting = format!("node.data={data}");
        serve(&[&setting]).refused(1, &["node.data", data, "choose a folder this user may write to"]);
    }
}

#[test]
fn a_model_that_is_not_there_or_is_none_is_refused_with_the_remedy() {
    serve(&["speech.model=base.en"])
        .refused(1, &["\"base.en\"", "data/models", "put ggml-base.en.bin there", "speech.model"]);
    serve(&["speech.model=/nowhere/m.bin"]).refused(1, &["speech.model", "/nowhere/m.bin", "\"auto\""]);

    let folder = folder();
    let whole = zstd_model();
    let cut = folder.path().join("cut.bin");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let noise = folder.path().join("noise.bin");
    std::fs::write(&noise, vec![7; 100_000]).unwrap();
    for model in [&cut, &noise] {
        let ran = serve(&[&format!("speech.model={}", model.display())]);
        ran.refused(1, &[model.to_str().unwrap(), "cannot be used", "Get the file again"]);
        assert!(!ran.err.contains("transcribing"), "it says it transcribes: {}", ran.err);
        // The other commands that need it say the same.
        let wav = prompt_file(folder.path(), "digit-5");
        let args = ["transcribe", &wav, "--model", model.to_str().unwrap()];
        sidetone(folder.path(), &args).refused(1, &[model.to_str().unwrap(), "cannot be used"]);
    }
    let wav = prompt_file(folder.path(), "digit-2");
    sidetone(folder.path(), &["transcribe", &wav, "--model", "off"]).refused(1, &["--model"]);
}

/// The demonstration model, unpacked.
fn zstd_model() -> Vec<u8> {
    use std::io::Read;
    let packed =
        std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/sidetone-prompts-en.bin.zst"));
    let mut model = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(packed.unwrap()).unwrap().read_to_end(&mut model).unwrap();
    model
}

// ---- replay ----------------------------------------------------------------------------------------------------------

/// Samples of a packet: 20 ms.
const FRAME: usize = 160;
const EPOCH_US: u64 = 1_700_000_000_000_000;

/// One RTP packet of u-law in a capture.
#[derive(Clone, Copy)]
struct Packet {
    at_us: u64,
    port: u16,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    /// Each byte of its payload.
    byte: u8,
}

/// `count` packets 20 ms apart whose counters both wrap on the way.
fn stream(port: u16, ssrc: u32, count: u32) -> Vec<Packet> {
    let packet = |i: u32| Packet {
        at_us: EPOCH_US + u64::from(i) * 20_000,
        port,
        sequence: 65_500_u16.wrapping_add(i as u16),
        timestamp: (u32::MAX - 2_000).wrapping_add(i * FRAME as u32),
        ssrc,
        byte: (i % 100) as u8,
    };
    (0..count).map(packet).collect()
}

fn pcap(path: &Path, packets: &[Packet]) {
    let datagrams = packets.iter().map(|p| {
        let mut rtp = vec![0x80, 0];
        rtp.extend(p.sequence.to_be_bytes());
        rtp.extend(p.timestamp.to_be_bytes());
        rtp.extend(p.ssrc.to_be_bytes());
        rtp.extend([p.byte; FRAME]);
        (p.at_us, p.port, rtp)
    });
    pcap_of(path, datagrams);
}

/// Classic pcap of raw IPv4, from 127.0.0.1:`port` to port 14000.
fn pcap_of(path: &Path, datagrams: impl Iterator<Item = (u64, u16, Vec<u8>)>) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 101] {
        file.extend(word.to_le_bytes());
    }
    // The version is two shorts, major first.
    file[4..8].copy_from_slice(&[2, 0, 4, 0]);
    for (at_us, port, payload) in datagrams {
        let length = 28 + payload.len();
        for word in [(at_us / 1_000_000) as u32, (at_us % 1_000_000) as u32, length as u32, length as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0x45, 0]);
        file.extend((length as u16).to_be_bytes());
        file.extend([0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        file.extend(port.to_be_bytes());
        file.extend(14_000_u16.to_be_bytes());
        file.extend(((length - 20) as u16).to_be_bytes());
        file.extend([0, 0]);
        file.extend(payload);
    }
    std::fs::write(path, file).unwrap();
}

struct Replayed {
    ran: Ran,
    wav: PathBuf,
    report: Value,
}

impl Replayed {
    fn leg(&self, at: usize) -> Vec<i16> {
        let samples = WavReader::open(&self.wav).unwrap().read_all().unwrap();
        samples.iter().skip(at).step_by(2).copied().collect()
    }
}

fn replay(folder: &Path, capture: &str, out: &str, more: &[&str]) -> Replayed {
    let ran = sidetone(folder, &[&["replay", capture, "--out", out, "--no-transcript"], more].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let paths: Vec<_> = ran.out.lines().map(|line| folder.join(line)).collect();
    let report = serde_json::from_slice(&std::fs::read(&paths[1]).unwrap()).unwrap();
    Replayed { wav: paths[0].clone(), report, ran }
}

fn ulaw(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0f) << 3) + 132) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 132 } else { 132 - magnitude }
}

#[test]
fn replay_of_loss_wrap_reorder_and_copies_reports_each_and_moves_nothing() {
    let folder = folder();
    let caller = stream(40_000, 0x1111, 200);
    let mut sent: Vec<_> = caller
        .iter()
        .copied()
        .filter(|p| ![50, 51, 120].contains(&((p.at_us - EPOCH_US) / 20_000)))
        .collect();
    sent.push(Packet { at_us: sent[90].at_us + 1_000, ..sent[90] });
    // One comes so late that live readers have passed it, and still mends the recording.
    let late = sent.iter().position(|p| p.byte == 99 && p.at_us > EPOCH_US + 3_000_000).unwrap();
    sent[late].at_us += 500_000;
    // Two change places.
    let (a, b) = (sent[20].at_us, sent[21].at_us);
    (sent[20].at_us, sent[21].at_us) = (b, a);
    sent.extend(stream(40_002, 0x2222, 200));
    sent.sort_by_key(|p| p.at_us);
    pcap(&folder.path().join("a.pcap"), &sent);

    let replayed = replay(folder.path(), "a.pcap", "o", &[]);
    let report = &replayed.report;
    let [left, right] = [&report["legs"][0], &report["legs"][1]];
    let counts = ["expected", "received", "lost", "duplicate", "late", "repaired", "invalid"];
    let of = |leg: &Value| counts.map(|name| leg[format!("packets_{name}")].as_u64().unwrap());
    assert_eq!(of(left), [200, 197, 3, 1, 1, 1, 0], "{left:#}");
    assert_eq!(of(right), [200, 200, 0, 0, 0, 0, 0], "{right:#}");
    let gaps = |kind: &str| {
        let gap = |first: u64, packets: u64| serde_json::json!({ "start_sample": first * 160, "samples": packets * 160, "kind": kind });
        serde_json::json!([gap(50, 2), gap(120, 1)])
    };
    assert_eq!(left["gaps"], gaps("concealed"));
    let bare = replay(folder.path(), "a.pcap", "bare", &["--set", "rtp.conceal=false"]);
    assert_eq!(bare.report["legs"][0]["gaps"], gaps("lost"));
    assert_eq!(left["segments"].as_array().unwrap().len(), 1, "a wrap begins no segment: {left:#}");
    assert_eq!(left["segments"][0]["first_rtp_timestamp"], u32::MAX - 2_000);
    assert_eq!(report["duration_s"], 4.0);
    assert_eq!(report["started_at"], "2023-11-14T22:13:20Z", "the capture's own time");

    let expected: Vec<i16> = (0..200 * FRAME).map(|i| ulaw(((i / FRAME) % 100) as u8)).collect();
    let (heard, gone) = (replayed.leg(0), [50, 51, 120]);
    assert_eq!(heard.len(), expected.len());
    for packet in 0..200 {
        let at = packet * FRAME..(packet + 1) * FRAME;
        if gone.contains(&packet) {
            assert_eq!(bare.leg(0)[at.clone()], [0; FRAME]);
        } else {
            assert_eq!(heard[at.clone()], expected[at.clone()], "packet {packet}");
            assert_eq!(bare.leg(0)[at.clone()], expected[at], "packet {packet}");
        }
    }
    assert_eq!(replayed.leg(1), expected);
}

#[test]
fn replay_of_the_same_capture_gives_the_same_bytes() {
    let folder = folder();
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    for name in ["lo.pcapng", "any-sll2.pcap"] {
        let capture = captures.join(name);
        let both = ["first", "again"]
            .map(|run| replay(folder.path(), capture.to_str().unwrap(), &format!("{name}-{run}"), &[]));
        let bytes = |r: &Replayed| std::fs::read(&r.wav).unwrap();
        assert_eq!(bytes(&both[0]), bytes(&both[1]), "{name}");
        assert_eq!(both[0].report, both[1].report, "{name}");
    }
}

#[test]
fn replay_uses_all_whole_packets_of_a_truncated_capture_and_says_so() {
    let folder = folder();
    let path = folder.path().join("cut.pcap");
    pcap(&path, &stream(40_000, 1, 50));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let replayed = replay(folder.path(), "cut.pcap", "o", &[]);
    assert_eq!(replayed.report["legs"][0]["packets_received"], 49);
    assert_eq!(replayed.leg(0).len(), 49 * FRAME);
    let warnings: Vec<_> = replayed.ran.err.lines().filter(|l| l.contains("ends amid a packet")).collect();
    let [warning] = warnings[..] else { panic!("one warning: {}", replayed.ran.err) };
    assert!(warning.starts_with("sidetone: cut.pcap: ") && warning.contains("49 whole"), "{warning}");
}

#[test]
fn replay_lists_the_streams_of_a_capture_of_many_and_takes_those_that_are_named() {
    let folder = folder();
    let mut sent: Vec<_> = [(40_000, 0xa1), (40_002, 0xb2), (40_004, 0xc3)]
        .into_iter()
        .flat_map(|(port, ssrc)| stream(port, ssrc, 100 + ssrc))
        .filter(|p| p.ssrc != 0xc3 || p.sequence != 65_510)
        .collect();
    sent.sort_by_key(|p| p.at_us);
    pcap(&folder.path().join("many.pcap"), &sent);
    let line = "ssrc 0x000000c3  127.0.0.1:40004 → 127.0.0.1:14000  ulaw  294 packets  5.9 s";

    let all = replay(folder.path(), "many.pcap", "first", &[]);
    assert!(all.ran.err.starts_with("sidetone: many.pcap: 3 RTP streams"), "{}", all.ran.err);
    assert!(all.ran.err.contains("--ssrc") && all.ran.err.contains(line), "{}", all.ran.err);
    assert!(!all.ran.err.contains(" WARN ") && !all.ran.err.contains(" INFO "), "{}", all.ran.err);
    assert_eq!(all.report["legs"][1]["ssrcs"], serde_json::json!([0xb2]));

    let chosen = replay(folder.path(), "many.pcap", "chosen", &["--ssrc", "0xC3", "--ssrc", "a1"]);
    let ssrcs = [0, 1].map(|leg: usize| chosen.report["legs"][leg]["ssrcs"][0].as_u64());
    assert_eq!(ssrcs, [Some(0xc3), Some(0xa1)]);
    for summary in
        ["caller: ulaw 294 of 295 packets, 1 lost (0.34 %)", "callee: ulaw 261 of 261 packets, 0 lost"]
    {
        assert!(chosen.ran.err.contains(&format!("sidetone: {summary}")), "{}", chosen.ran.err);
    }

    let with = |ssrcs: &[&str]| {
        let named = ssrcs.iter().flat_map(|ssrc| ["--ssrc", ssrc]);
        let args: Vec<_> =
            ["replay", "many.pcap", "--out", "o", "--no-transcript"].into_iter().chain(named).collect();
        sidetone(folder.path(), &args)
    };
    with(&["dead"]).refused(1, &["0x0000dead", line]);
    with(&["a1", "b2", "c3"]).refused(2, &["two streams at most"]);
    with(&["a1", "A1"]).refused(2, &["each once"]);
    assert_eq!(with(&["xyz"]).code, 2);
}

#[test]
fn replay_takes_one_of_two_sources_that_share_their_ports() {
    let folder = folder();
    let mut sent = [stream(40_000, 0xa1, 100), stream(40_000, 0xb2, 50)].concat();
    sent.sort_by_key(|p| p.at_us);
    pcap(&folder.path().join("mixed.pcap"), &sent);
    let one = replay(folder.path(), "mixed.pcap", "one", &["--ssrc", "b2"]);
    let leg = &one.report["legs"][0];
    assert_eq!(
        (leg["ssrcs"].clone(), leg["packets_received"].as_u64()),
        (serde_json::json!([0xb2]), Some(50))
    );
}

#[test]
fn replay_refuses_what_is_no_capture_or_has_no_rtp() {
    let folder = folder();
    let file = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let refused = |name: &str, words: &[&str]| {
        let ran = sidetone(folder.path(), &["replay", name, "--out", "o", "--no-transcript"]);
        ran.refused(1, words);
        assert!(!folder.path().join("o").exists(), "{name} left something");
    };
    file("text", b"hello, I am no capture");
    refused("text", &["text", "not a pcap or pcapng", "editcap -F pcapng"]);
    file("empty", b"");
    refused("empty", &["empty", "is empty"]);
    file("stub", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0]);
    refused("stub", &["stub", "holds no packet", "copy incomplete"]);
    pcap(&folder.path().join("none.pcap"), &[]);
    refused("none.pcap", &["none.pcap", "holds no packet"]);
    std::fs::create_dir(folder.path().join("folder.pcap")).unwrap();
    refused("folder.pcap", &["cannot open the capture folder.pcap", "is a directory"]);
    file("packed", &[0x1f, 0x8b, 8, 0, 0, 0]);
    refused("packed", &["packed", "gunzip"]);
    refused("gone", &["cannot open the capture gone", "No such file"]);
    let dns = (0..20).map(|i| (EPOCH_US + i, 5_353, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example".to_vec()));
    pcap_of(&folder.path().join("dns.pcap"), dns);
    refused("dns.pcap", &["dns.pcap", "no RTP stream", "g722"]);
}

#[test]
fn replay_without_a_model_leaves_recording_and_report_alone() {
    let folder = folder();
    pcap(&folder.path().join("a.pcap"), &stream(40_000, 1, 50));
    let ran = sidetone(folder.path(), &["replay", "a.pcap", "--out", "o", "--set", "speech.model=off"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, "o/a.wav\no/a.json\n");
}

#[test]
fn replay_takes_any_repair_window_that_a_ring_can_hold() {
    let folder = folder();
    pcap(&folder.path().join("a.pcap"), &stream(40_000, 1, 3_000));
    let expected: Vec<i16> = (0..3_000 * FRAME).map(|i| ulaw(((i / FRAME) % 100) as u8)).collect();
    let replayed = replay(folder.path(), "a.pcap", "o", &["--repair-ms", "30000"]);
    assert_eq!(replayed.report["duration_s"], 60.0);
    assert_eq!(replayed.report["legs"][0]["gaps"], serde_json::json!([]));
    assert!(replayed.leg(0) == expected, "not the samples that were sent");
    let beyond = ["replay", "a.pcap", "--out", "p", "--no-transcript", "--repair-ms", "120000"];
    assert_eq!(sidetone(folder.path(), &beyond).code, 2);
}

#[test]
fn replay_overwrites_no_recording() {
    let folder = folder();
    pcap(&folder.path().join("a.pcap"), &stream(40_000, 1, 50));
    let first = replay(folder.path(), "a.pcap", "o", &[]);
    let before = std::fs::read(&first.wav).unwrap();
    let again = sidetone(folder.path(), &["replay", "a.pcap", "--out", "o", "--no-transcript"]);
    again.refused(1, &["o/a.wav", "move it away", "--out"]);
    assert_eq!(std::fs::read(&first.wav).unwrap(), before);
}

// ---- transcribe ------------------------------------------------------------------------------------------------------

fn prompt(name: &str) -> Vec<i16> {
    let file = format!("{}/tests/fixtures/speech/{name}.ulaw", env!("CARGO_MANIFEST_DIR"));
    let silence = vec![0; 4_000];
    let speech = std::fs::read(file).unwrap().into_iter().map(ulaw).collect();
    [silence.clone(), speech, silence].concat()
}

/// 16-bit PCM at 8 kHz.
fn wav_bytes(channels: u16, samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + data.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    wav.extend(channels.to_le_bytes());
    wav.extend(8_000_u32.to_le_bytes());
    wav.extend((16_000 * u32::from(channels)).to_le_bytes());
    wav.extend((2 * channels).to_le_bytes());
    wav.extend(b"\x10\0data");
    wav.extend((data.len() as u32).to_le_bytes());
    wav.extend(data);
    wav
}

/// A file of one prompt in `folder`; its path.
fn prompt_file(folder: &Path, name: &str) -> String {
    let path = folder.join(format!("{name}.wav"));
    std::fs::write(&path, wav_bytes(1, &prompt(name))).unwrap();
    path.to_str().unwrap().to_owned()
}

fn two_speakers(folder: &Path) {
    let (left, right) = (prompt("vm-goodbye"), prompt("hello-world"));
    // One after the other, as people do.
    let silence = |n: usize| vec![0_i16; n];
    let left_leg = [left.clone(), silence(right.len())].concat();
    let right_leg = [silence(left.len()), right].concat();
    let both: Vec<i16> = left_leg.iter().zip(&right_leg).flat_map(|(&l, &r)| [l, r]).collect();
    std::fs::write(folder.join("two.wav"), wav_bytes(2, &both)).unwrap();
}

#[test]
fn a_stereo_file_has_two_speakers_in_every_format() {
    let folder = folder();
    two_speakers(folder.path());
    let as_format = |format: &str| {
        let ran = sidetone(folder.path(), &["transcribe", "two.wav", "--quiet", "--format", format]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out
    };
    let text = as_format("text");
    assert_eq!(as_format("txt"), text, "named by its extension, as over HTTP");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("[00:0") && lines[0].contains("] caller: "), "{text}");
    assert!(lines[0].contains("goodbye"), "{text}");
    assert!(lines[1].contains("] callee: ") && lines[1].contains("hello world"), "{text}");

    let json: Value = serde_json::from_str(&as_format("json")).expect("JSON");
    let utterances = json["utterances"].as_array().expect("utterances");
    assert_eq!(
        (utterances[0]["speaker"].as_str(), utterances[1]["speaker"].as_str()),
        (Some("caller"), Some("callee"))
    );
    assert!(utterances[1]["start"].as_f64() > utterances[0]["end"].as_f64(), "{json:#}");

    assert_eq!(json["file"], "two.wav");

    let srt = as_format("srt");
    assert!(
        srt.starts_with("1\n00:00:0")
            && srt.contains(" --> 00:00:0")
            && srt.contains(",")
            && srt.contains("\n\n2\n"),
        "{srt}"
    );
    let vtt = as_format("vtt");
    assert!(
        vtt.starts_with("WEBVTT\n\n") && vtt.contains("<v caller>") && vtt.contains("<v callee>"),
        "{vtt}"
    );
}

#[test]
fn a_wav_whose_header_lies_is_read_as_far_as_it_goes_and_says_so() {
    let folder = folder();
    let whole = wav_bytes(1, &prompt("vm-goodbye"));
    let transcribe = |bytes: &[u8]| {
        std::fs::write(folder.path().join("a.wav"), bytes).unwrap();
        sidetone(folder.path(), &["transcribe", "a.wav", "--quiet"])
    };
    let good = transcribe(&whole);
    assert_eq!(good.code, 0, "{}", good.err);
    assert!(good.out.contains("goodbye") && !good.err.contains("header"), "{}{}", good.out, good.err);
    // A length far beyond the file's end, in both places.
    let mut lie = whole.clone();
    lie[4..8].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    lie[40..44].copy_from_slice(&0x7fff_ff00_u32.to_le_bytes());
    // Cut in the silence after the word, amid a sample.
    for bytes in [&lie[..], &whole[..whole.len() - 3_001]] {
        let ran = transcribe(bytes);
        assert_eq!((ran.code, ran.out.as_str()), (0, good.out.as_str()), "{}", ran.err);
        assert!(
            ran.err.starts_with("sidetone: a.wav: ") || ran.err.contains("\nsidetone: a.wav: "),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_language_that_is_none_is_refused_and_one_that_the_model_lacks_is_warned_of() {
    let folder = folder();
    let wav = prompt_file(folder.path(), "hello-world");
    let transcribe = |language: &str| sidetone(folder.path(), &["transcribe", &wav, "--language", language]);
    let ran = transcribe("xx");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("`xx` is no language") && ran.err.contains(" de, "), "{}", ran.err);
    serve(&["speech.language=zz"]).refused(64, &["speech.language", "`zz` is no language", " de, "]);
    let checked = sidetone(folder.path(), &["check", "--set", "speech.language=zz"]);
    assert_eq!(checked.code, 64, "{}", checked.out);
    for language in ["de", "auto"] {
        let ran = transcribe(language);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let warning =
            format!("knows English only, and takes everything for it: for the language `{language}`");
        assert!(ran.err.contains(&warning), "{}", ran.err);
    }
    assert!(!transcribe("en").err.contains("English only"));
    let ran = sidetone(
        folder.path(),
        &["check", "--set", "speech.language=de", "--set", "ari.url=http://127.0.0.1:1"],
    );
    assert!(ran.out.lines().any(|l| l.starts_with("warning") && l.contains("English only")), "{}", ran.out);
}

#[test]
fn what_is_no_wav_fails_and_the_other_files_are_transcribed() {
    let folder = folder();
    let good = prompt_file(folder.path(), "hello-world");
    std::fs::write(folder.path().join("text.wav"), "I am no WAV").unwrap();
    std::fs::write(folder.path().join("cut.wav"), &wav_bytes(1, &[0; 100])[..30]).unwrap();
    std::fs::write(folder.path().join("empty.wav"), "").unwrap();
    std::fs::create_dir(folder.path().join("folder.wav")).unwrap();
    let files = ["text.wav", "cut.wav", "empty.wav", "gone.wav", "folder.wav", good.as_str()];
    let ran = sidetone(folder.path(), &[&["transcribe", "--quiet"][..], &files].concat());
    ran.refused(
        1,
        &[
            "text.wav: not a WAV file",
            "convert it first",
            "cut.wav: ",
            "empty.wav: the file is empty",
            "gone.wav: cannot be opened: No such file",
            "folder.wav: cannot be opened: is a directory",
        ],
    );
    assert_eq!(ran.err.matches("(os error").count(), 1, "the cause is said once: {}", ran.err);
    assert!(ran.err.contains("copy it again"), "{}", ran.err);
    assert!(ran.out.contains("hello world"), "{}{}", ran.out, ran.err);
    // Usage is clap's business.
    assert_eq!(sidetone(folder.path(), &["transcribe"]).code, 2);
    assert_eq!(sidetone(folder.path(), &["transcribe", "x.wav", "--format", "docx"]).code, 2);
}
