//! A leg as its shard sees it: the receiver, who wants its events, and what was told to the metrics.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::rtcp::{LegRtcp, Sockets, Via};
use super::sys::Datagram;
use crate::media::receiver::LegReceiver;
use crate::media::report::{LegCounts, LegEvent, LegStats};
use crate::media::rtcp::{Compound, Reception};
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// Takes a leg's events, on the shard's thread: it must not block.
pub type LegSink = Arc<dyn Fn(LegEvent) + Send + Sync>;

/// Names a leg for its whole life; the source alone may be another leg's later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LegKey {
    pub source: SocketAddr,
    pub id: u64,
}

/// An end that was asked for and waits until the socket has been read dry.
pub(super) struct Ending {
    pub end: MediaInstant,
    pub reply: oneshot::Sender<LegStats>,
    /// The receiver is finished once all that arrived before this has been read.
    pub drained_to: MediaInstant,
}

/// An attached leg. What every packet needs is here, side by side with that of other legs, and the rest is elsewhere.
#[repr(align(64))]
pub(super) struct Leg {
    key: LegKey,
    /// `None` if it panicked, or was finished.
    receiver: Option<LegReceiver>,
    /// Of a sender that speaks it.
    rtcp: Option<Box<LegRtcp>>,
    rest: Box<Rest>,
}

struct Rest {
    sink: Option<LegSink>,
    ending: Option<Ending>,
    /// As of the last report.
    reported: LegCounts,
    /// The last there is of a receiver that panicked.
    last: Option<LegStats>,
}

impl Leg {
    pub(super) fn new(key: LegKey, receiver: LegReceiver, sink: LegSink) -> Self {
        let (reported, sink) = (LegCounts::default(), Some(sink));
        let rest = Box::new(Rest { sink, ending: None, reported, last: None });
        Self { key, receiver: Some(receiver), rtcp: None, rest }
    }

    pub(super) fn key(&self) -> LegKey {
        self.key
    }

    /// Its sender is another from now on.
    pub(super) fn move_to(&mut self, source: SocketAddr) {
        self.key.source = source;
    }

    /// The end that was asked for.
    pub(super) fn ending(&self) -> Option<&Ending> {
        self.rest.ending.as_ref()
    }

    pub(super) fn end(&mut self, ending: Ending) {
        self.rest.ending = Some(ending);
    }

    /// See [`LegReceiver::touch`].
    pub(super) fn touch(&self) -> u64 {
        self.receiver.as_ref().map_or(0, LegReceiver::touch)
    }

    /// See [`LegReceiver::touch_ring`].
    pub(super) fn touch_ring(&self) -> u64 {
        self.receiver.as_ref().map_or(0, LegReceiver::touch_ring)
    }

    /// Whether [`Leg::next_deadline`] may be sooner than it was.
    pub(super) fn on_packet(&mut self, arrival: MediaInstant, datagram: &[u8]) -> bool {
        let (mut has_events, mut is_flowing) = (false, false);
        self.guarded(|receiver| {
            receiver.on_packet(arrival, datagram);
            is_flowing = receiver.is_flowing();
            has_events = !is_flowing && receiver.has_events();
        });
        if has_events {
            self.forward_events();
        }
        !is_flowing
    }

    /// When [`Leg::on_tick`] is due next, if ever.
    pub(super) fn next_deadline(&self) -> Option<MediaInstant> {
        let receiver = self.receiver.as_ref().and_then(LegReceiver::next_deadline);
        let rtcp = self.rtcp.as_ref().and_then(|rtcp| rtcp.next_deadline());
        receiver.into_iter().chain(rtcp).min()
    }

    /// RTCP of the leg's sender; `false` if it is not valid.
    pub(super) fn on_rtcp(&mut self, datagram: &Datagram<'_>, via: Via, sockets: &Arc<Sockets>) -> bool {
        let &Datagram { source, arrival, payload, .. } = datagram;
        if self.rtcp.is_none() {
            self.rtcp = LegRtcp::begun_by(payload, arrival, source, via, sockets);
        }
        match &mut self.rtcp {
            Some(rtcp) => rtcp.on_packet(arrival, payload, source, via),
            None => Compound::parse(payload).is_ok(),
        }
    }

    /// All that arrived before `drained` has been handed over.
    pub(super) fn on_tick(&mut self, drained: MediaInstant) {
        let mut is_flowing = false;
        self.guarded(|receiver| {
            receiver.on_tick(drained);
            is_flowing = receiver.is_flowing();
        });
        if is_flowing && self.rtcp.is_none() {
            return;
        }
        self.forward_events();
        let due = self.rtcp.as_ref().and_then(|rtcp| rtcp.next_deadline());
        if due.is_some_and(|due| due <= drained) {
            let reception = self.reception();
            if let Some(rtcp) = &mut self.rtcp {
                rtcp.report(drained, reception.as_ref());
            }
        }
    }

    fn reception(&mut self) -> Option<Reception> {
        let mut reception = None;
        self.guarded(|receiver| reception = receiver.reception());
        reception
    }

    /// As of now, or as of a panic.
    pub(super) fn stats(&mut self) -> LegStats {
        let mut stats = None;
        self.guarded(|receiver| stats = Some(receiver.stats()));
        let stats = stats.map(|stats| self.with_round_trip(stats));
        stats.or_else(|| self.rest.last.clone()).unwrap_or_default()
    }

