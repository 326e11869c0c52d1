//! One leg's receiver: datagrams and instants in, samples in a ring and facts out.
//!
//! The contract with its driver:
//! 1. [`LegReceiver::on_packet`] for every datagram, in the order of arrival, with the instant at which it came in.
//! 2. [`LegReceiver::on_tick`] once when packets may come from now on, then when [`LegReceiver::next_deadline`] has come
//!    (sooner or more often does no harm), but only after all datagrams that came before that instant: a tick says that
//!    nothing came.
//! 3. [`LegReceiver::take_events`] after either.
//! 4. [`LegReceiver::finish`] at the end, which closes the ring.
//!
//! A sample's place is a function of its RTP timestamp alone. What happens to a packet is decided in three steps:
//! `route` tells whose it is, `anchor` fixes the timeline of a source when enough of it is known, `place` puts the
//! audio into the ring and names what is missing.

mod anchor;
mod aside;
mod decode;
mod flow;
mod locate;
mod pace;
mod pending;
mod place;
mod reorder;
mod report;
mod route;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::flow::Flow;
use super::clock::CallClock;
use super::codec::{Codec, DecodeError};
use super::conceal;
use super::counter::{ExtendedSequence, SequenceNumber};
use super::dtmf::{Press, TelephoneEvents};
use super::gap::{Gaps, Missed};
use super::hold::Hold;
use super::report::{LegCounts, LegEvent, LegStats, Segment};
use super::ring::{Ring, RingWriter, ring};
use super::rtcp::Reception;
use super::rtp::{FIXED_HEADER, RtpError, RtpPacket};
use super::skew::Skew;
use super::slot::SlotState;
use super::source::{LossRuns, Source};
use super::statistics::Jitter;
use super::time::MediaInstant;
use super::timeline::Timeline;

/// Slots in front of a leg's first packet: room for packets older than that, one second.
pub const PREROLL_SLOTS: u64 = 100;
/// Time alone moves a ring's head no nearer to the present than this, so that packets in time find it behind them.
pub const STALL_MARGIN: Duration = Duration::from_millis(200);
/// The head of a leg that has stalled follows time in steps of this many slots: nobody waits for its silence, and it is
/// looked at ten times a second instead of a hundred.
const STALLED_SLOTS: u64 = 10;
/// A leg whose last packet is older than this at its end was interrupted before; any other ended with that packet, and
/// only the news of it came late. Asterisk 16 serves a channel without media every 200 ms, and a hangup may pass two.
pub const END_MARGIN: Duration = Duration::from_millis(500);
/// Payload types of comfort noise: RFC 3389's, and the one before it, which Asterisk knows too.
const COMFORT_NOISE: [u8; 2] = [13, 19];
/// Events kept for a driver that does not take them; then the oldest go.
const EVENTS: usize = 64;

/// How a leg is received.
#[derive(Clone, Debug)]
pub struct LegConfig {
    /// Format of the audio. Its sample rate must be the clock's.
    pub codec: Codec,
    /// Payload type of the audio, 0 to 127.
    pub payload_type: u8,
    /// Payload type of telephone events (RFC 4733), if there are any; Asterisk's is 101.
    pub telephone_event: Option<u8>,
    /// The call's clock.
    pub clock: Arc<CallClock>,
    /// Slots of 10 ms that the ring keeps, rounded up to a power of two; more than `repair_window` by a second or more.
    pub ring_slots: usize,
    /// How far behind the head live readers stay; reordering within it leaves no trace.
    pub live_lag: Duration,
    /// How far behind the head late packets still mend the audio: where the recorder reads.
    pub repair_window: Duration,
    /// Fill losses of up to 60 ms with what was probably said ([`super::conceal`]); `false` leaves zeros there.
    pub conceal: bool,
    /// Time without packets of use after which the leg is stalled, also at its beginning.
    pub stall_after: Duration,
    /// The first packets of a source are kept back this long to find the least delayed one, which sets the anchor.
    pub anchor_window: Duration,
    /// The segment to go on with, if the call was being received before a restart.
    pub resume: Option<Segment>,
}

