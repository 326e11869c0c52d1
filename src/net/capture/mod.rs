//! UDP datagrams out of a packet capture: pcap and pcapng, as tcpdump, Wireshark, sngrep and others write them.
//!
//! Streaming and of bounded memory: a capture may be larger than the machine. [`streams`] tells which of the datagrams
//! are RTP.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::media::time::MediaInstant;

mod input;
mod packet;
mod pcap;
mod pcapng;
pub mod streams;

use input::{Frame, Input};
use packet::Packet;
use pcap::Pcap;
use pcapng::Pcapng;

/// Bytes of one captured frame at most: what Wireshark allows for, and four times the largest IP packet.
const MAX_FRAME: usize = 256 << 10;

/// Why a capture could not be read on. Everything before `offset` (bytes from the start of the file) has been given out.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file could not be opened.
    #[error("cannot open the capture {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Reading failed.
    #[error("cannot read the capture at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing is in it, not even a header.
    #[error("the capture is empty: was anything captured, is the copy complete?")]
    Empty,
    /// Neither pcap nor pcapng.
    #[error("not a pcap or pcapng capture: it begins with {found:02x?}; {remedy}")]
    NotACapture {
        /// The first bytes, at most four.
        found: Vec<u8>,
        /// What to do.
        remedy: &'static str,
    },
    /// A link type that is not understood.
    #[error(
        "the capture's link type {link} (at byte {offset}) is not understood: Ethernet, raw IP, Linux cooked (SLL, SLL2) \
         and BSD loopback are; capture anew with `tcpdump -i any` or on the Ethernet device"
    )]
    LinkType {
        /// The number, as in the LINKTYPE_ registry of tcpdump.
        link: u32,
        /// Where it stands.
        offset: u64,
    },
    /// The structure is broken.
    #[error(
        "the capture is damaged at byte {offset}: {what}; {packets} packets before it are whole (`editcap -c` or pcapfix \
         can make a file of them)"
    )]
    Damaged {
        /// Start of the record or block concerned.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// Whole packets before it.
        packets: u64,
    },
    /// The file ends amid a packet: the capturing program was killed, or the copy is not complete. A warning rather than
    /// an error.
    #[error("{}", cut_off(*.packets, *.offset))]
    Truncated {
        /// Whole packets before the end.
        packets: u64,
        /// Start of the incomplete record or block.
        offset: u64,
    },
}

fn cut_off(packets: u64, offset: u64) -> String {
    let used = match packets {
        0 => format!(
            "the capture holds no packet: it ends amid its header or its first packet (at byte {offset})"
        ),
        _ => format!(
            "the capture ends amid a packet (at byte {offset}); the {packets} whole packets before it are used"
        ),
    };
    used + ". Was the capture still being written, or the copy incomplete?"
}

/// A UDP datagram of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedDatagram {
    /// When it was captured: nanoseconds since the Unix epoch. Captures are not always in order of time.
    pub at: MediaInstant,
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// UDP payload, whole.
    pub payload: Vec<u8>,
}

/// What was found on the way, for the reader to be told why there is no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// Whole packets read.
    pub packets: u64,
    /// Of these, UDP datagrams given out.
    pub datagrams: u64,
    /// IP fragments, which are left out: RTP is never fragmented on purpose.
    pub fragments: u64,
    /// UDP datagrams that the capture holds in part only (a snap length below the packet's), which are left out.
    pub cut_short: u64,
    /// Packets on interfaces whose link type is not understood.
    pub unknown_link: u64,
    /// Everything else: not IP, not UDP, or malformed.
    pub other: u64,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// Reads a capture: an iterator over its UDP datagrams, in the order of the file. Ends after the first error, of which
/// [`CaptureError::Truncated`] is but a warning.
pub struct Capture<R> {
    input: Input<BufReader<R>>,
    format: Format,
    buffer: Vec<u8>,
    counts: CaptureCounts,
    done: bool,
}

impl Capture<File> {
    /// Open the capture at `path`.
    ///
    /// # Errors
    /// If it cannot be opened, or is no capture that can be read.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let cannot = |source| CaptureError::Open { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(cannot)?;
        // A folder opens like a file, and fails at the first read.
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(cannot(ErrorKind::IsADirectory.into()));
        }
        Self::new(file)
    }
}

impl<R: Read> Capture<R> {
    /// Read the capture that `reader` brings; pcap and pcapng tell themselves apart.
    ///
    /// # Errors
    /// If it is no capture that can be read.
    pub fn new(reader: R) -> Result<Self, CaptureError> {
        let mut input = Input::new(BufReader::with_capacity(64 << 10, reader));
        let mut magic = [0; 4];
        let got = input.fill(&mut magic)?;
        if got == 0 {
            return Err(CaptureError::Empty);
        }
        let format = if got == 4 && magic == pcapng::MAGIC {
            Format::Pcapng(Pcapng::open(&mut input)?)
        } else if got == 4
            && let Some(kind) = pcap::Kind::of(magic)
        {
            Format::Pcap(Pcap::open(kind, &mut input)?)
        } else {
            return Err(CaptureError::NotACapture {
                found: magic[..got].to_vec(),
                remedy: remedy_for(&magic[..got]),
            });
        };
        Ok(Self { input, format, buffer: Vec::new(), counts: CaptureCounts::default(), done: false })
    }

    /// What was found so far.
    pub fn counts(&self) -> CaptureCounts {
        self.counts
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        let packets = self.counts.packets;
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next_frame(&mut self.input, &mut self.buffer, packets),
            Format::Pcapng(pcapng) => pcapng.next_frame(&mut self.input, &mut self.buffer, packets),
        }
    }
}

impl<R: Read> Iterator for Capture<R> {
    type Item = Result<CapturedDatagram, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let frame = match self.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            };
            self.counts.packets += 1;
            match packet::decode(frame.link, &self.buffer[frame.data]) {
                Packet::Udp { src, dst, payload } => {
                    self.counts.datagrams += 1;
                    return Some(Ok(CapturedDatagram { at: frame.at, src, dst, payload: payload.to_vec() }));
                }
                Packet::Fragment => self.counts.fragments += 1,
                Packet::CutShort => self.counts.cut_short += 1,
                Packet::UnknownLink => self.counts.unknown_link += 1,
                Packet::Other => self.counts.other += 1,
            }
        }
        self.done = true;
        None
    }
}

fn remedy_for(magic: &[u8]) -> &'static str {
    match magic {
        [0x1f, 0x8b, ..] => "it is compressed: unpack it with gunzip first",
        [0x28, 0xb5, 0x2f, 0xfd] => "it is compressed: unpack it with `zstd -d` first",
        [0xfd, b'7', b'z', b'X'] => "it is compressed: unpack it with unxz first",
        [0xa1, 0xb2, 0xcd, 0x34] | [0x34, 0xcd, 0xb2, 0xa1] => {
            "it is a modified pcap of an old Linux: convert it with `editcap -F pcapng IN OUT`"
        }
        b"snoo" | b"RTSS" => "it is another capture format: convert it with `editcap -F pcapng IN OUT`",
        _ => "convert it with `editcap -F pcapng IN OUT` if Wireshark can read it",
    }
}

#[cfg(test)]
mod tests;
