//! A receive shard: one thread, one socket, the legs that were given to it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::leg::{Leg, LegKey, panic_text};
use super::rtcp::{Sockets, Via};
use super::socket::Bound;
use super::sys::{self, BATCH, Batch};
use super::table::{Counts, Table};
use super::voice::Voice;
use super::wheel::{TICK, next_tick};
use crate::clock;
use crate::media::report::LegStats;
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

/// How often the metrics are told of the socket.
const REPORT: Duration = Duration::from_secs(1);
/// Half of the millisecond within which a packet is to be readable. 10 000 legs of 50 packets a second bring 250
/// datagrams in this time, which fit into a stock receive buffer.
const PACE: Duration = Duration::from_micros(500);
/// If as many datagrams come in a tick, let them gather for [`PACE`] instead of waking for each: waking up is half of what it all
/// costs, and this is the rate at which it is done as often either way.
const PACED: u64 = (TICK.as_nanos() / PACE.as_nanos()) as u64;
/// How often the RTCP socket is read: reports come every few seconds, with the kernel's stamps.
const RTCP: Duration = Duration::from_millis(100);
/// Batches taken from the socket before commands and ticks get their turn.
const BATCHES_A_TURN: usize = 16;

/// What the control side asks of a shard.
pub(super) enum Command {
    Attach(Box<Leg>),
    Move { leg: LegKey, to: SocketAddr },
    Stats { leg: LegKey, reply: oneshot::Sender<LegStats> },
    Finish { leg: LegKey, end: MediaInstant, reply: oneshot::Sender<LegStats> },
    Detach { leg: LegKey },
    Speak(Box<Voice>),
    MoveVoice { id: u64, to: SocketAddr },
    Hush { id: u64 },
    Shutdown,
}

/// A sender's address that is taken.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    pub id: u64,
    /// Its leg is ending, so that another may have the address.
    pub ending: bool,
}

/// What a shard's thread and the control side share.
pub(super) struct ShardLink {
    pub number: usize,
    pub address: SocketAddr,
    pub receive_buffer: usize,
    commands: Sender<Command>,
    wake: UnixStream,
    /// Seats given out.
    pub seats: AtomicUsize,
    /// Commands about a source are sent under this lock, so that they come in the order of its changes.
    pub claims: Mutex<HashMap<SocketAddr, Claim>>,
    pub alive: AtomicBool,
    pub totals: SharedTotals,
}

/// As [`super::plane::PlaneTotals`], brought up to date every tick.
#[derive(Default)]
pub(super) struct SharedTotals {
    pub received: AtomicU64,
    pub unroutable: AtomicU64,
    pub oversized: AtomicU64,
    pub kernel_drops: AtomicU64,
    pub rtcp_received: AtomicU64,
    pub rtcp_unroutable: AtomicU64,
    pub rtcp_invalid: AtomicU64,
}

impl ShardLink {
    /// Hand `command` to the thread. If it is gone, the command is dropped, and with it any reply channel.
    pub(super) fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // A full pipe means that the thread will wake anyway.
            let _ = (&self.wake).write(&[1]);
        }
    }

    fn release(&self, key: LegKey) {
        let mut claims = self.claims.lock();
        if claims.get(&key.source).is_some_and(|claim| claim.id == key.id) {
            claims.remove(&key.source);
        }
    }
}

/// The thread's side.
pub(super) struct Shard {
    bound: Bound,
    /// The port above, if it was free.
    rtcp: Option<Bound>,
    commands: Receiver<Command>,
    wake: UnixStream,
    link: Arc<ShardLink>,
    table: Table,
    next_tick: MediaInstant,
    /// Datagrams that had come by the last tick, and those of them since the one before it.
    received: u64,
    lately: u64,
    next_report: MediaInstant,
    next_rtcp: MediaInstant,
    /// All that arrived before this has been read.
    drained: MediaInstant,
    /// The kernel's drop count as last seen.
    drops: u32,
    kernel_drops: u64,
    /// As of the last report.
    reported: (Counts, u64),
    failures: u64,
    stopping: bool,
}

