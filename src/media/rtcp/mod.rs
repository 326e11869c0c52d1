//! RTCP (RFC 3550, section 6), sans-IO: what peers report is read, and receiver reports are made for peers that want them.
//!
//! [`Compound`] checks a datagram and walks its packets; [`RtcpSession`] is one leg's end of the exchange: it says when a
//! report is due and writes it. Asterisk's ExternalMedia speaks no RTCP, and so nothing is ever sent to it: a session keeps
//! silent until a peer is configured or a sender report came.

mod block;
mod error;
mod interval;
#[cfg(test)]
mod oracle;
mod packet;
mod session;
mod write;

pub use block::{LossPrior, REPORT_BLOCK, Reception, ReportBlock};
pub use error::{RtcpError, RtcpPart};
pub use interval::{Membership, interval};
pub use packet::{Compound, NtpTimestamp, Packet, Packets, ReportBlocks, SenderInfo};
pub use session::{Heard, PeerReport, RtcpConfig, RtcpSession};
pub use write::{MAX_CNAME, MAX_REPORT, Writer};

/// Payload types of RTCP packets (RFC 3550, section 12.1; XR: RFC 3611).
mod packet_type {
    pub const SENDER_REPORT: u8 = 200;
    pub const RECEIVER_REPORT: u8 = 201;
    pub const SOURCE_DESCRIPTION: u8 = 202;
    pub const GOODBYE: u8 = 203;
}

/// Bytes of the header that every packet has.
const HEADER: usize = 4;

/// Whether a datagram that came to an RTP port is RTCP (RFC 5761, section 4): version 2, and the second byte, in which RTP has
/// its marker and payload type, 200 to 207. Payload types 72 to 79 are never given to RTP for that reason.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [flags, 200..=207, ..] if flags >> 6 == 2)
}

#[cfg(test)]
mod tests {
    use super::is_rtcp;

    #[test]
    fn rtcp_and_rtp_are_told_apart_by_the_second_byte() {
        for packet_type in 200..=207 {
            assert!(is_rtcp(&[0x80, packet_type, 0, 1]));
        }
        // PCMU with and without marker, comfort noise, telephone events, dynamic types.
        for payload_type in [0, 8, 13, 96, 101, 127] {
            assert!(!is_rtcp(&[0x80, payload_type, 0, 1]));
            assert!(!is_rtcp(&[0x80, payload_type | 0x80, 0, 1]));
        }
        assert!(!is_rtcp(&[0x40, 200, 0, 1]));
        assert!(!is_rtcp(&[0x80]));
        assert!(!is_rtcp(&[]));
    }
}
