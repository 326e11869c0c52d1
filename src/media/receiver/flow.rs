//! The packet that follows the one before, which nearly all do: the next number, the next timestamp, as long as the last one, in
//! time, with nothing pending. Its place is known before it comes, and all that it needs lies together in a few lines of
//! the processor's cache.
//!
//! What such packets change beyond the ring and the estimates is made good when anything else happens
//! ([`LegReceiver::catch_up`]): the outcome is that of [`LegReceiver::dispatch`], packet by packet.

use super::super::codec::Codec;
use super::super::codec::g711::{self, ALAW, ULAW};
use super::super::codec::linear;
use super::super::counter::{ExtendedTimestamp, SequenceNumber};
use super::super::rtp::FIXED_HEADER;
use super::super::slot::SlotState;
use super::super::time::{MediaInstant, SampleRate};
use super::route::{MAX_DISAGREEMENT, nanos};
use super::{Kind, LegReceiver, PacketOutcome};

/// The first word of a header: version 2 without padding, extension or sources; the marker does not matter here.
const FLAGS: u32 = 0x8000_0000;
const MARKER: u32 = 0x0080_0000;

/// The packet that is expected next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Bytes of its datagram; 0 if none is expected.
    bytes: u32,
    /// Flags, payload type and number as on the wire.
    head: u32,
    timestamp: ExtendedTimestamp,
    ssrc: u32,
    /// Packets that came since all else was told of them.
    taken: u32,
    /// Samples of a packet.
    len: u32,
    slots: u32,
    codec: Codec,
    rate: SampleRate,
    /// Ring sample at which it goes.
    at: u64,
    /// The call sample of ring sample 0, and the instant of call sample 0.
    base: i64,
    start: MediaInstant,
    /// Nothing else is to be done before this instant, nor until the ring's head comes to `limit`.
    due: MediaInstant,
    limit: u64,
    /// The part of `due` that no packet puts off.
    fixed: MediaInstant,
    /// By how much a packet may be later than its place and still fit, nanoseconds.
    latest: i64,
    /// The newest arrival.
    arrival: MediaInstant,
}

impl Flow {
    /// Nothing is expected.
    pub fn none(codec: Codec) -> Self {
        let never = MediaInstant::default();
        Self {
            bytes: 0,
            head: 0,
            timestamp: ExtendedTimestamp::default(),
            ssrc: 0,
            taken: 0,
            len: 0,
            slots: 0,
            codec,
            rate: codec.sample_rate(),
            at: 0,
            base: 0,
            start: never,
            due: never,
            limit: 0,
            fixed: never,
            latest: 0,
            arrival: never,
        }
    }

    pub fn is_expecting(&self) -> bool {
        self.bytes > 0
    }

    /// Whether packets came since it was set up.
    pub fn has_taken(&self) -> bool {
        self.taken > 0
    }

    /// When anything but such packets is due.
    pub fn due(&self) -> Option<MediaInstant> {
        self.is_expecting().then_some(self.due)
    }

    /// Look at it: see [`LegReceiver::touch`].
    pub fn touch(&self) -> u64 {
        self.at ^ self.due.as_nanos() ^ u64::from(self.head) ^ self.limit ^ self.base as u64
    }

    /// Ring sample at which the next packet goes.
    pub fn at(&self) -> Option<u64> {
        self.is_expecting().then_some(self.at)
    }
}

impl LegReceiver {
    /// Take `datagram` if it is the one that was expected, and nothing else is due.
    #[inline]
    pub(super) fn take_expected(&mut self, arrival: MediaInstant, datagram: &[u8]) -> bool {
        if arrival >= self.flow.due && !self.goes_on(arrival) {
            return false;
        }
        let flow = &mut self.flow;
        let Some((header, payload)) = datagram.split_first_chunk::<FIXED_HEADER>() else { return false };
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let end = flow.at + u64::from(flow.len);
        let is_expected = datagram.len() == flow.bytes as usize
            && word(0) & !MARKER == flow.head
            && word(4) == flow.timestamp.on_wire().0
            && word(8) == flow.ssrc
            && end < flow.limit;
        if !is_expected {
            return false;
        }
        let sample = flow.base.saturating_add_unsigned(flow.at);
        let lag = arrival.nanos_since(flow.start).saturating_sub(flow.rate.nanos_of(sample));
        if !(-nanos(MAX_DISAGREEMENT)..=flow.latest).contains(&(lag - self.skew.nanos())) {
            return false;
        }
        let slots = flow.slots as usize;
        match flow.codec {
            Codec::Ulaw => self.writer.append(flow.at, slots, g711::words(&ULAW, payload)),
            Codec::Alaw => self.writer.append(flow.at, slots, g711::words(&ALAW, payload)),
            _ => self.writer.append(flow.at, slots, linear::words(payload)),
        }
        self.jitter.update(arrival, lag, flow.timestamp);
        self.skew.update(arrival, lag);
        flow.taken += 1;
        flow.at = end;
        flow.head = flow.head & 0xffff_0000 | (flow.head + 1) & 0xffff;
        // Codecs without memory have a tick a sample.
        flow.timestamp = flow.timestamp.plus(i64::from(flow.len));
        flow.arrival = flow.arrival.max(arrival);
        true
    }

