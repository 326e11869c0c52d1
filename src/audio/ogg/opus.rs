//! The stream of packets (RFC 7845).

use std::collections::VecDeque;
use std::io::Read;

use opus::Channels;

use super::page::{Page, Pages};
use crate::audio::{AudioError, Decode, Flaws, Format, PcmSpec};
use crate::media::codec::opus::{MAX_PACKET_SAMPLES, RATE, RTP_CLOCK, samples_in};

/// Everything in the file counts at this rate, and so is decoded at it.
const HZ: u32 = RTP_CLOCK;
/// Of a packet's samples as [`samples_in`] counts them.
const PER_SAMPLE: usize = (HZ / RATE.hz()) as usize;
const LONGEST: usize = MAX_PACKET_SAMPLES * PER_SAMPLE;
/// A longer packet is none (RFC 7845, 6), but for that of the comments, which is skipped.
const MOST_BYTES: usize = 61_440;
/// Pages of other streams that may stand before that of ours.
const MOST_OTHERS: usize = 64;
const HEAD: &[u8; 8] = b"OpusHead";

/// The first Opus stream of a file, and those chained to it.
pub(in crate::audio) struct Opus<R> {
    pages: Pages<R>,
    link: Link,
    packets: VecDeque<Packet>,
    pcm: Vec<i16>,
    damaged: u64,
    ended: bool,
}

/// One logical stream.
struct Link {
    serial: u32,
    channels: usize,
    decoder: opus::Decoder,
    /// Samples at the start that are the decoder's own.
    skip: u64,
    /// The comments are still to come.
    comments: bool,
    next_sequence: u32,
    /// A packet that goes on on the next page; `None` while one that is lost in part goes on.
    partial: Option<Vec<u8>>,
    /// Granule position of the first sample, once known.
    base: Option<i64>,
    /// Samples of all packets so far, those skipped among them.
    counted: u64,
    ended: bool,
}

struct Packet {
    bytes: Vec<u8>,
    /// What of its samples is behind the stream's end.
    over: usize,
}

impl<R: Read> Opus<R> {
    /// The first Opus stream of what stands at `input`.
    pub(in crate::audio) fn new(input: R) -> Result<Self, AudioError> {
        let mut pages = Pages::new(input);
        let mut others = Vec::new();
        loop {
            let Some(page) = pages.next()? else { return Err(nothing(&others)) };
            if !page.is_first() || others.len() >= MOST_OTHERS {
                return Err(nothing(&others));
            }
            if let Some(link) = Link::begin(&page)? {
                let pcm = vec![0; LONGEST * link.channels];
                return Ok(Self { pages, link, packets: VecDeque::new(), pcm, damaged: 0, ended: false });
            }
            others.push(
                page.pieces().next().map_or(Vec::new(), |(piece, _)| piece.iter().take(8).copied().collect()),
            );
        }
    }

    /// What it gives.
    pub(in crate::audio) fn spec(&self) -> PcmSpec {
        PcmSpec { rate_hz: HZ, channels: self.link.channels as u16 }
    }

    /// Have packets, if there are any.
    fn refill(&mut self) -> Result<bool, AudioError> {
        while self.packets.is_empty() {
            let Some(page) = self.pages.next()? else { return Ok(false) };
            if page.is_first() {
                let channels = self.link.channels;
                match Link::begin(&page)? {
                    Some(link) if link.channels == channels => self.link = link,
                    Some(_) => {
                        let what = "Opus in Ogg whose number of channels changes".to_owned();
                        return Err(AudioError::Unsupported { what });
                    }
                    None => {}
                }
            } else if page.serial == self.link.serial && !self.link.ended {
                self.damaged += self.link.take(&page, &mut self.packets);
            }
        }
        Ok(true)
    }
}

impl<R: Read + Send> Decode for Opus<R> {
    fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, AudioError> {
        if self.ended || !self.refill()? {
            self.ended = true;
            return Ok(false);
        }
        let Some(packet) = self.packets.pop_front() else { return Ok(true) };
        let channels = self.link.channels;
        let expected = samples_in(&packet.bytes).unwrap_or(0) * PER_SAMPLE;
        let room = &mut self.pcm[..expected * channels];
        let samples = match self.link.decoder.decode(&packet.bytes, room, false) {
            Ok(samples) => samples.min(expected),
            Err(_) => {
                self.damaged += 1;
                room.fill(0);
                expected
            }
        };
        let skip = (self.link.skip as usize).min(samples);
        self.link.skip -= skip as u64;
        let end = samples.saturating_sub(packet.over).max(skip);
        out.extend_from_slice(&self.pcm[skip * channels..end * channels]);
        Ok(true)
    }

    fn flaws(&self) -> Flaws {
        let cut_off = self.pages.cut_off || self.ended && !self.link.ended;
        Flaws { damaged: self.damaged + self.pages.holes, cut_off }
    }
}

