//! The fake ARI is held to the real one: the same requests to both, the same statuses, fields and events. And the client does
//! its work on both.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use fake_ari::FakeAri;
use reqwest::Method;
use serde_json::{Value, json};
use sidetone::asterisk::ari::{
    AriClient, AriConfig, AriError, AriEvent, AriNotice, BridgeKind, ChannelState, Disconnect, EventStream,
    ExternalMedia, HangupReason, Originate, SocketConfig, Spy, Then, connect, ensure_app_is_free,
};
use support::lab::{Lab, Version};
use tokio::time::timeout;

const US: &str = "127.0.0.1:9";

struct Target {
    client: AriClient,
    http: reqwest::Client,
}

/// What a walk brought: the label of each request, its status and the fields that we use; and each channel's events.
#[derive(Debug, Default)]
struct Walk {
    replies: Vec<(String, u16, Value)>,
    events: BTreeMap<String, Vec<String>>,
}

fn config(url: &str, app: &str) -> AriConfig {
    AriConfig {
        url: url.to_owned(),
        user: "sidetone".to_owned(),
        password: "change-me".to_owned(),
        app: app.to_owned(),
        request_timeout: Duration::from_secs(10),
        media_address: None,
    }
}

fn target(url: &str, app: &str) -> Target {
    let client = AriClient::new(config(url, app)).unwrap();
    Target { client, http: reqwest::Client::builder().tls_certs_only([]).build().unwrap() }
}

impl Target {
    async fn ask(&self, walk: &mut Walk, method: Method, path: &str) -> Value {
        let config = self.client.config();
        let request = self.http.request(method.clone(), format!("{}/ari{path}", config.url));
        let response = request.basic_auth(&config.user, Some(&config.password)).send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        walk.replies.push((format!("{method} {path}"), status, used(&body)));
        body
    }
}

/// The fields that we use, where they are the same on every run.
fn used(body: &Value) -> Value {
    let mut out = json!({});
    for field in [
        "id",
        "state",
        "channel_ids",
        "bridge_ids",
        "bridge_type",
        "creator",
        "channels",
        "value",
        "media_uri",
        "message",
    ] {
        if let Some(value) = body.get(field) {
            out[field] = value.clone();
        }
    }
    if let Some(name) = body["name"].as_str() {
        out["name"] = json!(name.split('/').next());
    }
    if let Some(variables) = body["channelvars"].as_object() {
        let mut names: Vec<_> = variables.keys().filter(|name| name.starts_with("UNICASTRTP_")).collect();
        names.sort();
        out["channelvars"] = json!(names);
        // Between the making of the channel and its reply it may already be up.
        out.as_object_mut().unwrap().remove("state");
    }
    if body["state"] == "playing" {
        // Between the request for it and its reply it may have begun.
        out["state"] = json!("queued");
    }
    out
}

async fn next(stream: &mut EventStream) -> Option<AriNotice> {
    timeout(Duration::from_secs(20), stream.next()).await.expect("a notice in time")
}

async fn connected(client: &AriClient) -> EventStream {
    let mut stream = connect(client, SocketConfig::default());
    assert!(matches!(next(&mut stream).await, Some(AriNotice::Connected { first: true })));
    stream
}

/// Take events down until one of `kind` about channel `id` comes.
async fn until(stream: &mut EventStream, walk: &mut Walk, kind: &str, id: &str) {
    loop {
        let Some(AriNotice::Event(event)) = next(stream).await else { panic!("no {kind} of {id}") };
        let Some(channel) = event.channel() else { continue };
        let (channel, name) = (
            channel.id.clone(),
            match &*event {
                AriEvent::StasisStart { args, .. } => format!("StasisStart {args:?}"),
                AriEvent::StasisEnd { .. } => "StasisEnd".to_owned(),
                AriEvent::ChannelDestroyed { cause, cause_txt, .. } => {
                    format!("ChannelDestroyed {cause} {cause_txt}")
                }
                AriEvent::ChannelEnteredBridge { bridge, .. } => {
                    format!("ChannelEnteredBridge {}", bridge.id)
                }
                AriEvent::ChannelLeftBridge { bridge, .. } => format!("ChannelLeftBridge {}", bridge.id),
                _ => continue,
            },
        );
        let found = channel == id && name.starts_with(kind);
        walk.events.entry(channel).or_default().push(name);
        if found {
            return;
        }
    }
}

