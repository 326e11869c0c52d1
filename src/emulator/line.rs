//! A receiver at the end of a network, with a recorder and a live reader at its side, driven as the server drives it.

use std::sync::Arc;
use std::time::Duration;

use super::reference::{Disagreement, Reference};
use super::{Datagram, MS, Network, Sender, instant};
use crate::media::clock::CallClock;
use crate::media::codec::Codec;
use crate::media::receiver::{LegConfig, LegReceiver, PacketOutcome};
use crate::media::report::{LegEvent, LegStats};
use crate::media::ring::{Ring, RingReader, SlotRead};
use crate::media::slot::SlotState;

/// Nanoseconds between two ticks.
const TICK: u64 = 10 * MS;

/// A reader of a ring that keeps what it got.
#[derive(Clone, Debug)]
pub struct Listener {
    reader: RingReader,
    /// Samples that it stays behind the head.
    pub lag: u64,
    /// The samples, from ring sample 0 on; zeros for what it missed.
    pub pcm: Vec<i16>,
    /// The slots' states; `Lost` for those it missed.
    pub states: Vec<SlotState>,
    /// Slots that it missed.
    pub overrun: u64,
    /// Samples that it had read when the ring's end was found to lie before them: silence that only the passing of time had
    /// put there. Like the recording's writer, it has taken them back.
    pub taken_back: usize,
    /// The ring is closed, and all of it has been read.
    pub ended: bool,
}

impl Listener {
    /// A reader of `ring` from its beginning on, `lag` samples behind the head.
    pub fn new(ring: &Arc<Ring>, lag: u64) -> Self {
        let (pcm, states) = (Vec::new(), Vec::new());
        Self { reader: ring.reader(), lag, pcm, states, overrun: 0, taken_back: 0, ended: false }
    }

    /// Read what there is.
    pub fn read(&mut self) {
        let slot = self.reader.ring().slot_samples();
        loop {
            let end = self.pcm.len();
            self.pcm.resize(end + slot, 0);
            match self.reader.read_slot(self.lag, &mut self.pcm[end..]) {
                SlotRead::Ready { state, len } => {
                    self.pcm.truncate(end + len);
                    self.states.push(state);
                }
                SlotRead::Missed { slots } => {
                    self.overrun += slots;
                    self.pcm.resize(end + slots as usize * slot, 0);
                    self.states.resize(self.states.len() + slots as usize, SlotState::Lost);
                }
                SlotRead::Pending => return self.pcm.truncate(end),
                SlotRead::End => {
                    self.ended = true;
                    let kept = end.min(self.reader.ring().head() as usize);
                    self.taken_back += end - kept;
                    self.states.truncate(kept.div_ceil(slot));
                    return self.pcm.truncate(kept);
                }
            }
        }
    }
}

/// One leg under way.
#[derive(Debug)]
pub struct Line {
    leg: LegReceiver,
    ring: Arc<Ring>,
    codec: Codec,
    repair: Duration,
    recorder: Listener,
    live: Listener,
    arrived: Vec<Datagram>,
    /// Of `arrived`, those handed in.
    taken: usize,
    tick: u64,
    head: u64,
    retreats: u64,
    events: Vec<LegEvent>,
    outcomes: Vec<PacketOutcome>,
}

impl Line {
    /// A leg with these settings, and what will come in on it, in the order in which it does.
    pub fn new(config: LegConfig, arrived: Vec<Datagram>) -> Self {
        let rate = config.codec.sample_rate();
        let (codec, repair, live_lag) = (config.codec, config.repair_window, config.live_lag);
        let (leg, ring) = LegReceiver::new(config);
        Self {
            recorder: Listener::new(&ring, rate.samples_in(repair)),
            live: Listener::new(&ring, rate.samples_in(live_lag)),
            outcomes: Vec::with_capacity(arrived.len()),
            events: Vec::new(),
            taken: 0,
            tick: 0,
            head: 0,
            retreats: 0,
            leg,
            ring,
            codec,
            repair,
            arrived,
        }
    }

    /// The leg's ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Let time pass until `until`, nanoseconds: packets come in, ticks in between, readers read after each.
    pub fn run_until(&mut self, until: u64) {
        loop {
            let next = self.arrived.get(self.taken).filter(|datagram| datagram.at < until);
            match next {
                Some(datagram) if datagram.at <= self.tick => {
                    self.outcomes.push(self.leg.on_packet(instant(datagram.at), &datagram.bytes));
                    self.taken += 1;
                }
                _ if self.tick < until => {
                    self.leg.on_tick(instant(self.tick));
                    self.tick += TICK;
                }
                _ => return,
            }
            let head = self.ring.head();
            self.retreats += u64::from(head < self.head);
            self.head = head;
            self.recorder.read();
            self.live.read();
            self.events.extend(self.leg.take_events());
        }
    }

