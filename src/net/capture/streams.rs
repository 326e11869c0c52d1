//! Which datagrams of a capture are RTP.
//!
//! A capture does not say. A stream is believed once four packets with consecutive sequence numbers were seen from one
//! sender to one receiver with one SSRC; RTCP, STUN, DNS, SIP and noise never get there.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::CapturedDatagram;
use crate::media::time::MediaInstant;

/// Streams and would-be streams kept in mind; what comes beyond is counted.
const MAX_STREAMS: usize = 16_384;

/// An RTP stream of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpStream {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Packets of each payload type.
    pub payload_types: BTreeMap<u8, u64>,
    /// Packets, duplicates included.
    pub packets: u64,
    /// Capture time of the first packet.
    pub first: MediaInstant,
    /// Capture time of the last packet.
    pub last: MediaInstant,
}

/// What one sender sends to one receiver: a leg. More than one stream where the SSRC changed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpFlow {
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// In order of first appearance; never empty.
    pub streams: Vec<RtpStream>,
}

impl RtpFlow {
    /// The payload type of most packets, of the types for which `is_audio` holds.
    pub fn main_payload_type(&self, is_audio: impl Fn(u8) -> bool) -> Option<u8> {
        let mut totals = BTreeMap::<u8, u64>::new();
        for (&payload_type, &packets) in self.streams.iter().flat_map(|s| &s.payload_types) {
            *totals.entry(payload_type).or_default() += packets;
        }
        let audio = totals.into_iter().filter(|&(payload_type, _)| is_audio(payload_type));
        audio.max_by_key(|&(payload_type, packets)| (packets, u8::MAX - payload_type)).map(|(pt, _)| pt)
    }
}

/// Finds the RTP streams in a capture: [`add`](Self::add) every datagram, then ask.
#[derive(Debug, Default)]
pub struct StreamFinder {
    candidates: Vec<Candidate>,
    by_key: HashMap<(SocketAddr, SocketAddr, u32), usize>,
    ignored: u64,
}

#[derive(Debug)]
struct Candidate {
    stream: RtpStream,
    highest: u16,
    /// Bit n: sequence number `highest - n` was seen.
    seen: u64,
    believed: bool,
}

impl StreamFinder {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Look at one datagram.
    pub fn add(&mut self, datagram: &CapturedDatagram) {
        let Some(header) = Header::parse(&datagram.payload) else { return };
        let key = (datagram.src, datagram.dst, header.ssrc);
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None if self.candidates.len() >= MAX_STREAMS => {
                self.ignored += 1;
                return;
            }
            None => {
                self.by_key.insert(key, self.candidates.len());
                self.candidates.push(Candidate::new(datagram, &header));
                self.candidates.len() - 1
            }
        };
        self.candidates[index].see(datagram.at, &header);
    }

    /// The streams, in order of first appearance.
    pub fn streams(&self) -> impl Iterator<Item = &RtpStream> {
        self.candidates.iter().filter(|c| c.believed).map(|c| &c.stream)
    }

    /// The streams by sender and receiver, in order of first appearance.
    pub fn flows(&self) -> Vec<RtpFlow> {
        let mut flows = Vec::<RtpFlow>::new();
        let mut by_ends = HashMap::new();
        for stream in self.streams() {
            let index = *by_ends.entry((stream.src, stream.dst)).or_insert_with(|| {
                flows.push(RtpFlow { src: stream.src, dst: stream.dst, streams: Vec::new() });
                flows.len() - 1
            });
            flows[index].streams.push(stream.clone());
        }
        flows
    }

    /// Datagrams left unconsidered because the capture has more than 16 384 would-be streams.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }
}

impl Candidate {
    fn new(datagram: &CapturedDatagram, header: &Header) -> Self {
        let stream = RtpStream {
            src: datagram.src,
            dst: datagram.dst,
            ssrc: header.ssrc,
            payload_types: BTreeMap::new(),
            packets: 0,
            first: datagram.at,
            last: datagram.at,
        };
        Self { stream, highest: header.sequence, seen: 0, believed: false }
    }

