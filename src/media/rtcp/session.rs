//! One leg's end of the RTCP exchange: what the peer reported, and when to report to it.

use std::time::Duration;

use super::super::counter::Ssrc;
use super::super::random::Rng;
use super::super::time::MediaInstant;
use super::block::{LossPrior, Reception, ReportBlock};
use super::error::RtcpError;
use super::interval::{Membership, interval};
use super::packet::{Compound, Packet, SenderInfo};
use super::write::{MAX_CNAME, Writer};

/// Bytes of IPv4 and UDP headers, which count as part of a report's size (RFC 3550, section 6.2).
const HEADERS: f64 = 28.0;
/// Share of the newest packet in the average size (RFC 3550, section 6.3.3).
const NEWEST: f64 = 1.0 / 16.0;
/// Sender reports of ours that a peer's report may still refer to: 10 s of them, or more.
const SENT: usize = 4;
/// A longer round trip is a mistake of the peer's.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(10);

/// What a session is told at its beginning.
#[derive(Clone, Debug)]
pub struct RtcpConfig {
    /// Our identifier, chosen at random (RFC 3550, section 8).
    pub source: Ssrc,
    /// Our canonical name, `user@host` or `host`; its first 255 bytes are used.
    pub cname: String,
    /// The peer is known to speak RTCP. If not, nothing is sent before a sender report came.
    pub peer_configured: bool,
    /// Bytes a second for RTCP, 5 % of the session's bandwidth: 500 for G.711 in 20 ms packets (80 kbit/s with headers).
    pub bandwidth: f64,
    /// Where chance begins: any number; another one for each session.
    pub seed: u64,
}

/// A peer's sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Who sent it.
    pub sender: Ssrc,
    /// What it says: the sender's wall clock and its RTP clock at one moment.
    pub info: SenderInfo,
    /// When it came.
    pub arrival: MediaInstant,
}

/// What a datagram brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// A sender report.
    pub sender_report: bool,
    /// The peer leaves.
    pub goodbye: bool,
    /// A report on what we send, with the time that it took there and back.
    pub round_trip: Option<Duration>,
}

/// One leg's end of the exchange. The contract with its driver: [`RtcpSession::on_packet`] for every RTCP datagram of the peer;
/// [`RtcpSession::report`] when [`RtcpSession::next_deadline`] has come, and what it gives goes to the peer;
/// [`RtcpSession::goodbye`] at the end. Nothing is allocated after [`RtcpSession::new`].
#[derive(Debug)]
pub struct RtcpSession {
    source: Ssrc,
    cname: Box<str>,
    bandwidth: f64,
    chance: Rng,
    /// When to report, once a peer is there.
    timer: Option<Timer>,
    average_size: f64,
    ever_sent: bool,
    prior: LossPrior,
    /// Packets received as of the last report.
    reported: Option<(Ssrc, u64)>,
    peer: Option<PeerReport>,
    round_trip: Option<Duration>,
    /// By what the peer names them, the newest last.
    sent: [Option<(u32, MediaInstant)>; SENT],
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// Of the report before, or the beginning.
    last: MediaInstant,
    due: MediaInstant,
    initial: bool,
}

impl RtcpSession {
    /// A session that begins at `now`.
    pub fn new(config: RtcpConfig, now: MediaInstant) -> Self {
        let RtcpConfig { source, mut cname, peer_configured, bandwidth, seed } = config;
        cname.truncate(cname.floor_char_boundary(MAX_CNAME));
        // RR with a block, and SDES: the size of the first report to come (RFC 3550, section 6.3.2).
        let average_size = HEADERS + 32.0 + 10.0 + cname.len() as f64;
        let mut session = Self {
            source,
            cname: cname.into_boxed_str(),
            bandwidth,
            chance: Rng(seed),
            timer: None,
            average_size,
            ever_sent: false,
            prior: LossPrior::default(),
            reported: None,
            peer: None,
            round_trip: None,
            sent: [None; SENT],
        };
        if peer_configured {
            session.begin(now);
        }
        session
    }

    /// An RTCP datagram of the peer came in at `arrival`.
    ///
    /// # Errors
    /// [`RtcpError`] if it is not a valid compound packet; then none of it counts.
    pub fn on_packet(&mut self, arrival: MediaInstant, datagram: &[u8]) -> Result<Heard, RtcpError> {
        let compound = Compound::parse(datagram)?;
        self.note_size(datagram.len());
        let mut heard = Heard::default();
        for packet in compound.packets() {
            match packet {
                Packet::SenderReport { sender, info, blocks } => {
                    self.avoid(sender);
                    self.peer = Some(PeerReport { sender, info, arrival });
                    heard.sender_report = true;
                    heard.round_trip = self.time_round_trip(blocks, arrival).or(heard.round_trip);
                }
                Packet::ReceiverReport { sender, blocks } => {
                    self.avoid(sender);
                    heard.round_trip = self.time_round_trip(blocks, arrival).or(heard.round_trip);
                }
                Packet::Goodbye { mut sources, .. } => {
                    let known = [self.peer.map(|peer| peer.sender), self.reported.map(|(of, _)| of)];
                    heard.goodbye |= sources.any(|source| known.contains(&Some(source)));
                }
                Packet::SourceDescription { .. } | Packet::Other { .. } => {}
            }
        }
        if heard.goodbye {
            self.timer = None;
        } else if heard.sender_report && self.timer.is_none() {
            self.begin(arrival);
        }
        Ok(heard)
    }

