//! What is said over RTP, as it leaves the socket.

use std::net::UdpSocket;
use std::time::Duration;

use sidetone::clock;
use sidetone::media::codec::Codec;
use sidetone::media::pace::{Player, playout};
use sidetone::media::rtp::RtpPacket;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::net::plane::{PlaneConfig, RtpPlane};
use sidetone::net::voice::{SpeakError, VoiceHandle};

mod net_support;
use net_support::receiver;

/// A packet as it came.
#[derive(Clone, Debug)]
struct Came {
    at: MediaInstant,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload_type: u8,
    marker: bool,
    payload: Vec<u8>,
}

/// The party's side: where packets come to.
struct Party(UdpSocket);

impl Party {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(socket)
    }

    fn next(&self) -> Came {
        let mut buffer = [0; 2_048];
        let (length, _) = self.0.recv_from(&mut buffer).expect("a packet");
        let packet = RtpPacket::parse(&buffer[..length]).unwrap();
        Came {
            at: clock::now(),
            sequence: packet.sequence().0,
            timestamp: packet.timestamp().0,
            ssrc: packet.ssrc().0,
            payload_type: packet.payload_type(),
            marker: packet.marker(),
            payload: packet.payload().to_vec(),
        }
    }

    fn take(&self, count: usize) -> Vec<Came> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn plane() -> RtpPlane {
    RtpPlane::start(PlaneConfig::new("127.0.0.1:0".parse().unwrap(), 1)).unwrap()
}

fn speak(plane: &RtpPlane, party: &Party, codec: Codec) -> (Player, VoiceHandle, u16) {
    let (player, pacer) = playout(codec.sample_rate(), Duration::from_secs(30));
    let seat = plane.seat();
    let port = seat.port();
    let voice = seat.speak(party.0.local_addr().unwrap(), codec, pacer).unwrap();
    (player, voice, port)
}

fn assert_one_stream(packets: &[Came], step: u32) {
    for pair in packets.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!((pair[1].ssrc, pair[1].payload_type), (pair[0].ssrc, pair[0].payload_type));
        let passed = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        // A machine that is busy elsewhere for over 60 ms has turns skipped, and that is marked.
        assert!(passed == step || (pair[1].marker && passed.is_multiple_of(step)), "{passed}");
    }
}

#[test]
fn silence_is_sent_from_the_first_moment_and_audio_in_its_place_sample_for_sample() {
    let (plane, party) = (plane(), Party::new());
    let (mut player, _voice, _) = speak(&plane, &party, Codec::Slin);
    let mut packets = party.take(5);
    assert!(packets[0].marker, "nothing was sent before it");
    assert!(packets.iter().all(|p| p.payload_type == 10 && p.payload == [0; 320]), "silence");
    let audio: Vec<i16> = (1..=1_000).collect();
    assert_eq!(player.push(&audio), 1_000);
    packets.extend(party.take(20));
    assert_one_stream(&packets, 160);
    let heard: Vec<i16> = packets
        .iter()
        .flat_map(|p| p.payload.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])))
        .collect();
    let first = heard.iter().position(|&sample| sample != 0).unwrap();
    assert_eq!(heard[first..first + 1_000], audio);
    assert!(heard[..first].iter().chain(&heard[first + 1_000..]).all(|&sample| sample == 0));
    assert_eq!((player.played(), player.passed()), (1_000, 1_000));
}

#[test]
fn wideband_is_sent_on_the_clock_that_the_codec_has_on_rtp() {
    let (plane, party) = (plane(), Party::new());
    let (_player, _voice, _) = speak(&plane, &party, Codec::G722);
    let packets = party.take(10);
    assert_one_stream(&packets, 160);
    assert!(packets.iter().all(|p| p.payload_type == 9 && p.payload.len() == 160));
}

/// Of each packet, how late it came after the time that the first one sets, milliseconds.
fn lateness(packets: &[Came]) -> Vec<f64> {
    let first = packets[0].at;
    let due = |p: &Came| f64::from(p.timestamp.wrapping_sub(packets[0].timestamp)) / 8.0;
    packets.iter().map(|p| p.at.nanos_since(first) as f64 / 1e6 - due(p)).collect()
}

