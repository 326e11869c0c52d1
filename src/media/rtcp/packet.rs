//! Compound packets, read in place (RFC 3550, sections 6.1, 6.4 to 6.6, and appendix A.2).

use super::super::counter::{RtpTimestamp, Ssrc};
use super::block::{REPORT_BLOCK, ReportBlock};
use super::error::{RtcpError, RtcpPart};
use super::{HEADER, packet_type};

/// SDES item types (RFC 3550, section 6.5): the end of a chunk's items, and the canonical name.
const SDES_END: u8 = 0;
const SDES_CNAME: u8 = 1;

/// Seconds since 1900 in the upper 32 bits, fractions of 2^-32 s in the lower (RFC 3550, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTimestamp(pub u64);

impl NtpTimestamp {
    /// Seconds from 1900 to 1970.
    const UNIX_EPOCH: u64 = 2_208_988_800;

    /// The wall-clock time `nanos` nanoseconds after 1970; the seconds wrap in 2036, as the field does.
    pub fn from_unix_nanos(nanos: u64) -> Self {
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        Self((seconds.wrapping_add(Self::UNIX_EPOCH) << 32) | ((rest << 32) / 1_000_000_000))
    }

    /// The middle 32 bits, in 1/65536 s: what reports name a sender report by.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// Seconds since `earlier`.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.wrapping_sub(earlier.0) as i64 as f64 / 4_294_967_296.0
    }
}

/// What a sender tells of itself (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was made, on the sender's wall clock (or a clock of its own).
    pub ntp: NtpTimestamp,
    /// The same moment on its RTP clock.
    pub rtp: RtpTimestamp,
    /// RTP packets sent, modulo 2^32.
    pub packets: u32,
    /// Bytes of payload sent, modulo 2^32.
    pub octets: u32,
}

/// A datagram whose packets have all been checked.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// SR.
    SenderReport {
        /// Who sends it.
        sender: Ssrc,
        /// What it says of its media.
        info: SenderInfo,
        /// What it says of others'.
        blocks: ReportBlocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// Who sends it.
        sender: Ssrc,
        /// What it says of others' media.
        blocks: ReportBlocks<'a>,
    },
    /// SDES; of its items, the first canonical name.
    SourceDescription {
        /// The source that has the name, and the name, 0 to 255 bytes of what should be UTF-8.
        cname: Option<(Ssrc, &'a [u8])>,
    },
    /// BYE.
    Goodbye {
        /// Those who leave, four bytes each.
        sources: Sources<'a>,
        /// Why, 0 to 255 bytes of what should be UTF-8.
        reason: Option<&'a [u8]>,
    },
    /// APP, XR, feedback, and what is not known: skipped.
    Other {
        /// The packet type.
        packet_type: u8,
    },
}

/// The identifiers of a BYE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources<'a>(&'a [u8]);

impl Iterator for Sources<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Ssrc(u32::from_be_bytes(*first)))
    }
}

/// The report blocks of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (first, rest) = self.0.split_first_chunk::<REPORT_BLOCK>()?;
        self.0 = rest;
        Some(ReportBlock::read(first))
    }
}

impl<'a> Compound<'a> {
    /// Check `datagram`: version, first packet, lengths, padding and counts of every packet. Nothing is allocated.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtcpError> {
        let mut at = 0;
        loop {
            let (_, length) = read(datagram, at)?;
            at += length;
            if at == datagram.len() {
                return Ok(Self { bytes: datagram });
            }
        }
    }

    /// The packets, in order.
    pub fn packets(&self) -> Packets<'a> {
        Packets { bytes: self.bytes, at: 0 }
    }
}

/// The packets of a compound.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        if self.at == self.bytes.len() {
            return None;
        }
        // All of it has been checked before.
        let (packet, length) = read(self.bytes, self.at).ok()?;
        self.at += length;
        Some(packet)
    }
}

