//! The RTP plane over real sockets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidetone::clock;
use sidetone::media::report::{LegEvent, LegStats};
use sidetone::media::ring::SlotRead;
use sidetone::media::slot::SlotState;
use sidetone::net::NetError;
use sidetone::net::plane::{AttachError, LegHandle, LegSink, PlaneConfig, PlaneTotals, RtpPlane, Seat};

mod net_support;
use net_support::{RtpSender, receiver, receiver_and_ring};

fn start(shards: usize) -> RtpPlane {
    let bind = "127.0.0.1:0".parse().unwrap();
    RtpPlane::start(PlaneConfig::new(bind, shards)).unwrap()
}

fn deaf() -> LegSink {
    Arc::new(|_| ())
}

fn attach(seat: Seat, source: SocketAddr) -> LegHandle {
    seat.attach(source, receiver().into(), deaf()).unwrap()
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn finish(leg: LegHandle) -> LegStats {
    leg.finish(clock::now()).await
}

async fn eventually(plane: &RtpPlane, what: impl Fn(PlaneTotals) -> bool) -> PlaneTotals {
    for _ in 0..400 {
        if what(plane.totals()) {
            break;
        }
        sleep(10).await;
    }
    plane.totals()
}

#[tokio::test]
async fn packets_that_come_before_their_leg_is_attached_are_not_lost() {
    let plane = start(1);
    let seat = plane.seat();
    let mut sender = RtpSender::new(seat.port());
    for _ in 0..10 {
        sender.send();
        sleep(20).await;
    }
    let leg = attach(seat, sender.address());
    for _ in 0..10 {
        sender.send();
        sleep(20).await;
    }
    let stats = finish(leg).await;
    assert_eq!((stats.packets_received, stats.packets_lost), (20, 0));
    assert_eq!(plane.totals(), PlaneTotals { received: 20, ..Default::default() });
}

#[tokio::test]
async fn ipv4_senders_are_known_on_an_ipv6_socket() {
    let config = PlaneConfig { receive_buffer: 1 << 20, ..PlaneConfig::new("[::]:0".parse().unwrap(), 1) };
    let Ok(plane) = RtpPlane::start(config) else {
        eprintln!("no IPv6 here: nothing to test");
        return;
    };
    let seat = plane.seat();
    let mut sender = RtpSender::new(seat.port());
    let leg = attach(seat, sender.address());
    sender.send();
    assert_eq!(finish(leg).await.packets_received, 1);
}

#[tokio::test]
async fn two_legs_get_every_packet_of_their_own_paced() {
    let plane = start(1);
    let (first, second) = (plane.seat(), plane.seat());
    let mut senders = [RtpSender::new(first.port()), RtpSender::new(second.port())];
    let legs = [attach(first, senders[0].address()), attach(second, senders[1].address())];
    let send = std::thread::spawn(move || {
        let start = clock::now();
        for i in 0..3_000_u64 {
            senders.iter_mut().for_each(|s| s.send_of(8));
            let due = start + Duration::from_millis(i);
            std::thread::sleep(due.saturating_since(clock::now()));
        }
        senders
    });
    // The senders live on: their ports must not be given to another test's.
    let _senders = tokio::task::spawn_blocking(|| send.join().unwrap()).await.unwrap();
    for leg in legs {
        let stats = finish(leg).await;
        assert_eq!((stats.packets_received, stats.packets_lost), (3_000, 0));
    }
}

#[tokio::test]
async fn two_legs_get_every_packet_of_their_own_in_one_burst() {
    let plane = start(1);
    let (first, second) = (plane.seat(), plane.seat());
    let mut senders = [RtpSender::new(first.port()), RtpSender::new(second.port())];
    let legs = [attach(first, senders[0].address()), attach(second, senders[1].address())];
    for _ in 0..3_000 {
        senders.iter_mut().for_each(|s| s.send_of(2));
    }
    let totals = eventually(&plane, |t| t.received == 6_000).await;
    assert_eq!(totals, PlaneTotals { received: 6_000, ..Default::default() });
    for leg in legs {
        let stats = finish(leg).await;
        assert_eq!((stats.packets_received, stats.packets_lost), (3_000, 0));
    }
}

#[tokio::test]
async fn garbage_and_strangers_are_counted_and_disturb_nobody() {
    let plane = start(1);
    let seat = plane.seat();
    let port = seat.port();
    let mut sender = RtpSender::new(port);
    let leg = attach(seat, sender.address());
    let strangers: Vec<_> = (0..40).map(|_| RtpSender::new(port)).collect();
    let garbage = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flood = std::thread::spawn(move || {
        let mut strangers = strangers;
        for round in 0..200 {
            strangers.iter_mut().for_each(RtpSender::send);
            garbage.send_to(&[round as u8; 300], ("127.0.0.1", port)).unwrap();
            garbage.send_to(&[], ("127.0.0.1", port)).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        strangers
    });
    for _ in 0..100 {
        sender.send_of(32);
        sleep(4).await;
    }
    let _strangers = flood.join().unwrap();
    let totals = eventually(&plane, |t| t.unroutable == 200 * 42).await;
    assert_eq!((totals.unroutable, totals.received), (200 * 42, 200 * 42 + 100));
    let stats = finish(leg).await;
    assert_eq!((stats.packets_received, stats.packets_invalid), (100, 0));
}

#[tokio::test]
async fn oversized_datagrams_of_a_known_sender_are_counted() {
    let plane = start(1);
    let seat = plane.seat();
    let sender = RtpSender::new(seat.port());
    let leg = attach(seat, sender.address());
    sender.send_bytes(&[0x80; 5_000]);
    let totals = eventually(&plane, |t| t.oversized == 1).await;
    assert_eq!(totals, PlaneTotals { received: 1, oversized: 1, ..Default::default() });
    assert_eq!(finish(leg).await.packets_received, 0);
}

#[tokio::test]
async fn the_end_waits_for_what_is_on_its_way() {
    let plane = start(1);
    let seat = plane.seat();
    let mut sender = RtpSender::new(seat.port());
    let leg = attach(seat, sender.address());
    for _ in 0..500 {
        sender.send_of(8);
    }
    let end = clock::now();
    let ending = leg.finish(end);
    sleep(20).await;
    sender.send_of(8);
    let stats = ending.await;
    assert_eq!((stats.packets_received, stats.packets_lost), (501, 0));
    assert!(clock::since(end) < Duration::from_millis(500));
}

#[tokio::test]
async fn one_sender_has_one_leg_at_a_time() {
    let plane = start(1);
    let sender = RtpSender::new(plane.seat().port());
    let from = sender.address();
    let first = attach(plane.seat(), from);
    let refused = plane.seat().attach(from, receiver().into(), deaf()).err().unwrap();
    assert_eq!(refused.error, AttachError::SourceTaken { from });
    // It is whole: what Asterisk sends from is heard once it is known right.
    let mut other = RtpSender::new(refused.seat.port());
    let retried = refused.seat.attach(other.address(), refused.receiver, deaf()).unwrap();
    other.send();
    assert_eq!(finish(retried).await.packets_received, 1);
    // Asterisk may give the port of a channel that ended to the next one at once.
    let ending = first.finish(clock::now());
    let second = attach(plane.seat(), from);
    assert!(plane.seat().attach(from, receiver().into(), deaf()).is_err());
    ending.await;
    sleep(100).await;
    assert!(plane.seat().attach(from, receiver().into(), deaf()).is_err());
    drop(second);
    let third = attach(plane.seat(), from);
    finish(third).await;
}

#[tokio::test]
async fn a_dropped_handle_takes_its_route_along() {
    let plane = start(1);
    let seat = plane.seat();
    let mut sender = RtpSender::new(seat.port());
    drop(attach(seat, sender.address()));
    sleep(20).await;
    sender.send();
    let totals = eventually(&plane, |t| t.unroutable == 1).await;
    assert_eq!(totals.unroutable, 1);
}

#[tokio::test]
async fn legs_are_spread_evenly() {
    let plane = start(3);
    let seats: Vec<_> = (0..9).map(|_| plane.seat()).collect();
    for (address, _) in plane.sockets() {
        assert_eq!(seats.iter().filter(|s| s.port() == address.port()).count(), 3);
    }
    let freed = seats[4].port();
    drop(seats);
    let _others: Vec<_> =
        std::iter::repeat_with(|| plane.seat()).take(12).filter(|seat| seat.port() != freed).collect();
    assert_eq!(plane.seat().port(), freed);
}

#[tokio::test]
async fn a_plane_that_was_shut_down_says_so() {
    let plane = start(2);
    let (seat, spare) = (plane.seat(), plane.seat());
    let mut sender = RtpSender::new(seat.port());
    let leg = attach(seat, sender.address());
    sender.send();
    assert!(plane.is_healthy());
    let ending = attach(plane.seat(), "127.0.0.1:9".parse().unwrap()).finish(clock::now());
    plane.shutdown();
    // What was under way is answered, what comes later is not.
    ending.await;
    assert_eq!(leg.stats().await, LegStats::default());
    assert_eq!(finish(leg).await, LegStats::default());
    let port = spare.port();
    let refused = spare.attach(sender.address(), receiver().into(), deaf()).err().unwrap();
    assert_eq!(refused.error, AttachError::ShardStopped { port });
}

#[tokio::test]
async fn events_reach_the_sink_audio_the_ring_and_a_failing_sink_ends_neither() {
    let plane = start(1);
    let (first, second) = (plane.seat(), plane.seat());
    let mut senders = [RtpSender::new(first.port()), RtpSender::new(second.port())];
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = events.clone();
    let sinks: [LegSink; 2] = [
        Arc::new(move |event| heard.lock().unwrap().push(event)),
        Arc::new(|_| panic!("made for this test")),
    ];
    let mut rings = Vec::new();
    let mut legs = Vec::new();
    for ((seat, sender), sink) in [first, second].into_iter().zip(&senders).zip(sinks) {
        let (receiver, ring) = receiver_and_ring();
        legs.push(seat.attach(sender.address(), receiver.into(), sink).unwrap());
        rings.push(ring);
    }
    for _ in 0..50 {
        senders.iter_mut().for_each(RtpSender::send);
        sleep(20).await;
    }
    for (leg, ring) in legs.into_iter().zip(rings) {
        let stats = finish(leg).await;
        assert_eq!((stats.packets_received, stats.packets_lost, stats.segments.len()), (50, 0, 1));
        let mut reader = ring.reader();
        let (mut slots, mut out) = (0, [0; 80]);
        loop {
            match reader.read_slot(0, &mut out) {
                SlotRead::Ready { state: SlotState::Received, .. } => slots += 1,
                SlotRead::Ready { .. } => {}
                SlotRead::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(slots, 100);
    }
    let events = events.lock().unwrap();
    assert!(matches!(events[..], [LegEvent::Anchored { .. }]), "{events:?}");
    assert!(plane.is_healthy());
}

#[tokio::test]
async fn statistics_can_be_asked_for_at_any_time() {
    let plane = start(1);
    let seat = plane.seat();
    let mut sender = RtpSender::new(seat.port());
    let leg = attach(seat, sender.address());
    assert_eq!(leg.stats().await.packets_received, 0);
    sender.send();
    for _ in 0..100 {
        if leg.stats().await.packets_received == 1 {
            return;
        }
        sleep(5).await;
    }
    panic!("the packet never came");
}

#[test]
fn a_port_in_use_is_explained_and_nothing_is_left_running() {
    // Shard 1's port is taken, shard 0's is free.
    let (plane, taken) = loop {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bind = first.local_addr().unwrap();
        let Some(port) = bind.port().checked_add(2) else { continue };
        let Ok(taken) = UdpSocket::bind(("127.0.0.1", port)) else { continue };
        drop(first);
        break (RtpPlane::start(PlaneConfig { receive_buffer: 4096, ..PlaneConfig::new(bind, 2) }), taken);
    };
    let address = taken.local_addr().unwrap();
    let error = plane.err().unwrap();
    assert!(matches!(error, NetError::PortInUse { address: a } if a == address), "{error}");
    let text = error.to_string();
    assert!(text.contains("rtp.bind") && text.contains("is in use") && text.contains("ss -ulpn"), "{text}");
}

#[test]
fn impossible_shard_counts_are_refused() {
    for (port, shards) in [(14_000, 0), (14_000, 17), (65_530, 4)] {
        let bind = SocketAddr::from(([127, 0, 0, 1], port));
        let error = RtpPlane::start(PlaneConfig { receive_buffer: 4096, ..PlaneConfig::new(bind, shards) })
            .err()
            .unwrap();
        assert!(error.to_string().contains("rtp.shards"), "{error}");
    }
}
