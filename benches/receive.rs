//! The whole way of a packet over real sockets, against a loop that does nothing but `recvmmsg`, in the same run:
//! `cargo bench --bench receive [-- ratio|legs|latency…]`. Prints Markdown. Loud: two processors are kept busy for a minute or two.
//!
//! Both receive the same streams (G.711, 50 packets a second each, from addresses of their own), poll at the same pace, and are
//! charged the time that their thread had on a processor. With loopback the kernel's receive path runs in the sender's time,
//! so that the loop is charged for the system calls and the copies alone: the hardest measure there is.
#![allow(unsafe_code)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::codec::Codec;
use sidetone::media::receiver::{LegConfig, LegReceiver};
use sidetone::media::ring::Ring;
use sidetone::media::time::SampleRate;
use sidetone::net::load::{Load, RunningLoad};
use sidetone::net::plane::{LegHandle, PlaneConfig, RtpPlane};

/// As a shard's: long enough for batches, short against the millisecond within which a packet is to be readable.
const PACE: Duration = Duration::from_micros(500);
const RECEIVE_BUFFER: usize = 32 << 20;
const RUN: Duration = Duration::from_secs(4);
/// Before anything is counted: legs find their anchors, and memory is touched for the first time.
const WARM_UP: Duration = Duration::from_secs(1);
/// Runs of each, by turns.
const PAIRS: usize = 7;
/// For the ratio: what one sender can keep up on a small machine.
const STREAMS: usize = 2_000;
const BATCH: usize = 64;
const SLOT: usize = 4_096;
/// Room for a stamp.
const CONTROL: usize = 32;

/// What one run cost its receiving thread.
struct Run {
    packets: u64,
    lost: u64,
    spent: Duration,
    kib_per_leg: f64,
}

impl Run {
    fn per_core_second(&self) -> f64 {
        self.packets as f64 / self.spent.as_secs_f64()
    }
}

/// Processor time of the threads whose name begins with `prefix`.
fn time_of(prefix: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(prefix)));
    let nanos = ours.map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    Duration::from_nanos(nanos.map(|s| s.split(' ').next().unwrap().parse::<u64>().unwrap()).sum())
}

fn resident_kib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn load_to(to: Vec<SocketAddrV4>, load: Load) -> RunningLoad {
    load.start(to, vec![0x55; 160]).unwrap()
}

