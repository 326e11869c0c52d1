//! Captures made by real programs, and the fuzzer's corpus.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use sidetone::net::capture::streams::StreamFinder;
use sidetone::net::capture::{Capture, CaptureError, CapturedDatagram};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e != "md"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn datagrams(path: &Path) -> Vec<CapturedDatagram> {
    Capture::open(path).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_tcpdump_and_tshark_wrote_holds_the_three_legs() {
    for path in files("tests/captures") {
        let mut capture = Capture::open(&path).unwrap();
        let mut finder = StreamFinder::new();
        for datagram in capture.by_ref().map(Result::unwrap) {
            finder.add(&datagram);
            assert_eq!(datagram.payload.len(), 172);
        }
        let takes = if path.ends_with("merged.pcapng") { 2 } else { 1 };
        assert_eq!(capture.counts().datagrams, takes * 36, "{}", path.display());
        let flows = finder.flows();
        let found: Vec<_> =
            flows.iter().map(|f| (f.src.to_string(), f.dst.to_string(), f.streams[0].ssrc)).collect();
        let expected = [
            ("127.0.0.1:40000", "127.0.0.1:14000", 0x1111),
            ("127.0.0.1:40002", "127.0.0.1:14000", 0x2222),
            ("[::1]:40004", "[::1]:14002", 0x3333),
        ];
        assert_eq!(
            found,
            expected.map(|(src, dst, ssrc)| (src.into(), dst.into(), ssrc)),
            "{}",
            path.display()
        );
        let types: Vec<_> = flows.iter().map(|f| f.main_payload_type(|_| true)).collect();
        assert_eq!(types, [Some(0), Some(8), Some(0)]);
        for flow in &flows {
            let stream = &flow.streams[0];
            assert_eq!((flow.streams.len(), stream.packets), (1, takes * 12));
            // Twelve packets 20 ms apart, on the clocks of a real machine.
            let nanos = stream.last.nanos_since(stream.first);
            assert!(takes == 2 || (150_000_000..2_000_000_000).contains(&nanos), "{nanos}");
        }
    }
}

/// tshark's view of a capture.
fn tshark(path: &Path) -> Vec<CapturedDatagram> {
    let fields = [
        "frame.time_epoch",
        "ip.src",
        "ipv6.src",
        "udp.srcport",
        "ip.dst",
        "ipv6.dst",
        "udp.dstport",
        "udp.payload",
    ];
    let output = Command::new("tshark")
        .arg("-r")
        .arg(path)
        .args(["-Y", "udp", "-T", "fields", "-E", "separator=;"])
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .output()
        .expect("tshark, which scripts/setup installs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> CapturedDatagram {
    let field: Vec<_> = line.split(';').collect();
    let (seconds, fraction) = field[0].split_once('.').unwrap();
    let nanos: u64 = format!("{fraction:0<9}")[..9].parse().unwrap();
    let nanos = seconds.parse::<u64>().unwrap() * 1_000_000_000 + nanos;
    let address = |v4: usize| {
        let ip: IpAddr = [field[v4], field[v4 + 1]].concat().parse().unwrap();
        SocketAddr::new(ip, field[v4 + 2].parse().unwrap())
    };
    let hex = field[7].as_bytes().chunks(2);
    CapturedDatagram {
        at: sidetone::media::time::MediaInstant::from_nanos(nanos),
        src: address(1),
        dst: address(4),
        payload: hex.map(|h| u8::from_str_radix(str::from_utf8(h).unwrap(), 16).unwrap()).collect(),
    }
}

#[test]
fn tshark_reads_the_same_datagrams() {
    // Of the corpus, what no capturing program here would write: byte order, VLAN tags, extension headers, BSD loopback.
    let odd = files("fuzz/corpus/capture").into_iter().filter(|path| {
        let names = ["big-endian-vlan-fragment.pcap", "raw-ipv6-extensions.pcap", "null.pcap"];
        names.iter().any(|name| path.ends_with(name))
    });
    for path in files("tests/captures").into_iter().chain(odd) {
        assert_eq!(datagrams(&path), tshark(&path), "{}", path.display());
    }
}

#[test]
fn a_file_cut_off_is_a_warning_behind_all_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lo.pcapng", "any-sll2.pcap"] {
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
        let path = folder.path().join(name);
        fs::copy(&whole, &path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        let mut items: Vec<_> = Capture::open(&path).unwrap().collect();
        let Some(Err(error @ CaptureError::Truncated { .. })) = items.pop() else { panic!("{name}") };
        let whole_packets = items.len();
        assert!((10..36).contains(&whole_packets));
        assert!(error.to_string().contains(&format!("the {whole_packets} whole packets")), "{error}");
        let found: Vec<_> = items.into_iter().map(Result::unwrap).collect();
        assert_eq!(found, datagrams(&whole)[..whole_packets]);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Capture::open(Path::new("/nonexistent/call.pcap")).err().unwrap().to_string();
    assert!(error.contains("/nonexistent/call.pcap"), "{error}");
}