    fn see(&mut self, at: MediaInstant, header: &Header) {
        self.stream.packets += 1;
        self.stream.last = self.stream.last.max(at);
        *self.stream.payload_types.entry(header.payload_type).or_default() += 1;
        match header.sequence.wrapping_sub(self.highest) {
            ahead @ 0..64 => {
                self.seen = self.seen << ahead | 1;
                self.highest = header.sequence;
            }
            behind if behind > u16::MAX - 63 => self.seen |= 1 << (u16::MAX - behind + 1),
            _ => {
                self.seen = 1;
                self.highest = header.sequence;
            }
        }
        let seen = self.seen;
        self.believed |= seen & seen >> 1 & seen >> 2 & seen >> 3 != 0;
    }
}

struct Header {
    payload_type: u8,
    sequence: u16,
    ssrc: u32,
}

impl Header {
    /// `None` if this cannot be RTP.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.first_chunk::<12>()?;
        let payload_type = fixed[1] & 0x7f;
        // 64 to 95 is where RTCP appears (RFC 5761); 35 to 63 is assigned to nobody.
        let plausible = fixed[0] >> 6 == 2 && matches!(payload_type, 0..=34 | 96..=127);
        let sources = usize::from(fixed[0] & 0x0f);
        if !plausible || bytes.len() < 12 + 4 * sources {
            return None;
        }
        Some(Self {
            payload_type,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(port: u16, ssrc: u32, payload_type: u8, sequence: u16) -> CapturedDatagram {
        let mut payload = vec![0x80, payload_type];
        payload.extend(sequence.to_be_bytes());
        payload.extend([0; 4]);
        payload.extend(ssrc.to_be_bytes());
        payload.extend([0xff; 160]);
        CapturedDatagram {
            at: MediaInstant::from_nanos(u64::from(sequence)),
            src: SocketAddr::from(([10, 0, 0, 1], port)),
            dst: SocketAddr::from(([10, 0, 0, 2], 14_000)),
            payload,
        }
    }

    fn found(datagrams: &[CapturedDatagram]) -> Vec<(u16, u32, u64)> {
        let mut finder = StreamFinder::new();
        datagrams.iter().for_each(|d| finder.add(d));
        finder.streams().map(|s| (s.src.port(), s.ssrc, s.packets)).collect()
    }

    #[test]
    fn streams_are_told_apart_and_come_in_order_of_appearance() {
        let mut all = Vec::new();
        for i in 0..10_u16 {
            all.push(datagram(2, 20, 0, i));
            all.push(datagram(1, 10, 8, 65_530_u16.wrapping_add(i)));
        }
        assert_eq!(found(&all), [(2, 20, 10), (1, 10, 10)]);
    }

    #[test]
    fn reordered_and_duplicated_packets_still_make_a_stream() {
        let all: Vec<_> = [1, 0, 3, 2, 5, 4, 4, 7].map(|i| datagram(1, 1, 0, i)).into();
        assert_eq!(found(&all), [(1, 1, 8)]);
    }

    #[test]
    fn what_has_no_sequence_is_no_stream() {
        let scattered: Vec<_> = (0..50).map(|i| datagram(1, 1, 0, i * 977)).collect();
        assert_eq!(found(&scattered), []);
        let rtcp: Vec<_> = (0..50).map(|i| datagram(1, 1, 72, i)).collect();
        assert_eq!(found(&rtcp), []);
        let same: Vec<_> = (0..50).map(|_| datagram(1, 1, 0, 7)).collect();
        assert_eq!(found(&same), []);
    }

    #[test]
    fn a_changed_ssrc_stays_in_its_flow() {
        let mut finder = StreamFinder::new();
        for ssrc in [7, 9] {
            for i in 0..8 {
                finder.add(&datagram(1, ssrc, if i == 3 { 101 } else { 8 }, i));
            }
        }
        let flows = finder.flows();
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].streams.iter().map(|s| s.ssrc).collect::<Vec<_>>(), [7, 9]);
        assert_eq!(flows[0].streams[0].payload_types, BTreeMap::from([(8, 7), (101, 1)]));
        assert_eq!(flows[0].main_payload_type(|_| true), Some(8));
        assert_eq!(flows[0].main_payload_type(|pt| pt == 0), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut finder = StreamFinder::new();
        for ssrc in 0..20_000 {
            finder.add(&datagram(1, ssrc, 0, 0));
        }
        assert_eq!(finder.ignored(), 20_000 - MAX_STREAMS as u64);
    }
}
