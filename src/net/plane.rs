//! The RTP plane: receive shards, and the seats that legs take on them.
//!
//! Shard n has the port `bind.port() + 2n` to itself, so that a leg's shard is known before Asterisk is told where to
//! send: take a [`Seat`], tell Asterisk its port, learn from the answer where Asterisk sends from, [`attach`](Seat::attach).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::cpus;
pub use super::leg::LegSink;
use super::leg::{Leg, LegKey};
use super::rtcp;
use super::shard::{Claim, Command, Shard, ShardLink};
use super::socket::{self, NetError};
use crate::config::Cpus;
use crate::media::receiver::LegReceiver;
use crate::media::report::LegStats;
use crate::media::time::MediaInstant;

/// Below this a second's worth of a few hundred legs does not fit, and a busy machine loses packets.
const SMALL_BUFFER: usize = 1 << 20;
const MAX_SHARDS: usize = 16;

/// Settings of the plane: `rtp.bind`, `rtp.shards`, `rtp.receive_buffer`, `rtp.cpus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneConfig {
    /// Address and first port; shard n takes port + 2n, and the one above it for RTCP. Port 0 lets the system choose one for each shard.
    pub bind: SocketAddr,
    /// Receive threads, 1 to 16.
    pub shards: usize,
    /// Bytes of receive buffer asked of the kernel, a shard.
    pub receive_buffer: usize,
    /// Which processors the threads run on.
    pub cpus: Cpus,
}

impl PlaneConfig {
    /// `shards` shards on `bind`, with 8 MiB of buffer each, on any processor.
    pub fn new(bind: SocketAddr, shards: usize) -> Self {
        Self { bind, shards, receive_buffer: 8 << 20, cpus: Cpus::Off }
    }
}

/// Why a leg could not be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Another leg has this sender.
    #[error(
        "RTP from {from} belongs to another leg already: two legs cannot have one sender; finish the other one first"
    )]
    SourceTaken {
        /// The sender.
        from: SocketAddr,
    },
    /// The shard is not running: the plane was shut down, or the shard failed, which was logged.
    #[error("the RTP shard on port {port} is not running; the log says why, restart sidetone")]
    ShardStopped {
        /// The shard's port.
        port: u16,
    },
}

/// A leg that could not be attached, whole, to be tried again.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why.
    pub error: AttachError,
    /// Its place, still reserved.
    pub seat: Seat,
    /// Its receiver, as it was.
    pub receiver: Box<LegReceiver>,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

/// What the sockets saw since the start, all shards together, at most 5 ms old while there are legs, else a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneTotals {
    /// Datagrams read, of whatever kind.
    pub received: u64,
    /// Datagrams of unknown senders whose leg did not come in time either.
    pub unroutable: u64,
    /// Datagrams of known senders that were longer than any RTP packet of Asterisk's (4096 bytes).
    pub oversized: u64,
    /// Datagrams that the kernel dropped for want of buffer.
    pub kernel_drops: u64,
    /// RTCP datagrams read, from either port; those from an RTP port are among `received` too.
    pub rtcp_received: u64,
    /// RTCP datagrams of unknown senders.
    pub rtcp_unroutable: u64,
    /// RTCP datagrams of known senders that were not valid.
    pub rtcp_invalid: u64,
}

/// All receive shards. Dropping it ends their threads, and finishes the legs that are left.
pub struct RtpPlane {
    shards: Vec<Arc<ShardLink>>,
    threads: Vec<JoinHandle<()>>,
    next_id: Arc<AtomicU64>,
}

impl RtpPlane {
    /// Bind the sockets and start the threads.
    ///
    /// # Errors
    /// See [`NetError`]; nothing is left running then.
    pub fn start(config: PlaneConfig) -> Result<Self, NetError> {
        let mut plane = Self { shards: Vec::new(), threads: Vec::new(), next_id: Arc::default() };
        for address in addresses(&config)? {
            let failed = |doing| move |source| NetError::System { doing, address, source };
            let bound = socket::bind(address, config.receive_buffer)?;
            let number = plane.shards.len();
            announce(number, &bound, config.receive_buffer);
            let above = rtcp::bind_above(bound.address);
            let (shard, link) = Shard::new(number, bound, above).map_err(failed("open a wake pipe"))?;
            let (cpus, shards) = (config.cpus.clone(), config.shards);
            let thread = std::thread::Builder::new()
                .name(format!("rtp-{number}"))
                .spawn(move || {
                    pin(&cpus, number, shards);
                    shard.run();
                })
                .map_err(failed("start a receive thread"))?;
            plane.shards.push(link);
            plane.threads.push(thread);
        }
        Ok(plane)
    }

