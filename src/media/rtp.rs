//! RTP headers, read in place (RFC 3550, section 5.1).

use super::counter::{RtpTimestamp, SequenceNumber, Ssrc};

/// Bytes of the fixed header.
pub const FIXED_HEADER: usize = 12;
const VERSION: u8 = 2;

/// Why a datagram is not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpError {
    /// The datagram ends before a part that its header announces.
    #[error("{part} needs {expected} bytes, the datagram has {actual}")]
    TooShort {
        /// The part that does not fit.
        part: RtpPart,
        /// Bytes that the datagram would need up to the end of that part.
        expected: usize,
        /// Bytes that it has.
        actual: usize,
    },
    /// Another version than 2.
    #[error("RTP version {actual}, expected 2")]
    Version {
        /// The version field, 0 to 3.
        actual: u8,
    },
    /// The padding count is 0, or larger than what follows the header.
    #[error("padding of {actual} bytes, expected 1 to {available}")]
    Padding {
        /// The last byte of the datagram.
        actual: usize,
        /// Bytes behind the header.
        available: usize,
    },
}

/// A part of an RTP packet, for [`RtpError::TooShort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpPart {
    /// The twelve bytes that every packet has.
    FixedHeader,
    /// The list of contributing sources.
    ContributingSources,
    /// The four bytes that begin a header extension.
    ExtensionHeader,
    /// The header extension's data.
    Extension,
}

impl std::fmt::Display for RtpPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FixedHeader => "the fixed header",
            Self::ContributingSources => "the CSRC list",
            Self::ExtensionHeader => "the extension header",
            Self::Extension => "the header extension",
        })
    }
}

/// A borrowed RTP packet whose lengths have all been checked. Fields are decoded when asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    bytes: &'a [u8],
    payload_start: usize,
    payload_end: usize,
}

impl<'a> RtpPacket<'a> {
    /// Check `datagram`'s header and the lengths that it announces.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtpError> {
        let actual = datagram.len();
        let need = |part, expected| {
            if actual < expected { Err(RtpError::TooShort { part, expected, actual }) } else { Ok(expected) }
        };
        need(RtpPart::FixedHeader, FIXED_HEADER)?;
        let flags = datagram[0];
        if flags >> 6 != VERSION {
            return Err(RtpError::Version { actual: flags >> 6 });
        }
        let csrcs = usize::from(flags & 0x0f);
        let mut header = need(RtpPart::ContributingSources, FIXED_HEADER + 4 * csrcs)?;
        if flags & 0x10 != 0 {
            let data = need(RtpPart::ExtensionHeader, header + 4)?;
            let words = u16::from_be_bytes([datagram[header + 2], datagram[header + 3]]);
            header = need(RtpPart::Extension, data + 4 * usize::from(words))?;
        }
        let available = actual - header;
        let padding = if flags & 0x20 != 0 { usize::from(datagram[actual - 1]) } else { 0 };
        if padding > available || (flags & 0x20 != 0 && padding == 0) {
            return Err(RtpError::Padding { actual: padding, available });
        }
        Ok(Self { bytes: datagram, payload_start: header, payload_end: actual - padding })
    }

    /// The marker bit: for audio, the first packet after a silence (RFC 3551, section 4.1).
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The payload type, 0 to 127.
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    /// The sequence number.
    pub fn sequence(&self) -> SequenceNumber {
        SequenceNumber(u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }

    /// The media timestamp.
    pub fn timestamp(&self) -> RtpTimestamp {
        RtpTimestamp(self.word(4))
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(self.word(8))
    }

    /// The payload, less padding.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload_start..self.payload_end]
    }

    /// The whole datagram.
    pub fn datagram(&self) -> &'a [u8] {
        self.bytes
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 12] = [0x80, 0x80, 0x12, 0x34, 0, 0, 1, 0, 0xde, 0xad, 0xbe, 0xef];

    fn packet(flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        bytes[0] = flags;
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn fields_are_read_in_network_order() {
        let bytes = packet(0x80, &[1, 2, 3]);
        let rtp = RtpPacket::parse(&bytes).unwrap();
        assert!(rtp.marker());
        assert_eq!(rtp.payload_type(), 0);
        assert_eq!(rtp.sequence(), SequenceNumber(0x1234));
        assert_eq!(rtp.timestamp(), RtpTimestamp(256));
        assert_eq!(rtp.ssrc(), Ssrc(0xdead_beef));
        assert_eq!(rtp.payload(), [1, 2, 3]);
    }

    #[test]
    fn contributing_sources_extension_and_padding_are_not_payload() {
        let bytes = packet(0xb1, &[9, 9, 9, 9, 0xbe, 0xde, 0, 1, 7, 7, 7, 7, 42, 43, 0, 2]);
        assert_eq!(RtpPacket::parse(&bytes).unwrap().payload(), [42, 43]);
    }

    #[test]
    fn a_datagram_may_be_padding_alone() {
        let bytes = packet(0xa0, &[0, 2]);
        assert!(RtpPacket::parse(&bytes).unwrap().payload().is_empty());
    }

    #[test]
    fn errors_say_what_was_expected() {
        let too_short = |part, expected, actual| Err(RtpError::TooShort { part, expected, actual });
        assert_eq!(RtpPacket::parse(&HEADER[..11]), too_short(RtpPart::FixedHeader, 12, 11));
        assert_eq!(RtpPacket::parse(&[]), too_short(RtpPart::FixedHeader, 12, 0));
        assert_eq!(RtpPacket::parse(&packet(0x40, &[])), Err(RtpError::Version { actual: 1 }));
        assert_eq!(RtpPacket::parse(&packet(0x82, &[0; 4])), too_short(RtpPart::ContributingSources, 20, 16));
        assert_eq!(RtpPacket::parse(&packet(0x90, &[0; 3])), too_short(RtpPart::ExtensionHeader, 16, 15));
        assert_eq!(RtpPacket::parse(&packet(0x90, &[0, 0, 0, 2, 1])), too_short(RtpPart::Extension, 24, 17));
        assert_eq!(
            RtpPacket::parse(&packet(0xa0, &[5, 3])),
            Err(RtpError::Padding { actual: 3, available: 2 })
        );
        assert_eq!(
            RtpPacket::parse(&packet(0xa0, &[5, 0])),
            Err(RtpError::Padding { actual: 0, available: 2 })
        );
        assert_eq!(
            RtpPacket::parse(&packet(0xa0, &[])),
            Err(RtpError::Padding { actual: 0xef, available: 0 })
        );
    }
}