impl LegConfig {
    /// The defaults for audio in `codec` on a call's `clock`.
    pub fn new(codec: Codec, clock: Arc<CallClock>) -> Self {
        Self {
            codec,
            payload_type: codec.payload_type(),
            telephone_event: Some(101),
            clock,
            ring_slots: 1_000,
            live_lag: Duration::from_millis(60),
            repair_window: Duration::from_secs(2),
            conceal: true,
            stall_after: Duration::from_secs(2),
            anchor_window: Duration::from_millis(200),
            resume: None,
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketOutcome {
    /// A comfort-noise packet in its place.
    ComfortNoise,
    /// A copy of a packet that came before; dropped.
    Duplicate,
    /// Kept back until its source or its place is certain.
    Held,
    /// Dropped, and why.
    Invalid(PacketError),
    /// Received audio stands in all of its place already; dropped.
    Overlapped,
    /// In the ring.
    Placed,
    /// In the ring, in a place that live readers have passed.
    Repaired,
    /// A telephone event.
    TelephoneEvent,
    /// Dropped: every reader has passed its place.
    TooLate,
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Its decoder refuses it.
    #[error("ssrc {ssrc:08x} seq {sequence}: {source}")]
    Decode {
        /// Synchronisation source.
        ssrc: u32,
        /// Sequence number.
        sequence: u16,
        /// Why.
        source: DecodeError,
    },
    /// Its length is not that of a whole number of samples, or of an event.
    #[error("payload of {actual} bytes is impossible for payload type {payload_type}")]
    PayloadLength {
        /// Payload type, 0 to 127.
        payload_type: u8,
        /// Bytes of payload.
        actual: usize,
    },
    /// Not a payload type of this leg.
    #[error("payload type {actual}, expected {expected}")]
    PayloadType {
        /// The leg's payload type.
        expected: u8,
        /// The packet's.
        actual: u8,
    },
    /// Not RTP.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// Its timestamp fits neither the stream nor the time of its arrival.
    #[error("ssrc {ssrc:08x} seq {sequence}: timestamp {timestamp} is far from everything around it")]
    Timestamp {
        /// Synchronisation source.
        ssrc: u32,
        /// Sequence number.
        sequence: u16,
        /// RTP timestamp.
        timestamp: u32,
    },
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// So many samples.
    Audio(usize),
    ComfortNoise,
    Event,
}

/// An accepted source and the map of its timestamps.
#[derive(Debug)]
struct Stream {
    source: Source,
    timeline: Timeline,
    /// The number at which its timestamps jumped to this timeline, if they did.
    jumped_at: Option<ExtendedSequence>,
}

/// What was before the current stream, kept for stragglers.
#[derive(Debug)]
struct Previous {
    /// `None` if only the timeline changed and the source went on.
    source: Option<Source>,
    /// Then the newest packet of media before the change.
    newest: Option<SequenceNumber>,
    timeline: Timeline,
    until: MediaInstant,
}

/// Plain counts.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    received: u64,
    late: u64,
    duplicate: u64,
    repaired: u64,
    invalid: u64,
    /// Of sources that are gone for good.
    expected: u64,
    arrived: u64,
    losses: LossRuns,
}

/// The receiving end of one leg.
#[derive(Debug)]
#[repr(C)]
pub struct LegReceiver {
    /// All that an expected packet needs.
    flow: Flow,
    body: Box<Body>,
}

impl LegReceiver {
    /// A receiver, and the ring that it writes. Nothing is allocated a packet from here on.
    pub fn new(config: LegConfig) -> (Self, Arc<Ring>) {
        let (body, ring) = Body::new(config);
        (Self { flow: body.no_flow(), body: Box::new(body) }, ring)
    }

    /// Look at what the next packet will need of the receiver itself; what comes back says nothing. Then
    /// [`LegReceiver::touch_ring`].
    pub fn touch(&self) -> u64 {
        self.flow.touch()
    }

    /// Look at where its samples will go. See [`Appender::touch`](super::ring::Appender::touch).
    pub fn touch_ring(&self) -> u64 {
        self.flow.touch_ring()
    }

    /// A datagram came in at `arrival`.
    pub fn on_packet(&mut self, arrival: MediaInstant, datagram: &[u8]) -> PacketOutcome {
        if self.flow.take(arrival, datagram) {
            return PacketOutcome::Placed;
        }
        self.on_other_packet(arrival, datagram)
    }

    /// Whether the last packet was as expected, so that [`LegReceiver::next_deadline`] is no sooner than it was.
    pub fn is_flowing(&self) -> bool {
        self.flow.is_expecting() && self.flow.has_taken()
    }

    fn on_other_packet(&mut self, arrival: MediaInstant, datagram: &[u8]) -> PacketOutcome {
        self.catch_up();
        let (outcome, ordinary) = self.body.on_packet(arrival, datagram);
        if let Some(len) = ordinary {
            self.body.expect_next(&mut self.flow, len);
        }
        outcome
    }

    /// It is `now`, and every datagram that came before has been handed in.
    pub fn on_tick(&mut self, now: MediaInstant) {
        if self.flow.goes_on(now) {
            return;
        }
        self.catch_up();
        self.body.let_pass(now);
        self.expect_again();
    }

    /// When [`LegReceiver::on_tick`] is due next, if ever; while packets come as expected it may be told sooner than it is due.
    pub fn next_deadline(&self) -> Option<MediaInstant> {
        self.flow.due().or_else(|| self.body.earliest_deadline())
    }

    /// Whether [`LegReceiver::take_events`] has any.
    pub fn has_events(&self) -> bool {
        !self.body.events.is_empty()
    }

    /// What happened since the last call. At most 64 events are kept.
    pub fn take_events(&mut self) -> impl Iterator<Item = LegEvent> + '_ {
        self.body.events.drain(..)
    }

    /// Counters and estimates so far.
    pub fn stats(&mut self) -> LegStats {
        self.settled().stats()
    }

    /// The counts of [`LegReceiver::stats`] that only grow, without any allocation.
    pub fn counts(&self) -> LegCounts {
        let counts = self.body.counts();
        LegCounts { received: counts.received + u64::from(self.flow.taken()), ..counts }
    }

    /// How the current source has been received, for an RTCP report block; `None` before there is one. Nothing is allocated.
    pub fn reception(&mut self) -> Option<Reception> {
        self.settled().reception()
    }

    /// Bring everything to its end as of `end`: packets kept back are placed, a press is ended, and a leg without packets
    /// for the last 500 ms or more is padded up to `end`; any other ends with its last packet. The ring stays open; events can still be taken.
    pub fn flush(&mut self, end: MediaInstant) {
        self.catch_up();
        self.body.flush(end);
    }

    /// [`LegReceiver::flush`], and close the ring.
    pub fn finish(mut self, end: MediaInstant) -> LegStats {
        self.flush(end);
        self.body.stats()
    }

    /// Let all else know of the packets that came as they were expected, and expect none.
    fn catch_up(&mut self) {
        if self.flow.stop() {
            self.body.took(&mut self.flow);
        }
    }

    /// Go on expecting, after something else had its turn.
    fn expect_again(&mut self) {
        if let Some(len) = self.flow.packet() {
            self.body.expect_next(&mut self.flow, len);
        }
    }

    /// All but the flow, which knows nothing that this does not.
    fn settled(&mut self) -> &Body {
        self.catch_up();
        self.expect_again();
        &self.body
    }
}

/// All there is of a leg's receiver but the packet that it expects.
#[derive(Debug)]
struct Body {
    config: LegConfig,
    writer: RingWriter,
    jitter: Jitter,
    skew: Skew,
    /// What a codec that has a memory needs, and only such a one.
    memory: Option<Box<decode::Memory>>,
    reorder: Option<Box<reorder::Reorder>>,
    /// Call sample of ring sample 0, once there is an anchor.
    base: Option<i64>,
    active: Option<Stream>,
    /// When a packet of the current source came last.
    active_heard: Option<MediaInstant>,
    previous: Option<Previous>,
    pending: Option<pending::Pending>,
    hold: Hold,
    asides: aside::Asides,
    /// Ring sample behind the newest packet of media.
    tail: u64,
    /// The sequence number of that packet.
    newest_media: Option<SequenceNumber>,
    /// What the sender's silence is at present: silence, or comfort noise.
    fill: SlotState,
    /// Packets missing since the newest one of media: they fell into what precedes the next.
    missed: Option<Missed>,
    gaps: Gaps,
    /// For concealment: what was heard before a gap, after it, and what fills it.
    scratch: Box<[i16]>,
    events_dtmf: TelephoneEvents,
    /// The first instant told of: the leg is received from here on.
    begun: Option<MediaInstant>,
    last_arrival: Option<MediaInstant>,
    stalled: bool,
    /// The last rate told on a timeline that is over.
    ppm_before: Option<f64>,
    tally: Tally,
    ssrcs: Vec<u32>,
    segments: Vec<Segment>,
    events: VecDeque<LegEvent>,
}

impl Body {
    fn new(config: LegConfig) -> (Self, Arc<Ring>) {
        let rate = config.codec.sample_rate();
        debug_assert_eq!(rate, config.clock.rate(), "a leg's codec has the rate of the call");
        let (mut writer, shared) = ring(rate, config.ring_slots);
        writer.set_lags(rate.samples_in(config.live_lag), rate.samples_in(config.repair_window));
        let body = Self {
            writer,
            memory: decode::Memory::of(config.codec),
            reorder: config.codec.is_stateful().then(reorder::Reorder::new),
            base: None,
            active: None,
            active_heard: None,
            previous: None,
            pending: None,
            hold: Hold::new(pending::PACKETS, pending::BYTES),
            asides: aside::Asides::new(),
            tail: 0,
            newest_media: None,
            fill: SlotState::Silence,
            missed: None,
            gaps: Gaps::new(),
            scratch: vec![0; rate.samples_in(2 * conceal::CONTEXT + conceal::MAX_GAP) as usize]
                .into_boxed_slice(),
            events_dtmf: TelephoneEvents::default(),
            begun: None,
            last_arrival: None,
            stalled: false,
            jitter: Jitter::new(config.codec.rtp_clock_rate()),
            skew: Skew::default(),
            ppm_before: None,
            tally: Tally::default(),
            ssrcs: config.resume.iter().map(|segment| segment.ssrc).collect(),
            segments: config.resume.iter().cloned().collect(),
            events: VecDeque::with_capacity(EVENTS),
            config,
        };
        (body, shared)
    }