fn nothing(others: &[Vec<u8>]) -> AudioError {
    let what = |kind: &str| AudioError::Unsupported { what: format!("{kind} in Ogg") };
    let known = others.iter().find_map(|head| match head.as_slice() {
        [1, b'v', b'o', b'r', b'b', b'i', b's', ..] => Some(what("Vorbis")),
        [0x7f, b'F', b'L', b'A', b'C', ..] => Some(what("FLAC")),
        [b'S', b'p', b'e', b'e', b'x', ..] => Some(what("Speex")),
        _ => None,
    });
    let reason = "it has no Opus stream".to_owned();
    known.unwrap_or(AudioError::Damaged { format: Format::OggOpus, reason })
}

impl Link {
    /// The stream that begins with `page`, if it is one of Opus (RFC 7845, 5.1).
    fn begin(page: &Page) -> Result<Option<Self>, AudioError> {
        let Some((head, true)) = page.pieces().next() else { return Ok(None) };
        if !head.starts_with(HEAD) {
            return Ok(None);
        }
        let bad = |reason: String| AudioError::Damaged { format: Format::OggOpus, reason };
        let &[version, channels, skip_low, skip_high, _, _, _, _, gain_low, gain_high, family, ..] =
            &head[HEAD.len()..]
        else {
            return Err(bad("its header is cut off".into()));
        };
        if version >> 4 != 0 {
            return Err(bad(format!("version {version}")));
        }
        let channels = match (family, channels) {
            (0 | 1, 1) => Channels::Mono,
            (0 | 1, 2) => Channels::Stereo,
            _ => {
                let what = format!("Opus in Ogg with {channels} channels of mapping family {family}");
                return Err(AudioError::Unsupported { what });
            }
        };
        let libopus = |error: opus::Error| bad(error.to_string());
        let mut decoder = opus::Decoder::new(HZ, channels).map_err(libopus)?;
        decoder.set_gain(i16::from_le_bytes([gain_low, gain_high]).into()).map_err(libopus)?;
        Ok(Some(Self {
            serial: page.serial,
            channels: channels as usize,
            decoder,
            skip: u16::from_le_bytes([skip_low, skip_high]).into(),
            comments: true,
            next_sequence: page.sequence.wrapping_add(1),
            partial: Some(Vec::new()),
            base: None,
            counted: 0,
            ended: false,
        }))
    }

    /// Append the packets that end on `page` to `packets`. Returns how many were lost.
    fn take(&mut self, page: &Page, packets: &mut VecDeque<Packet>) -> u64 {
        let mut lost = 0;
        if page.sequence != std::mem::replace(&mut self.next_sequence, page.sequence.wrapping_add(1)) {
            (lost, self.partial) = (1, Some(Vec::new()));
        }
        match (&mut self.partial, page.is_continued()) {
            // What goes on has no beginning.
            (Some(partial), true) if partial.is_empty() => self.partial = None,
            (partial, false) => *partial = Some(Vec::new()),
            _ => {}
        }
        let (first, mut samples) = (packets.len(), 0);
        for (piece, ends) in page.pieces() {
            if let Some(partial) = &mut self.partial {
                // The comments may have any length; nobody reads them.
                let keep = if self.comments { 0 } else { piece.len() };
                partial.extend_from_slice(&piece[..keep]);
            }
            if self.partial.as_ref().is_some_and(|partial| partial.len() > MOST_BYTES) {
                self.partial = None;
            }
            if !ends {
                continue;
            }
            let whole = self.partial.replace(Vec::new());
            if std::mem::take(&mut self.comments) {
                continue;
            }
            match whole.map(|bytes| (samples_in(&bytes), bytes)) {
                Some((Some(more), bytes)) => {
                    samples += more * PER_SAMPLE;
                    packets.push_back(Packet { bytes, over: 0 });
                }
                _ => lost += 1,
            }
        }
        self.place(page, samples, packets.iter_mut().skip(first).rev());
        lost
    }

    /// Cut off what the last page's position says is behind the end (RFC 7845, 4.4).
    fn place<'a>(&mut self, page: &Page, samples: usize, newest: impl Iterator<Item = &'a mut Packet>) {
        self.counted += samples as u64;
        if page.granule >= 0 && samples > 0 && self.base.is_none() {
            // A recording that was begun in the middle does not start at zero; one that ends on this page may be shorter.
            let begin = page.granule.saturating_sub_unsigned(self.counted);
            self.base = Some(if page.is_last() { begin.max(0) } else { begin });
        }
        if !page.is_last() {
            return;
        }
        self.ended = true;
        let Some(base) = self.base.filter(|_| page.granule >= 0) else { return };
        let end = u64::try_from(page.granule.saturating_sub(base)).unwrap_or(0);
        let mut over = usize::try_from(self.counted.saturating_sub(end)).unwrap_or(usize::MAX);
        for packet in newest {
            let length = samples_in(&packet.bytes).unwrap_or(0) * PER_SAMPLE;
            packet.over = over.min(length);
            over -= packet.over;
        }
    }
}
