use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidetone::api::SocketPolicy;
use sidetone::calls::hub::{EventKind, HubConfig};

use crate::support::{Server, Setup, close_code, next, problem};

const THREADS: u64 = 4;
const EACH: u64 = 500;
const ALL: u64 = THREADS * EACH;

/// Publish from several threads, a little at a time, so that subscribers join in the middle of it.
fn publish_all(server: &Server, calls: &'static [&'static str]) -> Vec<std::thread::JoinHandle<()>> {
    (0..THREADS)
        .map(|thread| {
            let hub = Arc::clone(&server.hub);
            std::thread::spawn(move || {
                for n in 0..EACH {
                    let call = calls[(thread + n) as usize % calls.len()];
                    hub.publish(call, EventKind::TranscriptPartial, json!({"thread": thread, "n": n}))
                        .unwrap();
                    if n % 50 == 0 {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_a_call_whenever_gets_every_event_once() {
    let data = tempfile::tempdir().unwrap();
    // So little memory that most of the replay comes from the journal.
    let hub = HubConfig { recent_events: 32, ..HubConfig::default() };
    let server = Arc::new(Server::with(data.path(), Setup { hub, ..Setup::default() }).await);
    server.live_call("acme", "c1");
    let publishers = publish_all(&server, &["c1"]);
    let readers: Vec<_> = (0..12u64)
        .map(|n| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 7)).await;
                let after = if n % 3 == 0 { 0 } else { n * 149 % ALL };
                let mut socket = server.socket(&format!("/ws/calls/c1/events?after={after}")).await;
                for seq in after + 1..=ALL {
                    let event = next(&mut socket).await.expect("open");
                    assert_eq!((event["seq"].as_u64(), event["call_id"].as_str()), (Some(seq), Some("c1")));
                }
                socket
            })
        })
        .collect();
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    let mut sockets = Vec::new();
    for reader in readers {
        sockets.push(reader.await.unwrap());
    }
    server.end_call("c1");
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, Some(1000), "the end of a call is the end of its stream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_the_log_at_a_position_gets_every_event_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::start(data.path()).await);
    for call in ["c1", "c2", "c3"] {
        server.live_call("acme", call);
    }
    let start = server.hub.position();
    let publishers = publish_all(&server, &["c1", "c2", "c3"]);
    let readers: Vec<_> = (0..8u64)
        .map(|n| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 7)).await;
                let after = start + n * 37;
                server.hub.changed().wait_for(|position| *position >= after).await.unwrap();
                let mut socket = server.socket(&format!("/ws/events?after={after}")).await;
                let mut last = std::collections::HashMap::new();
                for position in after + 1..=start + ALL {
                    let event = next(&mut socket).await.expect("open");
                    assert_eq!(event["position"].as_u64(), Some(position));
                    let seq = event["seq"].as_u64().unwrap();
                    let before = last.insert(event["call_id"].to_string(), seq);
                    assert!(
                        before.is_none_or(|before| before + 1 == seq),
                        "a call's events come in their order"
                    );
                }
            })
        })
        .collect();
    publishers.into_iter().for_each(|thread| thread.join().unwrap());
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_and_the_past_is_replayed_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    for n in 1..=3 {
        server.hub.publish("c1", EventKind::Dtmf, json!({"digit": n.to_string()}));
    }
    let position = server.hub.position();
    server.stop().await;

    let server = Server::start(data.path()).await;
    let record = server.directory.unfinished().pop().expect("the call that was cut off");
    let journal = server.directory.files(&record).unwrap().events();
    assert_eq!(server.hub.open_call("acme", "c1", Some(journal)).unwrap(), 3);
    let mut socket = server.socket("/ws/calls/c1/events?after=1").await;
    let mut all = server.socket(&format!("/ws/events?after={position}")).await;
    server.hub.publish("c1", EventKind::Dtmf, json!({"digit": "4"}));
    for seq in 2..=4 {
        let event = next(&mut socket).await.unwrap();
        assert_eq!((event["seq"].as_u64(), event["digit"].as_str()), (Some(seq), Some(&*seq.to_string())));
    }
    assert_eq!(
        next(&mut all).await.unwrap()["type"],
        "gap",
        "a position of the run before: nobody knows what was missed"
    );
    assert_eq!(next(&mut all).await.unwrap()["seq"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_over_is_replayed_and_the_socket_closed() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    server.hub.publish("c1", EventKind::CallStarted, ());
    server.hub.publish("c1", EventKind::CallEnded, json!({"outcome": "completed"}));
    server.end_call("c1");
    let mut socket = server.socket("/ws/calls/c1/events").await;
    assert_eq!(next(&mut socket).await.unwrap()["type"], "call.started");
    assert_eq!(next(&mut socket).await.unwrap()["outcome"], "completed");
    assert_eq!(close_code(&mut socket).await, Some(1000));
    let mut late = server.socket("/ws/calls/c1/events?after=2").await;
    assert_eq!(close_code(&mut late).await, Some(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_before_is_followed_until_it_is_taken_up_and_over() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    for call in ["c1", "c2"] {
        server.live_call("acme", call);
        server.hub.publish(call, EventKind::CallStarted, ());
    }
    server.stop().await;

    let server = Server::start(data.path()).await;
    let mut taken_up = server.socket("/ws/calls/c1/events?after=0").await;
    let mut ended_unseen = server.socket("/ws/calls/c2/events?after=1").await;
    assert_eq!(next(&mut taken_up).await.unwrap()["type"], "call.started");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let record = server.directory.get("c1").unwrap();
    let journal = server.directory.files(&record).unwrap().events();
    server.hub.open_call("acme", "c1", Some(journal)).unwrap();
    server.hub.publish("c1", EventKind::CallEnded, json!({"outcome": "completed"}));
    assert_eq!(next(&mut taken_up).await.expect("still open")["seq"], 2);
    server.end_call("c1");
    assert_eq!(close_code(&mut taken_up).await, Some(1000));
    server.end_call("c2");
    assert_eq!(close_code(&mut ended_unseen).await, Some(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_takes_up_is_to_be_asked_for_again() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    server.hub.publish("c1", EventKind::CallStarted, ());
    server.stop().await;

    let sockets = SocketPolicy { taken_up_within: Duration::from_millis(300), ..SocketPolicy::default() };
    let server = Server::with(data.path(), Setup { sockets, ..Setup::default() }).await;
    let mut socket = server.socket("/ws/calls/c1/events").await;
    assert_eq!(next(&mut socket).await.unwrap()["type"], "call.started");
    assert_eq!(close_code(&mut socket).await, Some(1013));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_or_no_number_is_told_so() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    problem(server.get("/ws/events").await, 426).await;
    problem(server.get("/ws/events?after=-1").await, 400).await;
    problem(server.get("/ws/calls/none/events").await, 404).await;
    let refused =
        tokio_tungstenite::connect_async(format!("ws://{}/ws/calls/none/events", server.addr)).await;
    assert!(refused.unwrap_err().to_string().contains("404"));
}
