//! How much one receive shard takes, over real sockets: `cargo bench --bench net_load`. Loud on a shared machine.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sidetone::clock;
use sidetone::net::plane::{LegHandle, PlaneConfig, RtpPlane};

#[path = "../tests/net_support/mod.rs"]
mod net_support;
use net_support::{RtpSender, receiver};

const LEGS: usize = 1_000;

fn start() -> (RtpPlane, Vec<RtpSender>, Vec<LegHandle>) {
    let bind = "127.0.0.1:0".parse().unwrap();
    let plane = RtpPlane::start(PlaneConfig::new(bind, 1)).unwrap();
    let (senders, legs) = (0..LEGS)
        .map(|_| {
            let seat = plane.seat();
            let sender = RtpSender::new(seat.port());
            let leg = seat.attach(sender.address(), receiver().into(), Arc::new(|_| ())).unwrap();
            (sender, leg)
        })
        .unzip();
    (plane, senders, legs)
}

/// Processor time that the receive thread has had.
fn shard_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let shard = tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap().starts_with("rtp-"));
    let nanos = shard.map(|task| fs::read_to_string(task.join("schedstat")).unwrap());
    Duration::from_nanos(nanos.map(|s| s.split(' ').next().unwrap().parse::<u64>().unwrap()).sum())
}

async fn a_thousand_legs_at_fifty_packets_a_second() {
    let (plane, mut senders, legs) = start();
    let (begun, before) = (clock::now(), shard_time());
    for round in 0..500 {
        for (n, group) in senders.chunks_mut(LEGS / 10).enumerate() {
            group.iter_mut().for_each(RtpSender::send);
            let due = begun + Duration::from_millis(round * 20 + 2 * n as u64);
            std::thread::sleep(due.saturating_since(clock::now()));
        }
    }
    let (wall, busy) = (clock::since(begun), shard_time() - before);
    let endings: Vec<_> = legs.into_iter().map(|leg| leg.finish(clock::now())).collect();
    for ending in endings {
        let stats = ending.await;
        assert_eq!((stats.packets_received, stats.packets_lost), (500, 0));
    }
    let share = 100.0 * busy.as_secs_f64() / wall.as_secs_f64();
    println!("{LEGS} legs, {:?}: the shard was busy {busy:?} of {wall:?}, {share:.1} %", plane.totals());
}

async fn as_fast_as_one_thread_sends() {
    let (plane, mut senders, legs) = start();
    let (begun, before) = (clock::now(), shard_time());
    for _ in 0..1_000 {
        senders.iter_mut().for_each(|sender| sender.send_of(160));
    }
    let (wall, busy) = (clock::since(begun), shard_time() - before);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let totals = plane.totals();
    let rate = totals.received as f64 / wall.as_secs_f64();
    let per_core = totals.received as f64 / busy.as_secs_f64();
    println!(
        "{totals:?} in {wall:?}: {rate:.0} packets/s, {per_core:.0} packets per second of the shard's time"
    );
    assert_eq!(totals.received + totals.kernel_drops, 1_000_000);
    drop(legs);
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        a_thousand_legs_at_fifty_packets_a_second().await;
        as_fast_as_one_thread_sends().await;
    });
}
