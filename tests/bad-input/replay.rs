//! `replay` of captures that are damaged, foreign, or none.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sidetone::recording::wav::WavReader;

use crate::{Ran, folder, sidetone, ulaw};

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
    file("beginning", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0]);
    refused("beginning", &["beginning", "holds no packet", "copy incomplete"]);
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
    for wrong in ["120000", "999"] {
        let args = ["replay", "a.pcap", "--out", "p", "--no-transcript", "--repair-ms", wrong];
        assert_eq!(sidetone(folder.path(), &args).code, 2, "{wrong}");
    }
}

#[test]
fn replay_refuses_packets_of_years_later_and_writes_nothing() {
    let folder = folder();
    // A clock that was set, or a damaged record: 2106.
    for wrong in [0, 60] {
        let mut sent = stream(40_000, 1, 100);
        sent[wrong].at_us = u64::from(u32::MAX) * 1_000_000;
        pcap(&folder.path().join("a.pcap"), &sent);
        let ran = sidetone(folder.path(), &["replay", "a.pcap", "--out", "o", "--no-transcript"]);
        ran.refused(1, &["a.pcap", "2023-11-14T22:13:2", "2106-02-07T06:28:15Z", "editcap -A START -B STOP"]);
        assert!(!folder.path().join("o").exists(), "it left something");
    }

    // What is nobody's audio may be of any time.
    let mut sent = stream(40_000, 1, 100);
    sent.push(Packet { at_us: u64::from(u32::MAX) * 1_000_000, port: 9, ..sent[99] });
    pcap(&folder.path().join("b.pcap"), &sent);
    let replayed = replay(folder.path(), "b.pcap", "o", &[]);
    assert_eq!(replayed.report["duration_s"], 2.0);
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
