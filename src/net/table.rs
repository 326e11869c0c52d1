//! The legs of one shard by their senders' addresses, and what happens to a datagram.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::oneshot;

use super::hold::{Hold, PATIENCE};
use super::leg::{Ending, Leg, LegKey};
use super::route::{BuildFoldHasher, Sender};
use super::rtcp::{Sockets, Via};
use super::sys::{BATCH, Datagram};
use super::voice::Voices;
use super::wheel::{TICK, Wheel};
use crate::media::report::LegStats;
use crate::media::rtcp::is_rtcp;
use crate::media::time::MediaInstant;

/// A leg that ends still hears what arrives for this long: what was on its way when the end was asked for.
pub(super) const GRACE: Duration = Duration::from_millis(60);
/// And what arrived within the grace is read for at most this long, should a flood keep the socket from running dry.
const PATIENCE_TO_DRAIN: Duration = Duration::from_secs(1);

/// What a shard adds up between two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub received: u64,
    pub unroutable: u64,
    pub oversized: u64,
    pub rtcp_received: u64,
    pub rtcp_unroutable: u64,
    pub rtcp_invalid: u64,
}

/// The metrics are told of every leg once in so many ticks: once a second.
const REPORT_TICKS: usize = (1_000 / TICK.as_millis()) as usize;

/// The legs, and the datagrams that wait for theirs.
pub(super) struct Table {
    legs: Slab<Leg>,
    /// Where a sender's leg is among `legs`.
    routes: HashMap<Sender, u32, BuildFoldHasher>,
    /// Whose datagram came after that of each leg: most senders send at the same pace, so that they come in the same order
    /// again, and most routes need not be looked up.
    followers: Vec<u32>,
    /// Whose came last.
    last: u32,
    wheel: Wheel,
    /// Of the batch at hand, the leg of each datagram.
    coming: Vec<Option<u32>>,
    /// Legs whose end was asked for.
    ending: Vec<u32>,
    /// Ticks so far: says whose turn it is to be reported.
    ticks: usize,
    hold: Hold,
    /// For what legs send to peers that report to them.
    sockets: Arc<Sockets>,
    pub voices: Voices,
    pub counts: Counts,
}

impl Table {
    pub(super) fn new(sockets: Arc<Sockets>, now: MediaInstant) -> Self {
        Self {
            legs: Slab::new(),
            routes: HashMap::default(),
            followers: vec![0],
            last: 0,
            wheel: Wheel::new(now),
            coming: Vec::with_capacity(BATCH),
            ending: Vec::new(),
            ticks: 0,
            hold: Hold::new(),
            voices: Voices::new(sockets.clone(), now),
            sockets,
            counts: Counts::default(),
        }
    }

