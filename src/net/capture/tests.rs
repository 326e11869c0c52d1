use proptest::prelude::*;

use super::*;

const SRC: &str = "10.0.0.1:4000";
const DST: &str = "10.0.0.2:14000";

#[derive(Clone, Copy)]
struct Endian(bool);

impl Endian {
    const BOTH: [Self; 2] = [Self(false), Self(true)];

    fn u16(self, v: u16) -> [u8; 2] {
        if self.0 { v.to_be_bytes() } else { v.to_le_bytes() }
    }

    fn u32(self, v: u32) -> [u8; 4] {
        if self.0 { v.to_be_bytes() } else { v.to_le_bytes() }
    }
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(4000_u16.to_be_bytes());
    out.extend(14_000_u16.to_be_bytes());
    out.extend((8 + payload.len() as u16).to_be_bytes());
    out.extend([0; 2]);
    out.extend(payload);
    out
}

fn ipv4(fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x46, 0];
    out.extend((24 + body.len() as u16).to_be_bytes());
    out.extend([0, 1]);
    out.extend(fragment.to_be_bytes());
    out.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    out.extend([1, 1, 1, 1]);
    out.extend(body);
    out
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend([next, 64]);
    out.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    out.extend("2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    out.extend(body);
    out
}

fn ethernet(tags: &[u16], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![2; 12];
    for tag in tags {
        out.extend(tag.to_be_bytes());
        out.extend([0, 5]);
    }
    out.extend(kind.to_be_bytes());
    out.extend(body);
    out.resize(out.len().max(60), 0xee);
    out
}

fn pcap(endian: Endian, nanos: bool, link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(endian.u32(if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }));
    out.extend(endian.u16(2));
    out.extend(endian.u16(4));
    for word in [0, 0, 65_535, link] {
        out.extend(endian.u32(word));
    }
    for (i, frame) in frames.iter().enumerate() {
        for word in [100, 20_000 + i as u32, frame.len() as u32, frame.len() as u32] {
            out.extend(endian.u32(word));
        }
        out.extend(frame);
    }
    out
}

fn block(endian: Endian, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = endian.u32(12 + padded as u32);
    let mut out = endian.u32(kind).to_vec();
    out.extend(len);
    out.extend(body);
    out.resize(8 + padded, 0);
    out.extend(len);
    out
}

fn section(endian: Endian) -> Vec<u8> {
    let mut body = endian.u32(0x1a2b_3c4d).to_vec();
    body.extend(endian.u16(1));
    body.extend(endian.u16(0));
    body.extend([0xff; 8]);
    block(endian, 0x0a0d_0d0a, &body)
}

fn interface(endian: Endian, link: u16, resolution: Option<u8>) -> Vec<u8> {
    let mut body = endian.u16(link).to_vec();
    body.extend([0; 2]);
    body.extend(endian.u32(0));
    // A name first, so that padded options are passed over.
    body.extend(endian.u16(2));
    body.extend(endian.u16(3));
    body.extend(*b"lo0\0");
    if let Some(resolution) = resolution {
        body.extend(endian.u16(9));
        body.extend(endian.u16(1));
        body.extend([resolution, 0, 0, 0]);
    }
    body.extend([0; 4]);
    block(endian, 1, &body)
}

fn enhanced(endian: Endian, interface: u32, stamp: u64, frame: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for word in [interface, (stamp >> 32) as u32, stamp as u32, frame.len() as u32, frame.len() as u32] {
        body.extend(endian.u32(word));
    }
    body.extend(frame);
    block(endian, 6, &body)
}

fn read(bytes: &[u8]) -> (Vec<CapturedDatagram>, Option<CaptureError>, CaptureCounts) {
    let mut capture = Capture::new(bytes).unwrap();
    let (mut datagrams, mut error) = (Vec::new(), None);
    for item in &mut capture {
        match item {
            Ok(datagram) => datagrams.push(datagram),
            Err(e) => error = Some(e),
        }
    }
    (datagrams, error, capture.counts())
}

fn payloads(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (datagrams, error, _) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    datagrams.into_iter().map(|d| d.payload).collect()
}

#[test]
fn pcap_of_every_byte_order_and_resolution() {
    let frames =
        [ethernet(&[], 0x0800, &ipv4(0, &udp(b"one"))), ethernet(&[], 0x0800, &ipv4(0x4000, &udp(b"two")))];
    for endian in Endian::BOTH {
        for (nanos, unit) in [(false, 1_000), (true, 1)] {
            let (datagrams, error, counts) = read(&pcap(endian, nanos, 1, &frames));
            assert!(error.is_none());
            let expected = |payload: &[u8], fraction: u64| CapturedDatagram {
                at: MediaInstant::from_nanos(100_000_000_000 + fraction * unit),
                src: SRC.parse().unwrap(),
                dst: DST.parse().unwrap(),
                payload: payload.to_vec(),
            };
            assert_eq!(datagrams, [expected(b"one", 20_000), expected(b"two", 20_001)]);
            assert_eq!(counts, CaptureCounts { packets: 2, datagrams: 2, ..Default::default() });
        }
    }
}