    /// Any packet: what became of it, and how many samples it brought if the one after it may be [expected](Flow).
    fn on_packet(&mut self, arrival: MediaInstant, datagram: &[u8]) -> (PacketOutcome, Option<usize>) {
        self.let_pass(arrival);
        let (packet, kind) = match self.classify(datagram) {
            Ok(classified) => classified,
            Err(error) => {
                self.tally.invalid += 1;
                self.note_invalid(datagram);
                return (PacketOutcome::Invalid(error), None);
            }
        };
        self.heard(arrival);
        if kind == Kind::Event {
            let events = &mut self.events;
            self.events_dtmf.on_packet(
                packet.ssrc(),
                packet.timestamp(),
                packet.payload(),
                arrival,
                |press| push(events, dtmf(press)),
            );
        }
        let outcome = self.dispatch(&packet, kind, arrival);
        self.announce_gaps();
        let ordinary = match kind {
            Kind::Audio(len) if outcome == PacketOutcome::Placed => Some(len),
            _ => None,
        };
        let is_plain = |len: &usize| datagram.len() == FIXED_HEADER + self.config.codec.payload_bytes(*len);
        (outcome, ordinary.filter(is_plain))
    }

    fn let_pass(&mut self, now: MediaInstant) {
        self.begun.get_or_insert(now);
        self.release_overdue(now);
        self.settle_if_due(now);
        self.discard_asides(now);
        let events = &mut self.events;
        self.events_dtmf.on_deadline(now, |press| push(events, dtmf(press)));
        if self.previous.as_ref().is_some_and(|previous| previous.until <= now) {
            self.retire_previous();
        }
        if self.stall_deadline().is_some_and(|due| due <= now) {
            self.stalled = true;
            self.emit(match self.last_arrival {
                Some(_) => LegEvent::Stalled,
                None => LegEvent::Unheard { invalid: self.tally.invalid },
            });
        }
        self.advance_head(now);
        self.announce_gaps();
        self.settle_losses(now);
    }

