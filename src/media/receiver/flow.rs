//! The packet that follows the one before, which nearly all do: the next number, the next timestamp, as long as the last one, in
//! time, with nothing pending. Its place is known before it comes, and all that it needs lies together in six lines of
//! the processor's cache, apart from the rest of the receiver, so that those of many legs can lie side by side.
//!
//! What such packets change beyond the ring and the estimates is made good when anything else happens
//! ([`Body::took`]): the outcome is that of [`Body::dispatch`], packet by packet.

use std::time::Duration;

use super::super::codec::Codec;
use super::super::codec::g711::{self, ALAW, ULAW};
use super::super::codec::linear;
use super::super::counter::{ExtendedTimestamp, SequenceNumber};
use super::super::ring::Appender;
use super::super::rtp::FIXED_HEADER;
use super::super::skew::Skew;
use super::super::slot::SlotState;
use super::super::statistics::Jitter;
use super::super::time::{MediaInstant, SampleRate};
use super::Body;
use super::place::moved_on_at;
use super::route::{MAX_DISAGREEMENT, nanos};

/// The first word of a header: version 2 without padding, extension or sources; the marker does not matter here.
const FLAGS: u32 = 0x8000_0000;
const MARKER: u32 = 0x0080_0000;

/// The packet that is expected next. In this order, the parts that nobody reads packet by packet come last.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Flow {
    /// Bytes of its datagram; 0 if none is expected.
    bytes: u32,
    /// Flags, payload type and number as on the wire.
    head: u32,
    timestamp: ExtendedTimestamp,
    ssrc: u32,
    /// Packets that came since all else was told of them.
    taken: u32,
    /// Samples of a packet; 0 if the last one was not ordinary.
    len: u32,
    slots: u32,
    codec: Codec,
    rate: SampleRate,
    /// Ring sample at which it goes, and slot.
    at: u64,
    slot: u64,
    /// The call sample of ring sample 0, and the instant of call sample 0.
    base: i64,
    start: MediaInstant,
    /// Nothing else is to be done before this instant, nor until the ring's head comes to `limit`.
    due: MediaInstant,
    limit: u64,
    /// By how much a packet may be later than its place and still fit, nanoseconds.
    latest: i64,
    /// The newest arrival.
    arrival: MediaInstant,
    ring: Appender,
    jitter: Jitter,
    skew: Skew,
    /// The part of `due` that no packet puts off.
    fixed: MediaInstant,
    stall_after: Duration,
}

impl Flow {
    pub fn is_expecting(&self) -> bool {
        self.bytes > 0
    }

    /// Packets that came since it was set up.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Whether there are any.
    pub fn has_taken(&self) -> bool {
        self.taken > 0
    }

    /// Samples of the last packet, if that was an ordinary one.
    pub fn packet(&self) -> Option<usize> {
        (self.len > 0).then_some(self.len as usize)
    }

    /// When anything but such packets is due.
    pub fn due(&self) -> Option<MediaInstant> {
        self.is_expecting().then_some(self.due)
    }

    /// Look at it: see [`super::LegReceiver::touch`].
    pub fn touch(&self) -> u64 {
        self.at ^ self.due.as_nanos() ^ u64::from(self.bytes) ^ self.jitter.touch() ^ self.skew.touch()
    }

    /// See [`super::LegReceiver::touch_ring`].
    pub fn touch_ring(&self) -> u64 {
        self.ring.touch(self.slot)
    }

    /// Expect nothing. Whether packets came that all else does not know of.
    pub fn stop(&mut self) -> bool {
        self.bytes = 0;
        self.has_taken()
    }

    /// Take `datagram` if it is the one that was expected, and nothing else is due.
    #[inline]
    pub fn take(&mut self, arrival: MediaInstant, datagram: &[u8]) -> bool {
        if arrival >= self.due && !self.goes_on(arrival) {
            return false;
        }
        let Some((header, payload)) = datagram.split_first_chunk::<FIXED_HEADER>() else { return false };
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let end = self.at + u64::from(self.len);
        let is_expected = datagram.len() == self.bytes as usize
            && word(0) & !MARKER == self.head
            && word(4) == self.timestamp.on_wire().0
            && word(8) == self.ssrc
            && end < self.limit;
        if !is_expected {
            return false;
        }
        let sample = self.base.saturating_add_unsigned(self.at);
        let lag = arrival.nanos_since(self.start).saturating_sub(self.rate.nanos_of(sample));
        let is_late = !(-nanos(MAX_DISAGREEMENT)..=self.latest).contains(&(lag - self.skew.nanos()));
        // A way that becomes shorter brings the deadlines nearer.
        if is_late || self.skew.eases(arrival) {
            return false;
        }
        let slots = u64::from(self.slots);
        match self.codec {
            Codec::Ulaw => self.ring.append(self.slot, slots, g711::words(&ULAW, payload)),
            Codec::Alaw => self.ring.append(self.slot, slots, g711::words(&ALAW, payload)),
            _ => self.ring.append(self.slot, slots, linear::words(payload)),
        }
        self.jitter.update(arrival, lag, self.timestamp);
        self.skew.update(arrival, lag);
        self.taken += 1;
        self.at = end;
        self.slot += slots;
        self.head = self.head & 0xffff_0000 | (self.head + 1) & 0xffff;
        // Codecs without memory have a tick a sample.
        self.timestamp = self.timestamp.plus(i64::from(self.len));
        self.arrival = self.arrival.max(arrival);
        true
    }

