//! Who may see what; and what needs no key: health, readiness, metrics, the page.

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use sidetone::api;
use sidetone::calls::hub::EventKind;
use sidetone::telemetry::readiness::{Dependency, Health};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use crate::support::{Server, Setup, next, problem};

const ACME: &str = "st_acme_00112233445566778899aabbccddeeff";
const OTHER: &str = "st_other_00112233445566778899aabbccddeeff";
const EVERY: &str = "st_*_00112233445566778899aabbccddeeff";

#[tokio::test]
async fn a_key_is_taken_in_three_places_and_as_a_hash() {
    let data = tempfile::tempdir().unwrap();
    let hash: String = Sha256::digest(OTHER).iter().map(|byte| format!("{byte:02x}")).collect();
    let hash: &'static str = format!("sha256:{hash}").leak();
    let server = Server::with(data.path(), Setup { keys: vec![ACME, hash], ..Setup::default() }).await;
    let none = server.get("/api/calls").await;
    assert!(none.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    problem(none, 401).await;
    for key in [ACME, OTHER] {
        let bearer = server.request("GET", "/api/calls").bearer_auth(key).send().await.unwrap();
        let header = server.request("GET", "/api/calls").header("x-api-key", key).send().await.unwrap();
        let query = server.get(&format!("/api/calls?token={key}")).await;
        assert_eq!([bearer.status(), header.status(), query.status()], [200, 200, 200]);
    }
    for wrong in ["st_acme_00112233445566778899aabbccddeefe", hash, "", "Bearer"] {
        let refused = server.request("GET", "/api/calls").bearer_auth(wrong).send().await.unwrap();
        problem(refused, 401).await;
    }
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/ws/events", server.addr)).await;
    assert!(refused.unwrap_err().to_string().contains("401"));
    for open in ["/health", "/api/health", "/metrics", "/", "/api/schema/events.json"] {
        assert_eq!(server.get(open).await.status(), 200, "{open}");
    }
}

#[tokio::test]
async fn a_tenant_cannot_tell_that_anothers_call_exists() {
    let data = tempfile::tempdir().unwrap();
    let server =
        Server::with(data.path(), Setup { keys: vec![ACME, OTHER, EVERY], ..Setup::default() }).await;
    server.live_call("acme", "c1");
    server.live_call("other", "c2");
    let as_acme = |method: &str, path: &str| server.request(method, path).bearer_auth(ACME).send();
    let list: serde_json::Value =
        as_acme("GET", "/api/calls?tenant=other").await.unwrap().json().await.unwrap();
    assert_eq!(list["calls"], json!([]));
    let list: serde_json::Value = as_acme("GET", "/api/calls").await.unwrap().json().await.unwrap();
    assert_eq!(list["calls"].as_array().unwrap().len(), 1);
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/transcript"),
        ("GET", "/recording"),
        ("GET", "/report"),
        ("POST", "/hangup"),
        ("POST", "/recording/pause"),
        ("POST", "/play"),
        ("POST", "/play/stop"),
        ("POST", "/say"),
    ] {
        let theirs = problem(as_acme(method, &format!("/api/calls/c2{path}")).await.unwrap(), 404).await;
        let nobodys = problem(as_acme(method, &format!("/api/calls/c3{path}")).await.unwrap(), 404).await;
        assert_eq!(theirs.to_string().replace("c2", "c3"), nobodys.to_string(), "{method} {path}");
    }
    assert!(server.control.asked.lock().is_empty());

    let mut acme = server.socket(&format!("/ws/events?token={ACME}")).await;
    let mut every = server.socket(&format!("/ws/events?token={EVERY}")).await;
    server.hub.publish("c2", EventKind::CallStarted, ());
    server.hub.publish_node(EventKind::AriConnected, ());
    server.hub.publish("c1", EventKind::CallStarted, ());
    assert_eq!(next(&mut acme).await.unwrap()["type"], "ari.connected");
    assert_eq!(next(&mut acme).await.unwrap()["call_id"], "c1");
    assert_eq!(next(&mut every).await.unwrap()["call_id"], "c2");
    let refused =
        tokio_tungstenite::connect_async(format!("ws://{}/ws/calls/c2/events?token={ACME}", server.addr))
            .await;
    assert!(refused.unwrap_err().to_string().contains("404"));
}

#[tokio::test]
async fn without_keys_a_foreign_page_in_a_local_browser_sees_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let with = |name: &'static str, value: &'static str| {
        server.request("GET", "/api/calls").header(name, value).send()
    };
    problem(with("origin", "https://evil.example").await.unwrap(), 403).await;
    problem(with("origin", "null").await.unwrap(), 403).await;
    problem(with("host", "evil.example").await.unwrap(), 403).await;
    assert_eq!(with("origin", "http://localhost:3000").await.unwrap().status(), 200);
    assert_eq!(with("host", "localhost:9").await.unwrap().status(), 200);
}