    /// A place for one leg, on the shard that has fewest.
    pub fn seat(&self) -> Seat {
        loop {
            let shards = self.shards.iter();
            // There is at least one shard; one that failed is the last resort, and attaching there says so.
            let best = shards
                .min_by_key(|s| (!s.alive.load(Ordering::Acquire), s.seats.load(Ordering::Relaxed)))
                .unwrap_or_else(|| unreachable!("start() makes at least one shard"));
            let count = best.seats.load(Ordering::Relaxed);
            let taken =
                best.seats.compare_exchange(count, count + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if taken {
                return Seat { link: best.clone(), next_id: self.next_id.clone() };
            }
        }
    }

    /// A place on the shard that receives on `port`, for a leg whose sender sends there already; `None` if none does.
    pub fn seat_on(&self, port: u16) -> Option<Seat> {
        let link = self.shards.iter().find(|shard| shard.address.port() == port)?;
        link.seats.fetch_add(1, Ordering::Relaxed);
        Some(Seat { link: link.clone(), next_id: self.next_id.clone() })
    }

    /// What the sockets saw so far.
    pub fn totals(&self) -> PlaneTotals {
        self.shards.iter().fold(PlaneTotals::default(), |sum, shard| {
            let totals = &shard.totals;
            PlaneTotals {
                received: sum.received + totals.received.load(Ordering::Relaxed),
                unroutable: sum.unroutable + totals.unroutable.load(Ordering::Relaxed),
                oversized: sum.oversized + totals.oversized.load(Ordering::Relaxed),
                kernel_drops: sum.kernel_drops + totals.kernel_drops.load(Ordering::Relaxed),
                rtcp_received: sum.rtcp_received + totals.rtcp_received.load(Ordering::Relaxed),
                rtcp_unroutable: sum.rtcp_unroutable + totals.rtcp_unroutable.load(Ordering::Relaxed),
                rtcp_invalid: sum.rtcp_invalid + totals.rtcp_invalid.load(Ordering::Relaxed),
            }
        })
    }

    /// A shard's address, and the bytes of receive buffer that the kernel granted it, shard by shard.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, usize)> {
        self.shards.iter().map(|shard| (shard.address, shard.receive_buffer))
    }

    /// False once a shard has failed: some legs hear nothing, and the log says why.
    pub fn is_healthy(&self) -> bool {
        self.shards.iter().all(|shard| shard.alive.load(Ordering::Acquire))
    }

    /// End the threads and wait for them (milliseconds). Legs that are still attached are finished as of now.
    pub fn shutdown(self) {}
}

impl Drop for RtpPlane {
    fn drop(&mut self) {
        for shard in &self.shards {
            shard.send(Command::Shutdown);
        }
        for thread in self.threads.drain(..) {
            // A panic in there has been caught and logged.
            let _ = thread.join();
        }
    }
}

fn addresses(config: &PlaneConfig) -> Result<Vec<SocketAddr>, NetError> {
    let PlaneConfig { bind, shards, .. } = *config;
    let port_of = |n: usize| match bind.port() {
        0 => Some(0),
        first => u16::try_from(usize::from(first) + 2 * n).ok(),
    };
    let ports: Option<Vec<u16>> = (0..shards).map(port_of).collect();
    match ports {
        Some(ports) if (1..=MAX_SHARDS).contains(&shards) => {
            Ok(ports.into_iter().map(|port| SocketAddr::new(bind.ip(), port)).collect())
        }
        _ => Err(NetError::Ports { bind, shards }),
    }
}

fn pin(choice: &Cpus, shard: usize, shards: usize) {
    match cpus::pin(choice, shard, shards) {
        Ok(Some(cpu)) => tracing::info!(shard, cpu, "the shard stays on this processor"),
        Ok(None) => {}
        Err(error) => tracing::warn!(
            shard,
            %error,
            "rtp.cpus: the shard cannot be kept on its processor and runs on any; choose among those that `taskset -p $$` \
             and the service's CPUAffinity allow"
        ),
    }
}

fn announce(shard: usize, bound: &socket::Bound, asked: usize) {
    let (address, granted) = (bound.address, bound.receive_buffer);
    tracing::info!(shard, %address, granted, "receiving RTP");
    if granted < asked.min(SMALL_BUFFER) {
        tracing::warn!(
            shard,
            granted,
            asked,
            "a small receive buffer: bursts will be lost; set `sysctl net.core.rmem_max={asked}`, or give the process \
             CAP_NET_ADMIN"
        );
    }
}

