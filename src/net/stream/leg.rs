//! A leg's task: reads its connection into the receiver, and plays to it what its producer has.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::link::{Item, Link, LinkEnd};
use super::outlet::Outlet;
use super::{StreamError, Way};
use crate::clock;
use crate::media::codec::Codec;
use crate::media::pace::Pacer;
use crate::media::report::{LegEvent, LegStats};
use crate::media::stream::StreamReceiver;
use crate::media::time::MediaInstant;
use crate::net::plane::LegSink;
use crate::telemetry::metric;

/// What arrives so long after a leg's end was asked for still counts, as on the RTP plane: it was on its way.
const DRAIN: Duration = Duration::from_millis(60);

enum Command {
    Move(Way),
    Stats(oneshot::Sender<LegStats>),
    Finish { end: MediaInstant, reply: oneshot::Sender<LegStats> },
}

/// A leg that is received from, and sent to, a connection. Dropping it ends the leg as of then.
pub struct StreamLeg {
    commands: mpsc::UnboundedSender<Command>,
}

impl StreamLeg {
    /// Receive what comes over `way` with `receiver`, tell its events to `sink`, and send what `pacer` has, in `codec` (that of
    /// the receiver). Needs a tokio runtime.
    pub fn attach(
        way: Way,
        receiver: Box<StreamReceiver>,
        codec: Codec,
        pacer: Pacer,
        sink: LegSink,
    ) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = Task {
            receiver,
            codec,
            sink,
            outlet: Outlet::new(codec, pacer),
            inbox,
            way: Some(way),
            link: None,
            known: LegStats::default(),
        };
        tokio::spawn(task.run());
        Self { commands }
    }

    /// Receive what comes over `way` from now on, into the same ring; the connection before is closed.
    pub fn move_to(&self, way: Way) {
        // The task only ends with this handle.
        let _ = self.commands.send(Command::Move(way));
    }

    /// The leg's counters now.
    pub async fn stats(&self) -> LegStats {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Stats(reply));
        answer.await.unwrap_or_default()
    }

    /// End the leg at `end`: what arrives within the next 60 ms still counts, then the ring is closed. The end is set in motion
    /// by the call; the future brings the final counters.
    pub fn finish(self, end: MediaInstant) -> impl Future<Output = LegStats> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Finish { end, reply });
        async move {
            let stats = answer.await.unwrap_or_default();
            drop(self);
            stats
        }
    }
}

struct Task {
    receiver: Box<StreamReceiver>,
    codec: Codec,
    sink: LegSink,
    outlet: Outlet,
    inbox: mpsc::UnboundedReceiver<Command>,
    way: Option<Way>,
    link: Option<Link>,
    /// As of the last report to the metrics.
    known: LegStats,
}

impl Task {
    async fn run(mut self) {
        self.receiver.on_tick(clock::now());
        loop {
            let pause = self.next_due().map(|due| due.saturating_since(clock::now()));
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(Command::Move(way)) => (self.way, self.link) = (Some(way), None),
                    // Whoever asked may have gone.
                    Some(Command::Stats(reply)) => drop(reply.send(self.receiver.stats())),
                    Some(Command::Finish { end, reply }) => {
                        self.drain().await;
                        let stats = self.end(end);
                        // The ring is closed by the time that anyone reads the counters.
                        drop(self);
                        let _ = reply.send(stats);
                        return;
                    }
                    None => {
                        self.end(clock::now());
                        return;
                    }
                },
                came = receive(&mut self.link, self.codec, &mut self.receiver, &mut self.outlet) => {
                    if let Err(end) = came {
                        self.lost(&end);
                    }
                }
                link = arrival(&mut self.way), if self.way.is_some() => self.arrived(link),
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            self.pace();
            self.receiver.on_tick(clock::now());
            self.tell();
        }
    }

    fn next_due(&self) -> Option<MediaInstant> {
        let frame = self.link.as_ref().map(|_| self.outlet.next_due());
        [frame, self.receiver.next_deadline()].into_iter().flatten().min()
    }

    fn arrived(&mut self, link: Result<Link, StreamError>) {
        self.way = None;
        match link {
            Ok(link) => {
                self.receiver.on_connected(clock::now());
                self.outlet.on_connected();
                self.link = Some(link);
            }
            // The leg's objects in Asterisk do not become complete without it: that is noticed, and mended, where they are made.
            Err(error) => tracing::warn!(%error, "a leg has no connection"),
        }
    }

    fn lost(&mut self, end: &LinkEnd) {
        end.log("a leg");
        self.link = None;
    }

    /// Send what is due.
    fn pace(&mut self) {
        let Some(link) = &mut self.link else { return };
        if let Err(end) = self.outlet.send_due(clock::now(), link) {
            self.lost(&end);
        }
    }

    /// What is on its way when the end is asked for.
    async fn drain(&mut self) {
        let rest = async {
            while self.link.is_some() {
                if receive(&mut self.link, self.codec, &mut self.receiver, &mut self.outlet).await.is_err() {
                    self.link = None;
                }
            }
        };
        // Nothing more is waited for after that.
        let _ = tokio::time::timeout(DRAIN, rest).await;
    }

    fn end(&mut self, end: MediaInstant) -> LegStats {
        self.receiver.flush(end);
        self.tell();
        let stats = self.receiver.stats();
        if stats.packets_received > 0 {
            metric::LEG_JITTER.record(stats.jitter_ms / 1_000.0);
        }
        self.report(&stats);
        stats
    }

    fn tell(&mut self) {
        for event in self.receiver.take_events() {
            if matches!(event, LegEvent::Stalled | LegEvent::Unheard { .. }) {
                metric::LEG_STALLS.add(1);
            }
            (self.sink)(event);
        }
        // Once a second is enough for counters.
        if self.outlet.should_report() {
            let stats = self.receiver.stats();
            self.report(&stats);
        }
    }

    fn report(&mut self, stats: &LegStats) {
        let received = stats.packets_received.saturating_sub(self.known.packets_received);
        metric::STREAM_RECEIVED.add(received);
        self.known.packets_received = stats.packets_received;
        self.outlet.report();
    }
}

pub(super) async fn arrival(way: &mut Option<Way>) -> Result<Link, StreamError> {
    match way {
        Some(way) => (&mut way.link).await,
        None => std::future::pending().await,
    }
}

async fn receive(
    link: &mut Option<Link>,
    codec: Codec,
    receiver: &mut StreamReceiver,
    outlet: &mut Outlet,
) -> Result<(), LinkEnd> {
    let Some(link) = link else { return std::future::pending().await };
    let mut now = None;
    link.receive(codec, |item| {
        // All that was read at once came at one instant.
        let now = *now.get_or_insert_with(clock::now);
        match item {
            Item::Audio(payload) => {
                receiver.on_audio(now, payload);
            }
            Item::Digit(digit) => receiver.on_digit(digit),
            Item::Invalid => receiver.on_invalid(),
            Item::Hold(hold) => outlet.hold(hold),
        }
    })
    .await
}
