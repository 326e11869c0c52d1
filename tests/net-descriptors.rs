//! What the RTP plane opens and starts, it closes and ends. Alone in its process, so that it can be counted.

use std::fs;
use std::time::Duration;

use sidetone::net::plane::{PlaneConfig, RtpPlane};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn receive_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("rtp-")).count()
}

/// A thread takes its name, and leaves the list, a little after those who started or joined it go on.
fn expect_threads(count: usize) {
    for _ in 0..500 {
        if receive_threads() == count {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(receive_threads(), count);
}

#[test]
fn nothing_is_left_open_or_running() {
    let config =
        PlaneConfig { receive_buffer: 1 << 16, ..PlaneConfig::new("127.0.0.1:0".parse().unwrap(), 4) };
    let before = descriptors();
    for _ in 0..20 {
        let plane = RtpPlane::start(config.clone()).unwrap();
        expect_threads(4);
        let seat = plane.seat();
        plane.shutdown();
        expect_threads(0);
        drop(seat);
    }
    let taken = RtpPlane::start(config.clone()).unwrap();
    // Shard 0 starts, shard 1 finds its port taken.
    let (mut bind, _) = taken.sockets().next().unwrap();
    bind.set_port(bind.port() - 2);
    assert!(RtpPlane::start(PlaneConfig { bind, shards: 2, ..config }).is_err());
    expect_threads(4);
    drop(taken);
    assert_eq!(descriptors(), before);
}
