//! RTCP with a peer over real sockets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use sidetone::clock;
use sidetone::media::counter::{RtpTimestamp, Ssrc};
use sidetone::media::rtcp::{
    Compound, MAX_REPORT, NtpTimestamp, Packet, ReportBlock, SenderInfo, Writer, is_rtcp,
};
use sidetone::net::plane::{LegHandle, PlaneConfig, RtpPlane, Seat};

mod net_support;
use net_support::receiver;

const PEER: Ssrc = Ssrc(0x0bad_cafe);

/// An RTP sender that speaks RTCP, from the port above or from the same.
struct Peer {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    muxed: bool,
    port: u16,
    sequence: u16,
    packets: u32,
}

fn start() -> RtpPlane {
    let bind = "127.0.0.1:0".parse().unwrap();
    RtpPlane::start(PlaneConfig { receive_buffer: 1 << 20, ..PlaneConfig::new(bind, 1) }).unwrap()
}

/// Two sockets on neighbouring ports.
fn pair() -> (UdpSocket, UdpSocket) {
    for _ in 0..200 {
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let above = rtp.local_addr().unwrap().port().checked_add(1);
        if let Some(Ok(rtcp)) = above.map(|above| UdpSocket::bind(("127.0.0.1", above))) {
            return (rtp, rtcp);
        }
    }
    panic!("no two neighbouring UDP ports are free here");
}

impl Peer {
    /// Sends to the shard on `port`.
    fn new(port: u16, muxed: bool) -> Self {
        let (rtp, rtcp) = pair();
        for socket in [&rtp, &rtcp] {
            socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        }
        Self { rtp, rtcp, muxed, port, sequence: 65_520, packets: 0 }
    }

    fn address(&self) -> SocketAddr {
        self.rtp.local_addr().unwrap()
    }

    /// The next packet of media; or nothing, but its sequence number is used up.
    fn media(&mut self, is_lost: bool) {
        if !is_lost {
            self.repeat();
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
    }

    /// The next packet of media, which will come once more.
    fn repeat(&self) {
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((160 * self.packets).to_be_bytes());
        packet.extend(PEER.0.to_be_bytes());
        packet.resize(172, 0xff);
        self.rtp.send_to(&packet, ("127.0.0.1", self.port)).unwrap();
    }

    fn ours(&self) -> &UdpSocket {
        if self.muxed { &self.rtp } else { &self.rtcp }
    }

    fn send_rtcp(&self, bytes: &[u8]) {
        let port = self.port + u16::from(!self.muxed);
        self.ours().send_to(bytes, ("127.0.0.1", port)).unwrap();
    }

    fn sender_report(&self, ntp: u64) -> Vec<u8> {
        let info = SenderInfo {
            ntp: NtpTimestamp(ntp),
            rtp: RtpTimestamp(160 * self.packets),
            packets: self.packets,
            octets: 160 * self.packets,
        };
        let mut buffer = [0; MAX_REPORT];
        let mut writer = Writer::new(&mut buffer);
        writer.report(PEER, Some(&info), &[]);
        writer.cname(PEER, b"peer@test");
        writer.finish().unwrap().to_vec()
    }

    /// The next report: its blocks, and who leaves.
    fn receive(&self) -> (Vec<ReportBlock>, Vec<Ssrc>, SocketAddr) {
        let mut bytes = [0; 2_000];
        let (length, from) = self.ours().recv_from(&mut bytes).expect("a report within 8 s");
        assert!(is_rtcp(&bytes[..length]));
        let packets: Vec<_> = Compound::parse(&bytes[..length]).unwrap().packets().collect();
        let Packet::ReceiverReport { sender, blocks } = packets[0] else { panic!("{packets:?}") };
        let Packet::SourceDescription { cname: Some((named, cname)) } = packets[1] else {
            panic!("{packets:?}")
        };
        assert!(named == sender && sender != PEER && !cname.is_empty());
        let leaving = packets[2..].iter().flat_map(|packet| match packet {
            Packet::Goodbye { sources, .. } => sources.collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        });
        let leaving: Vec<_> = leaving.collect();
        assert!(leaving.iter().all(|source| *source == sender));
        (blocks.collect(), leaving, from)
    }
}

fn attach(seat: Seat, source: SocketAddr) -> LegHandle {
    seat.attach(source, receiver().into(), Arc::new(|_| ())).unwrap()
}

/// Forty packets in a burst, of which every eighth is lost, and one comes three times.
fn lossy(peer: &mut Peer) {
    for n in 0..40 {
        if n == 20 {
            peer.repeat();
            peer.repeat();
        }
        peer.media(n % 8 == 5);
    }
}

async fn a_peer_is_answered(muxed: bool) {
    let plane = start();
    let seat = plane.seat();
    let port = seat.port();
    let mut peer = Peer::new(port, muxed);
    let leg = attach(seat, peer.address());
    let received = tokio::task::spawn_blocking(move || {
        lossy(&mut peer);
        std::thread::sleep(Duration::from_millis(300));
        let sent = clock::now();
        peer.send_rtcp(&peer.sender_report(0x0000_0001_2345_0000));
        let (blocks, leaving, from) = peer.receive();
        (blocks, leaving, from, clock::since(sent), peer)
    });
    let (blocks, leaving, from, elapsed, mut peer) = received.await.unwrap();
    // Half the least interval at first, drawn from 0.5 to 1.5 of it; then a tick or two.
    assert!((Duration::from_millis(1_026)..Duration::from_secs(7)).contains(&elapsed), "{elapsed:?}");
    assert_eq!(from.port(), port + u16::from(!muxed), "answered from the port it came to");
    assert_eq!(leaving, []);
    let [block] = blocks[..] else { panic!("{blocks:?}") };
    let delay = f64::from(block.delay) / 65_536.0;
    assert!(delay > 1.0 && delay <= elapsed.as_secs_f64() + 0.001, "{delay} of {elapsed:?}");
    let expected = ReportBlock {
        source: PEER,
        // Five lost, less two copies, of forty: RFC 3550 A.3 counts those.
        fraction_lost: (3 * 256 / 40) as u8,
        cumulative_lost: 3,
        // From 65520, forty on: one wrap.
        highest_sequence: 0x1_0000 + 65_520 + 39 - 65_536,
        jitter: block.jitter,
        last_report: 0x0001_2345,
        delay: block.delay,
    };
    assert_eq!(block, expected);
    let stats = leg.stats().await;
    assert!(
        (f64::from(block.jitter) / 8.0 - stats.jitter_ms).abs() <= 0.125,
        "{block:?} {}",
        stats.jitter_ms
    );
    assert_eq!((stats.packets_received, stats.packets_lost, stats.packets_duplicate), (35, 5, 2));
    assert_eq!(stats.packets_invalid, 0, "RTCP is none of the invalid");

    for _ in 0..10 {
        peer.media(false);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    leg.finish(clock::now()).await;
    let (blocks, leaving, _) = tokio::task::spawn_blocking(move || peer.receive()).await.unwrap();
    assert_eq!(leaving.len(), 1, "the end is told");
    let [block] = blocks[..] else { panic!("{blocks:?}") };
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 3));
}

