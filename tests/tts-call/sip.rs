//! Calls to SIP phones, as over a trunk. SIPp does the signalling; the media is heard here, packet by packet.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sidetone::jobs::call::{EndedBy, Played, Verdict};
use sidetone::media::rtp::RtpPacket;

use crate::audio::follow;
use crate::desk::{Desk, LONG_TEXT, TEXT};
use crate::support::lab::{Lab, Version, ulaw_decode, ulaw_encode};
use crate::support::phone::{Heard, laid_out};

/// A phone that waits for a call.
struct Called {
    port: u16,
    sipp: Child,
    folder: tempfile::TempDir,
    heard: Arc<Mutex<Vec<Heard>>>,
    is_over: Arc<AtomicBool>,
    ear: Option<JoinHandle<()>>,
}

impl Called {
    /// Answers, and hangs up after `stays` unless it is hung up on.
    fn answers(lab: &Lab, stays: Duration) -> Called {
        Called::start(lab, |port| {
            include_str!("../support/sipp/called.xml")
                .replace("@PORT@", &port.to_string())
                .replace("@MILLISECONDS@", &stays.as_millis().to_string())
        })
    }

    /// Answers with a final status, `486 Busy Here`.
    fn refuses(lab: &Lab, status: &str) -> Called {
        Called::start(lab, |_| include_str!("../support/sipp/refuses.xml").replace("@STATUS@", status))
    }

    fn start(lab: &Lab, scenario: impl FnOnce(u16) -> String) -> Called {
        let ear_socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        ear_socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let media = ear_socket.local_addr().expect("its address").port();
        let port =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let folder = tempfile::Builder::new().prefix("sipp-").tempdir_in(lab.folder()).expect("a folder");
        let file = folder.path().join("scenario.xml");
        std::fs::write(&file, scenario(media)).expect("a scenario");
        let log = std::fs::File::create(folder.path().join("sipp.log")).expect("a log");
        let sipp = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
            .args([
                "sipp",
                &lab.sip_addr().to_string(),
                "-sf",
                text(&file),
                "-i",
                "127.0.0.1",
                "-mi",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .args(["-m", "1", "-timeout", "60", "-nostdin"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a log"))
            .stdout(log)
            .spawn()
            .expect("SIPp");
        let (heard, is_over) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::<AtomicBool>::default());
        let (kept, over) = (heard.clone(), is_over.clone());
        let ear = std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, _)) = ear_socket.recv_from(&mut buffer) else { continue };
                let Ok(packet) = RtpPacket::parse(&buffer[..length]) else { continue };
                kept.lock().expect("nobody panicked").push(Heard {
                    sequence: packet.sequence().0,
                    timestamp: packet.timestamp().0,
                    payload_type: packet.payload_type(),
                    payload: packet.payload().to_vec(),
                });
            }
        });
        // It answers from its first moment on: an INVITE that comes too early is sent again after half a second.
        Called { port, sipp, folder, heard, is_over, ear: Some(ear) }
    }

    /// The trunk that leads to it.
    fn trunk(&self) -> String {
        format!("PJSIP/lab-sipp/sip:{{digits}}@127.0.0.1:{}", self.port)
    }

    fn audio(&self) -> Vec<i16> {
        laid_out(&self.heard.lock().expect("nobody panicked"))
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("sipp.log")).unwrap_or_default();
            eprintln!("SIPp: {}", &log[log.len().saturating_sub(2_000)..]);
        }
        let _ = self.sipp.kill();
        let _ = self.sipp.wait();
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(ear) = self.ear.take() {
            let _ = ear.join();
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

async fn phone_hears_the_text(version: Version, by: &str) {
    let lab = Lab::start(version);
    let phone = Called::answers(&lab, Duration::from_secs(60));
    let desk = Desk::at(&lab, |tts| (tts.channel, tts.by) = (phone.trunk(), by.into())).await;
    let outcome = desk.call(&lab, "phone", "3005050149", TEXT).await;
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Us)), "{outcome:?}");
    assert_eq!(outcome.playback.unwrap().played, Played::ToTheEnd);
    assert!(outcome.ringing_at < outcome.answered_at, "{outcome:?}");
    let said: Vec<i16> = lab.prompt_samples(TEXT).iter().map(|&s| ulaw_decode(ulaw_encode(s))).collect();
    let followed = follow(&phone.audio(), &said);
    println!("{by}: the phone heard {followed:?}");
    assert!(followed.found * 100 >= followed.sounding * 98, "the phone heard {followed:?}");
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_phone_rings_and_hears_the_text() {
    phone_hears_the_text(Version::V22, "ami").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_phone_called_by_ari_hears_the_text() {
    phone_hears_the_text(Version::V22, "ari").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_phone_of_asterisk_16_rings_and_hears_the_text() {
    phone_hears_the_text(Version::V16, "ami").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_phone_that_hangs_up_has_heard_a_part() {
    let lab = Lab::start(Version::V22);
    let phone = Called::answers(&lab, Duration::from_secs(4));
    let desk = Desk::at(&lab, |tts| tts.channel = phone.trunk()).await;
    let outcome = desk.call(&lab, "phone", "3005050149", LONG_TEXT).await;
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Party)), "{outcome:?}");
    let playback = outcome.playback.unwrap();
    // It answers, hears nothing for a second, and hangs up after four.
    assert!(playback.played == Played::InPart && (2.0..4.0).contains(&playback.seconds), "{playback:?}");
    let heard = phone.audio().len() as f64 / 8_000.0;
    assert!((heard - playback.seconds).abs() < 1.5, "{heard} s of packets, {playback:?}");
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_phones_that_refuse_are_told_apart() {
    let lab = Lab::start(Version::V22);
    for (status, verdict) in [
        ("486 Busy Here", Verdict::Busy),
        ("404 Not Found", Verdict::InvalidNumber),
        ("603 Decline", Verdict::Rejected),
        ("503 Service Unavailable", Verdict::Congestion),
        ("480 Temporarily Unavailable", Verdict::NoAnswer),
    ] {
        let phone = Called::refuses(&lab, status);
        let desk = Desk::at(&lab, |tts| tts.channel = phone.trunk()).await;
        let outcome = desk.call(&lab, "refused", "3005050149", TEXT).await;
        println!("{status}: {:?} {:?}", outcome.outcome, outcome.cause);
        assert_eq!(outcome.outcome, verdict, "{status}: {outcome:?}");
    }
}
