//! Subscribers that are slow, dead or in the way.

use std::time::Duration;

use serde_json::json;
use sidetone::api::SocketPolicy;
use sidetone::calls::hub::{EventKind, HubConfig};
use sidetone::clock;

use crate::support::{Server, Setup, close_code, next};

/// More than the buffers of two sockets hold.
const EVENTS: u64 = 20_000;

fn publish(server: &Server) {
    let text = "x".repeat(1_000);
    for _ in 0..EVENTS {
        server.hub.publish("c1", EventKind::TranscriptPartial, json!({"text": text})).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_learns_of_the_gap_and_slows_nobody() {
    let data = tempfile::tempdir().unwrap();
    let hub = HubConfig { log_events: 500, ..HubConfig::default() };
    let server = Server::with(data.path(), Setup { hub, ..Setup::default() }).await;
    server.live_call("acme", "c1");
    let start = server.hub.position();
    let mut slow = server.socket("/ws/events").await;
    let mut quick = server.socket("/ws/calls/c1/events").await;

    let began = clock::now();
    publish(&server);
    // Against the twenty seconds for which a send to the slow one may hang.
    let took = clock::since(began);
    assert!(took < Duration::from_secs(10), "{took:?} to publish");
    let last = start + EVENTS;

    let (mut position, mut missed) = (start, 0);
    while position < last {
        let event = next(&mut slow).await.expect("open");
        if event["type"] == "gap" {
            let gap = event["missed"].as_u64().unwrap();
            missed += gap;
            position += gap;
        } else {
            position += 1;
            assert_eq!(event["position"].as_u64(), Some(position), "holes are announced, and only holes");
        }
    }
    assert!(missed > 0, "the buffers took everything: publish more");
    for seq in 1..=EVENTS {
        assert_eq!(
            next(&mut quick).await.unwrap()["seq"],
            seq,
            "a single call has no gaps, however slow its reader"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_takes_nothing_is_dropped() {
    let data = tempfile::tempdir().unwrap();
    let sockets = SocketPolicy { send_timeout: Duration::from_millis(200), ..SocketPolicy::default() };
    let server = Server::with(data.path(), Setup { sockets, ..Setup::default() }).await;
    server.live_call("acme", "c1");
    let mut socket = server.socket("/ws/events").await;
    publish(&server);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut received = 0;
    while next(&mut socket).await.is_some() {
        received += 1;
    }
    assert!(received < EVENTS, "cut in the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_answers_no_ping_is_dropped_and_one_that_does_stays() {
    let data = tempfile::tempdir().unwrap();
    let sockets = SocketPolicy { ping: Duration::from_millis(100), ..SocketPolicy::default() };
    let server = Server::with(data.path(), Setup { sockets, ..Setup::default() }).await;
    server.live_call("acme", "c1");
    let mut dead = server.socket("/ws/events").await;
    let mut alive = server.socket("/ws/events").await;
    let alive = tokio::spawn(async move { next(&mut alive).await });
    // A client of this library answers pings while it is read, and only then.
    tokio::time::sleep(Duration::from_millis(800)).await;
    server.hub.publish("c1", EventKind::CallStarted, ());
    assert!(next(&mut dead).await.is_none());
    assert_eq!(alive.await.unwrap().unwrap()["type"], "call.started");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_that_the_server_stops() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let mut socket = server.socket("/ws/events").await;
    server.begin_shutdown();
    assert_eq!(close_code(&mut socket).await, Some(1001));
    server.stop().await;
}