#[tokio::test]
async fn a_peer_that_sends_reports_gets_them_from_the_port_above() {
    a_peer_is_answered(false).await;
}

#[tokio::test]
async fn a_peer_that_sends_reports_beside_its_media_gets_them_there() {
    a_peer_is_answered(true).await;
}

/// As Asterisk's ExternalMedia, which sends no reports. Beside it a leg whose peer does, so that time has passed.
#[tokio::test]
async fn a_leg_whose_sender_speaks_no_rtcp_is_sent_nothing() {
    let plane = start();
    let (seat, beside) = (plane.seat(), plane.seat());
    let (mut silent, mut speaks) = (Peer::new(seat.port(), false), Peer::new(seat.port(), false));
    let legs = [attach(seat, silent.address()), attach(beside, speaks.address())];
    let (silent, mut speaks) = tokio::task::spawn_blocking(move || {
        lossy(&mut silent);
        lossy(&mut speaks);
        std::thread::sleep(Duration::from_millis(300));
        speaks.send_rtcp(&speaks.sender_report(1));
        speaks.receive();
        (silent, speaks)
    })
    .await
    .unwrap();
    speaks.media(false);
    for leg in legs {
        leg.finish(clock::now()).await;
    }
    tokio::task::spawn_blocking(move || speaks.receive()).await.unwrap();
    for socket in [&silent.rtp, &silent.rtcp] {
        socket.set_nonblocking(true).unwrap();
        let nothing = socket.recv_from(&mut [0; 100]);
        assert!(nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
}

#[tokio::test]
async fn rtcp_of_strangers_and_what_is_none_are_counted_and_answered_by_nobody() {
    let plane = start();
    let seat = plane.seat();
    let mut peer = Peer::new(seat.port(), true);
    let stranger = Peer::new(seat.port(), false);
    let leg = attach(seat, peer.address());
    peer.media(false);
    stranger.send_rtcp(&stranger.sender_report(1));
    peer.send_rtcp(&[0x80, 200, 0, 1, 0, 0, 0, 9]);
    peer.send_rtcp(&[0x80, 203, 0, 0]);
    // Reports that ask for nothing: no session begins.
    peer.send_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 9]);
    let deadline = clock::now() + Duration::from_secs(8);
    loop {
        let totals = plane.totals();
        if (totals.rtcp_received, totals.rtcp_unroutable, totals.rtcp_invalid) == (4, 1, 2) {
            break;
        }
        assert!(clock::now() < deadline, "{totals:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(plane.totals().unroutable, 0);
    let stats = leg.finish(clock::now()).await;
    assert_eq!((stats.packets_received, stats.packets_invalid), (1, 0));
}

#[tokio::test]
async fn without_the_port_above_reports_are_taken_beside_the_media() {
    let (rtp, above) = pair();
    let bind = rtp.local_addr().unwrap();
    drop(rtp);
    let plane =
        RtpPlane::start(PlaneConfig { receive_buffer: 1 << 20, ..PlaneConfig::new(bind, 1) }).unwrap();
    let seat = plane.seat();
    let mut peer = Peer::new(seat.port(), true);
    let _leg = attach(seat, peer.address());
    tokio::task::spawn_blocking(move || {
        lossy(&mut peer);
        std::thread::sleep(Duration::from_millis(300));
        peer.send_rtcp(&peer.sender_report(1));
        assert_eq!(peer.receive().0.len(), 1);
    })
    .await
    .unwrap();
    drop(above);
}

/// ffmpeg's RTP through a relay that loses every tenth packet: a real peer's reports are read, and answered with what was lost.
#[tokio::test]
async fn ffmpegs_reports_are_answered_with_what_was_lost() {
    let plane = start();
    let seat = plane.seat();
    let port = seat.port();
    let (from_ffmpeg, from_ffmpeg_rtcp) = pair();
    let (rtp, rtcp) = pair();
    let leg = attach(seat, rtp.local_addr().unwrap());
    let target = format!("rtp://{}", from_ffmpeg.local_addr().unwrap());
    let ffmpeg = std::process::Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-nostdin",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=8000,asetnsamples=160",
        ])
        .args(["-t", "9", "-c:a", "pcm_mulaw", "-ac", "1", "-f", "rtp", &target])
        .stdout(std::process::Stdio::null())
        .spawn();
    let Ok(mut ffmpeg) = ffmpeg else {
        eprintln!("SKIPPED: no ffmpeg here to report to us");
        return;
    };
    for socket in [&from_ffmpeg, &from_ffmpeg_rtcp, &rtcp] {
        socket.set_nonblocking(true).unwrap();
    }
    let relayed = tokio::task::spawn_blocking(move || {
        let (mut bytes, mut ssrc, mut reports) = ([0; 2_000], None, Vec::new());
        let (mut first, mut highest, mut sent, mut dropped) = (None, 0, 0, 0);
        let deadline = clock::now() + Duration::from_secs(30);
        // Until the answer after which something was lost, and one more.
        while reports.len() < 2 {
            assert!(clock::now() < deadline, "two answers within 30 s: {reports:?}");
            if let Ok((length, _)) = from_ffmpeg.recv_from(&mut bytes) {
                let number = u16::from_be_bytes([bytes[2], bytes[3]]);
                first.get_or_insert(number);
                sent += 1;
                if sent % 10 == 0 {
                    dropped += 1;
                } else {
                    highest = number;
                    rtp.send_to(&bytes[..length], ("127.0.0.1", port)).unwrap();
                }
            } else if let Ok((length, _)) = from_ffmpeg_rtcp.recv_from(&mut bytes) {
                let packet = Compound::parse(&bytes[..length]).unwrap().packets().next();
                if let Some(Packet::SenderReport { sender, info, .. }) = packet {
                    ssrc = Some((sender, info.ntp.middle()));
                }
                rtcp.send_to(&bytes[..length], ("127.0.0.1", port + 1)).unwrap();
            } else if let Ok((length, _)) = rtcp.recv_from(&mut bytes) {
                let packet = Compound::parse(&bytes[..length]).unwrap().packets().next();
                let Some(Packet::ReceiverReport { mut blocks, .. }) = packet else { panic!("{packet:?}") };
                reports.push((blocks.next().expect("media came"), ssrc, first, highest, dropped));
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        (reports, from_ffmpeg, from_ffmpeg_rtcp, rtp, rtcp)
    });
    let (reports, ..) = relayed.await.unwrap();
    // It has said all that is asked of it.
    ffmpeg.kill().unwrap();
    ffmpeg.wait().unwrap();
    for (block, ssrc, first, highest, dropped) in reports {
        let (sender, middle) = ssrc.expect("ffmpeg reports first");
        assert_eq!((block.source, block.last_report), (sender, middle));
        let behind = highest.wrapping_sub(block.highest_sequence as u16);
        assert!(behind < 16, "{behind} behind what was relayed: {block:?}");
        let wrapped = u32::from((block.highest_sequence as u16) < first.unwrap());
        assert_eq!(block.highest_sequence >> 16, wrapped);
        // One more may have been dropped since the report was made, and the last one dropped is not known to be missing.
        assert!((dropped - 2..=dropped).contains(&block.cumulative_lost), "{dropped} dropped: {block:?}");
        assert!((18..=32).contains(&block.fraction_lost), "a tenth is 25.6: {block:?}");
        assert!(block.delay > 0);
    }
    let stats = leg.finish(clock::now()).await;
    assert!(stats.packets_lost > 5 && stats.packets_invalid == 0, "{stats:?}");
}
