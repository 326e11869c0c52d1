//! Requests and the application guard, against a peer that fails in every way.

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;

use std::net::SocketAddr;
use std::time::Duration;

use fake_ari::{FakeAri, Fault};
use sidetone::asterisk::ari::{
    AriClient, AriConfig, AriError, AriNotice, ExternalMedia, HangupReason, SocketConfig, Spy, connect,
    ensure_app_is_free,
};

fn config(url: &str) -> AriConfig {
    AriConfig {
        url: url.to_owned(),
        user: "sidetone".to_owned(),
        password: "change-me".to_owned(),
        app: "sidetone".to_owned(),
        request_timeout: Duration::from_secs(5),
        media_address: None,
    }
}

fn impatient(url: &str) -> AriClient {
    AriClient::new(AriConfig { request_timeout: Duration::from_millis(80), ..config(url) }).unwrap()
}

fn patient(url: &str) -> AriClient {
    AriClient::new(config(url)).unwrap()
}

const LEG: ExternalMedia<'static> =
    ExternalMedia { channel_id: "leg", external_host: US, format: "ulaw", data: "" };
const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 14_000);

#[tokio::test]
async fn a_lost_reply_is_a_timeout_that_names_the_request() {
    let fake = FakeAri::start().await;
    for fault in [Fault::Lost, Fault::Late(Duration::from_secs(3))] {
        fake.fault("GET /channels", fault);
        let error = impatient(&fake.url).channels().await.unwrap_err();
        assert!(matches!(error, AriError::Timeout { .. }) && error.is_transient(), "{error}");
        assert!(error.to_string().starts_with("GET /channels: no reply within 80ms"), "{error}");
    }
}

#[tokio::test]
async fn refusals_keep_asterisks_words() {
    let fake = FakeAri::start().await;
    fake.fault("POST /channels/externalMedia", Fault::Refuse(500, "An internal error"));
    let error = patient(&fake.url).external_media(&LEG).await.unwrap_err();
    assert!(matches!(error, AriError::Refused { status: 500, .. }) && error.is_transient());
    let text = error.to_string();
    assert!(text.contains("POST /channels/externalMedia") && text.contains("An internal error"), "{text}");

    fake.fault("GET /channels", Fault::Garbled("<html>proxy</html>"));
    let error = patient(&fake.url).channels().await.unwrap_err();
    assert!(
        matches!(error, AriError::BadReply { .. }) && error.to_string().contains("<html>proxy"),
        "{error}"
    );
}

