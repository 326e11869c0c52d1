use super::super::{MAX_REPORT, RtcpError, RtcpPart, Writer};
use super::*;

fn block(source: u32) -> ReportBlock {
    ReportBlock {
        source: Ssrc(source),
        fraction_lost: 12,
        cumulative_lost: -3,
        highest_sequence: 0x0001_0203,
        jitter: 17,
        last_report: 0xaabb_ccdd,
        delay: 98_304,
    }
}

const INFO: SenderInfo = SenderInfo {
    ntp: NtpTimestamp(0x0123_4567_89ab_cdef),
    rtp: RtpTimestamp(160_000),
    packets: 1_000,
    octets: 160_000,
};

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = [0xff; MAX_REPORT];
    let mut writer = Writer::new(&mut buffer);
    write(&mut writer);
    writer.finish().unwrap().to_vec()
}

fn packets(bytes: &[u8]) -> Vec<Packet<'_>> {
    Compound::parse(bytes).unwrap().packets().collect()
}

fn error(bytes: &[u8]) -> RtcpError {
    Compound::parse(bytes).unwrap_err()
}

#[test]
fn what_is_written_is_read_back() {
    for length in 0..12 {
        let cname = &b"sidetone@pbx"[..length];
        let bytes = written(|writer| {
            writer.report(Ssrc(7), Some(&INFO), &[block(1), block(2)]);
            writer.cname(Ssrc(7), cname);
            writer.goodbye(Ssrc(7));
        });
        assert!(bytes.len().is_multiple_of(4));
        let read = packets(&bytes);
        let Packet::SenderReport { sender: Ssrc(7), info: INFO, blocks } = read[0] else {
            panic!("{read:?}")
        };
        assert_eq!(blocks.collect::<Vec<_>>(), [block(1), block(2)]);
        assert_eq!(read[1], Packet::SourceDescription { cname: Some((Ssrc(7), cname)) });
        let Packet::Goodbye { sources, reason: None } = read[2] else { panic!("{read:?}") };
        assert_eq!(sources.collect::<Vec<_>>(), [Ssrc(7)]);
        assert_eq!(read.len(), 3);
    }
}

#[test]
fn an_empty_receiver_report_is_eight_bytes() {
    let bytes = written(|writer| writer.report(Ssrc(0x9182_7364), None, &[]));
    assert_eq!(bytes, [0x80, 0xc9, 0, 1, 0x91, 0x82, 0x73, 0x64]);
    let read = packets(&bytes);
    assert!(matches!(read[..], [Packet::ReceiverReport { sender: Ssrc(0x9182_7364), .. }]));
}

#[test]
fn a_buffer_that_is_too_small_gets_nothing() {
    for room in 0..32 {
        let mut buffer = vec![0; room];
        let mut writer = Writer::new(&mut buffer);
        writer.report(Ssrc(7), None, &[block(1)]);
        assert_eq!(writer.finish(), None);
    }
}

#[test]
fn more_blocks_than_the_header_counts_are_left_out_and_the_longest_compound_fits() {
    let bytes = written(|writer| {
        writer.report(Ssrc(7), Some(&INFO), &[block(1); 40]);
        writer.cname(Ssrc(7), &[b'x'; 300]);
        writer.goodbye(Ssrc(7));
    });
    assert_eq!(bytes.len(), MAX_REPORT);
    let read = packets(&bytes);
    assert!(matches!(read[0], Packet::SenderReport { blocks, .. } if blocks.count() == 31));
    assert!(matches!(read[1], Packet::SourceDescription { cname: Some((_, name)) } if name.len() == 255));
}

#[test]
fn descriptions_of_many_sources_and_items_are_read() {
    // Two chunks: NOTE and CNAME; then nothing but a source whose first byte is zero.
    let bytes = [
        [0x80, 201, 0, 1, 0, 0, 0, 9].as_slice(),
        &[
            0x82, 202, 0, 6, 0, 0, 0, 1, 7, 2, b'h', b'i', 1, 3, b'a', b'@', b'b', 0, 0, 0, 0, 0, 0, 2, 0, 0,
            0, 0,
        ],
    ]
    .concat();
    assert_eq!(packets(&bytes)[1], Packet::SourceDescription { cname: Some((Ssrc(1), b"a@b")) });
}