    fn earliest_deadline(&self) -> Option<MediaInstant> {
        [self.fixed_deadline(), self.stall_deadline(), self.head_deadline()].into_iter().flatten().min()
    }

    /// Of the deadlines those that packets do not put off.
    fn fixed_deadline(&self) -> Option<MediaInstant> {
        let deadlines = [
            self.settle_deadline(),
            self.asides_deadline(),
            self.reorder_deadline(),
            self.events_dtmf.deadline(),
            self.previous.as_ref().map(|previous| previous.until),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// See [`LegReceiver::flush`].
    fn flush(&mut self, end: MediaInstant) {
        self.release_waiting();
        self.settle_at_end(end);
        self.discard_asides(MediaInstant::from_nanos(u64::MAX));
        let events = &mut self.events;
        self.events_dtmf.end(|press| push(events, dtmf(press)));
        self.conceal_before(u64::MAX);
        if let (Some(base), Some(last)) = (self.base, self.last_arrival) {
            let stalled = end.saturating_since(last) > END_MARGIN;
            let to = u64::try_from(self.config.clock.sample_at(end) - base).unwrap_or(0);
            if stalled {
                self.writer.advance(to, self.fill);
            }
            // The end is told late: time may have run on past it.
            self.writer.cut(if stalled { to } else { 0 });
        }
        self.announce_gaps_before(u64::MAX);
    }

    fn classify<'a>(&self, datagram: &'a [u8]) -> Result<(RtpPacket<'a>, Kind), PacketError> {
        let packet = RtpPacket::parse(datagram)?;
        let payload_type = packet.payload_type();
        let actual = packet.payload().len();
        let kind = if payload_type == self.config.payload_type {
            self.config.codec.samples_in(packet.payload()).map(Kind::Audio)
        } else if COMFORT_NOISE.contains(&payload_type) {
            Some(Kind::ComfortNoise)
        } else if Some(payload_type) == self.config.telephone_event {
            TelephoneEvents::is_plausible(actual).then_some(Kind::Event)
        } else {
            let expected = self.config.payload_type;
            return Err(PacketError::PayloadType { expected, actual: payload_type });
        };
        Ok((packet, kind.ok_or(PacketError::PayloadLength { payload_type, actual })?))
    }

    fn heard(&mut self, arrival: MediaInstant) {
        let last = self.last_arrival.replace(self.last_arrival.map_or(arrival, |last| last.max(arrival)));
        if self.stalled {
            self.stalled = false;
            let silent = last.or(self.begun).map_or(Duration::ZERO, |since| arrival.saturating_since(since));
            self.emit(LegEvent::Resumed { silent_ms: silent.as_millis() as u64 });
        }
    }

    fn stall_deadline(&self) -> Option<MediaInstant> {
        let since = self.last_arrival.or(self.begun).filter(|_| !self.stalled)?;
        Some(since + self.config.stall_after)
    }

    fn emit(&mut self, event: LegEvent) {
        push(&mut self.events, event);
    }
}

fn push(events: &mut VecDeque<LegEvent>, event: LegEvent) {
    if events.len() == EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}

fn dtmf(press: Press) -> LegEvent {
    LegEvent::Dtmf { digit: press.digit, duration_ms: press.duration_ms }
}

#[cfg(test)]
mod tests;