#[tokio::test]
async fn a_web_server_without_ari_is_named_as_such() {
    let fake = FakeAri::start().await;
    let error = patient(&format!("{}/prefix", fake.url)).asterisk_info().await.unwrap_err();
    assert!(matches!(error, AriError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("ari.url"), "{error}");
}

#[tokio::test]
async fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = patient(&format!("http://{free}")).asterisk_info().await.unwrap_err();
    assert!(matches!(error, AriError::Unreachable { .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn the_address_of_a_leg_can_be_overridden() {
    let fake = FakeAri::start().await;
    let _stream = connect(&patient(&fake.url), SocketConfig::default());
    let config = AriConfig { media_address: Some([192, 0, 2, 7].into()), ..config(&fake.url) };
    let reply = AriClient::new(config).unwrap().external_media(&LEG).await.unwrap();
    assert_eq!(reply.local, "192.0.2.7:20000".parse().unwrap());
}

#[tokio::test]
async fn a_reply_without_the_address_is_made_up_for() {
    let fake = FakeAri::start().await;
    let client = patient(&fake.url);
    let mut stream = connect(&client, SocketConfig::default());
    assert!(matches!(stream.next().await, Some(AriNotice::Connected { .. })));
    fake.fault("POST /channels/externalMedia", Fault::Garbled(r#"{"id":"leg"}"#));
    let reply = client.external_media(&LEG).await.unwrap();
    assert_eq!(reply.local, "127.0.0.1:20000".parse().unwrap());
}

#[tokio::test]
async fn events_may_come_before_the_reply() {
    let fake = FakeAri::start().await;
    let client = patient(&fake.url);
    let mut stream = connect(&client, SocketConfig::default());
    assert!(matches!(stream.next().await, Some(AriNotice::Connected { .. })));
    fake.call("sidetone", "caller", &["tap"]);
    stream.next().await.unwrap();
    fake.fault("POST /channels/caller/snoop/ear", Fault::Late(Duration::from_secs(60)));
    let request = client.snoop("caller", "ear", Spy::In, "x");
    tokio::select! {
        reply = request => panic!("{reply:?}"),
        notice = stream.next() => {
            let Some(AriNotice::Event(event)) = notice else { panic!("{notice:?}") };
            assert_eq!(event.channel().unwrap().id, "ear");
        }
    }
}

#[tokio::test]
async fn many_requests_at_once_share_few_connections() {
    let fake = FakeAri::start().await;
    let client = patient(&fake.url);
    let tasks: Vec<_> = (0..300)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.channels().await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(fake.connections() <= 32, "{}", fake.connections());
}

#[tokio::test]
async fn a_free_application_is_free() {
    let fake = FakeAri::start().await;
    ensure_app_is_free(&patient(&fake.url)).await.unwrap();
    assert_eq!(fake.requests(), ["GET /applications/sidetone"]);
}

#[tokio::test]
async fn a_held_application_is_refused() {
    let fake = FakeAri::start().await;
    let mut holder = connect(&patient(&fake.url), SocketConfig::default());
    assert!(matches!(holder.next().await, Some(AriNotice::Connected { .. })));
    let error = ensure_app_is_free(&patient(&fake.url)).await.unwrap_err();
    assert!(matches!(&error, AriError::AppTaken { app } if app == "sidetone"), "{error}");
    assert!(error.to_string().contains("ari.takeover = true"), "{error}");
    assert!(fake.ids().is_empty(), "the probe is gone: {:?}", fake.ids());
    // The holder was not cut off, and heard nothing of it.
    assert!(fake.call("sidetone", "a", &[]));
    let Some(AriNotice::Event(event)) = holder.next().await else { panic!() };
    assert_eq!(event.channel().unwrap().id, "a");
}

#[tokio::test]
async fn what_a_crash_left_behind_does_not_hold_the_application() {
    let fake = FakeAri::start().await;
    let client = patient(&fake.url);
    let mut stream = connect(&client, SocketConfig::default());
    assert!(matches!(stream.next().await, Some(AriNotice::Connected { .. })));
    assert!(fake.call("sidetone", "survivor", &["tap"]));
    fake.cut_socket("sidetone");
    drop(stream);
    while fake.socket_is_open("sidetone") == Some(true) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(client.application("sidetone").await.unwrap().is_some());
    ensure_app_is_free(&client).await.unwrap();
    assert_eq!(fake.ids(), ["survivor"]);
}

#[tokio::test]
async fn ids_that_cannot_be_are_not_sent() {
    let fake = FakeAri::start().await;
    let client = patient(&fake.url);
    assert!(client.channel("..").await.unwrap_err().is_not_found());
    client.hangup("", HangupReason::Normal).await.unwrap();
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn channels_and_bridges_are_removed_one_at_a_time_whoever_asks() {
    let fake = FakeAri::start().await;
    fake.fault("DELETE /channels/c1", Fault::Late(Duration::from_millis(150)));
    fake.fault("DELETE /bridges/b1", Fault::Late(Duration::from_millis(150)));
    let (client, other) = (patient(&fake.url), patient(&fake.url));
    let clone = client.clone();
    let (channel, bridge, third) = tokio::join!(
        client.hangup("c1", HangupReason::Normal),
        clone.delete_bridge("b1"),
        clone.hangup("c2", HangupReason::Normal),
    );
    assert!(channel.is_ok() && bridge.is_ok() && third.is_ok());
    assert_eq!(fake.most_removals_at_once(), 1);
    // The fake does count: of two clients each has its turns.
    fake.fault("DELETE /channels/c1", Fault::Late(Duration::from_millis(150)));
    fake.fault("DELETE /channels/c2", Fault::Late(Duration::from_millis(150)));
    let _ = tokio::join!(client.hangup("c1", HangupReason::Normal), other.hangup("c2", HangupReason::Normal));
    assert_eq!(fake.most_removals_at_once(), 2);
}
