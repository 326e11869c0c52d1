//! Pages (RFC 3533, 6).

use std::io::{self, Read};

use crate::audio::format::fill;

const HEAD: usize = 27;
/// What a page begins with: its capture pattern, and the only version there is.
const CAPTURE: &[u8] = b"OggS\0";
/// What has begun on an earlier page goes on.
const CONTINUED: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// A page: 64 KiB at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    flags: u8,
    /// Position of the last sample that ends on the page; -1 if none does.
    pub(super) granule: i64,
    /// The logical stream.
    pub(super) serial: u32,
    /// Number in its stream.
    pub(super) sequence: u32,
    lacing: Vec<u8>,
    body: Vec<u8>,
}

impl Page {
    pub(super) fn is_first(&self) -> bool {
        self.flags & FIRST != 0
    }

    pub(super) fn is_last(&self) -> bool {
        self.flags & LAST != 0
    }

    pub(super) fn is_continued(&self) -> bool {
        self.flags & CONTINUED != 0
    }

    /// The pieces of packets on it, each with whether its packet ends here.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut at = 0;
        // A packet ends with a lacing value below 255; the last piece may end with none.
        self.lacing.chunk_by(|value, _| *value == 255).map(move |values| {
            let length: usize = values.iter().map(|&value| usize::from(value)).sum();
            let piece = &self.body[at..at + length];
            at += length;
            (piece, values.last() != Some(&255))
        })
    }
}

/// Reads pages; what is none is skipped.
pub(super) struct Pages<R> {
    input: R,
    /// Read and not taken.
    held: Vec<u8>,
    /// Bytes skipped where a page should have been, in so many places.
    pub(super) holes: u64,
    /// The file ended within a page.
    pub(super) cut_off: bool,
}

impl<R: Read> Pages<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, held: Vec::new(), holes: 0, cut_off: false }
    }

    /// The next page with a good checksum; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Page>> {
        let mut in_hole = false;
        loop {
            if !self.hold(HEAD)? {
                self.cut_off |= !self.held.is_empty();
                return Ok(None);
            }
            if !self.held.starts_with(CAPTURE) {
                self.holes += u64::from(!std::mem::replace(&mut in_hole, true));
                self.skip_to_capture();
                continue;
            }
            let segments = usize::from(self.held[26]);
            let whole = self.hold(HEAD + segments)?;
            let lacing = self.held.get(HEAD..HEAD + segments).unwrap_or_default();
            let body: usize = lacing.iter().map(|&value| usize::from(value)).sum();
            let length = HEAD + segments + body;
            if whole && self.hold(length)? && is_sound(&self.held[..length]) {
                let page = self.page(segments, length);
                self.held.drain(..length);
                return Ok(Some(page));
            }
            self.cut_off |= self.held.len() < length;
            self.holes += u64::from(!std::mem::replace(&mut in_hole, true));
            self.skip_to_capture();
        }
    }

    fn page(&self, segments: usize, length: usize) -> Page {
        let word = |at: usize| self.held[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        Page {
            flags: self.held[5],
            granule: i64::from(word(6)) | i64::from(word(10)) << 32,
            serial: word(14),
            sequence: word(18),
            lacing: self.held[HEAD..HEAD + segments].to_vec(),
            body: self.held[HEAD + segments..length].to_vec(),
        }
    }

    /// Have so many bytes at hand. `false`: the file ends before.
    fn hold(&mut self, bytes: usize) -> io::Result<bool> {
        let begin = self.held.len();
        if begin < bytes {
            self.held.resize(bytes, 0);
            let got = fill(&mut self.input, &mut self.held[begin..])?;
            self.held.truncate(begin + got);
        }
        Ok(self.held.len() >= bytes)
    }

    /// Let go of the first byte at hand, and of all before the next place that may be a page's first byte.
    fn skip_to_capture(&mut self) {
        let rest = self.held.get(1..).unwrap_or_default();
        let capture = rest.windows(CAPTURE.len()).position(|bytes| bytes == CAPTURE);
        // The last bytes may be the beginning of one.
        let skipped = capture.unwrap_or_else(|| rest.len().saturating_sub(CAPTURE.len() - 1));
        self.held.drain(..(1 + skipped).min(self.held.len()));
    }
}