    /// It is `now`: whether nothing is due but to look again later, since packets have come.
    pub fn goes_on(&mut self, now: MediaInstant) -> bool {
        if !self.is_expecting() || !self.has_taken() || self.fixed <= now {
            return false;
        }
        self.put_off();
        self.due > now
    }

    /// Nothing is due before what is fixed, nor before what the newest packet has put off.
    fn put_off(&mut self) {
        let moves = moved_on_at(self.start, self.rate, self.skew.behind(), self.base, self.at, 1);
        self.due = self.fixed.min(moves).min(self.arrival + self.stall_after);
    }
}

impl Body {
    /// Nothing is expected.
    pub(super) fn no_flow(&self) -> Flow {
        let (config, never) = (&self.config, MediaInstant::default());
        Flow {
            bytes: 0,
            head: 0,
            timestamp: ExtendedTimestamp::default(),
            ssrc: 0,
            taken: 0,
            len: 0,
            slots: 0,
            codec: config.codec,
            rate: config.clock.rate(),
            at: 0,
            slot: 0,
            base: 0,
            start: config.clock.start(),
            due: never,
            limit: 0,
            latest: nanos(MAX_DISAGREEMENT.min(config.repair_window)),
            arrival: never,
            ring: self.writer.appender(),
            jitter: self.jitter,
            skew: self.skew,
            fixed: never,
            stall_after: config.stall_after,
        }
    }

    /// Learn of the packets that came as they were expected.
    pub(super) fn took(&mut self, flow: &mut Flow) {
        let taken = std::mem::take(&mut flow.taken);
        let Some(stream) = self.active.as_mut() else { return };
        stream.source.record_run(taken);
        stream.timeline.advance(flow.timestamp.plus(-i64::from(flow.len)));
        self.writer.appended(flow.at);
        (self.jitter, self.skew) = (flow.jitter, flow.skew);
        self.tail = flow.at;
        self.newest_media = Some(SequenceNumber((flow.head as u16).wrapping_sub(1)));
        self.tally.received += u64::from(taken);
        self.active_heard = self.active_heard.max(Some(flow.arrival));
        self.last_arrival = self.last_arrival.max(Some(flow.arrival));
    }

    /// Expect the packet after an ordinary one of `len` samples, if there is nothing else to wait for.
    pub(super) fn expect_next(&self, flow: &mut Flow, len: usize) {
        flow.len = 0;
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
                == (timestamp, base.saturating_add_unsigned(self.tail));
        let Some(slot) = self.writer.takes_next(self.tail, len).filter(|_| is_ordinary) else { return };
        let rate = config.clock.rate();
        let lags = [config.live_lag, config.repair_window].map(|lag| rate.samples_in(lag));
        // Until losses have been settled once they may be at any time.
        let settles = stream.source.settles_at(config.repair_window).unwrap_or_default();
        flow.bytes = (FIXED_HEADER + config.codec.payload_bytes(len)) as u32;
        flow.head = FLAGS | u32::from(config.payload_type) << 16 | u32::from(next.on_wire().0);
        flow.timestamp = timestamp;
        flow.ssrc = stream.source.ssrc().0;
        flow.len = len as u32;
        flow.slots = (len / rate.slot_samples()) as u32;
        (flow.at, flow.slot, flow.base, flow.arrival) = (self.tail, slot, base, arrival);
        (flow.jitter, flow.skew) = (self.jitter, self.skew);
        flow.limit = self.gaps.quiet_until(config.conceal, lags[0], lags[1]);
        flow.fixed = self.fixed_deadline().map_or(settles, |fixed| fixed.min(settles));
        // From here on every deadline only moves away.
        flow.put_off();
    }
}