    /// Add to the metrics what came since the last report.
    pub(super) fn report(&mut self) {
        let mut counts = None;
        self.guarded(|receiver| counts = Some(receiver.counts()));
        if let Some(counts) = counts {
            self.report_growth(counts);
        }
    }

    /// With what RTCP knows of the path, which the score counts.
    fn with_round_trip(&self, mut stats: LegStats) -> LegStats {
        if let Some(millis) = self.rtcp.as_ref().and_then(|rtcp| rtcp.round_trip_ms()) {
            stats.round_trip_ms = Some(millis);
            stats.judge();
        }
        stats
    }

    /// Flush, close the ring, tell the metrics, and answer whoever asked for the end.
    pub(super) fn finish(mut self, now: MediaInstant) {
        let ending = self.rest.ending.take();
        let end = ending.as_ref().map_or(now, |ending| ending.end);
        // What flushing brings about is heard of too.
        self.guarded(|receiver| receiver.flush(end));
        self.report();
        self.forward_events();
        let reception = self.reception();
        if let Some(rtcp) = &mut self.rtcp {
            rtcp.goodbye(now, reception.as_ref());
        }
        let stats = self.receiver.take().and_then(|receiver| {
            catch_unwind(AssertUnwindSafe(|| receiver.finish(end)))
                .inspect_err(|panic| self.log_panic("finishing", &**panic))
                .ok()
        });
        let stats = stats.map(|stats| self.with_round_trip(stats));
        if let Some(stats) = &stats {
            // Nothing more will come. Of what came too late, some is counted as lost already.
            metric::RTP_LOST.add(stats.packets_lost.saturating_sub(self.rest.reported.lost));
            if stats.packets_received > 0 {
                metric::LEG_JITTER.record(stats.jitter_ms / 1_000.0);
            }
            if let Some(mos) = stats.mos {
                metric::LEG_MOS.record(mos);
            }
        }
        if let Some(ending) = ending {
            // Nobody may be waiting any more; the ring is closed all the same.
            let _ = ending.reply.send(stats.or(self.rest.last).unwrap_or_default());
        }
    }

    fn report_growth(&mut self, after: LegCounts) {
        let before = std::mem::replace(&mut self.rest.reported, after);
        for (counter, after, before) in [
            (&metric::RTP_RECEIVED, after.received, before.received),
            (&metric::RTP_LOST, after.lost, before.lost),
            (&metric::RTP_LATE, after.late, before.late),
            (&metric::RTP_DUPLICATE, after.duplicate, before.duplicate),
            (&metric::RTP_REPAIRED, after.repaired, before.repaired),
            (&metric::RTP_INVALID, after.invalid, before.invalid),
        ] {
            if after > before {
                counter.add(after - before);
            }
        }
    }

    fn forward_events(&mut self) {
        let (Some(receiver), Some(sink)) = (self.receiver.as_mut(), &self.rest.sink) else { return };
        let forward = || {
            for event in receiver.take_events() {
                if matches!(event, LegEvent::Stalled | LegEvent::Unheard { .. }) {
                    metric::LEG_STALLS.add(1);
                }
                sink(event);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(forward)) {
            self.log_panic("telling of events; it goes on without telling", &*panic);
            self.rest.sink = None;
        }
    }

    /// Run `work` on the receiver. A panic ends this leg, and no other.
    fn guarded(&mut self, work: impl FnOnce(&mut LegReceiver)) {
        let Some(receiver) = self.receiver.as_mut() else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(receiver))) {
            self.log_panic("receiving; its audio ends here", &*panic);
            let mut broken = self.receiver.take();
            self.rest.last = catch_unwind(AssertUnwindSafe(|| Some(broken.as_mut()?.stats()))).ok().flatten();
            if catch_unwind(AssertUnwindSafe(|| drop(broken))).is_err() {
                tracing::error!(source = %self.key.source, "the receiver of a leg panicked again when dropped");
            }
        }
    }

    fn log_panic(&self, doing: &str, panic: &(dyn Any + Send)) {
        tracing::error!(source = %self.key.source, panic = panic_text(panic), "a leg panicked when {doing}");
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::clock::CallClock;
    use crate::media::codec::Codec;
    use crate::media::receiver::LegConfig;
    use crate::media::time::SampleRate;

    fn leg(sink: LegSink) -> Leg {
        let key = LegKey { source: SocketAddr::from(([10, 0, 0, 1], 4000)), id: 1 };
        let clock = Arc::new(CallClock::new(MediaInstant::default(), SampleRate::NARROWBAND, 1));
        Leg::new(key, LegReceiver::new(LegConfig::new(Codec::Ulaw, clock)).0, sink)
    }

    #[test]
    fn a_panic_ends_one_leg_and_its_last_counters_stand() {
        let mut leg = leg(Arc::new(|_| ()));
        leg.on_packet(MediaInstant::default(), &[0x80; 172]);
        leg.on_packet(MediaInstant::default(), b"noise");
        leg.report();
        let known = leg.stats();
        assert_eq!(known.packets_invalid, 1);
        leg.guarded(|_| panic!("made for this test"));
        leg.on_packet(MediaInstant::default(), &[0x80; 172]);
        leg.on_tick(MediaInstant::default());
        assert_eq!(leg.stats(), known);
        let (reply, mut answer) = oneshot::channel();
        let end = MediaInstant::default();
        leg.end(Ending { end, reply, drained_to: end });
        leg.finish(end);
        assert_eq!(answer.try_recv().unwrap(), known);
    }
}