async fn walk(url: &str) -> Walk {
    // A name of its own each time: Asterisk 16 keeps an application, without any client, whose bridge was deleted.
    let app = format!("sidetone-contract-{}", std::process::id());
    let target = target(url, &app);
    let mut walk = Walk::default();
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let em = |id: &str, format: &str| {
        format!("/channels/externalMedia?app={app}&channelId={id}&external_host={US}&format={format}")
    };
    macro_rules! ask {
        ($method:expr, $($path:tt)*) => { target.ask(&mut walk, $method.clone(), &format!($($path)*)).await };
    }
    ask!(get, "/applications/{app}");
    ask!(post, "/applications/{app}/subscription?eventSource=channel:main");
    let mut stream = connected(&target.client).await;
    ask!(get, "/applications/{app}");

    ask!(post, "{}", em("main", "ulaw"));
    until(&mut stream, &mut walk, "StasisStart", "main").await;
    ask!(get, "/channels/main");
    ask!(post, "{}", em("main", "ulaw"));
    ask!(post, "{}", em("odd", "nonsense"));
    ask!(get, "/applications/{app}");

    ask!(post, "/bridges?bridgeId=pair&name=own&type=mixing");
    ask!(post, "/bridges?bridgeId=pair&name=own&type=mixing");
    ask!(post, "/bridges/pair/addChannel?channel=main");
    until(&mut stream, &mut walk, "ChannelEnteredBridge", "main").await;
    ask!(post, "/bridges/pair/addChannel?channel=nobody");
    ask!(post, "/bridges/nobody/addChannel?channel=main");

    ask!(post, "/channels/main/snoop/ear?app={app}&spy=in&appArgs=a,b");
    until(&mut stream, &mut walk, "StasisStart", "ear").await;
    ask!(post, "/channels/main/snoop/ear?app={app}&spy=in");
    ask!(post, "/channels/nobody/snoop/ear2?app={app}&spy=in");
    ask!(get, "/applications/{app}");

    ask!(get, "/channels/main/variable?variable=NOPE");
    ask!(get, "/channels/nobody/variable?variable=NOPE");
    ask!(post, "/channels/main/variable?variable=X&value=a%20b");
    ask!(post, "/channels/main/answer");
    ask!(post, "/channels/nobody/answer");
    ask!(post, "/channels/ear/play/tone?media=sound:silence/1");

    ask!(
        post,
        "/channels?endpoint=Local/echo@lab-pbx/n&channelId=else&context=lab-pbx&extension=echo&priority=1"
    );
    ask!(post, "/bridges/pair/addChannel?channel=else");
    ask!(post, "/channels/else/answer");
    ask!(post, "/channels/else/continue");
    ask!(post, "/applications/{app}/subscription?eventSource=channel:else");
    ask!(delete, "/applications/{app}/subscription?eventSource=channel:else");
    ask!(delete, "/applications/{app}/subscription?eventSource=channel:else");
    ask!(post, "/applications/{app}/subscription?eventSource=channel:nobody");
    ask!(delete, "/channels/else");

    ask!(delete, "/channels/main?reason=normal");
    until(&mut stream, &mut walk, "ChannelDestroyed", "main").await;
    if !walk.events["ear"].iter().any(|event| event == "StasisEnd") {
        until(&mut stream, &mut walk, "StasisEnd", "ear").await;
    }
    ask!(delete, "/channels/main?reason=normal");
    ask!(get, "/channels/main");
    ask!(delete, "/bridges/pair");
    ask!(get, "/asterisk/modules/nope.so");
    ask!(get, "/nowhere");

    let second = connected(&target.client).await;
    loop {
        match next(&mut stream).await {
            Some(AriNotice::Replaced) => break,
            Some(AriNotice::Event(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    second.close().await;
    walk
}

/// Where Asterisk 16 answers otherwise than 22: the same requests, other refusals.
const OLD_REFUSALS: [&str; 3] = ["channelId=main&", "format=nonsense", "POST /bridges?bridgeId=pair"];

#[tokio::test]
async fn real_asterisk_answers_as_the_fake_does() {
    let fake = FakeAri::start().await;
    let expected = walk(&fake.url).await;
    for version in [Version::V22, Version::V16] {
        let lab = Lab::start(version);
        let real = walk(lab.ari_url()).await;
        assert_eq!(expected.replies.len(), real.replies.len());
        for (fake, real) in expected.replies.iter().zip(&real.replies) {
            if version == Version::V16 && OLD_REFUSALS.iter().any(|label| real.0.contains(label)) {
                continue;
            }
            assert_eq!(fake, real);
        }
        assert_eq!(expected.events, real.events);
    }
}

#[tokio::test]
async fn the_client_does_its_work() {
    let fake = FakeAri::start().await;
    work(&fake.url).await;
}

#[tokio::test]
async fn real_asterisk_lets_the_client_do_its_work() {
    for version in [Version::V22, Version::V16] {
        let lab = Lab::start(version);
        work(lab.ari_url()).await;
    }
}

async fn work(url: &str) {
    let client = AriClient::new(config(url, "sidetone-work")).unwrap();
    let info = client.asterisk_info().await.unwrap();
    assert!(info.version.capabilities().external_media.is_ok(), "{}", info.version);
    assert!(!info.startup_time.is_empty() && !info.entity_id.is_empty());
    assert!(client.module("chan_rtp.so").await.unwrap().unwrap().is_running());
    assert_eq!(client.module("chan_nope.so").await.unwrap(), None);
    assert!(client.modules().await.unwrap().iter().any(|module| module.name == "chan_rtp.so"));

    ensure_app_is_free(&client).await.unwrap();
    gone_soon(&client).await;
    let mut stream = connected(&client).await;
    assert!(matches!(ensure_app_is_free(&client).await, Err(AriError::AppTaken { .. })));
    assert!(client.applications().await.unwrap().iter().any(|app| app.name == "sidetone-work"));

    let id = "sidetone-work/1+2;3 ü%";
    let leg = ExternalMedia { channel_id: id, external_host: US.parse().unwrap(), format: "ulaw", data: "" };
    let reply = client.external_media(&leg).await.unwrap();
    assert_eq!(reply.channel.id, id);
    assert!(reply.local.ip().is_loopback() && reply.local.port() % 2 == 0, "{}", reply.local);
    let mut walk = Walk::default();
    until(&mut stream, &mut walk, "StasisStart", id).await;
    let channel = client.channel(id).await.unwrap();
    assert_eq!((channel.id.as_str(), channel.state), (id, ChannelState::Up));
    assert!(client.channels().await.unwrap().iter().any(|channel| channel.id == id));
    let port = client.get_variable(id, "UNICASTRTP_LOCAL_PORT").await.unwrap();
    assert_eq!(port, Some(reply.local.port().to_string()));
    assert_eq!(client.get_variable(id, "NOPE").await.unwrap(), None);
    assert!(client.get_variable("nobody", "NOPE").await.unwrap_err().is_not_found());

    let bridge = client.create_bridge("sidetone-work-b", "the name", BridgeKind::Mixing).await.unwrap();
    assert_eq!((bridge.id.as_str(), bridge.name.as_str()), ("sidetone-work-b", "the name"));
    client.add_channel(&bridge.id, id).await.unwrap();
    assert!(client.add_channel(&bridge.id, "nobody").await.unwrap_err().is_not_found());
    assert!(client.add_channel("nobody", id).await.unwrap_err().is_not_found());
    client.snoop(id, "sidetone-work-s", Spy::Out, "a,b").await.unwrap();
    assert!(client.snoop("nobody", "sidetone-work-t", Spy::In, "").await.unwrap_err().is_not_found());

    let call = Originate {
        endpoint: "Local/echo@lab-pbx/n",
        channel_id: "sidetone-work-o",
        then: Then::Dialplan { context: "lab-pbx", exten: "echo" },
        caller_id: "\"Ann\" <100>",
        formats: "slin",
        timeout: Duration::from_secs(5),
        variables: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
    };
    client.originate(&call).await.unwrap();
    let outside = client.add_channel(&bridge.id, "sidetone-work-o").await;
    assert!(matches!(outside, Err(AriError::NotInStasis { .. })), "{outside:?}");
    assert!(matches!(client.answer("sidetone-work-o").await, Err(AriError::NotInStasis { .. })));
    client.subscribe("channel:sidetone-work-o").await.unwrap();
    for _ in 0..2 {
        client.hangup("sidetone-work-o", HangupReason::Normal).await.unwrap();
    }

    // What a crash leaves: the application has channels and no client.
    drop(stream);
    ensure_free_soon(&client).await;
    assert!(client.application("sidetone-work").await.unwrap().is_some());

    client.hangup(id, HangupReason::Normal).await.unwrap();
    client.hangup("sidetone-work-s", HangupReason::Normal).await.unwrap();
    for _ in 0..2 {
        client.delete_bridge("sidetone-work-b").await.unwrap();
    }
    gone_soon(&client).await;

    let stranger = AriClient::new(AriConfig { password: "wrong".to_owned(), ..config(url, "x") }).unwrap();
    assert!(matches!(stranger.asterisk_info().await, Err(AriError::Unauthorised { .. })));
    let mut stream = connect(&stranger, SocketConfig::default());
    let notice = next(&mut stream).await;
    let reason = match &notice {
        Some(AriNotice::Disconnected { reason: Disconnect::Failed(reason) }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(matches!(reason, AriError::Unauthorised { .. }), "{reason}");
}

/// A `DELETE` is answered before it is fully done.
async fn gone_soon(client: &AriClient) {
    for _ in 0..100 {
        let channels = client.channels().await.unwrap();
        let bridges = client.bridges().await.unwrap();
        let ids = channels.iter().map(|channel| &channel.id).chain(bridges.iter().map(|bridge| &bridge.id));
        let ours: Vec<_> = ids.filter(|id| id.starts_with("sidetone-work")).collect();
        if ours.is_empty() {
            return;
        }
        for id in ours {
            client.hangup(id, HangupReason::Normal).await.unwrap();
            client.delete_bridge(id).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("channels or bridges of ours stay");
}

/// The socket's task closes it in the background.
async fn ensure_free_soon(client: &AriClient) {
    for _ in 0..100 {
        match ensure_app_is_free(client).await {
            Err(AriError::AppTaken { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            other => return other.unwrap(),
        }
    }
    panic!("still taken");
}