#[tokio::test]
async fn readiness_shows_every_dependency_and_the_demo_model() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let starting = server.get("/ready").await;
    assert_eq!(starting.status(), 503);
    server.readiness.set("ari", Health::Ok, "Asterisk 22.10.1");
    let model = Dependency::new(Health::Ok, "built in").with("model", "sidetone-demo");
    server.readiness.put("model", model.warn("The built-in model is for demonstrations only."));
    let ready = server.json("/ready").await;
    assert_eq!(ready["status"], "ok");
    assert_eq!(ready["dependencies"]["model"]["model"], "sidetone-demo");
    assert!(ready["dependencies"]["model"]["warning"].as_str().unwrap().contains("demonstrations"));
    server.readiness.set("ari", Health::Degraded, "slow");
    assert_eq!(server.json("/ready").await["status"], "degraded");
}

#[tokio::test]
async fn metrics_have_every_name_from_the_start_and_no_call_in_a_label() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    server.live_call("acme", "c1");
    server.get("/api/calls/c1").await;
    server.get("/no/such/path").await;
    let text = server.get("/metrics").await.text().await.unwrap();
    for name in [
        "calls_active",
        "calls_total",
        "call_setup_seconds",
        "rtp_packets_received_total",
        "rtp_packets_lost_total",
        "rtp_packets_late_total",
        "rtp_packets_duplicate_total",
        "rtp_packets_repaired_total",
        "rtp_packets_unroutable_total",
        "rtp_kernel_drops_total",
        "rtp_ring_overruns_total",
        "leg_jitter_seconds",
        "leg_mos",
        "leg_stalls_total",
        "recording_bytes_total",
        "recordings_total",
        "recording_lag_seconds",
        "asr_lag_seconds",
        "asr_final_latency_seconds",
        "asr_partials_shed_total",
        "asr_seconds_processed_total",
        "asr_compute_seconds_total",
        "asr_queue_depth",
        "ws_subscribers",
        "ws_messages_dropped_total",
        "ari_reconnects_total",
        "orphans_removed_total",
        "http_requests_total",
    ] {
        assert!(
            text.contains(&format!("\n# TYPE sidetone_{name} "))
                || text.starts_with(&format!("# TYPE sidetone_{name} ")),
            "{name}"
        );
    }
    assert!(text.contains("sidetone_call_setup_seconds_bucket{le=\"0.1\"}"), "{text}");
    assert!(text.contains("sidetone_calls_total{outcome=\"completed\"} "));
    assert!(text.contains("sidetone_http_requests_total{route=\"/api/calls/{id}\",status=\"200\"} "));
    assert!(text.contains("route=\"unmatched\",status=\"404\""));
    assert!(!text.contains("call_id"));
}

#[tokio::test]
async fn an_address_in_use_names_the_setting_and_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let error = api::bind(server.addr).await.unwrap_err().to_string();
    assert!(error.contains("http.bind") && error.contains("free"), "{error}");
}

/// The status of the next answer, which is read to its end.
async fn answered(connection: &mut BufStream<TcpStream>) -> u16 {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        assert!(connection.read_line(&mut head).await.unwrap() > 0, "closed after {head:?}");
        if let Some(value) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    connection.read_exact(&mut vec![0; length]).await.unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_refusal_reaches_whoever_is_still_sending_and_the_connection_stays() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::with(data.path(), Setup { keys: vec![ACME], ..Setup::default() }).await;
    let piece = [b'x'; 100_000];
    // Without a key; no such path; not with this method; more than is taken; no such call.
    for (method, path, key, status) in [
        ("POST", "/api/calls/c1/say", OTHER, 401),
        ("POST", "/v1/audio/transcriptions", OTHER, 401),
        ("POST", "/nothing", OTHER, 404),
        ("PUT", "/health", ACME, 405),
        ("POST", "/v1/audio/speech", ACME, 413),
        ("POST", "/api/calls/c1/hangup", ACME, 404),
    ] {
        let mut connection = BufStream::new(TcpStream::connect(server.addr).await.unwrap());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n");
        let request = format!("{head}Content-Type: application/json\r\nContent-Length: 2000000\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        for _ in 0..20 {
            connection.write_all(&piece).await.unwrap_or_else(|error| panic!("{path}: {error}"));
            connection.flush().await.unwrap_or_else(|error| panic!("{path}: {error}"));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(answered(&mut connection).await, status, "{path}");
        connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        connection.flush().await.unwrap();
        assert_eq!(answered(&mut connection).await, 200, "{path}: the next request");

        // Asked first, it is told before it sends anything.
        let mut connection = BufStream::new(TcpStream::connect(server.addr).await.unwrap());
        let request = format!("{head}Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        connection.flush().await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), answered(&mut connection)).await;
        let told = answer.unwrap_or_else(|_| panic!("{path}: it waits"));
        // What has to be read to be refused is asked for.
        assert_eq!(told, if status == 413 { 100 } else { status }, "{path}");
    }
    server.stop().await;
}