#[test]
fn what_is_unknown_is_skipped() {
    let rr = [0x80, 201, 0, 1, 0, 0, 0, 9];
    for packet_type in [204, 205, 206, 207, 208, 0] {
        let bytes = [&rr[..], &[0x81, packet_type, 0, 2, 1, 2, 3, 4, b'n', b'a', b'm', b'e']].concat();
        assert_eq!(packets(&bytes)[1], Packet::Other { packet_type });
    }
}

#[test]
fn a_reason_for_leaving_is_read() {
    let bytes =
        [&[0x80, 201, 0, 1, 0, 0, 0, 9][..], &[0x81, 203, 0, 3, 0, 0, 0, 5, 3, b'b', b'y', b'e', 0, 0, 0, 0]]
            .concat();
    let read = packets(&bytes);
    assert!(matches!(read[1], Packet::Goodbye { reason: Some(b"bye"), .. }), "{read:?}");
}

#[test]
fn padding_may_end_the_last_packet_alone() {
    let padded = [0xa0, 201, 0, 2, 0, 0, 0, 9, 0, 0, 0, 4];
    assert_eq!(packets(&padded).len(), 1);
    assert_eq!(error(&[&padded[..], &padded[..]].concat()), RtcpError::PaddingNotLast { at: 0 });
    for (last, length) in [(0, 12), (3, 12), (12, 12), (200, 12)] {
        let mut bytes = padded;
        bytes[length - 1] = last;
        let actual = usize::from(last);
        assert_eq!(error(&bytes), RtcpError::Padding { at: 0, actual, available: 8 });
    }
    // Padding that eats the receiver's identifier.
    let eaten = [0xa0, 201, 0, 2, 0, 0, 0, 9, 0, 0, 0, 8];
    let part = RtcpPart::ReceiverSource;
    assert_eq!(error(&eaten), RtcpError::TooShort { at: 0, part, expected: 8, actual: 4 });
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let short = |at, part, expected, actual| RtcpError::TooShort { at, part, expected, actual };
    let rr = [0x80, 201, 0, 1, 0, 0, 0, 9];
    let behind = |bytes: &[u8]| error(&[&rr[..], bytes].concat());
    assert_eq!(error(&[]), short(0, RtcpPart::Header, 4, 0));
    assert_eq!(error(&rr[..7]), short(0, RtcpPart::Packet, 8, 7));
    assert_eq!(error(&[0x40, 201, 0, 0]), RtcpError::Version { at: 0, actual: 1 });
    assert_eq!(error(&[0x80, 202, 0, 0]), RtcpError::FirstPacket { actual: 202 });
    assert_eq!(error(&[0x80, 201, 0, 0]), short(0, RtcpPart::ReceiverSource, 8, 4));
    assert_eq!(error(&[0x81, 201, 0, 1, 0, 0, 0, 9]), short(0, RtcpPart::ReportBlocks, 32, 8));
    assert_eq!(error(&[0x80, 200, 0, 1, 0, 0, 0, 9]), short(0, RtcpPart::SenderInfo, 28, 8));
    assert_eq!(behind(&[0x80, 202]), short(8, RtcpPart::Header, 4, 2));
    assert_eq!(behind(&[0, 203, 0, 0]), RtcpError::Version { at: 8, actual: 0 });
    assert_eq!(behind(&[0x82, 203, 0, 1, 0, 0, 0, 1]), short(8, RtcpPart::Sources, 12, 8));
    assert_eq!(behind(&[0x80, 203, 0, 1, 4, 1, 2, 3]), short(8, RtcpPart::Reason, 9, 8));
    // A chunk that never ends, an item that goes on beyond the packet, and one chunk too few.
    for sdes in [
        [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, 3, 4],
        [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, 3, 4],
        [0x82, 202, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0],
    ] {
        assert_eq!(behind(&sdes), short(8, RtcpPart::Chunks, 16, 12));
    }
    assert_eq!(
        behind(&[0x82, 203, 0, 1, 0, 0, 0, 1]).to_string(),
        "RTCP packet at byte 8: the list of sources needs 12 bytes, there are 8"
    );
}

#[test]
fn ntp_timestamps_count_from_1900() {
    let ntp = NtpTimestamp::from_unix_nanos(1_500_000_000);
    assert_eq!(ntp.0, (2_208_988_801 << 32) | 1 << 31);
    assert_eq!(ntp.middle(), (2_208_988_801_u64 << 16) as u32 | 1 << 15);
    let later = NtpTimestamp::from_unix_nanos(4_250_000_000);
    assert!((later.seconds_since(ntp) - 2.75).abs() < 1e-9);
}