impl Shard {
    /// A shard on `bound`, with RTCP on `rtcp` too, and the link to it.
    pub(super) fn new(
        number: usize,
        bound: Bound,
        rtcp: Option<Bound>,
    ) -> std::io::Result<(Self, Arc<ShardLink>)> {
        let (sender, commands) = crossbeam_channel::unbounded();
        let (wake_writer, wake) = UnixStream::pair()?;
        wake_writer.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let link = Arc::new(ShardLink {
            number,
            address: bound.address,
            receive_buffer: bound.receive_buffer,
            commands: sender,
            wake: wake_writer,
            seats: AtomicUsize::new(0),
            claims: Mutex::default(),
            alive: AtomicBool::new(true),
            totals: SharedTotals::default(),
        });
        let now = clock::now();
        let sockets = Sockets::of(&bound, rtcp.as_ref())?;
        let shard = Self {
            bound,
            rtcp,
            commands,
            wake,
            link: link.clone(),
            table: Table::new(sockets, now),
            next_tick: now,
            received: 0,
            lately: 0,
            next_report: now + REPORT,
            next_rtcp: now,
            drained: now,
            drops: 0,
            kernel_drops: 0,
            reported: Default::default(),
            failures: 0,
            stopping: false,
        };
        Ok((shard, link))
    }