/// A place on a shard, reserved until it is dropped.
pub struct Seat {
    pub(super) link: Arc<ShardLink>,
    pub(super) next_id: Arc<AtomicU64>,
}

impl Seat {
    /// The UDP port that the leg's sender must send to.
    pub fn port(&self) -> u16 {
        self.link.address.port()
    }

    /// Route what `source` sends to `receiver`, beginning with what came in the half second before, and its events to
    /// `sink` (called on the shard's thread, which it must not block).
    ///
    /// # Errors
    /// [`Refused`]: another leg has the sender, or the shard is gone.
    pub fn attach(
        self,
        source: SocketAddr,
        receiver: Box<LegReceiver>,
        sink: LegSink,
    ) -> Result<LegHandle, Refused> {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let key = LegKey { source, id: self.next_id.fetch_add(1, Ordering::Relaxed) };
        {
            let link = self.link.clone();
            let mut claims = link.claims.lock();
            if !link.alive.load(Ordering::Acquire) {
                let error = AttachError::ShardStopped { port: self.port() };
                return Err(Refused { error, seat: self, receiver });
            }
            if claims.get(&source).is_some_and(|claim| !claim.ending) {
                return Err(Refused {
                    error: AttachError::SourceTaken { from: source },
                    seat: self,
                    receiver,
                });
            }
            claims.insert(source, Claim { id: key.id, ending: false });
            self.link.send(Command::Attach(Box::new(Leg::new(key, *receiver, sink))));
        }
        Ok(LegHandle { seat: self, key, finished: false })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An attached leg. Dropping it ends the leg as of then.
pub struct LegHandle {
    seat: Seat,
    key: LegKey,
    finished: bool,
}

impl LegHandle {
    /// The sender whose datagrams the leg gets; an IPv4 address mapped into IPv6 is given as IPv4.
    pub fn source(&self) -> SocketAddr {
        self.key.source
    }

    /// From now on the leg gets what `source` sends, beginning with what came in the half second before; its former sender
    /// counts no longer.
    ///
    /// # Errors
    /// [`AttachError`]: another leg has the sender, or the shard is gone.
    pub fn move_to(&mut self, source: SocketAddr) -> Result<(), AttachError> {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let before = self.key;
        let mut claims = self.seat.link.claims.lock();
        if !self.seat.link.alive.load(Ordering::Acquire) {
            return Err(AttachError::ShardStopped { port: self.seat.port() });
        }
        if claims.get(&source).is_some_and(|claim| !claim.ending && claim.id != before.id) {
            return Err(AttachError::SourceTaken { from: source });
        }
        if claims.get(&before.source).is_some_and(|claim| claim.id == before.id) {
            claims.remove(&before.source);
        }
        claims.insert(source, Claim { id: before.id, ending: false });
        self.seat.link.send(Command::Move { leg: before, to: source });
        drop(claims);
        self.key.source = source;
        Ok(())
    }

    /// The leg's counters now. All zero if the plane is shut down.
    pub async fn stats(&self) -> LegStats {
        let (reply, answer) = oneshot::channel();
        self.seat.link.send(Command::Stats { leg: self.key, reply });
        answer.await.unwrap_or_default()
    }

    /// End the leg at `end`: what arrives within the next 60 ms still counts, then the receiver is finished and its ring
    /// closed. The end is set in motion by the call; the future brings the final counters (all zero if the plane was shut
    /// down before).
    pub fn finish(mut self, end: MediaInstant) -> impl Future<Output = LegStats> + Send + 'static {
        self.finished = true;
        let (reply, answer) = oneshot::channel();
        self.send_last(Command::Finish { leg: self.key, end, reply });
        async move {
            let stats = answer.await.unwrap_or_default();
            drop(self);
            stats
        }
    }

    /// From here on, the sender may be given to another leg.
    fn send_last(&self, command: Command) {
        let mut claims = self.seat.link.claims.lock();
        if let Some(claim) = claims.get_mut(&self.key.source).filter(|claim| claim.id == self.key.id) {
            claim.ending = true;
        }
        self.seat.link.send(command);
    }
}

impl Drop for LegHandle {
    fn drop(&mut self) {
        if !self.finished {
            self.send_last(Command::Detach { leg: self.key });
        }
    }
}
