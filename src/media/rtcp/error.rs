//! Why a datagram is not RTCP.

/// Why a datagram is not a valid compound RTCP packet (RFC 3550, sections 6.1 and 6.4, and appendix A.2). `at` is the offset of
/// the packet within the datagram, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// The datagram ends before a part that is announced.
    #[error("RTCP packet at byte {at}: {part} needs {expected} bytes, there are {actual}")]
    TooShort {
        /// Where the packet begins.
        at: usize,
        /// The part that does not fit.
        part: RtcpPart,
        /// Bytes that the packet would need up to the end of that part.
        expected: usize,
        /// Bytes that there are.
        actual: usize,
    },
    /// Another version than 2.
    #[error("RTCP packet at byte {at}: version {actual}, expected 2")]
    Version {
        /// Where the packet begins.
        at: usize,
        /// The version field, 0 to 3.
        actual: u8,
    },
    /// A compound packet begins with a report.
    #[error("RTCP begins with a packet of type {actual}, expected a sender or a receiver report (200, 201)")]
    FirstPacket {
        /// The packet type.
        actual: u8,
    },
    /// Only the last packet of a compound may be padded.
    #[error("RTCP packet at byte {at} is padded and not the last one")]
    PaddingNotLast {
        /// Where the packet begins.
        at: usize,
    },
    /// The padding count is 0, no multiple of four, or larger than the packet's body.
    #[error(
        "RTCP packet at byte {at}: padding of {actual} bytes, expected a multiple of 4 from 4 to {available}"
    )]
    Padding {
        /// Where the packet begins.
        at: usize,
        /// The last byte of the packet.
        actual: usize,
        /// Bytes behind the header.
        available: usize,
    },
}

/// A part of an RTCP packet, for [`RtcpError::TooShort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtcpPart {
    /// The four bytes that every packet has.
    Header,
    /// What the header's length announces.
    Packet,
    /// The sender's identifier and counts.
    SenderInfo,
    /// The receiver's identifier.
    ReceiverSource,
    /// The report blocks that the header counts.
    ReportBlocks,
    /// The identifiers that the header of a BYE counts.
    Sources,
    /// The reason of a BYE.
    Reason,
    /// The chunks that the header of an SDES counts.
    Chunks,
}

impl std::fmt::Display for RtcpPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "the header",
            Self::Packet => "the packet",
            Self::SenderInfo => "the sender information",
            Self::ReceiverSource => "the receiver's identifier",
            Self::ReportBlocks => "the list of report blocks",
            Self::Sources => "the list of sources",
            Self::Reason => "the reason",
            Self::Chunks => "the list of source descriptions",
        })
    }
}