fn v4(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// What the loop asks the kernel for.
#[derive(Clone, Copy, PartialEq)]
enum Loop {
    /// Bytes.
    Bare,
    /// And who sent them, and when they came: without these no recorder tells legs apart, or places them.
    Addressed,
}

/// `recvmmsg` into the same buffers for ever, and a wait when the socket is dry.
fn bare_loop(socket: &UdpSocket, stop: &AtomicBool, packets: &AtomicU64, kind: Loop) {
    let mut slab = vec![[0_u8; SLOT]; BATCH];
    let mut names = vec![[0_u64; size_of::<libc::sockaddr_storage>() / 8]; BATCH];
    let mut controls = vec![[0_u64; CONTROL / 8]; BATCH];
    if kind == Loop::Addressed {
        let on: libc::c_int = 1;
        let (at, length) = ((&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: the option's value is an int, which is alive and of that length.
        let rc = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, at, length)
        };
        assert_eq!(rc, 0);
    }
    let mut vectors: Vec<libc::iovec> = slab
        .iter_mut()
        .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: null pointers and zero lengths are valid values of its fields.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let mut filled = BATCH;
    while !stop.load(Ordering::Relaxed) {
        if kind == Loop::Addressed {
            // The kernel has written over these.
            for (header, (name, control)) in
                headers.iter_mut().zip(names.iter_mut().zip(&mut controls)).take(filled)
            {
                header.msg_hdr.msg_name = name.as_mut_ptr().cast();
                header.msg_hdr.msg_namelen = size_of_val(name) as _;
                header.msg_hdr.msg_control = control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = CONTROL as _;
            }
        }
        // SAFETY: BATCH headers, each with a vector, a name and a control buffer of its own or none; none of these moves.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        filled = n.max(0) as usize;
        packets.fetch_add(filled as u64, Ordering::Relaxed);
        if n < BATCH as libc::c_int {
            std::thread::sleep(PACE);
        }
    }
}

fn bare(streams: usize, kind: Loop) -> Run {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let socket = UdpSocket::from(socket);
    let port = socket.local_addr().unwrap().port();
    let shared = Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
    let (stop, received) = &*shared;
    let theirs = shared.clone();
    let thread = std::thread::Builder::new().name("bare".into());
    let thread = thread.spawn(move || bare_loop(&socket, &theirs.0, &theirs.1, kind)).unwrap();
    let load = load_to(vec![v4(port); streams], Load::new().unwrap());
    let (packets, spent) = counted("bare", || received.load(Ordering::Relaxed));
    let sent = load.stop().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let lost = sent.rounds * streams as u64 - received.load(Ordering::Relaxed);
    Run { packets, lost, spent, kib_per_leg: 0.0 }
}

/// What came within [`RUN`], and the time that the threads of this name spent on it.
fn counted(threads: &str, received: impl Fn() -> u64) -> (u64, Duration) {
    std::thread::sleep(WARM_UP);
    let (before, spent) = (received(), time_of(threads));
    std::thread::sleep(RUN);
    (received() - before, time_of(threads) - spent)
}

fn leg() -> (LegReceiver, Arc<Ring>) {
    let clock = Arc::new(CallClock::new(clock::now(), SampleRate::NARROWBAND, 1));
    LegReceiver::new(LegConfig::new(Codec::Ulaw, clock))
}

fn plane() -> RtpPlane {
    let config = PlaneConfig::new("127.0.0.1:0".parse().unwrap(), 1);
    RtpPlane::start(PlaneConfig { receive_buffer: RECEIVE_BUFFER, ..config }).unwrap()
}

fn attach(plane: &RtpPlane, source: SocketAddr, leg: LegReceiver) -> (LegHandle, SocketAddrV4) {
    let seat = plane.seat();
    let to = v4(seat.port());
    (seat.attach(source, leg.into(), Arc::new(|_| ())).unwrap(), to)
}

async fn sidetone(streams: usize) -> Run {
    let memory = resident_kib();
    let (plane, load) = (plane(), Load::new().unwrap());
    let (legs, to): (Vec<_>, Vec<_>) = (0..streams).map(|n| attach(&plane, load.source(n), leg().0)).unzip();
    let load = load_to(to, load);
    let (packets, spent) = counted("rtp-", || plane.totals().received);
    let sent = load.stop().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let grown = resident_kib() - memory;
    let mut received = 0;
    let end = clock::now();
    let endings: Vec<_> = legs.into_iter().map(|leg| leg.finish(end)).collect();
    for ending in endings {
        received += ending.await.packets_received;
    }
    let lost = sent.rounds * streams as u64 - received;
    Run { packets, lost, spent, kib_per_leg: grown / streams as f64 }
}

/// From the call of `send` until the ring's head has passed the packet, beside `streams` other streams; in order.
async fn latencies(streams: usize) -> Vec<Duration> {
    let (plane, load) = (plane(), Load::new().unwrap());
    let (_legs, to): (Vec<_>, Vec<_>) = (0..streams).map(|n| attach(&plane, load.source(n), leg().0)).unzip();
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (receiver, ring) = leg();
    let (_leg, port) = attach(&plane, probe.local_addr().unwrap(), receiver);
    probe.connect(port).unwrap();
    let load = load_to(to, load);
    let mut datagram = [0x55; 172];
    datagram[..2].copy_from_slice(&[0x80, 0]);
    let mut taken = Vec::new();
    let begun = clock::now();
    for n in 0..700_u32 {
        // Not in step with the others.
        let due = begun + Duration::from_micros(u64::from(20_000 * n + 137 * (n % 40)));
        std::thread::sleep(due.saturating_since(clock::now()));
        datagram[2..4].copy_from_slice(&(n as u16).to_be_bytes());
        datagram[4..8].copy_from_slice(&(160 * n).to_be_bytes());
        let (head, sent) = (ring.head(), clock::now());
        probe.send(&datagram).unwrap();
        // The first are held back until the anchor is known.
        if n >= 50 {
            while ring.head() == head && clock::since(sent) < Duration::from_millis(100) {
                std::thread::sleep(Duration::from_micros(20));
            }
            taken.push(clock::since(sent));
        }
    }
    load.stop().unwrap();
    taken.sort_unstable();
    taken
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let asked: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    if wanted("ratio") {
        ratio(&runtime);
    }
    if wanted("legs") {
        cost_by_legs(&runtime);
    }
    if wanted("latency") {
        latency(&runtime);
    }
}

fn ratio(runtime: &tokio::runtime::Runtime) {
    println!("### The whole way against a bare `recvmmsg` loop\n");
    println!(
        "| {STREAMS} streams, packets a core-second | bare loop | with senders and stamps | Sidetone | ratio to the bare loop | \
         to the other | lost |"
    );
    println!("|---|---|---|---|---|---|---|");
    let (mut ratios, mut others) = (Vec::new(), Vec::new());
    for n in 1..=PAIRS {
        let [bare, addressed] = [Loop::Bare, Loop::Addressed].map(|kind| bare(STREAMS, kind));
        let ours = runtime.block_on(sidetone(STREAMS));
        let [to_bare, to_other] =
            [&bare, &addressed].map(|run| ours.per_core_second() / run.per_core_second());
        println!(
            "| run {n} | {:.0} | {:.0} | {:.0} | {to_bare:.2} | {to_other:.2} | {} |",
            bare.per_core_second(),
            addressed.per_core_second(),
            ours.per_core_second(),
            bare.lost + addressed.lost + ours.lost
        );
        ratios.push(to_bare);
        others.push(to_other);
    }
    println!("\nMedian ratios: {:.2} and {:.2}\n", median(ratios), median(others));
}

/// The bare loop with senders and stamps beside it: what waking up costs with few legs, and the kernel with many.
fn cost_by_legs(runtime: &tokio::runtime::Runtime) {
    println!("### Cost by the number of legs\n");
    println!(
        "| legs | processor time a packet | of the loop with senders and stamps | share of a core | of a core a leg | \
         KiB a leg, ring included | lost |"
    );
    println!("|---|---|---|---|---|---|---|");
    for legs in [10, 100, 1_000, 2_000, 5_000, 10_000] {
        let addressed = bare(legs, Loop::Addressed);
        let run = runtime.block_on(sidetone(legs));
        let share = 100.0 * run.spent.as_secs_f64() / RUN.as_secs_f64();
        let [ours, theirs] = [&run, &addressed].map(|run| 1e6 / run.per_core_second());
        println!(
            "| {legs} | {ours:.2} µs | {theirs:.2} µs | {share:.1} % | {:.4} % | {:.0} | {} |",
            share / legs as f64,
            run.kib_per_leg,
            run.lost
        );
    }
}

fn latency(runtime: &tokio::runtime::Runtime) {
    println!("\n### From `send` to readable in the ring\n");
    println!("| other streams | p50 | p99 | most |");
    println!("|---|---|---|---|");
    for streams in [0, 100, 1_000, 2_000] {
        let taken = runtime.block_on(latencies(streams));
        let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
        println!("| {streams} | {:.0?} | {:.0?} | {:.0?} |", at(0.5), at(0.99), at(1.0));
    }
}