    /// End the call at `end`, nanoseconds. What would have come later has not come.
    pub fn finish(mut self, end: u64) -> Reception {
        self.run_until(end);
        self.leg.flush(instant(end));
        self.events.extend(self.leg.take_events());
        let stats = self.leg.finish(instant(end));
        self.recorder.read();
        self.live.read();
        self.arrived.truncate(self.taken);
        Reception {
            codec: self.codec,
            repair: self.repair,
            end,
            base: self.ring.base(),
            retreats: self.retreats,
            recorder: self.recorder,
            live: self.live,
            stats,
            events: self.events,
            outcomes: self.outcomes,
            arrived: self.arrived,
        }
    }
}

/// What came of a leg.
#[derive(Debug)]
pub struct Reception {
    /// Format of the audio.
    pub codec: Codec,
    /// How far behind the head the recorder stayed.
    pub repair: Duration,
    /// When the call ended, nanoseconds.
    pub end: u64,
    /// Call sample of ring sample 0.
    pub base: i64,
    /// How often the ring's head went back before the end; never, if all is well.
    pub retreats: u64,
    /// What the recorder got.
    pub recorder: Listener,
    /// What the live reader got.
    pub live: Listener,
    /// The leg's part of the report.
    pub stats: LegStats,
    /// What happened on it.
    pub events: Vec<LegEvent>,
    /// What became of each datagram.
    pub outcomes: Vec<PacketOutcome>,
    /// The datagrams.
    pub arrived: Vec<Datagram>,
}

impl Reception {
    /// Receive `arrived` with the defaults, but for concealment, which is off: what is lost is zeros. The call ends at `end`,
    /// nanoseconds.
    pub fn of(codec: Codec, arrived: Vec<Datagram>, end: u64) -> Self {
        Self::with(codec, arrived, end, |_| {})
    }

    /// The same, with other settings.
    pub fn with(codec: Codec, arrived: Vec<Datagram>, end: u64, adjust: impl FnOnce(&mut LegConfig)) -> Self {
        let clock = Arc::new(CallClock::new(instant(0), codec.sample_rate(), 1));
        let mut config = LegConfig { conceal: false, ..LegConfig::new(codec, clock) };
        adjust(&mut config);
        Line::new(config, arrived).finish(end)
    }

    /// What `sender` says, carried perfectly and received until the end of it.
    pub fn of_perfect(sender: &Sender) -> Self {
        let arrived = Network::perfect().carry(&sender.wire);
        Self::of(sender.codec, arrived, sender.nanos_of(sender.now))
    }

    /// Compare everything with the array into which each packet is written at its RTP position.
    ///
    /// # Errors
    /// [`Disagreement`]: the first thing found that is not as it should be.
    pub fn compare(&self) -> Result<(), Disagreement> {
        Reference::of(self)?.compare(self)
    }

    /// [`Reception::compare`], for tests.
    ///
    /// # Panics
    /// With what disagrees.
    pub fn check(&self) {
        if let Err(disagreement) = self.compare() {
            panic!("{disagreement}\n{:?}", self.stats);
        }
    }

    /// By how many samples each segment's place is later than where its sender's clock has it.
    ///
    /// # Panics
    /// If a segment begins with a packet that was not sent.
    pub fn displacements(&self) -> Vec<i64> {
        self.stats
            .segments
            .iter()
            .map(|segment| match self.first_of(segment) {
                Some(first) => segment.first_sample - first.position,
                None => panic!("no packet that was sent begins {segment:?}"),
            })
            .collect()
    }

    /// Samples from the first one of the leg's first segment to the end of the recording.
    pub fn length(&self) -> usize {
        (self.base + self.recorder.pcm.len() as i64 - self.stats.segments[0].first_sample) as usize
    }

    /// The states of the recorder's slots that cover `from..to` ms after the first sample of the leg.
    pub fn states(&self, from: u64, to: u64) -> &[SlotState] {
        self.slots_of(&self.recorder, from, to)
    }

    /// The same of the live reader.
    pub fn live_states(&self, from: u64, to: u64) -> &[SlotState] {
        self.slots_of(&self.live, from, to)
    }

    fn slots_of<'a>(&self, listener: &'a Listener, from: u64, to: u64) -> &'a [SlotState] {
        let slot = self.codec.sample_rate().slot_samples();
        let first = (self.stats.segments[0].first_sample - self.base) as usize / slot;
        &listener.states[first + from as usize / 10..first + to as usize / 10]
    }

    /// Datagrams of which this became.
    pub fn count(&self, outcome: PacketOutcome) -> usize {
        self.outcomes.iter().filter(|&&one| one == outcome).count()
    }
}
