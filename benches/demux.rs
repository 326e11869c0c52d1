//! What it costs to find a datagram's leg by its sender, among so many legs. The datagrams come as they do: every sender once,
//! then all over again, so that each finds its place in the table when all the others have been through the cache.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The shards' own: they keep it to themselves.
#[allow(unused, reason = "its tests are not run here")]
#[path = "../src/net/route.rs"]
mod route;

use route::{BuildFoldHasher, Sender};

/// As `net::table` has it.
type Routes = HashMap<Sender, u32, BuildFoldHasher>;

/// Asterisk takes even ports from 10,000 on, and says which; with more legs than ports there are several Asterisks.
fn senders(legs: usize, of: fn(u8) -> std::net::IpAddr) -> Vec<SocketAddr> {
    const PORTS: usize = 5_000;
    (0..legs).map(|n| SocketAddr::new(of((n / PORTS) as u8), 10_000 + 2 * (n % PORTS) as u16)).collect()
}

fn demux(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("demux");
    group.throughput(Throughput::Elements(1));
    let v4 = |host| Ipv4Addr::new(192, 0, 2, host).into();
    let v6 = |host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16).into();
    for (name, senders) in [1, 100, 1_000, 10_000]
        .map(|legs| ("IPv4", senders(legs, v4)))
        .into_iter()
        .chain([("IPv6", senders(10_000, v6))])
    {
        let routes: Routes = senders.iter().zip(0..).map(|(&source, leg)| (source.into(), leg)).collect();
        let mut coming = senders.iter().cycle();
        group.bench_function(BenchmarkId::new(name, senders.len()), |bencher| {
            bencher.iter(|| {
                let source: SocketAddr = *black_box(coming.next().unwrap());
                black_box(routes.get(&source.into()))
            });
        });
    }
    // A stranger's: looked for as long as it takes to know that it is none of ours.
    let senders = senders(10_000, v4);
    let routes: Routes = senders.iter().zip(0..).map(|(&source, leg)| (source.into(), leg)).collect();
    let strangers: Vec<_> =
        senders.iter().map(|sender| SocketAddr::new(sender.ip(), sender.port() + 1)).collect();
    let mut coming = strangers.iter().cycle();
    group.bench_function(BenchmarkId::new("unknown", senders.len()), |bencher| {
        bencher.iter(|| {
            let source: SocketAddr = *black_box(coming.next().unwrap());
            assert!(black_box(routes.get(&source.into())).is_none());
        });
    });
    group.finish();
}

criterion_group!(benches, demux);
criterion_main!(benches);