#[test]
fn every_link_layer_leads_to_the_datagram() {
    let ip = ipv4(0, &udp(b"hello"));
    let behind = |header: &[u8]| [header, &ip].concat();
    let sll = [&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 0x08, 0x00][..], &ip].concat();
    let sll2 = [&[0x08, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &ip].concat();
    for (link, frame) in [
        (0, behind(&[2, 0, 0, 0])),
        (0, behind(&[0, 0, 0, 2])),
        (1, ethernet(&[], 0x0800, &ip)),
        (1, ethernet(&[0x8100], 0x0800, &ip)),
        (1, ethernet(&[0x88a8, 0x8100], 0x0800, &ip)),
        (101, ip.clone()),
        (12, ip.clone()),
        (108, behind(&[0, 0, 0, 2])),
        (113, sll),
        (228, ip.clone()),
        (276, sll2),
    ] {
        assert_eq!(payloads(&pcap(Endian(false), false, link, &[frame])), [b"hello"], "link type {link}");
    }
}

#[test]
fn ipv6_with_extension_headers() {
    let inner = udp(b"six");
    let hop_by_hop = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &inner].concat();
    let atomic = [&[17, 0, 0, 0, 0, 0, 0, 9][..], &inner].concat();
    let fragment = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &inner].concat();
    let frames = [ipv6(17, &inner), ipv6(0, &hop_by_hop), ipv6(44, &atomic), ipv6(44, &fragment)];
    let (datagrams, error, counts) = read(&pcap(Endian(true), false, 101, &frames));
    assert!(error.is_none());
    assert_eq!(datagrams.iter().map(|d| &d.payload[..]).collect::<Vec<_>>(), [b"six"; 3]);
    assert_eq!(datagrams[0].src, "[2001:db8::1]:4000".parse().unwrap());
    assert_eq!(counts.fragments, 1);
}

#[test]
fn what_is_left_out_is_counted() {
    let whole = udp(&[7; 100]);
    let mut tcp = ipv4(0, &whole);
    tcp[9] = 6;
    let mut cut = ethernet(&[], 0x0800, &ipv4(0, &whole));
    cut.truncate(80);
    let frames = [
        ethernet(&[], 0x0800, &ipv4(0x2000, &whole)),
        ethernet(&[], 0x0800, &ipv4(0x00b9, &whole)),
        ethernet(&[], 0x0800, &tcp),
        ethernet(&[], 0x0806, &[0; 28]),
        cut,
        Vec::new(),
        ethernet(&[], 0x0800, &ipv4(0, &whole)),
    ];
    let (datagrams, error, counts) = read(&pcap(Endian(false), false, 1, &frames));
    assert!(error.is_none());
    assert_eq!(datagrams.len(), 1);
    let expected =
        CaptureCounts { packets: 7, datagrams: 1, fragments: 2, cut_short: 1, unknown_link: 0, other: 3 };
    assert_eq!(counts, expected);
}

#[test]
fn pcapng_with_several_interfaces_sections_and_unknown_blocks() {
    let frame = ethernet(&[], 0x0800, &ipv4(0, &udp(b"ng")));
    for endian in Endian::BOTH {
        let other = Endian(!endian.0);
        let mut simple = endian.u32(frame.len() as u32).to_vec();
        simple.extend(&frame);
        let file = [
            section(endian),
            interface(endian, 1, None),
            interface(endian, 101, Some(9)),
            interface(endian, 147, Some(0x80 | 10)),
            block(endian, 0x0bad, &[1, 2, 3, 4, 5]),
            enhanced(endian, 0, 1_500_000, &frame),
            enhanced(endian, 1, 1_500_000_001, &ipv4(0, &udp(b"raw"))),
            enhanced(endian, 2, 4096, b"?"),
            block(endian, 3, &simple),
            section(other),
            interface(other, 1, Some(3)),
            enhanced(other, 0, 7_000, &frame),
        ]
        .concat();
        let (datagrams, error, counts) = read(&file);
        assert!(error.is_none(), "{error:?}");
        let found: Vec<_> = datagrams.iter().map(|d| (d.at.as_nanos(), &d.payload[..])).collect();
        let expected: [(u64, &[u8]); 4] = [
            (1_500_000_000, b"ng"),
            (1_500_000_001, b"raw"),
            // A simple packet has no stamp of its own; the one before came at 4 s.
            (4_000_000_000, b"ng"),
            (7_000_000_000, b"ng"),
        ];
        assert_eq!(found, expected);
        assert_eq!(counts.unknown_link, 1);
    }
}