    pub(super) fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Give a batch of datagrams to their legs.
    ///
    /// What they will need is brought into the cache first: a packet finds its leg 20 ms after the one before, when hundreds of
    /// others have been through the cache, and one by one each would wait for its memory alone.
    pub(super) fn on_batch<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>> + Clone) {
        let mut coming = std::mem::take(&mut self.coming);
        coming.clear();
        coming.extend(datagrams.clone().map(|datagram| self.leg_of(datagram.source)));
        let legs = || coming.iter().filter_map(|at| self.legs.get(at.as_ref().copied()? as usize));
        let receivers = legs().fold(0, |sum, leg| sum ^ leg.touch());
        std::hint::black_box(legs().fold(receivers, |sum, leg| sum ^ leg.touch_ring()));
        for (datagram, at) in datagrams.zip(&coming) {
            self.on_datagram(&datagram, *at);
        }
        self.coming = coming;
    }

    /// Where the leg of a datagram's sender is, if there is one.
    fn leg_of(&mut self, source: SocketAddr) -> Option<u32> {
        let follower = &mut self.followers[self.last as usize];
        if self.legs.get(*follower as usize).is_none_or(|leg| leg.key().source != source) {
            *follower = *self.routes.get(&source.into())?;
        }
        self.last = *follower;
        Some(self.last)
    }

    /// A datagram whose sender's leg is `at`, if it is known.
    fn on_datagram(&mut self, datagram: &Datagram<'_>, at: Option<u32>) {
        self.counts.received += 1;
        if is_rtcp(datagram.payload) {
            return self.on_rtcp(datagram, Via::Rtp);
        }
        match at {
            Some(_) if datagram.truncated => self.counts.oversized += 1,
            Some(at) => {
                let leg = &mut self.legs[at as usize];
                if leg.on_packet(datagram.arrival, datagram.payload)
                    && let Some(due) = leg.next_deadline()
                {
                    self.wheel.schedule(at, due);
                }
            }
            None if self.voices.is_peer(datagram.source) => {}
            None => self.counts.unroutable += self.hold.push(datagram),
        }
    }

    /// A datagram of RTCP, from the leg's sender or from the port above.
    pub(super) fn on_rtcp(&mut self, datagram: &Datagram<'_>, via: Via) {
        self.counts.rtcp_received += 1;
        let (same, mut below) = (datagram.source, datagram.source);
        below.set_port(below.port().saturating_sub(1));
        let likely = if via == Via::Rtp { [same, below] } else { [below, same] };
        let Some(&at) = likely.into_iter().find_map(|source| self.routes.get(&source.into())) else {
            self.counts.rtcp_unroutable += 1;
            return;
        };
        let leg = &mut self.legs[at as usize];
        let is_valid = !datagram.truncated && leg.on_rtcp(datagram, via, &self.sockets);
        self.counts.rtcp_invalid += u64::from(!is_valid);
        if let Some(due) = leg.next_deadline() {
            self.wheel.schedule(at, due);
        }
    }

    /// From now on `leg` gets what its sender sends, beginning with what came already. Takes the place of a leg of the
    /// same sender that was about to end.
    pub(super) fn attach(&mut self, mut leg: Leg, now: MediaInstant) {
        let source = leg.key().source;
        if let Some(before) = self.remove_from(source) {
            before.finish(now);
        }
        self.hold.release(source, |arrival, payload| {
            leg.on_packet(arrival, payload);
        });
        let ending = leg.ending().is_some();
        let at = self.legs.insert(leg) as u32;
        self.routes.insert(source.into(), at);
        self.followers.resize(self.legs.capacity().max(1), 0);
        // The first tick tells it since when packets may come.
        self.wheel.schedule(at, now);
        if ending {
            self.ending.push(at);
        }
    }

    /// The leg's sender is `to` from now on.
    pub(super) fn move_leg(&mut self, key: LegKey, to: SocketAddr, now: MediaInstant) {
        if let Some(mut leg) = self.remove(key) {
            leg.move_to(to);
            self.attach(leg, now);
        }
    }

    /// `None` if there is no such leg any more.
    pub(super) fn stats(&mut self, key: LegKey) -> Option<LegStats> {
        self.leg(key).map(|(_, leg)| leg.stats())
    }

    /// Finish the leg at `end` once the socket has been read to [`GRACE`] after `now`. Without such a leg `reply` is
    /// dropped.
    pub(super) fn end(
        &mut self,
        key: LegKey,
        end: MediaInstant,
        reply: oneshot::Sender<LegStats>,
        now: MediaInstant,
    ) {
        if let Some((at, leg)) = self.leg(key) {
            leg.end(Ending { end, reply, drained_to: now + GRACE });
            self.ending.push(at);
        }
    }

    /// Finish the leg at once.
    pub(super) fn detach(&mut self, key: LegKey, now: MediaInstant, ended: impl FnOnce(LegKey)) {
        if let Some(leg) = self.remove(key) {
            ended(key);
            leg.finish(now);
        }
    }

    /// Give the time to the legs that are due, finish those whose end has come, and tell the metrics of some. All that
    /// arrived before `drained` has been read; that, not `now`, is the legs' time, since for them a tick says that
    /// nothing came.
    pub(super) fn tick(&mut self, now: MediaInstant, drained: MediaInstant, mut ended: impl FnMut(LegKey)) {
        while let Some(at) = self.wheel.take_due(drained) {
            let leg = &mut self.legs[at as usize];
            leg.on_tick(drained);
            if let Some(due) = leg.next_deadline() {
                // Never into the tick that is being dealt with.
                self.wheel.schedule(at, due.max(drained + TICK));
            }
        }
        let mut n = 0;
        while let Some(&at) = self.ending.get(n) {
            let ending = self.legs[at as usize].ending();
            let due =
                ending.is_some_and(|e| drained >= e.drained_to || now >= e.drained_to + PATIENCE_TO_DRAIN);
            if due {
                // Takes it out of `ending`, too.
                if let Some(leg) = self.remove(self.legs[at as usize].key()) {
                    ended(leg.key());
                    leg.finish(now);
                }
            } else {
                n += 1;
            }
        }
        self.ticks += 1;
        for at in (self.ticks % REPORT_TICKS..self.legs.capacity()).step_by(REPORT_TICKS) {
            if let Some(leg) = self.legs.get_mut(at) {
                leg.report();
            }
        }
    }

    /// Give up held datagrams that have waited too long.
    pub(super) fn expire_held(&mut self, now: MediaInstant) {
        self.counts.unroutable += self.hold.expire(now);
    }

    /// When to come back at the latest for the sake of what is held.
    pub(super) fn hold_patience(&self) -> Option<Duration> {
        (!self.hold.is_empty()).then_some(PATIENCE / 4)
    }

    /// Finish every leg as of `now`, and give up all that is held.
    pub(super) fn finish_all(&mut self, now: MediaInstant) {
        self.routes.clear();
        self.ending.clear();
        for leg in self.legs.drain() {
            leg.finish(now);
        }
        self.wheel = Wheel::new(now);
        self.expire_held(MediaInstant::from_nanos(u64::MAX));
    }

    fn leg(&mut self, key: LegKey) -> Option<(u32, &mut Leg)> {
        let at = *self.routes.get(&key.source.into())?;
        let leg = self.legs.get_mut(at as usize)?;
        (leg.key() == key).then_some((at, leg))
    }

    fn remove(&mut self, key: LegKey) -> Option<Leg> {
        self.leg(key)?;
        self.remove_from(key.source)
    }

    fn remove_from(&mut self, source: SocketAddr) -> Option<Leg> {
        let at = self.routes.remove(&source.into())?;
        self.wheel.cancel(at);
        self.ending.retain(|&ending| ending != at);
        self.legs.try_remove(at as usize)
    }
}