    /// When [`RtcpSession::report`] is due next; `None` while there is nobody to report to.
    pub fn next_deadline(&self) -> Option<MediaInstant> {
        self.timer.map(|timer| timer.due)
    }

    /// The report that is due at `now`, written to `buffer` ([`MAX_REPORT`](super::MAX_REPORT) bytes are enough): SR if we send
    /// (`sending`), else RR, with a block on `reception` if packets came since the report before, and our canonical name.
    /// `None` if none is due: the deadline may also have moved (timer reconsideration, RFC 3550, section 6.3.6).
    pub fn report<'b>(
        &mut self,
        now: MediaInstant,
        reception: Option<&Reception>,
        sending: Option<&SenderInfo>,
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        let timer = self.timer.filter(|timer| timer.due <= now)?;
        let drawn = timer.last + self.draw(timer.initial, reception.is_some(), sending.is_some());
        if drawn > now {
            self.timer = Some(Timer { due: drawn, ..timer });
            return None;
        }
        let due = now + self.draw(false, reception.is_some(), sending.is_some());
        self.timer = Some(Timer { last: now, due, initial: false });
        self.write(now, reception, sending, false, buffer)
    }

    /// The last report, with BYE (RFC 3550, section 6.3.7); `None` if nothing was ever sent, since then nobody knows us.
    pub fn goodbye<'b>(
        &mut self,
        now: MediaInstant,
        reception: Option<&Reception>,
        sending: Option<&SenderInfo>,
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        let was_there = self.timer.take().is_some() && self.ever_sent;
        if was_there { self.write(now, reception, sending, true, buffer) } else { None }
    }

    /// The time there and back, of what we send, as of the peer's last report on it.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The peer's last sender report: its RTP clock against its wall clock.
    pub fn peer_report(&self) -> Option<&PeerReport> {
        self.peer.as_ref()
    }

    /// Our identifier; another one after the peer was found to use it too.
    pub fn source(&self) -> Ssrc {
        self.source
    }

    fn begin(&mut self, now: MediaInstant) {
        let first = self.draw(true, true, false);
        self.timer = Some(Timer { last: now, due: now + first, initial: true });
    }

    fn draw(&mut self, initial: bool, peer_sends: bool, we_send: bool) -> Duration {
        let of = Membership {
            members: 2,
            senders: u32::from(peer_sends) + u32::from(we_send),
            we_send,
            bandwidth: self.bandwidth,
            average_size: self.average_size,
            initial,
        };
        interval(&of, self.chance.unit())
    }

    fn write<'b>(
        &mut self,
        now: MediaInstant,
        reception: Option<&Reception>,
        sending: Option<&SenderInfo>,
        is_last: bool,
        buffer: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        let news = reception.filter(|reception| {
            self.reported.is_none_or(|(of, received)| of != reception.source || received < reception.received)
        });
        let block = news.map(|reception| self.block(reception, now));
        let mut writer = Writer::new(buffer);
        writer.report(self.source, sending, block.as_slice());
        writer.cname(self.source, self.cname.as_bytes());
        if is_last {
            writer.goodbye(self.source);
        }
        let written = writer.finish()?;
        self.note_size(written.len());
        self.ever_sent = true;
        if let Some(info) = sending {
            self.sent.rotate_left(1);
            self.sent[SENT - 1] = Some((info.ntp.middle(), now));
        }
        Some(written)
    }

    fn block(&mut self, reception: &Reception, now: MediaInstant) -> ReportBlock {
        self.reported = Some((reception.source, reception.received));
        let peer = self.peer.filter(|peer| peer.sender == reception.source);
        let (last_report, delay) = peer.map_or((0, 0), |peer| {
            let delay = now.saturating_since(peer.arrival).as_nanos() * 65_536 / 1_000_000_000;
            (peer.info.ntp.middle(), u32::try_from(delay).unwrap_or(u32::MAX))
        });
        ReportBlock {
            source: reception.source,
            fraction_lost: self.prior.fraction_since(reception),
            cumulative_lost: reception.cumulative_lost(),
            highest_sequence: reception.highest_sequence,
            jitter: reception.jitter,
            last_report,
            delay,
        }
    }

    fn time_round_trip(
        &mut self,
        mut blocks: impl Iterator<Item = ReportBlock>,
        arrival: MediaInstant,
    ) -> Option<Duration> {
        let block = blocks.find(|block| block.source == self.source && block.last_report != 0)?;
        let sent = self.sent.iter().rev().flatten().find(|(middle, _)| *middle == block.last_report)?.1;
        let delay = Duration::from_nanos(u64::from(block.delay) * 1_000_000_000 / 65_536);
        let round_trip = arrival.saturating_since(sent).checked_sub(delay)?;
        if round_trip > MAX_ROUND_TRIP {
            return None;
        }
        self.round_trip = Some(round_trip);
        self.round_trip
    }

    /// Two participants may not have one identifier: ours is drawn anew (RFC 3550, section 8.2).
    fn avoid(&mut self, other: Ssrc) {
        while self.source == other {
            self.source = Ssrc(self.chance.next() as u32);
            self.sent = [None; SENT];
        }
    }

    fn note_size(&mut self, bytes: usize) {
        self.average_size += (bytes as f64 + HEADERS - self.average_size) * NEWEST;
    }
}

#[cfg(test)]
mod tests;
