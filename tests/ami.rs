//! The Manager Interface: against real Asterisks, and against a peer that fails in the ways that a real one cannot be made to.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use sidetone::asterisk::ami::{
    AmiAction, AmiClient, AmiConfig, AmiError, AmiMessage, AmiNotice, AmiNotices, AmiTls,
};
use support::lab::{Lab, Version};
use support::proxy::Proxy;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn config(url: String, user: &str, password: &str) -> AmiConfig {
    AmiConfig {
        url,
        user: user.into(),
        password: password.into(),
        events: "call,system".into(),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(50),
        ..AmiConfig::default()
    }
}

fn of_lab(lab: &Lab, url: String) -> AmiConfig {
    config(url, lab.ami_user(), lab.ami_password())
}

fn url_of(lab: &Lab) -> String {
    format!("tcp://{}", lab.ami_addr())
}

async fn next(notices: &mut AmiNotices) -> AmiNotice {
    timeout(PATIENCE, notices.next()).await.expect("a notice in time").expect("a notice")
}

async fn connected(notices: &mut AmiNotices) -> bool {
    loop {
        if let AmiNotice::Connected { first, version } = next(notices).await {
            assert!(version.split('.').count() == 3, "{version}");
            return first;
        }
    }
}

async fn disconnected(notices: &mut AmiNotices) -> AmiError {
    loop {
        if let AmiNotice::Disconnected { reason } = next(notices).await {
            return reason;
        }
    }
}

async fn event(notices: &mut AmiNotices, wanted: impl Fn(&AmiMessage) -> bool) -> AmiMessage {
    loop {
        if let AmiNotice::Event(event) = next(notices).await
            && wanted(&event)
        {
            return *event;
        }
    }
}

/// Both versions, from login to the end of a call that it placed itself.
async fn speaks_with(version: Version) {
    let lab = Lab::start(version);
    let (client, mut notices) = AmiClient::connect(of_lab(&lab, url_of(&lab))).unwrap();
    assert!(connected(&mut notices).await);

    let pong = client.send(AmiAction::new("Ping")).await.unwrap();
    assert_eq!(pong.get("Ping"), Some("Pong"));
    let uptime = client.send(AmiAction::new("Command").with("Command", "core show uptime")).await.unwrap();
    assert!(uptime.output().any(|line| line.starts_with("System uptime")), "{uptime:?}");
    let error = client.send(AmiAction::new("Nonsense")).await.unwrap_err();
    assert!(matches!(&error, AmiError::Refused { action, .. } if action == "Nonsense"), "{error}");
    assert!(client.list(AmiAction::new("CoreShowChannels")).await.unwrap().is_empty());

    let originate = |id: &str, exten: &str, timeout_ms: u32| {
        AmiAction::new("Originate")
            .with("Channel", format!("Local/{exten}@lab-phones/n"))
            .with("Application", "Wait")
            .with("Data", "30")
            .with("Async", "true")
            .with("Timeout", timeout_ms.to_string())
            .with("ChannelId", id)
    };
    let (outcome, channel) = placed(&client, &mut notices, originate("job-1", "100", 5_000)).await;
    assert_eq!((outcome.as_str(), channel.as_deref()), ("Success", Some("job-1")));
    let channels = client.list(AmiAction::new("CoreShowChannels")).await.unwrap();
    assert!(channels.iter().any(|channel| channel.get("Uniqueid") == Some("job-1")), "{channels:?}");

    // The id is what makes a second try harmless.
    let (again, _) = placed(&client, &mut notices, originate("job-1", "100", 5_000)).await;
    assert_eq!(again, "Failure");

    client.send(AmiAction::new("Hangup").with("Channel", channel_of(&channels, "job-1"))).await.unwrap();
    let hangup =
        event(&mut notices, |e| e.event() == Some("Hangup") && e.get("Uniqueid") == Some("job-1")).await;
    assert!(hangup.get("Cause").is_some(), "{hangup:?}");

    for (id, exten, timeout_ms) in [("job-2", "101", 5_000), ("job-3", "103", 500)] {
        let (outcome, _) = placed(&client, &mut notices, originate(id, exten, timeout_ms)).await;
        assert_eq!(outcome, "Failure", "{id}");
    }

    drop(client);
    timeout(PATIENCE, notices.closed()).await.expect("the connection is closed");
}

/// What became of an asynchronous Originate: `Success` or `Failure`, and the channel's id.
async fn placed(
    client: &AmiClient,
    notices: &mut AmiNotices,
    originate: AmiAction,
) -> (String, Option<String>) {
    let response = client.send(originate).await.unwrap();
    assert_eq!(response.response(), Some("Success"));
    let id = response.action_id().map(str::to_owned);
    let outcome =
        event(notices, |e| e.event() == Some("OriginateResponse") && e.action_id() == id.as_deref()).await;
    (outcome.get("Response").unwrap().to_owned(), outcome.get("Uniqueid").map(str::to_owned))
}