    /// The body of the thread: until [`Command::Shutdown`].
    pub(super) fn run(mut self) {
        // What legs do is guarded leg by leg; this is for a mistake of the shard's own.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            let (shard, panic) = (self.link.number, panic_text(&*panic));
            tracing::error!(shard, panic, "an RTP shard panicked and takes no more media; restart sidetone");
        }
        self.link.alive.store(false, Ordering::Release);
        self.table.finish_all(clock::now());
        self.report(clock::now());
        self.link.claims.lock().clear();
    }

    fn serve(&mut self) {
        let mut batch = Batch::new();
        let mut reports = self.rtcp.is_some().then(Batch::new);
        loop {
            let more = self.drain(&mut batch);
            self.take_commands();
            if self.stopping {
                return;
            }
            let now = clock::now();
            if now >= self.next_tick {
                self.table.tick(now, self.drained, |key| self.link.release(key));
                self.table.expire_held(now);
                self.table.voices.tick(now);
                self.publish_totals();
                let received = self.table.counts.received;
                self.lately = received - std::mem::replace(&mut self.received, received);
                self.next_tick = next_tick(now);
            }
            if now >= self.next_rtcp {
                if let Some(reports) = &mut reports {
                    self.take_reports(reports);
                }
                self.next_rtcp = now + RTCP;
            }
            if now >= self.next_report {
                self.report(now);
            }
            if !more && self.wait(now) {
                self.clear_wake();
            }
        }
    }

    /// Read the socket until it is dry or it is others' turn; the latter returns true.
    fn drain(&mut self, batch: &mut Batch) -> bool {
        for _ in 0..BATCHES_A_TURN {
            let before = clock::now();
            let count = match batch.receive(self.bound.socket.as_fd()) {
                Ok(count) => count,
                Err(error) => {
                    self.failures += 1;
                    if self.failures == 1 {
                        tracing::error!(shard = self.link.number, %error, "receiving RTP failed");
                    }
                    return false;
                }
            };
            // A leg attached before a datagram was sent must be known when that is routed: commands first.
            self.take_commands();
            self.table.on_batch(batch.datagrams());
            if count < BATCH {
                self.drained = before;
                return false;
            }
            self.drained = self.drained.max(batch.newest());
        }
        true
    }

    /// Read the RTCP socket, within bounds: nothing waits for what it has.
    fn take_reports(&mut self, batch: &mut Batch) {
        let Some(rtcp) = &self.rtcp else { return };
        for _ in 0..BATCHES_A_TURN {
            match batch.receive(rtcp.socket.as_fd()) {
                Ok(count) => {
                    batch.datagrams().for_each(|datagram| self.table.on_rtcp(&datagram, Via::Rtcp));
                    if count < BATCH {
                        return;
                    }
                }
                Err(error) => {
                    self.failures += 1;
                    if self.failures == 1 {
                        tracing::error!(shard = self.link.number, %error, "receiving RTCP failed");
                    }
                    return;
                }
            }
        }
    }

    fn clear_wake(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(n) if n == bytes.len()) {}
    }

    fn take_commands(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            let now = clock::now();
            match command {
                Command::Attach(leg) => self.table.attach(*leg, now),
                Command::Move { leg, to } => self.table.move_leg(leg, to, now),
                Command::Stats { leg, reply } => {
                    if let Some(stats) = self.table.stats(leg) {
                        // Who asked may have gone.
                        let _ = reply.send(stats);
                    }
                }
                Command::Finish { leg, end, reply } => self.table.end(leg, end, reply, now),
                Command::Detach { leg } => self.table.detach(leg, now, |key| self.link.release(key)),
                Command::Speak(voice) => self.table.voices.add(voice, now),
                Command::MoveVoice { id, to } => self.table.voices.move_to(id, to),
                Command::Hush { id } => self.table.voices.remove(id),
                Command::Shutdown => self.stopping = true,
            }
        }
    }

    /// Whether it was woken for commands.
    fn wait(&self, now: MediaInstant) -> bool {
        // A socket that fails may be called readable for ever.
        let is_paced = self.lately >= PACED || self.failures > 0;
        let mut timeout = self.next_report.saturating_since(now);
        if is_paced {
            timeout = timeout.min(PACE);
        }
        // The next look at the socket is soon enough for legs, not for voices: they are heard.
        if !self.table.voices.is_empty() || self.table.legs() > 0 && !is_paced {
            timeout = timeout.min(self.next_tick.saturating_since(now));
        }
        if let Some(patience) = self.table.hold_patience() {
            timeout = timeout.min(patience);
        }
        if is_paced {
            // Nobody need wake it for commands: it looks for them soon enough. What was written to wake it is read when it waits again.
            std::thread::sleep(timeout);
            return false;
        }
        sys::wait_readable([self.wake.as_fd(), self.bound.socket.as_fd()], timeout)[0]
    }

    fn publish_totals(&mut self) {
        // It never fails on a kernel of 4.12 or later; on an older one the drops are not known.
        if let Ok(drops) = sys::drops(self.bound.socket.as_fd()) {
            self.kernel_drops += u64::from(drops.wrapping_sub(self.drops));
            self.drops = drops;
        }
        let (totals, counts) = (&self.link.totals, &self.table.counts);
        totals.received.store(counts.received, Ordering::Relaxed);
        totals.unroutable.store(counts.unroutable, Ordering::Relaxed);
        totals.oversized.store(counts.oversized, Ordering::Relaxed);
        totals.kernel_drops.store(self.kernel_drops, Ordering::Relaxed);
        totals.rtcp_received.store(counts.rtcp_received, Ordering::Relaxed);
        totals.rtcp_unroutable.store(counts.rtcp_unroutable, Ordering::Relaxed);
        totals.rtcp_invalid.store(counts.rtcp_invalid, Ordering::Relaxed);
    }

    fn report(&mut self, now: MediaInstant) {
        self.publish_totals();
        self.table.voices.report();
        let (before, drops_before) =
            std::mem::replace(&mut self.reported, (self.table.counts, self.kernel_drops));
        let (counts, shard) = (self.table.counts, self.link.number);
        metric::RTP_UNROUTABLE.add(counts.unroutable - before.unroutable);
        metric::RTP_INVALID.add(counts.oversized - before.oversized);
        metric::RTCP_RECEIVED.add(counts.rtcp_received - before.rtcp_received);
        for (reason, after, before) in [
            ("invalid", counts.rtcp_invalid, before.rtcp_invalid),
            ("unroutable", counts.rtcp_unroutable, before.rtcp_unroutable),
        ] {
            if after > before {
                metric::RTCP_DROPPED.add_labelled("reason", reason, after - before);
            }
        }
        let dropped = self.kernel_drops - drops_before;
        metric::RTP_KERNEL_DROPS.add(dropped);
        if dropped > 0 {
            let buffer = self.bound.receive_buffer;
            tracing::warn!(
                shard,
                dropped,
                buffer,
                "the kernel dropped datagrams for want of buffer; raise rtp.receive_buffer and the sysctl \
                 net.core.rmem_max, or rtp.shards"
            );
        }
        if self.failures > 1 {
            tracing::error!(shard, failures = self.failures, "receiving RTP goes on failing");
        }
        self.failures = 0;
        self.next_report = now + REPORT;
    }
}