#[test]
fn a_truncated_capture_gives_all_whole_packets_and_then_says_so() {
    let frame = ethernet(&[], 0x0800, &ipv4(0, &udp(b"payload")));
    let classic = pcap(Endian(false), false, 1, &[frame.clone(), frame.clone()]);
    let mut ng = [section(Endian(false)), interface(Endian(false), 1, None)].concat();
    let head = ng.len();
    ng.extend(enhanced(Endian(false), 0, 1, &frame));
    ng.extend(enhanced(Endian(false), 0, 2, &frame));
    let record = 16 + frame.len();
    let block = (ng.len() - head) / 2;
    for (file, start, step) in [(classic, 24, record), (ng, head, block)] {
        for cut in start + 1..file.len() {
            let (datagrams, error, counts) = read(&file[..cut]);
            let whole = (cut - start) / step;
            assert_eq!((datagrams.len(), counts.packets), (whole, whole as u64));
            if (cut - start).is_multiple_of(step) {
                assert!(error.is_none());
                continue;
            }
            let expected = (whole as u64, (start + whole * step) as u64);
            match error {
                Some(CaptureError::Truncated { packets, offset }) => assert_eq!((packets, offset), expected),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_no_capture_is_refused_with_a_way_out() {
    for (bytes, hint) in [
        (&b""[..], "empty"),
        (&[0x1f, 0x8b, 8, 0][..], "gunzip"),
        (b"RIFF....", "editcap"),
        (&[0xa1, 0xb2, 0xcd, 0x34][..], "editcap"),
    ] {
        let text = Capture::new(bytes).err().unwrap().to_string();
        assert!(text.contains(hint), "{text}");
    }
    let error = Capture::new(&pcap(Endian(false), false, 147, &[])[..]).err().unwrap();
    assert!(matches!(error, CaptureError::LinkType { link: 147, offset: 20 }));
}

#[test]
fn damage_names_its_place() {
    let frame = ethernet(&[], 0x0800, &ipv4(0, &udp(b"payload")));
    let mut classic = pcap(Endian(false), false, 1, &[frame.clone(), frame.clone()]);
    let second = 24 + 16 + frame.len();
    classic[second + 8..second + 12].fill(0xff);
    let (datagrams, error, _) = read(&classic);
    assert_eq!(datagrams.len(), 1);
    assert!(
        matches!(error, Some(CaptureError::Damaged { offset, packets: 1, .. }) if offset == second as u64)
    );

    let mut ng = [section(Endian(false)), interface(Endian(false), 1, None)].concat();
    let start = ng.len();
    ng.extend(enhanced(Endian(false), 1, 1, &frame));
    let (_, error, _) = read(&ng);
    assert!(matches!(error, Some(CaptureError::Damaged { offset, .. }) if offset == start as u64));
    let last = ng.len() - 4;
    ng[last] ^= 1;
    assert!(matches!(read(&ng).1, Some(CaptureError::Damaged { .. })));
}

fn drain(bytes: &[u8]) {
    if let Ok(capture) = Capture::new(bytes) {
        capture.for_each(drop);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(magic in 0..6_usize, link in 0..300_u16, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let frame = |bytes: &[u8]| bytes.to_vec();
        let little = Endian(false);
        let file = match magic {
            0 => bytes,
            1 => [&pcap(little, false, u32::from(link), &[]), &bytes[..]].concat(),
            2 => pcap(little, true, u32::from(link), &[frame(&bytes)]),
            3 => [section(little), bytes].concat(),
            4 => [section(little), interface(little, link, None), enhanced(little, 0, 9, &bytes)].concat(),
            _ => [section(little), block(little, 1, &bytes), block(little, 6, &bytes), block(little, 3, &bytes)].concat(),
        };
        drain(&file);
    }

    #[test]
    fn random_ip_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), six in any::<bool>()) {
        bytes[0] = if six { 0x60 } else { 0x40 | bytes[0] & 0x0f };
        if let Some(protocol) = bytes.get_mut(if six { 6 } else { 9 }) {
            *protocol = [17, 0, 43, 44, 51, 60][usize::from(*protocol) % 6];
        }
        drain(&pcap(Endian(false), false, 101, &[bytes]));
    }

    #[test]
    fn flipped_bits_never_panic(at in 0..400_usize, bit in 0..8) {
        let little = Endian(false);
        let frame = ethernet(&[0x8100], 0x0800, &ipv4(0, &udp(&[0x80; 40])));
        let mut file = [section(little), interface(little, 1, Some(9)), enhanced(little, 0, 1, &frame), enhanced(little, 0, 2, &frame)].concat();
        let at = at % file.len();
        file[at] ^= 1_u8 << bit;
        drain(&file);
    }
}
