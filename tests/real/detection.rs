//! Calls that the Manager tells of before they come, and those that never do.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::server::Sidetone;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn real_call_is_known_before_it_comes_and_so_is_one_that_never_does() {
    let lab = Lab::start(Version::V22);
    let ami = format!("tcp://{}", lab.ami_addr());
    let settings = [
        ("ami.url", &*ami),
        ("ami.user", lab.ami_user()),
        ("ami.password", lab.ami_password()),
        ("speech.model", "off"),
    ];
    let server = Sidetone::start_with(&lab, &settings).await;
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains("told of channels by the Manager") {
        assert!(Instant::now() < deadline, "it does not listen:\n{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
    let url = format!("ws://{}/ws/events", server.http());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a subscription");
    let taps = Call::tap_when_up().caller(&["1", "hello-world"]).callee(&["2"]).place(&lab).await;
    taps.ended(PATIENCE).await;
    let plain = Call::plain().caller(&["1", "hello-world"]).callee(&["2"]).place(&lab).await;
    plain.ended(PATIENCE).await;

    let call = server.ended_calls(1, PATIENCE).await.remove(0);
    assert_eq!(call["channel"]["id"], *taps.main, "{call:#}");
    let time = |key: &str| -> jiff::Timestamp {
        call[key].as_str().unwrap_or_else(|| panic!("no {key}: {call:#}")).parse().unwrap()
    };
    assert!(time("detected_at") <= time("started_at"), "{call:#}");

    // Each call is told of once, by its first channel, and the legs that Sidetone makes are none.
    let mut events = Vec::new();
    while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(2), socket.next()).await {
        let Ok(text) = message.to_text() else { continue };
        events.extend(serde_json::from_str::<Value>(text));
    }
    let at = |kind: &str, good: &dyn Fn(&Value) -> bool| {
        let found = events.iter().position(|event| event["type"] == kind && good(event));
        found.unwrap_or_else(|| panic!("no {kind}: {events:#?}"))
    };
    let detected = |id: &str| at("call.detected", &|event| event["channel"]["id"] == *id);
    assert!(detected(&taps.caller) < at("call.started", &|_| true), "{events:#?}");
    detected(&plain.caller);
    assert_eq!(events.iter().filter(|event| event["type"] == "call.detected").count(), 2, "{events:#?}");

    let metrics = server.text("/metrics").await;
    assert!(metrics.contains("sidetone_call_detection_lead_seconds_count 1"), "{metrics}");
    for outcome in ["taken", "passed"] {
        let line = format!("sidetone_calls_detected_total{{outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}