    /// It is `now`: whether nothing is due but to look again later, since packets have come.
    pub(super) fn goes_on(&mut self, now: MediaInstant) -> bool {
        let flow = &self.flow;
        if !flow.has_taken() || flow.fixed <= now {
            return false;
        }
        self.flow.due = flow.fixed.min(self.moving_deadline(flow.base, flow.at, flow.arrival));
        self.flow.due > now
    }

    /// The deadline that packets put off, if the newest came at `arrival` and the next goes to `at`.
    fn moving_deadline(&self, base: i64, at: u64, arrival: MediaInstant) -> MediaInstant {
        self.head_deadline_at(base, at).min(arrival + self.config.stall_after)
    }

    /// Let all else know of the packets that came as they were expected, and expect none.
    pub(super) fn catch_up(&mut self) {
        let flow = &mut self.flow;
        flow.bytes = 0;
        let taken = std::mem::take(&mut flow.taken);
        let Some(stream) = self.active.as_mut().filter(|_| taken > 0) else { return };
        stream.source.record_run(taken);
        stream.timeline.advance(flow.timestamp.plus(-i64::from(flow.len)));
        self.writer.appended(flow.at);
        self.tail = flow.at;
        self.newest_media = Some(SequenceNumber((flow.head as u16).wrapping_sub(1)));
        self.tally.received += u64::from(taken);
        self.active_heard = self.active_heard.max(Some(flow.arrival));
        self.last_arrival = self.last_arrival.max(Some(flow.arrival));
    }

    /// Expect the packet after one of `kind` in a datagram of `bytes` bytes, if that was an ordinary one.
    pub(super) fn expect_after(&mut self, outcome: PacketOutcome, kind: Kind, bytes: usize) {
        if let (PacketOutcome::Placed, Kind::Audio(len)) = (outcome, kind)
            && bytes == FIXED_HEADER + self.config.codec.payload_bytes(len)
        {
            self.expect_next(len, bytes);
        }
    }

    /// Go on expecting, after something else had its turn.
    pub(super) fn expect_again(&mut self) {
        let (len, codec) = (self.flow.len as usize, self.config.codec);
        if len > 0 {
            self.expect_next(len, FIXED_HEADER + codec.payload_bytes(len));
        }
    }

    fn expect_next(&mut self, len: usize, bytes: usize) {
        self.flow.len = 0;
        let (Some(stream), Some(base), Some(arrival)) = (&self.active, self.base, self.last_arrival) else {
            return;
        };
        let config = &self.config;
        let last = stream.source.highest();
        let next = last.plus(1);
        let timestamp = stream.timeline.newest().plus(len as i64);
        let is_ordinary = !config.codec.is_stateful()
            && self.pending.is_none()
            && self.missed.is_none()
            && !self.stalled
            && self.fill == SlotState::Silence
            && self.newest_media == Some(last.on_wire())
            && stream.jumped_at.is_none_or(|jumped_at| jumped_at <= next)
            && stream.timeline.locate(timestamp.on_wire())
                == (timestamp, base.saturating_add_unsigned(self.tail))
            && self.writer.takes_next(self.tail, len);
        if !is_ordinary {
            return;
        }
        let rate = config.clock.rate();
        let lags = [config.live_lag, config.repair_window].map(|lag| rate.samples_in(lag));
        // Until losses have been settled once they may be at any time.
        let settles = stream.source.settles_at(config.repair_window).unwrap_or_default();
        let fixed = self.fixed_deadline().map_or(settles, |fixed| fixed.min(settles));
        // From here on every deadline only moves away.
        self.flow = Flow {
            bytes: bytes as u32,
            head: FLAGS | u32::from(config.payload_type) << 16 | u32::from(next.on_wire().0),
            timestamp,
            ssrc: stream.source.ssrc().0,
            taken: 0,
            len: len as u32,
            slots: (len / rate.slot_samples()) as u32,
            codec: config.codec,
            rate,
            at: self.tail,
            base,
            start: config.clock.start(),
            due: fixed.min(self.moving_deadline(base, self.tail, arrival)),
            fixed,
            limit: self.gaps.quiet_until(config.conceal, lags[0], lags[1]),
            latest: nanos(MAX_DISAGREEMENT.min(config.repair_window)),
            arrival,
        };
    }
}
