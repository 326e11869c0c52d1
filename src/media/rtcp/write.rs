//! Compound packets, written into a caller's buffer (RFC 3550, sections 6.1, 6.4 to 6.6).

use super::super::counter::Ssrc;
use super::block::{REPORT_BLOCK, ReportBlock};
use super::packet::SenderInfo;
use super::{HEADER, packet_type};

/// Bytes of a canonical name, at most: its length is one byte.
pub const MAX_CNAME: usize = 255;
/// Bytes of a compound of ours, at most: SR with 31 blocks (28 + 744), SDES with the longest name and its zeros (4 + 4 + 2 + 255,
/// rounded up past a zero: 268), BYE of one source (8).
pub const MAX_REPORT: usize = 28 + 31 * REPORT_BLOCK + 268 + 8;
/// Blocks that the header can count.
const MAX_BLOCKS: usize = 31;

/// Writes packets one after the other. What does not fit is not written: [`Writer::finish`] says so.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
    overflowed: bool,
}

impl<'a> Writer<'a> {
    /// Write to `buffer`; [`MAX_REPORT`] bytes always do.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, at: 0, overflowed: false }
    }

    /// SR with `info`, or without it RR, with the first 31 of `blocks`.
    pub fn report(&mut self, sender: Ssrc, info: Option<&SenderInfo>, blocks: &[ReportBlock]) {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let packet_type =
            if info.is_some() { packet_type::SENDER_REPORT } else { packet_type::RECEIVER_REPORT };
        self.packet(packet_type, blocks.len() as u8, |writer| {
            writer.put(&sender.0.to_be_bytes());
            if let Some(info) = info {
                writer.put(&info.ntp.0.to_be_bytes());
                for word in [info.rtp.0, info.packets, info.octets] {
                    writer.put(&word.to_be_bytes());
                }
            }
            for block in blocks {
                writer.put(&block.to_bytes());
            }
        });
    }

    /// SDES with the canonical name of `source`, of which the first 255 bytes count.
    pub fn cname(&mut self, source: Ssrc, cname: &[u8]) {
        let cname = &cname[..cname.len().min(MAX_CNAME)];
        self.packet(packet_type::SOURCE_DESCRIPTION, 1, |writer| {
            writer.put(&source.0.to_be_bytes());
            writer.put(&[1, cname.len() as u8]);
            writer.put(cname);
            // The end of the items is one zero at least, up to the next word.
            writer.put(&[0; 4][..4 - (2 + cname.len()) % 4]);
        });
    }

    /// BYE of `source`.
    pub fn goodbye(&mut self, source: Ssrc) {
        self.packet(packet_type::GOODBYE, 1, |writer| writer.put(&source.0.to_be_bytes()));
    }

    /// What was written; `None` if the buffer was too small.
    pub fn finish(self) -> Option<&'a [u8]> {
        let Self { buffer, at, overflowed } = self;
        (!overflowed).then(|| &buffer[..at])
    }

    fn packet(&mut self, packet_type: u8, count: u8, body: impl FnOnce(&mut Self)) {
        let start = self.at;
        self.put(&[0x80 | count, packet_type, 0, 0]);
        body(self);
        if !self.overflowed {
            let words = ((self.at - start - HEADER) / 4) as u16;
            self.buffer[start + 2..start + HEADER].copy_from_slice(&words.to_be_bytes());
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.at..self.at + bytes.len()) {
            Some(room) if !self.overflowed => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            _ => self.overflowed = true,
        }
    }
}
