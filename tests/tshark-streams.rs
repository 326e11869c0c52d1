//! tshark's analysis of RTP streams (`-z rtp,streams`) and the report of `sidetone replay`, on the same captures.
//!
//! Where the two mean the same they must say the same; where they do not, this is the difference, and each is held to its own
//! definition, computed here from what was sent:
//!
//! - *Packets*: tshark counts every packet; the report's `packets_received` leaves copies out, which are `packets_duplicate`.
//! - *Lost*: tshark's is the range of sequence numbers less all packets (RFC 3550 A.3), so that copies make up for losses; the
//!   report's `packets_lost` is the numbers that never came. tshark's is the report's less its duplicates.
//! - *Jitter*: both follow RFC 3550 A.8, and agree to the microsecond where no packet comes twice: tshark takes a copy for a
//!   packet, the report leaves it out. Newer releases of tshark compare a packet with the last one that was in order by its
//!   timestamp, and leave those out of order out of mean and maximum; tshark 4.0, the report and the RFC compare with the packet
//!   that came before. The mean is that of the estimates after each packet but the first.
//! - *Streams*: tshark has a line for each SSRC, the report one leg: packets and losses add up.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use sidetone::emulator::{Choice, Rng};
use sidetone::media::codec::Codec;

/// A packet as it comes in. Times in microseconds: tshark's are printed to the same.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    micros: u64,
    /// Without wraps.
    number: u64,
    ticks: u64,
    ssrc: u32,
}

/// A sender of 20 ms packets, from which the network takes.
struct Stream {
    name: &'static str,
    payload_type: u8,
    arrivals: Vec<Arrival>,
}

const PACKETS: u64 = 3_000;
/// Of 20 ms at 8000 ticks a second: G.711, and G.722 alike.
const TICKS: u64 = 160;
const FIRST_NUMBER: u64 = 1_000;
const FIRST_TICKS: u64 = 50_000;

fn sent(number: u64) -> Arrival {
    let (number, ticks) = (FIRST_NUMBER + number, FIRST_TICKS + TICKS * number);
    Arrival { micros: 20_000 * (number - FIRST_NUMBER), number, ticks, ssrc: 0x1111 }
}

/// What `change` makes of each packet: none, it, or several. The first 20 and the last 5 pass as they are, so that both begin and
/// end with the same packet.
fn stream(name: &'static str, mut change: impl FnMut(u64, Arrival) -> Vec<Arrival>) -> Stream {
    let mut arrivals: Vec<_> = (0..PACKETS)
        .flat_map(|n| if (20..PACKETS - 5).contains(&n) { change(n, sent(n)) } else { vec![sent(n)] })
        .collect();
    arrivals.sort_by_key(|arrival| arrival.micros);
    Stream { name, payload_type: 0, arrivals }
}

fn streams() -> Vec<Stream> {
    let mut streams = vec![stream("good", |_, packet| vec![packet])];
    for (name, percent) in [("lost-1", 1), ("lost-5", 5), ("lost-10", 10)] {
        let mut chance = Rng(percent);
        streams
            .push(stream(name, |_, packet| if chance.below(100) < percent { vec![] } else { vec![packet] }));
    }
    streams.push(stream("bursts", |n, packet| if n % 100 < 7 { vec![] } else { vec![packet] }));
    let mut chance = Rng(60);
    streams.push(stream("jitter-in-order", |_, packet| {
        vec![Arrival { micros: packet.micros + chance.below(19_000), ..packet }]
    }));
    let mut chance = Rng(61);
    streams.push(stream("jitter-60-ms", |_, packet| {
        vec![Arrival { micros: packet.micros + chance.below(60_000), ..packet }]
    }));
    streams.push(stream("reordered", |n, packet| {
        vec![Arrival { micros: packet.micros + if n % 10 == 0 { 45_000 } else { 0 }, ..packet }]
    }));
    streams.push(stream("duplicates", |n, packet| {
        let copy = Arrival { micros: packet.micros + 3_000, ..packet };
        if n % 7 == 0 { vec![packet, copy] } else { vec![packet] }
    }));
    let mut chance = Rng(62);
    streams.push(stream("duplicates-and-loss", |n, packet| match n % 11 {
        0 => vec![],
        5 => vec![packet, Arrival { micros: packet.micros + 1_000 + chance.below(10_000), ..packet }],
        _ => vec![packet],
    }));
    streams.push(stream("late-by-3-s", |n, packet| {
        vec![Arrival { micros: packet.micros + if n % 500 == 100 { 3_000_000 } else { 0 }, ..packet }]
    }));
    let wrapping = |packet: Arrival| Arrival {
        number: packet.number + 64_000,
        ticks: packet.ticks + u64::from(u32::MAX) - 200_000,
        ..packet
    };
    let mut wraps = stream("wraps", |n, packet| if n % 50 == 7 { vec![] } else { vec![packet] });
    wraps.arrivals.iter_mut().for_each(|arrival| *arrival = wrapping(*arrival));
    streams.push(wraps);
    let mut changes = stream("ssrc-change", |n, packet| if n % 40 == 9 { vec![] } else { vec![packet] });
    for arrival in &mut changes.arrivals {
        if arrival.number >= FIRST_NUMBER + PACKETS / 2 {
            *arrival = Arrival { ssrc: 0x2222, number: arrival.number + 20_000, ..*arrival };
        }
    }
    streams.push(changes);
    let lossy = |n: u64, packet| if n % 30 == 9 { vec![] } else { vec![packet] };
    streams.push(Stream { payload_type: 8, ..stream("alaw", lossy) });
    if Codec::from_payload_type(9).is_some() {
        streams.push(Stream { payload_type: 9, ..stream("g722", lossy) });
    }
    streams
}

