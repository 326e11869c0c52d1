//! RTCP.

use sidetone::media::counter::{RtpTimestamp, Ssrc};
use sidetone::media::rtcp::{
    Compound, MAX_REPORT, NtpTimestamp, Packet, Reception, RtcpConfig, RtcpSession, SenderInfo,
};
use sidetone::media::time::MediaInstant;

use super::after;

/// Any datagrams at any times as RTCP of a peer. Each has a byte for the milliseconds since the one before (from 250 on: seconds)
/// and one for its length. What is valid holds no more than its bytes do, and what is answered is valid.
pub fn rtcp(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let mut now = MediaInstant::from_nanos(1_000_000_000);
    let config = RtcpConfig {
        source: Ssrc(u32::from(first)),
        cname: "fuzz@".repeat(usize::from(first)),
        peer_configured: first % 2 == 0,
        bandwidth: f64::from(first),
        seed: u64::from(first),
    };
    let mut session = RtcpSession::new(config, now);
    let (mut buffer, mut count) = ([0; MAX_REPORT], 0_u64);
    while let [pause, length, tail @ ..] = rest {
        now = after(now, *pause);
        let (datagram, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        if let Ok(compound) = Compound::parse(datagram) {
            let mut packets = 0;
            for packet in compound.packets() {
                packets += 1;
                match packet {
                    Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                        assert!(blocks.count() * 24 < datagram.len());
                    }
                    Packet::Goodbye { sources, .. } => assert!(sources.count() * 4 < datagram.len()),
                    _ => {}
                }
            }
            assert!(packets > 0 && packets * 4 <= datagram.len());
        }
        let heard = session.on_packet(now, datagram);
        assert_eq!(heard.is_ok(), Compound::parse(datagram).is_ok());
        count += 1;
        let reception = Reception {
            source: session.peer_report().map_or(Ssrc(9), |peer| peer.sender),
            highest_sequence: count as u32,
            expected: count * u64::from(first),
            received: count * u64::from(*length),
            jitter: u32::from(*pause),
        };
        let info = SenderInfo {
            ntp: NtpTimestamp(now.as_nanos()),
            rtp: RtpTimestamp(count as u32),
            packets: count as u32,
            octets: 0,
        };
        let sending = (length % 2 == 0).then_some(&info);
        if let Some(report) = session.report(now, Some(&reception), sending, &mut buffer) {
            assert!(Compound::parse(report).is_ok_and(|report| report.packets().count() == 2));
        }
        assert!(session.next_deadline().is_none_or(|due| due > now));
    }
    if let Some(last) = session.goodbye(now, None, None, &mut buffer) {
        assert!(Compound::parse(last).is_ok_and(|last| last.packets().count() == 3));
    }
}