/// The packet at `at` of `datagram`, and its length in bytes.
fn read(datagram: &[u8], at: usize) -> Result<(Packet<'_>, usize), RtcpError> {
    let rest = &datagram[at..];
    let need = |part, expected: usize, actual: usize| {
        if actual < expected { Err(RtcpError::TooShort { at, part, expected, actual }) } else { Ok(()) }
    };
    need(RtcpPart::Header, HEADER, rest.len())?;
    let (flags, packet_type) = (rest[0], rest[1]);
    if flags >> 6 != 2 {
        return Err(RtcpError::Version { at, actual: flags >> 6 });
    }
    let is_report = matches!(packet_type, packet_type::SENDER_REPORT | packet_type::RECEIVER_REPORT);
    if at == 0 && !is_report {
        return Err(RtcpError::FirstPacket { actual: packet_type });
    }
    let length = HEADER + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    need(RtcpPart::Packet, length, rest.len())?;
    let padding = if flags & 0x20 == 0 { 0 } else { padding(rest, length, at)? };
    let packet = &rest[..length - padding];
    let body = &packet[HEADER..];
    let count = usize::from(flags & 0x1f);
    let need = |part, expected: usize| need(part, HEADER + expected, packet.len());
    let word =
        |n: usize| u32::from_be_bytes([body[4 * n], body[4 * n + 1], body[4 * n + 2], body[4 * n + 3]]);
    let read = match packet_type {
        packet_type::SENDER_REPORT => {
            need(RtcpPart::SenderInfo, 24)?;
            need(RtcpPart::ReportBlocks, 24 + count * REPORT_BLOCK)?;
            let info = SenderInfo {
                ntp: NtpTimestamp(u64::from(word(1)) << 32 | u64::from(word(2))),
                rtp: RtpTimestamp(word(3)),
                packets: word(4),
                octets: word(5),
            };
            let blocks = ReportBlocks(&body[24..24 + count * REPORT_BLOCK]);
            Packet::SenderReport { sender: Ssrc(word(0)), info, blocks }
        }
        packet_type::RECEIVER_REPORT => {
            need(RtcpPart::ReceiverSource, 4)?;
            need(RtcpPart::ReportBlocks, 4 + count * REPORT_BLOCK)?;
            let blocks = ReportBlocks(&body[4..4 + count * REPORT_BLOCK]);
            Packet::ReceiverReport { sender: Ssrc(word(0)), blocks }
        }
        packet_type::SOURCE_DESCRIPTION => {
            let cname = description(body, count).ok_or(RtcpError::TooShort {
                at,
                part: RtcpPart::Chunks,
                expected: packet.len() + 4,
                actual: packet.len(),
            })?;
            Packet::SourceDescription { cname }
        }
        packet_type::GOODBYE => {
            need(RtcpPart::Sources, 4 * count)?;
            let (sources, rest) = body.split_at(4 * count);
            let reason = match rest.split_first() {
                None => None,
                Some((&length, text)) => {
                    need(RtcpPart::Reason, 4 * count + 1 + usize::from(length))?;
                    Some(&text[..usize::from(length)])
                }
            };
            Packet::Goodbye { sources: Sources(sources), reason }
        }
        packet_type => Packet::Other { packet_type },
    };
    Ok((read, length))
}

/// Bytes of padding at the end of the packet of `length` bytes that `rest` begins with.
fn padding(rest: &[u8], length: usize, at: usize) -> Result<usize, RtcpError> {
    if length < rest.len() {
        return Err(RtcpError::PaddingNotLast { at });
    }
    let (actual, available) = (usize::from(rest[length - 1]), length - HEADER);
    // With an empty body, what was read is the header's last byte.
    if actual == 0 || !actual.is_multiple_of(4) || actual > available {
        return Err(RtcpError::Padding { at, actual, available });
    }
    Ok(actual)
}

/// The first canonical name in the `count` chunks of `body`; `None` if it ends before they do.
fn description(body: &[u8], count: usize) -> Option<Option<(Ssrc, &[u8])>> {
    let (mut rest, mut cname) = (body, None);
    for _ in 0..count {
        let (source, items) = rest.split_first_chunk()?;
        let source = Ssrc(u32::from_be_bytes(*source));
        let mut at = 0;
        loop {
            if *items.get(at)? == SDES_END {
                break;
            }
            let end = at + 2 + usize::from(*items.get(at + 1)?);
            let text = items.get(at + 2..end)?;
            if items[at] == SDES_CNAME && cname.is_none() {
                cname = Some((source, text));
            }
            at = end;
        }
        // One to four zeros, up to the next word.
        rest = items.get((at / 4 + 1) * 4..)?;
    }
    Some(cname)
}

#[cfg(test)]
mod tests;