/// Raw IPv4 in a pcap file with stamps in microseconds.
fn write_pcap(path: &Path, stream: &Stream) {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    file.extend(101_u32.to_le_bytes());
    for arrival in &stream.arrivals {
        let mut rtp = vec![0x80, stream.payload_type];
        rtp.extend((arrival.number as u16).to_be_bytes());
        rtp.extend((arrival.ticks as u32).to_be_bytes());
        rtp.extend(arrival.ssrc.to_be_bytes());
        rtp.resize(12 + 160, 0xd5);
        let mut packet = vec![0x45, 0];
        packet.extend((20 + 8 + rtp.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        for word in [4_000, 5_004, 8 + rtp.len() as u16, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(rtp);
        let micros = 1_700_000_000_000_000 + arrival.micros;
        for word in [micros / 1_000_000, micros % 1_000_000, packet.len() as u64, packet.len() as u64] {
            file.extend((word as u32).to_le_bytes());
        }
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap();
}

/// A line of tshark's table. Times in milliseconds.
#[derive(Debug)]
struct Line {
    ssrc: u32,
    packets: u64,
    lost: i64,
    max_delta: f64,
    mean_jitter: f64,
    max_jitter: f64,
}

fn tshark(path: &Path) -> Vec<Line> {
    let output = Command::new("tshark")
        .args(["-q", "-d", "udp.port==5004,rtp", "-z", "rtp,streams", "-r"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("0x0000")).map(|line| read_line(line).expect(line)).collect()
}

/// `start end ip port ip port ssrc payload packets lost (percent%) delta delta delta jitter jitter jitter [X]`; the payload's name
/// may have blanks.
fn read_line(line: &str) -> Option<Line> {
    let words: Vec<_> = line.split_whitespace().collect();
    let ssrc = words.iter().find_map(|word| word.strip_prefix("0x"))?;
    let percent = words.iter().position(|word| word.starts_with('(') && word.ends_with("%)"))?;
    let number = |at: usize| words.get(at)?.parse::<f64>().ok();
    Some(Line {
        ssrc: u32::from_str_radix(ssrc, 16).ok()?,
        packets: words[percent - 2].parse().ok()?,
        lost: words[percent - 1].parse().ok()?,
        max_delta: number(percent + 3)?,
        mean_jitter: number(percent + 5)?,
        max_jitter: number(percent + 6)?,
    })
}

/// The first leg of the report that `sidetone replay` writes.
fn replay(capture: &Path, out: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["replay", "--no-transcript", "--out"])
        .arg(out)
        .arg(capture)
        .current_dir(out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = out.join(capture.file_name().unwrap()).with_extension("json");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    report["legs"][0].clone()
}

/// Largest and mean jitter in milliseconds, and the longest time between two packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Jitter {
    max: f64,
    mean: f64,
    max_delta: f64,
}

/// RFC 3550 A.8 on the arrivals of one source, copies left out: the report's.
fn by_the_rfc(arrivals: &[Arrival]) -> Jitter {
    let mut came = HashSet::new();
    let first_copies: Vec<_> = arrivals.iter().filter(|arrival| came.insert(arrival.number)).collect();
    let (mut jitter, mut sum, mut of) = (0.0, 0.0, Jitter::default());
    for pair in first_copies.windows(2) {
        let passed = (pair[1].micros - pair[0].micros) as f64 / 1_000.0;
        let spoken = (pair[1].ticks as f64 - pair[0].ticks as f64) / 8.0;
        jitter += ((passed - spoken).abs() - jitter) / 16.0;
        sum += jitter;
        of.max = of.max.max(jitter);
        of.max_delta = of.max_delta.max(passed);
    }
    of.mean = sum / (first_copies.len() - 1) as f64;
    of
}

/// As tshark 4.0 does: the RFC's, and a copy is a packet.
fn by_tshark_4_0(arrivals: &[Arrival]) -> Jitter {
    let (mut jitter, mut sum, mut of) = (0.0, 0.0, Jitter::default());
    for pair in arrivals.windows(2) {
        let passed = (pair[1].micros - pair[0].micros) as f64 / 1_000.0;
        let spoken = (pair[1].ticks as f64 - pair[0].ticks as f64) / 8.0;
        jitter = (15.0 * jitter + (passed - spoken).abs()) / 16.0;
        sum += jitter;
        of.max = of.max.max(jitter);
        of.max_delta = of.max_delta.max(passed);
    }
    of.mean = sum / (arrivals.len() - 1) as f64;
    of
}

/// As newer releases do: against the last packet that was not older than all before it.
fn by_newer_tshark(arrivals: &[Arrival]) -> Jitter {
    let (mut jitter, mut of, mut newest) = (0.0, Jitter::default(), arrivals[0]);
    for (so_far, arrival) in arrivals.iter().enumerate().skip(1) {
        let passed = (arrival.micros - newest.micros) as f64 / 1_000.0;
        let spoken = (arrival.ticks as f64 - newest.ticks as f64) / 8.0;
        let in_order = arrival.ticks >= newest.ticks;
        jitter = (15.0 * jitter + (passed - spoken).abs()) / 16.0;
        if in_order {
            of.max = of.max.max(jitter);
            of.mean = (of.mean * (so_far - 1) as f64 + jitter) / so_far as f64;
            of.max_delta = of.max_delta.max(passed);
            newest = *arrival;
        }
    }
    of
}

impl Jitter {
    /// tshark prints thousandths.
    fn is_near(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= 0.001_1;
        near(self.max, other.max) && near(self.mean, other.mean) && near(self.max_delta, other.max_delta)
    }
}

#[test]
fn tsharks_streams_and_the_report_agree_on_packets_loss_and_jitter() {
    if Command::new("tshark").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no tshark here; scripts/setup installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for stream in streams() {
        let name = stream.name;
        let capture = folder.path().join(format!("{name}.pcap"));
        write_pcap(&capture, &stream);
        let lines = tshark(&capture);
        let report = replay(&capture, folder.path());
        let count = |field: &str| report[field].as_u64().unwrap_or_else(|| panic!("{field} of {report}"));
        let millis = |field: &str| report[field].as_f64().unwrap_or_else(|| panic!("{field} of {report}"));

        let ssrcs: HashSet<_> =
            report["ssrcs"].as_array().unwrap().iter().filter_map(|s| s.as_u64()).collect();
        assert_eq!(lines.iter().map(|line| u64::from(line.ssrc)).collect::<HashSet<_>>(), ssrcs, "{name}");
        let packets: u64 = lines.iter().map(|line| line.packets).sum();
        assert_eq!(packets, stream.arrivals.len() as u64, "{name}");
        assert_eq!(packets, count("packets_received") + count("packets_duplicate"), "{name}");
        assert_eq!(count("packets_invalid"), 0, "{name}");
        let lost: i64 = lines.iter().map(|line| line.lost).sum();
        assert_eq!(lost, count("packets_lost") as i64 - count("packets_duplicate") as i64, "{name}");

        let (mut max, mut max_delta) = (0.0_f64, 0.0_f64);
        for line in &lines {
            let arrivals: Vec<_> =
                stream.arrivals.iter().filter(|arrival| arrival.ssrc == line.ssrc).copied().collect();
            let ours = by_the_rfc(&arrivals);
            let told = Jitter { max: line.max_jitter, mean: line.mean_jitter, max_delta: line.max_delta };
            let theirs = [by_tshark_4_0(&arrivals), by_newer_tshark(&arrivals)];
            assert!(theirs.iter().any(|theirs| theirs.is_near(&told)), "{name}: {told:?} {theirs:?}");
            let in_order = arrivals.windows(2).all(|pair| pair[0].ticks < pair[1].ticks);
            assert!(!in_order || told.is_near(&ours), "{name}: {told:?} {ours:?}");
            if lines.len() == 1 {
                assert!((millis("mean_jitter_ms") - ours.mean).abs() < 1e-6, "{name}: {report} {ours:?}");
            }
            max = max.max(ours.max);
            max_delta = max_delta.max(ours.max_delta);
        }
        assert!((millis("max_jitter_ms") - max).abs() < 1e-6, "{name}: {report} {max}");
        assert!((millis("max_delta_ms") - max_delta).abs() < 1e-6, "{name}: {report} {max_delta}");
    }
}