#[test]
fn packets_neither_drift_against_the_clock_nor_stop_while_nothing_is_said() {
    let (plane, party) = (plane(), Party::new());
    let (_player, _voice, _) = speak(&plane, &party, Codec::Ulaw);
    let packets = party.take(250);
    assert_one_stream(&packets, 160);
    assert!(packets.iter().all(|p| p.payload.iter().all(|&byte| byte == 0xff)), "silence in u-law");
    // Whatever wakes us late does so at either end of the five seconds: the soonest of each end tell the drift.
    let late = lateness(&packets);
    let soonest = |of: &[f64]| of.iter().copied().fold(f64::INFINITY, f64::min);
    let drift = soonest(&late[200..]) - soonest(&late[..50]);
    let mut between: Vec<_> =
        packets.windows(2).map(|pair| pair[1].at.nanos_since(pair[0].at) as f64 / 1e6).collect();
    between.sort_by(f64::total_cmp);
    println!("p50 {:.2} ms, p95 {:.2}, drift {drift:.3} ms in 5 s", between[124], between[236]);
    assert!(drift.abs() < 5.0, "{drift} ms in 5 s");
}

#[test]
fn what_the_party_sends_back_is_nobodys_and_no_news() {
    let (plane, party) = (plane(), Party::new());
    let (_player, voice, port) = speak(&plane, &party, Codec::Ulaw);
    party.next();
    let send = |count: usize| {
        for _ in 0..count {
            party.0.send_to(&[0x80; 172], ("127.0.0.1", port)).unwrap();
        }
    };
    let until = |what: &dyn Fn() -> bool| {
        for _ in 0..400 {
            if what() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?}", plane.totals());
    };
    send(20);
    until(&|| plane.totals().received == 20);
    drop(voice);
    // What is sent after the voice has been taken away is unknown again: held for half a second, then counted.
    std::thread::sleep(Duration::from_millis(100));
    send(3);
    until(&|| plane.totals().unroutable == 3);
    assert_eq!(plane.totals().received, 23);
}

#[test]
fn a_voice_that_moves_goes_on_as_the_same_stream_and_ends_when_it_is_dropped() {
    let (plane, before, after) = (plane(), Party::new(), Party::new());
    let (_player, voice, _) = speak(&plane, &before, Codec::Alaw);
    let mut packets = before.take(5);
    voice.move_to(after.0.local_addr().unwrap());
    packets.extend(after.take(5));
    let (old, new) = (&packets[4], &packets[5]);
    assert_eq!(old.ssrc, new.ssrc);
    // Packets may have gone to the old place until it moved.
    let between = new.sequence.wrapping_sub(old.sequence);
    assert_eq!(new.timestamp.wrapping_sub(old.timestamp), u32::from(between) * 160);
    assert_one_stream(&packets[5..], 160);
    drop(voice);
    after.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 2_048];
    let more = (0..20).take_while(|_| after.0.recv_from(&mut buffer).is_ok()).count();
    assert!(more < 10, "it goes on: {more} packets");
}

#[test]
fn a_leg_and_a_voice_share_a_port() {
    let (plane, party) = (plane(), Party::new());
    let (_player, _voice, port) = speak(&plane, &party, Codec::Ulaw);
    let seat = plane.seat_on(port).unwrap();
    let mut sender = net_support::RtpSender::new(port);
    let leg = seat.attach(sender.address(), receiver().into(), std::sync::Arc::new(|_| ())).unwrap();
    for _ in 0..50 {
        sender.send();
        party.next();
    }
    let stats = tokio::runtime::Runtime::new().unwrap().block_on(leg.finish(clock::now()));
    assert_eq!((stats.packets_received, stats.packets_lost), (50, 0));
}

#[test]
fn what_asterisk_would_not_take_is_refused() {
    let plane = plane();
    let (_player, pacer) = playout(SampleRate::WIDEBAND, Duration::from_secs(1));
    let refused = plane.seat().speak("127.0.0.1:9".parse().unwrap(), Codec::Slin16, pacer);
    assert!(matches!(refused.err(), Some(SpeakError::Codec(_))));
}