fn channel_of<'a>(channels: &'a [AmiMessage], id: &str) -> &'a str {
    channels.iter().find(|c| c.get("Uniqueid") == Some(id)).and_then(|c| c.get("Channel")).unwrap()
}

#[tokio::test]
async fn real_ami_of_asterisk_22_is_spoken() {
    speaks_with(Version::V22).await;
}

#[tokio::test]
async fn real_ami_of_asterisk_16_is_spoken() {
    speaks_with(Version::V16).await;
}

#[tokio::test]
async fn real_ami_takes_lines_as_long_as_we_think_and_no_longer() {
    let lab = Lab::start(Version::V22);
    let (client, mut notices) = AmiClient::connect(of_lab(&lab, url_of(&lab))).unwrap();
    connected(&mut notices).await;
    let of = |bytes: usize| AmiAction::new("Ping").with("X", "a".repeat(bytes - "X: ".len()));
    client.send(of(1_022)).await.unwrap();
    assert!(matches!(client.send(of(1_023)).await.unwrap_err(), AmiError::TooLong { .. }));
    let of =
        |lines: usize| (2..lines).fold(AmiAction::new("Ping"), |action, _| action.with("Variable", "a=1"));
    client.send(of(128)).await.unwrap();
    assert!(matches!(client.send(of(129)).await.unwrap_err(), AmiError::TooLong { .. }));
    client.send(AmiAction::new("Ping")).await.expect("the connection is as good as before");
}

#[tokio::test]
async fn real_ami_that_is_cut_or_falls_silent_is_connected_to_anew() {
    let lab = Lab::start(Version::V22);
    let wire = Proxy::to(&lab.ami_addr().to_string()).await;
    let url = wire.url().replace("http", "tcp");
    let quick = AmiConfig { ping_interval: Duration::from_millis(300), ..of_lab(&lab, url) };
    let (client, mut notices) = AmiClient::connect(quick).unwrap();
    assert!(connected(&mut notices).await);
    wire.cut().await;
    disconnected(&mut notices).await;
    assert!(!connected(&mut notices).await);
    client.send(AmiAction::new("Ping")).await.unwrap();

    wire.freeze();
    let error = client.send(AmiAction::new("Ping")).await.unwrap_err();
    assert!(matches!(error, AmiError::Broken { .. }) && !error.is_undone(), "{error}");
    let reason = disconnected(&mut notices).await;
    assert!(reason.to_string().contains("not a word"), "{reason}");
    wire.thaw();
    assert!(!connected(&mut notices).await);
    client.send(AmiAction::new("Ping")).await.unwrap();
}

#[tokio::test]
async fn real_ami_refuses_a_wrong_password_and_the_error_says_what_to_compare() {
    let lab = Lab::start(Version::V22);
    let (client, mut notices) = AmiClient::connect(config(url_of(&lab), "sidetone", "wrong")).unwrap();
    let reason = disconnected(&mut notices).await;
    assert!(matches!(&reason, AmiError::Unauthorised { user, .. } if user == "sidetone"), "{reason}");
    assert!(reason.to_string().contains("manager.conf"), "{reason}");
    assert!(client.send(AmiAction::new("Ping")).await.is_err());
}

/// A peer that greets, lets anyone in, and then does as `after` says.
async fn peer<F, Fut>(after: F) -> String
where
    F: Fn(BufReader<TcpStream>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.get_mut().write_all(b"Asterisk Call Manager/11.0.0\r\n").await.unwrap();
            for answer in ["Challenge: 1", "Message: Authentication accepted"] {
                let id = read_action(&mut stream).await;
                let text = format!("Response: Success\r\nActionID: {id}\r\n{answer}\r\n\r\n");
                stream.get_mut().write_all(text.as_bytes()).await.unwrap();
            }
            after(stream).await;
        }
    });
    url
}

async fn read_action(stream: &mut BufReader<TcpStream>) -> String {
    let mut id = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 || line == "\r\n" {
            return id;
        }
        if let Some(value) = line.strip_prefix("ActionID: ") {
            id = value.trim().to_owned();
        }
    }
}

#[tokio::test]
async fn an_action_without_a_response_ends_in_time_and_may_have_been_carried_out() {
    let url = peer(|mut stream| async move { while !read_action(&mut stream).await.is_empty() {} }).await;
    let config = AmiConfig { request_timeout: Duration::from_millis(300), ..config(url, "a", "b") };
    let (client, mut notices) = AmiClient::connect(config).unwrap();
    connected(&mut notices).await;
    let error = client.send(AmiAction::new("Originate")).await.unwrap_err();
    assert!(matches!(error, AmiError::Timeout { .. }) && !error.is_undone(), "{error}");
}

