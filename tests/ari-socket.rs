//! The event socket against a peer that fails in every way.

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command};
use std::time::Duration;

use fake_ari::{FakeAri, Fault};
use sidetone::asterisk::ari::{
    AriClient, AriConfig, AriError, AriEvent, AriNotice, Disconnect, EventStream, SocketConfig, connect,
};
use tokio::time::timeout;

fn client(url: &str, password: &str) -> AriClient {
    AriClient::new(AriConfig {
        url: url.to_owned(),
        user: "sidetone".to_owned(),
        password: password.to_owned(),
        app: "sidetone".to_owned(),
        request_timeout: Duration::from_secs(5),
        media_address: None,
    })
    .unwrap()
}

fn quick() -> SocketConfig {
    SocketConfig {
        ping_interval: Duration::from_secs(3),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(40),
        queue: 1_000,
    }
}

async fn next(stream: &mut EventStream) -> Option<AriNotice> {
    timeout(Duration::from_secs(20), stream.next()).await.expect("a notice in time")
}

async fn expect_connected(stream: &mut EventStream, expected: bool) {
    match next(stream).await {
        Some(AriNotice::Connected { first }) => assert_eq!(first, expected),
        other => panic!("{other:?}"),
    }
}

async fn expect_disconnected(stream: &mut EventStream) -> Disconnect {
    match next(stream).await {
        Some(AriNotice::Disconnected { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

async fn opened(url: &str) -> EventStream {
    let mut stream = connect(&client(url, "change-me"), quick());
    expect_connected(&mut stream, true).await;
    stream
}

#[tokio::test]
async fn events_come_in_order() {
    let fake = FakeAri::start().await;
    let mut stream = opened(&fake.url).await;
    for id in ["a", "b", "c"] {
        assert!(fake.call("sidetone", id, &["tap"]));
    }
    for id in ["a", "b", "c"] {
        match next(&mut stream).await {
            Some(AriNotice::Event(event)) => {
                assert!(
                    matches!(&*event, AriEvent::StasisStart { channel, args, .. } if channel.id == id && args == &["tap"])
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn probes_of_others_are_not_told() {
    let fake = FakeAri::start().await;
    let mut stream = opened(&fake.url).await;
    fake.call("sidetone", "sidetone-probe-1", &["probe"]);
    fake.call("sidetone", "real", &["tap"]);
    let Some(AriNotice::Event(event)) = next(&mut stream).await else { panic!() };
    assert_eq!(event.channel().unwrap().id, "real");
}

#[tokio::test]
async fn a_cut_socket_is_opened_again() {
    let fake = FakeAri::start().await;
    let mut stream = opened(&fake.url).await;
    fake.cut_socket("sidetone");
    let reason = expect_disconnected(&mut stream).await;
    assert!(matches!(reason, Disconnect::Broken(_) | Disconnect::Closed(_)), "{reason}");
    expect_connected(&mut stream, false).await;
    assert!(fake.call("sidetone", "a", &[]));
    assert!(matches!(next(&mut stream).await, Some(AriNotice::Event(_))));
}

#[tokio::test]
async fn a_clean_close_is_no_end_and_no_tight_loop() {
    let fake = FakeAri::start().await;
    let mut stream = opened(&fake.url).await;
    let started = sidetone::clock::now();
    for _ in 0..6 {
        fake.close_socket("sidetone", 1001);
        let reason = expect_disconnected(&mut stream).await;
        assert!(matches!(reason, Disconnect::Closed(_)), "{reason}");
        expect_connected(&mut stream, false).await;
    }
    // Pauses of at least half of 5, 10, 20, 40, 40 and 40 ms.
    assert!(sidetone::clock::since(started) >= Duration::from_millis(77));
    assert_eq!(fake.sockets_opened(), 7);
}

#[tokio::test]
async fn a_half_dead_socket_is_found_out() {
    let fake = FakeAri::start().await;
    let config = SocketConfig { ping_interval: Duration::from_millis(40), ..quick() };
    let mut stream = connect(&client(&fake.url, "change-me"), config);
    expect_connected(&mut stream, true).await;
    fake.freeze_socket("sidetone");
    assert!(matches!(expect_disconnected(&mut stream).await, Disconnect::Silent));
    expect_connected(&mut stream, false).await;
}

#[tokio::test]
async fn a_quiet_socket_is_not_a_dead_one() {
    let fake = FakeAri::start().await;
    let config = SocketConfig { ping_interval: Duration::from_millis(100), ..quick() };
    let mut stream = connect(&client(&fake.url, "change-me"), config);
    expect_connected(&mut stream, true).await;
    assert!(timeout(Duration::from_millis(800), stream.next()).await.is_err());
    assert_eq!(fake.sockets_opened(), 1);
}

#[tokio::test]
async fn replaced_is_final() {
    let fake = FakeAri::start().await;
    let mut first = opened(&fake.url).await;
    let mut second = opened(&fake.url).await;
    assert!(matches!(next(&mut first).await, Some(AriNotice::Replaced)));
    assert!(next(&mut first).await.is_none());
    assert_eq!(fake.sockets_opened(), 2);
    assert!(fake.call("sidetone", "a", &[]));
    assert!(matches!(next(&mut second).await, Some(AriNotice::Event(_))));
}

/// Asterisk stood still, carried out our abandoned attempt after the one that succeeded, and found nobody at its end.
#[tokio::test]
async fn our_own_late_attempt_is_not_another_client() {
    let fake = FakeAri::start().await;
    fake.fault("GET /events", Fault::Lost);
    let client = AriClient::new(AriConfig {
        request_timeout: Duration::from_millis(200),
        ..client(&fake.url, "change-me").config().clone()
    });
    let mut stream = connect(&client.unwrap(), quick());
    let reason = expect_disconnected(&mut stream).await;
    assert!(matches!(reason, Disconnect::Failed(AriError::Timeout { .. })), "{reason}");
    expect_connected(&mut stream, true).await;
    fake.replaced_by_a_ghost("sidetone");
    assert!(matches!(expect_disconnected(&mut stream).await, Disconnect::Ghost));
    expect_connected(&mut stream, false).await;

    let _other = opened(&fake.url).await;
    assert!(matches!(next(&mut stream).await, Some(AriNotice::Replaced)));
}

/// `sidetone serve` beside a fake, and what it logs.
struct Serving {
    child: Child,
    folder: tempfile::TempDir,
}

impl Serving {
    fn start(ari: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let http = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        let rtp = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
        command.arg("serve").current_dir(folder.path()).env("NO_COLOR", "1").stderr(log);
        for setting in [
            &format!("ari.url={ari}"),
            &format!("http.bind={http}"),
            &format!("rtp.bind={rtp}"),
            "ari.password=change-me",
            "ari.backoff_min_ms=20",
            "ari.backoff_max_ms=40",
            "speech.model=off",
            "log.level=debug",
        ] {
            command.args(["--set", setting]);
        }
        Self { child: command.spawn().unwrap(), folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Wait for `times` lines with `words`.
    async fn logs(&self, words: &str, times: usize) {
        let logged = async {
            while self.log().matches(words).count() < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), logged).await.unwrap_or_else(|_| panic!("{words}: {}", self.log()));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_asterisk_is_one_warning_and_its_end_one_line() {
    let fake = FakeAri::start().await;
    let (url, address) = (fake.url.clone(), fake.url["http://".len()..].to_owned());
    drop(fake);
    let serving = Serving::start(&url);
    serving.logs("still waiting for Asterisk", 3).await;
    let log = serving.log();
    let warned = log.lines().filter(|line| line.contains(" WARN ") && line.contains("waiting for Asterisk"));
    assert_eq!(warned.count(), 1, "{log}");
    let fake = FakeAri::start_at(&address).await;
    let connected = "dependency=\"asterisk\" detail=\"connected\"";
    serving.logs(connected, 1).await;
    let before = serving.log();
    fake.cut_socket("sidetone");
    drop(fake);
    serving.logs("no ARI events", 4).await;
    let _fake = FakeAri::start_at(&address).await;
    serving.logs(connected, 2).await;
    let log = serving.log();
    let since = &log[before.len()..];
    assert_eq!(since.matches(" WARN ").count(), 1, "{since}");
    // Besides the recovery, the comparison with what Asterisk has.
    assert_eq!(since.matches(" INFO ").count(), 2, "{since}");
}

#[tokio::test]
async fn a_password_that_was_never_set_is_told_from_a_wrong_one() {
    let fake = FakeAri::start().await;
    let told = client(&fake.url, "").asterisk_info().await.unwrap_err().to_string();
    for part in ["`ari.password` is empty", "ari.password_file", "SIDETONE__ARI__PASSWORD", "ari.conf"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_once_and_mended() {
    let fake = FakeAri::start().await;
    let client = client(&fake.url, "wrong");
    let told = client.asterisk_info().await.unwrap_err();
    assert!(matches!(told, AriError::Unauthorised { .. }), "{told}");
    for part in ["ari.user", "ari.password_file", "ari.conf", "\"sidetone\""] {
        assert!(told.to_string().contains(part), "{told}");
    }
    let mut stream = connect(&client, quick());
    let reason = expect_disconnected(&mut stream).await;
    assert!(matches!(reason, Disconnect::Failed(AriError::Unauthorised { .. })), "{reason}");
    let attempts = |fake: &FakeAri| fake.requests().iter().filter(|line| line.ends_with("/events")).count();
    while attempts(&fake) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fake.set_password("wrong");
    expect_connected(&mut stream, true).await;
}

#[tokio::test]
async fn asterisk_that_is_not_there_yet() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut stream = connect(&client(&format!("http://{free}"), "change-me"), quick());
    let reason = expect_disconnected(&mut stream).await;
    assert!(matches!(reason, Disconnect::Failed(AriError::Unreachable { .. })), "{reason}");
    let _fake = FakeAri::start_at(&free.to_string()).await;
    expect_connected(&mut stream, true).await;
}

#[tokio::test]
async fn asterisk_that_is_starting() {
    let fake = FakeAri::start().await;
    fake.fault("GET /events", Fault::Refuse(503, "ARI is not ready"));
    let mut stream = connect(&client(&fake.url, "change-me"), quick());
    let reason = expect_disconnected(&mut stream).await;
    assert!(matches!(reason, Disconnect::Failed(AriError::Refused { status: 503, .. })), "{reason}");
    expect_connected(&mut stream, true).await;
}

#[tokio::test]
async fn an_overflow_is_loud_and_starts_over() {
    let fake = FakeAri::start().await;
    let config = SocketConfig { queue: 8, ..quick() };
    let mut stream = connect(&client(&fake.url, "change-me"), config);
    expect_connected(&mut stream, true).await;
    fake.flood("sidetone", 50);
    // Nobody takes events meanwhile; the socket must be given up all the same.
    while !matches!(fake.socket_is_open("sidetone"), Some(false) | None) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..8 {
        assert!(matches!(next(&mut stream).await, Some(AriNotice::Event(_))));
    }
    assert!(matches!(expect_disconnected(&mut stream).await, Disconnect::Overflow(8)));
    expect_connected(&mut stream, false).await;
}

#[tokio::test]
async fn closing_tells_asterisk() {
    let fake = FakeAri::start().await;
    let stream = opened(&fake.url).await;
    stream.close().await;
    while fake.socket_is_open("sidetone").is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stream = opened(&fake.url).await;
    drop(stream);
    while fake.socket_is_open("sidetone").is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn dropping_ends_a_stream_that_cannot_connect() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = SocketConfig {
        backoff_min: Duration::from_secs(600),
        backoff_max: Duration::from_secs(600),
        ..quick()
    };
    let mut stream = connect(&client(&format!("http://{free}"), "change-me"), config);
    expect_disconnected(&mut stream).await;
    timeout(Duration::from_secs(10), stream.close()).await.expect("it ends while it waits to try again");
}