/// Whether the checksum is right: it counts as zero itself.
fn is_sound(page: &[u8]) -> bool {
    let told = page[22..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let sum = crc(crc(crc(0, &page[..22]), &[0; 4]), &page[26..]);
    told == sum
}

/// Polynomial 0x04c11db7, the highest bit first, from 0 (RFC 3533, 6, field 7).
fn crc(sum: u32, bytes: &[u8]) -> u32 {
    static TABLE: [u32; 256] = table();
    bytes.iter().fold(sum, |sum, &byte| sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        let (mut sum, mut bit) = ((value as u32) << 24, 0);
        while bit < 8 {
            sum = sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[value] = sum;
        value += 1;
    }
    table
}

/// Append a page that holds `packets`, whole ones of at most 255 lacing values together, to `out`.
pub(in crate::audio) fn write_page<P: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    flags: u8,
    granule: i64,
    serial: u32,
    sequence: u32,
    packets: &[P],
) {
    let begin = out.len();
    out.extend(CAPTURE);
    out.push(flags);
    out.extend(granule.to_le_bytes());
    out.extend(serial.to_le_bytes());
    out.extend(sequence.to_le_bytes());
    out.extend([0; 4]);
    let segments = out.len();
    out.push(0);
    for length in packets.iter().map(|packet| packet.as_ref().len()) {
        out.extend(std::iter::repeat_n(255, length / 255));
        out.push((length % 255) as u8);
    }
    out[segments] = (out.len() - segments - 1) as u8;
    packets.iter().for_each(|packet| out.extend_from_slice(packet.as_ref()));
    let sum = crc(0, &out[begin..]);
    out[begin + 22..begin + 26].copy_from_slice(&sum.to_le_bytes());
}

#[cfg(test)]
pub(crate) mod making {
    use super::*;

    /// A page that holds `packets`, whole ones.
    pub(crate) fn page(flags: u8, granule: i64, serial: u32, sequence: u32, packets: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_page(&mut bytes, flags, granule, serial, sequence, packets);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::making::page;
    use super::*;

    #[test]
    fn pages_are_found_again_behind_rubbish_and_damage() {
        let (first, second) = (page(2, 0, 7, 0, &[b"one"]), page(4, 960, 7, 1, &[&[9; 255], b""]));
        let mut spoilt = first.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        let file = [&b"OggOgg"[..], &first, &spoilt, b"Ogg", &second, &first[..20]].concat();
        let mut pages = Pages::new(&file[..]);
        let one = pages.next().unwrap().unwrap();
        assert!(one.is_first() && !one.is_last());
        assert_eq!(one.pieces().collect::<Vec<_>>(), [(&b"one"[..], true)]);
        let two = pages.next().unwrap().unwrap();
        assert_eq!((two.granule, two.serial, two.sequence), (960, 7, 1));
        assert_eq!(two.pieces().collect::<Vec<_>>(), [(&[9; 255][..], true), (&b""[..], true)]);
        assert!(pages.next().unwrap().is_none());
        assert!(pages.cut_off);
        assert_eq!(pages.holes, 2);
    }

    #[test]
    fn a_page_of_another_version_is_passed_over() {
        let page = page(2, 0, 7, 0, &[b"one"]);
        let mut other = page.clone();
        other[4] = 1;
        let file = [&other[..], &page, &other, &other].concat();
        let mut pages = Pages::new(&file[..]);
        assert_eq!(pages.next().unwrap().map(|page| page.serial), Some(7));
        assert!(pages.next().unwrap().is_none());
        assert_eq!(pages.holes, 2);
    }

    #[test]
    fn the_checksum_is_that_of_the_format() {
        // The check value of CRC-32 with this polynomial, neither reflected nor inverted; and what it is of a page.
        assert_eq!(crc(0, b"123456789"), 0x89a1_897f);
        assert!(is_sound(&page(2, 0, 0, 0, &[b"OpusHead"])));
    }
}