#[tokio::test]
async fn responses_find_their_actions_whatever_their_order() {
    let url = peer(|mut stream| async move {
        let (first, second) = (read_action(&mut stream).await, read_action(&mut stream).await);
        for (id, text) in [(second, "second"), (first, "first")] {
            let text = format!("Response: Success\r\nActionID: {id}\r\nMessage: {text}\r\n\r\n");
            stream.get_mut().write_all(text.as_bytes()).await.unwrap();
        }
        read_action(&mut stream).await;
    })
    .await;
    let (client, mut notices) = AmiClient::connect(config(url, "a", "b")).unwrap();
    connected(&mut notices).await;
    let (first, second) =
        tokio::join!(client.send(AmiAction::new("One")), client.send(AmiAction::new("Two")));
    assert_eq!((first.unwrap().message(), second.unwrap().message()), ("first", "second"));
}

#[tokio::test]
async fn a_peer_that_is_no_asterisk_is_told_by_its_greeting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        }
    });
    let (_client, mut notices) = AmiClient::connect(config(url, "a", "b")).unwrap();
    let reason = disconnected(&mut notices).await.to_string();
    assert!(reason.contains("220 mail.example") && reason.contains("ami.url"), "{reason}");
}

#[tokio::test]
async fn a_flood_of_events_that_nobody_takes_ends_the_connection_and_not_the_memory() {
    let url = peer(|mut stream| async move {
        let event = "Event: Newchannel\r\nChannel: a\r\n\r\n".repeat(1_000);
        while stream.get_mut().write_all(event.as_bytes()).await.is_ok() {}
    })
    .await;
    let (_client, mut notices) =
        AmiClient::connect(AmiConfig { queue: 100, ..config(url, "a", "b") }).unwrap();
    connected(&mut notices).await;
    // Not taken meanwhile: a second connection comes only after the first was given up.
    let mut events = 0;
    loop {
        match next(&mut notices).await {
            AmiNotice::Event(_) => events += 1,
            AmiNotice::Connected { first: false, .. } => break,
            _ => {}
        }
    }
    assert!(events >= 99, "{events}");
}

#[test]
fn addresses_that_cannot_be_used_are_refused_at_once() {
    for url in ["127.0.0.1:5038", "http://127.0.0.1", "tcp://", "tls://a b"] {
        let error = AmiClient::connect(config(url.into(), "a", "b")).unwrap_err();
        assert!(matches!(error, AmiError::BadUrl { .. }) && error.to_string().contains("ami.url"), "{error}");
    }
}

/// Asterisk's own TLS, with a certificate that an authority of our own signed.
#[tokio::test]
async fn real_manager_by_tls() {
    let lab = Lab::start(Version::V22);
    let fixture =
        |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    let port = support::server::free_tcp().port();
    // Asterisk reads certificate and key from one file.
    let both: String =
        ["server.pem", "server.key"].map(|name| std::fs::read_to_string(fixture(name)).unwrap()).concat();
    let pem = lab.folder().join("manager.pem");
    std::fs::write(&pem, both).unwrap();
    let file = lab.folder().join("etc/manager.conf");
    let lines =
        format!("[general](+)\ntlsenable=yes\ntlsbindaddr=127.0.0.1:{port}\ntlscertfile={}\n", pem.display());
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &lines).unwrap();
    lab.cli("manager reload");
    let with = |url: String, ca_file| AmiConfig { tls: AmiTls { ca_file }, ..of_lab(&lab, url) };
    let url = format!("tls://127.0.0.1:{port}");
    let (client, mut notices) = AmiClient::connect(with(url.clone(), Some(fixture("ca.pem")))).unwrap();
    assert!(connected(&mut notices).await);
    client.send(AmiAction::new("Ping")).await.expect("an answer");

    let reason = |config: AmiConfig| async move {
        let (_client, mut notices) = AmiClient::connect(config).unwrap();
        disconnected(&mut notices).await.to_string()
    };
    let unknown = reason(with(url, None)).await;
    assert!(unknown.contains("ami.ca_file"), "{unknown}");
    let other_name = reason(with(format!("tls://localhost:{port}"), Some(fixture("ca.pem")))).await;
    assert!(other_name.contains("as its certificate does"), "{other_name}");
    let plain = reason(with(url_of(&lab).replace("tcp://", "tls://"), Some(fixture("ca.pem")))).await;
    assert!(plain.contains("tlsbindaddr"), "{plain}");
}
