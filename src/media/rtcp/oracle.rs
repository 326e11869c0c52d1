//! Ours against an independent implementation: what one writes, the other reads as it was meant.

use proptest::prelude::*;
use rtcp_types as theirs;
use rtcp_types::prelude::*;

use super::super::counter::{RtpTimestamp, Ssrc};
use super::*;

fn block() -> impl Strategy<Value = ReportBlock> {
    let words = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    (words, any::<u8>(), -0x80_0000..=0x7f_ffff).prop_map(|(words, fraction_lost, cumulative_lost)| {
        let (source, highest_sequence, jitter, last_report, delay) = words;
        let source = Ssrc(source);
        ReportBlock { source, fraction_lost, cumulative_lost, highest_sequence, jitter, last_report, delay }
    })
}

fn info() -> impl Strategy<Value = SenderInfo> {
    (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(ntp, rtp, packets, octets)| {
        SenderInfo { ntp: NtpTimestamp(ntp), rtp: RtpTimestamp(rtp), packets, octets }
    })
}

/// As the other implementation has them: the cumulative loss without its sign.
fn same(theirs: &theirs::ReportBlock<'_>, ours: &ReportBlock) {
    assert_eq!(theirs.ssrc(), ours.source.0);
    assert_eq!(theirs.fraction_lost(), ours.fraction_lost);
    assert_eq!(theirs.cumulative_lost(), ours.cumulative_lost as u32 & 0xff_ffff);
    assert_eq!(theirs.extended_sequence_number(), ours.highest_sequence);
    assert_eq!(theirs.interarrival_jitter(), ours.jitter);
    assert_eq!(theirs.last_sender_report_timestamp(), ours.last_report);
    assert_eq!(theirs.delay_since_last_sender_report_timestamp(), ours.delay);
}

proptest! {
    #[test]
    fn others_read_what_we_write(
        source in any::<u32>(),
        info in proptest::option::of(info()),
        blocks in proptest::collection::vec(block(), 0..=31),
        // Their reader takes no item of fewer than two bytes.
        cname in "[a-z@.]{2,200}",
        leaves in any::<bool>(),
    ) {
        let mut buffer = [0; MAX_REPORT];
        let mut writer = Writer::new(&mut buffer);
        writer.report(Ssrc(source), info.as_ref(), &blocks);
        writer.cname(Ssrc(source), cname.as_bytes());
        if leaves {
            writer.goodbye(Ssrc(source));
        }
        let packets: Vec<_> =
            theirs::Compound::parse(writer.finish().unwrap()).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(packets.len(), 2 + usize::from(leaves));
        match (&packets[0], info) {
            (theirs::Packet::Sr(report), Some(info)) => {
                assert_eq!(report.ssrc(), source);
                assert_eq!(report.ntp_timestamp(), info.ntp.0);
                assert_eq!(report.rtp_timestamp(), info.rtp.0);
                assert_eq!((report.packet_count(), report.octet_count()), (info.packets, info.octets));
                report.report_blocks().zip(&blocks).for_each(|(theirs, ours)| same(&theirs, ours));
                assert_eq!(usize::from(report.n_reports()), blocks.len());
            }
            (theirs::Packet::Rr(report), None) => {
                assert_eq!(report.ssrc(), source);
                report.report_blocks().zip(&blocks).for_each(|(theirs, ours)| same(&theirs, ours));
                assert_eq!(usize::from(report.n_reports()), blocks.len());
            }
            (other, _) => panic!("{other:?}"),
        }
        let theirs::Packet::Sdes(sdes) = &packets[1] else { panic!("{packets:?}") };
        let chunk = sdes.chunks().next().unwrap();
        assert_eq!(chunk.ssrc(), source);
        let item = chunk.items().next().unwrap();
        assert_eq!((item.type_(), item.value()), (theirs::SdesItem::CNAME, cname.as_bytes()));
        if leaves {
            let theirs::Packet::Bye(bye) = &packets[2] else { panic!("{packets:?}") };
            assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [source]);
        }
    }

    #[test]
    fn we_read_what_others_write(
        source in any::<u32>(),
        info in info(),
        blocks in proptest::collection::vec(block(), 0..=31),
        cname in "[a-z@.]{0,255}",
        leaving in proptest::collection::vec(any::<u32>(), 0..=31),
        reason in "[a-z ]{0,40}",
        padding in (0..=60_u8).prop_map(|words| words * 4),
    ) {
        let mut report = theirs::SenderReport::builder(source)
            .ntp_timestamp(info.ntp.0)
            .rtp_timestamp(info.rtp.0)
            .packet_count(info.packets)
            .octet_count(info.octets);
        for block in &blocks {
            report = report.add_report_block(
                theirs::ReportBlock::builder(block.source.0)
                    .fraction_lost(block.fraction_lost)
                    .cumulative_lost(block.cumulative_lost as u32 & 0xff_ffff)
                    .extended_sequence_number(block.highest_sequence)
                    .interarrival_jitter(block.jitter)
                    .last_sender_report_timestamp(block.last_report)
                    .delay_since_last_sender_report_timestamp(block.delay),
            );
        }
        let item = theirs::SdesItem::builder(theirs::SdesItem::CNAME, &cname);
        let chunk = theirs::SdesChunk::builder(source).add_item(item);
        // Their writer counts the padding from the end of the reason, not from that of its last word.
        let padding = if reason.len() % 4 == 3 || reason.is_empty() { padding } else { 0 };
        let mut bye = theirs::Bye::builder().reason(reason.as_str()).padding(padding);
        for source in &leaving {
            bye = bye.add_source(*source);
        }
        let compound = theirs::Compound::builder()
            .add_packet(report)
            .add_packet(theirs::Sdes::builder().add_chunk(chunk))
            .add_packet(bye);
        let mut bytes = vec![0; compound.calculate_size().unwrap()];
        compound.write_into(&mut bytes).unwrap();

        let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
        let Packet::SenderReport { sender, info: read, blocks: found } = packets[0] else { panic!("{packets:?}") };
        assert_eq!((sender, read), (Ssrc(source), info));
        assert_eq!(found.collect::<Vec<_>>(), blocks);
        assert_eq!(packets[1], Packet::SourceDescription { cname: Some((Ssrc(source), cname.as_bytes())) });
        let Packet::Goodbye { sources, reason: said } = packets[2] else { panic!("{packets:?}") };
        assert_eq!(sources.map(|source| source.0).collect::<Vec<_>>(), leaving);
        assert_eq!(said.unwrap_or_default(), reason.as_bytes());
    }
}
