//! The legs of one shard by their senders' addresses, and what happens to a datagram.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::hold::{Hold, PATIENCE};
use super::leg::{Ending, Leg, LegKey};
use super::rtcp::{Sockets, Via};
use super::sys::Datagram;
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

/// The legs, and the datagrams that wait for theirs.
pub(super) struct Table {
    legs: HashMap<SocketAddr, Box<Leg>>,
    hold: Hold,
    /// For what legs send to peers that report to them.
    sockets: Arc<Sockets>,
    pub counts: Counts,
}

impl Table {
    pub(super) fn new(sockets: Arc<Sockets>) -> Self {
        Self { legs: HashMap::new(), hold: Hold::new(), sockets, counts: Counts::default() }
    }

    pub(super) fn legs(&self) -> usize {
        self.legs.len()
    }

    pub(super) fn on_datagram(&mut self, datagram: &Datagram<'_>) {
        self.counts.received += 1;
        if is_rtcp(datagram.payload) {
            return self.on_rtcp(datagram, Via::Rtp);
        }
        match self.legs.get_mut(&datagram.source) {
            Some(_) if datagram.truncated => self.counts.oversized += 1,
            Some(leg) => leg.on_packet(datagram.arrival, datagram.payload),
            None => self.counts.unroutable += self.hold.push(datagram),
        }
    }

    /// A datagram of RTCP, from the leg's sender or from the port above.
    pub(super) fn on_rtcp(&mut self, datagram: &Datagram<'_>, via: Via) {
        self.counts.rtcp_received += 1;
        let (same, mut below) = (datagram.source, datagram.source);
        below.set_port(below.port().saturating_sub(1));
        let likely = if via == Via::Rtp { [same, below] } else { [below, same] };
        let Some(source) = likely.into_iter().find(|source| self.legs.contains_key(source)) else {
            self.counts.rtcp_unroutable += 1;
            return;
        };
        let is_valid = self
            .legs
            .get_mut(&source)
            .is_some_and(|leg| !datagram.truncated && leg.on_rtcp(datagram, via, &self.sockets));
        self.counts.rtcp_invalid += u64::from(!is_valid);
    }

    /// From now on `leg` gets what its sender sends, beginning with what came already. Takes the place of a leg of the
    /// same sender that was about to end.
    pub(super) fn attach(&mut self, mut leg: Box<Leg>, now: MediaInstant) {
        let source = leg.key.source;
        if let Some(before) = self.legs.remove(&source) {
            before.finish(now);
        }
        self.hold.release(source, |arrival, payload| leg.on_packet(arrival, payload));
        self.legs.insert(source, leg);
    }

    /// The leg's sender is `to` from now on.
    pub(super) fn move_leg(&mut self, key: LegKey, to: SocketAddr, now: MediaInstant) {
        if self.leg(key).is_some()
            && let Some(mut leg) = self.legs.remove(&key.source)
        {
            leg.key.source = to;
            self.attach(leg, now);
        }
    }

    /// `None` if there is no such leg any more.
    pub(super) fn stats(&mut self, key: LegKey) -> Option<LegStats> {
        self.leg(key).map(Leg::stats)
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
        if let Some(leg) = self.leg(key) {
            leg.ending = Some(Ending { end, reply, drained_to: now + GRACE });
        }
    }

    /// Finish the leg at once.
    pub(super) fn detach(&mut self, key: LegKey, now: MediaInstant, ended: impl FnOnce(LegKey)) {
        if self.leg(key).is_some()
            && let Some(leg) = self.legs.remove(&key.source)
        {
            ended(key);
            leg.finish(now);
        }
    }

    /// Give every leg the time, and finish those whose end has come. All that arrived before `drained` has been read;
    /// that, not `now`, is the legs' time, since for them a tick says that nothing came.
    pub(super) fn tick(&mut self, now: MediaInstant, drained: MediaInstant, mut ended: impl FnMut(LegKey)) {
        for leg in self.legs.values_mut() {
            leg.on_tick(drained);
        }
        let due = |leg: &Leg| {
            let ending = leg.ending.as_ref();
            ending.is_some_and(|e| drained >= e.drained_to || now >= e.drained_to + PATIENCE_TO_DRAIN)
        };
        for (_, leg) in self.legs.extract_if(|_, leg| due(leg)) {
            ended(leg.key);
            leg.finish(now);
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

    /// Tell the metrics what the legs received since the last time.
    pub(super) fn report_legs(&mut self) {
        for leg in self.legs.values_mut() {
            leg.report();
        }
    }

    /// Finish every leg as of `now`, and give up all that is held.
    pub(super) fn finish_all(&mut self, now: MediaInstant) {
        for (_, leg) in self.legs.drain() {
            leg.finish(now);
        }
        self.expire_held(MediaInstant::from_nanos(u64::MAX));
    }

    fn leg(&mut self, key: LegKey) -> Option<&mut Leg> {
        self.legs.get_mut(&key.source).map(|leg| &mut **leg).filter(|leg| leg.key == key)
    }
}
