use super::super::super::counter::RtpTimestamp;
use super::super::packet::NtpTimestamp;
use super::super::write::MAX_REPORT;
use super::*;

const OURS: Ssrc = Ssrc(0x5151);
const PEER: Ssrc = Ssrc(0x2222);

fn at(ms: u64) -> MediaInstant {
    MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

fn session(peer_configured: bool, seed: u64) -> RtcpSession {
    let cname = "sidetone@pbx".to_owned();
    RtcpSession::new(RtcpConfig { source: OURS, cname, peer_configured, bandwidth: 500.0, seed }, at(0))
}

fn reception(expected: u64, received: u64) -> Reception {
    Reception { source: PEER, highest_sequence: 0x1_0005, expected, received, jitter: 42 }
}

fn info(ntp: u64) -> SenderInfo {
    SenderInfo { ntp: NtpTimestamp(ntp), rtp: RtpTimestamp(1), packets: 2, octets: 3 }
}

/// A compound of the peer's.
fn from_peer(sender: Ssrc, sending: Option<&SenderInfo>, blocks: &[ReportBlock], leaves: bool) -> Vec<u8> {
    let mut buffer = [0; MAX_REPORT];
    let mut writer = Writer::new(&mut buffer);
    writer.report(sender, sending, blocks);
    writer.cname(sender, b"peer");
    if leaves {
        writer.goodbye(sender);
    }
    writer.finish().unwrap().to_vec()
}

/// Every report of `seconds` from the beginning on, as a driver with an exact timer sends them: when, and its first block.
fn reports(session: &mut RtcpSession, seconds: u64) -> Vec<(MediaInstant, Option<ReportBlock>)> {
    let (mut sent, mut buffer) = (Vec::new(), [0; MAX_REPORT]);
    while let Some(due) = session.next_deadline().filter(|due| *due < at(seconds * 1_000)) {
        let packets = due.saturating_since(at(0)).as_millis() as u64 / 20;
        if let Some(bytes) = session.report(due, Some(&reception(packets, packets)), None, &mut buffer) {
            let Some(Packet::ReceiverReport { sender: OURS, mut blocks }) =
                Compound::parse(bytes).unwrap().packets().next()
            else {
                panic!("a receiver report of ours first");
            };
            sent.push((due, blocks.next()));
        }
    }
    sent
}

#[test]
fn nothing_is_sent_unless_a_peer_is_configured_or_a_sender_report_came() {
    let mut buffer = [0; MAX_REPORT];
    let mut quiet = session(false, 1);
    assert_eq!(quiet.next_deadline(), None);
    assert_eq!(quiet.report(at(60_000), Some(&reception(9, 9)), None, &mut buffer), None);
    quiet.on_packet(at(1), &from_peer(PEER, None, &[], false)).unwrap();
    assert_eq!(quiet.next_deadline(), None, "a receiver report asks for nothing");
    assert_eq!(quiet.goodbye(at(70_000), None, None, &mut buffer), None);
    let heard = quiet.on_packet(at(2), &from_peer(PEER, Some(&info(1)), &[], false)).unwrap();
    assert!(heard.sender_report);
    assert!(quiet.next_deadline().is_some());
    assert!(session(true, 1).next_deadline().is_some());
}

/// RFC 3550, section 6.3.1: intervals drawn uniformly from 0.5 to 1.5 of 5 s, less e - 3/2, with reconsideration come to 5 s on
/// average; the first one to half of it.
#[test]
fn intervals_follow_the_law() {
    let (mut firsts, mut gaps) = (Vec::new(), Vec::new());
    for seed in 0..400 {
        let sent = reports(&mut session(true, seed), 600);
        firsts.push(sent[0].0.saturating_since(at(0)).as_secs_f64());
        gaps.extend(sent.windows(2).map(|pair| pair[1].0.saturating_since(pair[0].0).as_secs_f64()));
    }
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let range = |of: &[f64]| of.iter().fold((f64::MAX, 0.0_f64), |(a, b), &x| (a.min(x), b.max(x)));
    let compensation = std::f64::consts::E - 1.5;
    assert!((mean(&gaps) - 5.0).abs() < 0.05, "{}", mean(&gaps));
    assert!((mean(&firsts) - 2.5).abs() < 0.08, "{}", mean(&firsts));
    let (least, most) = range(&gaps);
    assert!(least >= 2.5 / compensation && most <= 7.5 / compensation, "{least} to {most}");
    let (least, most) = range(&firsts);
    assert!(least >= 1.25 / compensation && most <= 3.75 / compensation, "{least} to {most}");
}

#[test]
fn equal_seeds_report_at_equal_times() {
    let [one, two, other] = [9, 9, 10].map(|seed| reports(&mut session(true, seed), 100));
    assert_eq!(one, two);
    assert_ne!(one, other);
}

#[test]
fn a_block_says_what_came_since_the_report_before_and_when_the_peer_reported() {
    let mut session = session(true, 3);
    let mut buffer = [0; MAX_REPORT];
    session.on_packet(at(1_000), &from_peer(PEER, Some(&info(0x0000_1111_2222_3333)), &[], false)).unwrap();
    let mut next = |now: MediaInstant, of: &Reception| {
        let mut due = now;
        loop {
            due = due.max(session.next_deadline().unwrap());
            if let Some(bytes) = session.report(due, Some(of), None, &mut buffer) {
                let Some(Packet::ReceiverReport { mut blocks, .. }) =
                    Compound::parse(bytes).unwrap().packets().next()
                else {
                    panic!("a receiver report first");
                };
                return (due, blocks.next());
            }
        }
    };
    let (due, block) = next(at(9_000), &reception(400, 300));
    let delay = due.saturating_since(at(1_000)).as_secs_f64() * 65_536.0;
    let block = block.unwrap();
    assert!((f64::from(block.delay) - delay).abs() <= 1.0, "{} {delay}", block.delay);
    let expected = ReportBlock {
        source: PEER,
        fraction_lost: 64,
        cumulative_lost: 100,
        highest_sequence: 0x1_0005,
        jitter: 42,
        last_report: 0x1111_2222,
        delay: block.delay,
    };
    assert_eq!(block, expected);
    let (_, none) = next(at(20_000), &reception(400, 300));
    assert_eq!(none, None, "a source that sent nothing since is not reported on");
    let (_, block) = next(at(30_000), &reception(500, 450));
    assert_eq!(block.map(|block| (block.fraction_lost, block.cumulative_lost)), Some((0, 50)));
}

#[test]
fn another_senders_report_is_not_referred_to() {
    let mut session = session(true, 3);
    let mut buffer = [0; MAX_REPORT];
    session.on_packet(at(0), &from_peer(Ssrc(0x3333), Some(&info(u64::MAX)), &[], false)).unwrap();
    let bytes = loop {
        let due = session.next_deadline().unwrap();
        if let Some(bytes) = session.report(due, Some(&reception(1, 1)), None, &mut buffer) {
            break bytes.to_vec();
        }
    };
    let block = ReportBlock::read(bytes[8..32].try_into().unwrap());
    assert_eq!((block.last_report, block.delay), (0, 0));
}

#[test]
fn the_round_trip_is_the_time_since_our_report_less_the_peers_delay() {
    let mut session = session(true, 5);
    let mut buffer = [0; MAX_REPORT];
    let ours = info(0x00aa_bbbb_cccc_dd00);
    let sent = loop {
        let due = session.next_deadline().unwrap();
        if session.report(due, None, Some(&ours), &mut buffer).is_some() {
            break due;
        }
    };
    let block = |last_report, delay| ReportBlock {
        source: OURS,
        fraction_lost: 0,
        cumulative_lost: 0,
        highest_sequence: 1,
        jitter: 0,
        last_report,
        delay,
    };
    let mut hear = |ms, block| {
        session.on_packet(sent + Duration::from_millis(ms), &from_peer(PEER, None, &[block], false)).unwrap()
    };
    // The example of RFC 3550, figure 2, in principle: 2.25 s after our report, of which the peer held it 2 s.
    let heard = hear(2_250, block(0xbbbb_cccc, 2 * 65_536));
    assert_eq!(heard.round_trip, Some(Duration::from_millis(250)));
    assert_eq!(hear(2_250, block(0xbbbb_cccd, 0)).round_trip, None, "no report of ours");
    assert_eq!(hear(2_250, block(0, 0)).round_trip, None, "none came to the peer yet");
    assert_eq!(hear(1_000, block(0xbbbb_cccc, 2 * 65_536)).round_trip, None, "less than nothing");
    assert_eq!(hear(20_000, block(0xbbbb_cccc, 0)).round_trip, None, "more than ten seconds");
    assert_eq!(session.round_trip(), Some(Duration::from_millis(250)));
}

#[test]
fn the_end_is_told_to_a_peer_that_knows_us() {
    let mut buffer = [0; MAX_REPORT];
    let mut unheard = session(true, 5);
    assert_eq!(unheard.goodbye(at(10), None, None, &mut buffer), None);
    let mut session = session(true, 5);
    assert!(!reports(&mut session, 20).is_empty());
    let bytes = session.goodbye(at(21_000), Some(&reception(2_000, 2_000)), None, &mut buffer).unwrap();
    let packets: Vec<_> = Compound::parse(bytes).unwrap().packets().collect();
    let [Packet::ReceiverReport { .. }, Packet::SourceDescription { cname }, Packet::Goodbye { sources, .. }] =
        packets[..]
    else {
        panic!("{packets:?}");
    };
    assert_eq!(cname, Some((OURS, &b"sidetone@pbx"[..])));
    assert_eq!(sources.collect::<Vec<_>>(), [OURS]);
    assert_eq!(session.goodbye(at(21_001), None, None, &mut buffer), None, "once");
    assert_eq!(session.next_deadline(), None);
}

#[test]
fn a_peer_that_left_is_told_nothing_more_until_it_is_back() {
    let mut session = session(false, 5);
    session.on_packet(at(0), &from_peer(PEER, Some(&info(1)), &[], false)).unwrap();
    let stranger = session.on_packet(at(1), &from_peer(Ssrc(0x7777), None, &[], true)).unwrap();
    assert!(!stranger.goodbye && session.next_deadline().is_some());
    assert!(session.on_packet(at(2), &from_peer(PEER, None, &[], true)).unwrap().goodbye);
    assert_eq!(session.next_deadline(), None);
    session.on_packet(at(9_000), &from_peer(PEER, Some(&info(1)), &[], false)).unwrap();
    assert!(session.next_deadline().unwrap() > at(9_000));
}

#[test]
fn an_identifier_that_the_peer_uses_too_is_given_up() {
    let mut session = session(true, 5);
    session.on_packet(at(0), &from_peer(OURS, Some(&info(1)), &[], false)).unwrap();
    assert_ne!(session.source(), OURS);
}

#[test]
fn a_datagram_with_one_bad_packet_counts_for_nothing() {
    let mut session = session(false, 5);
    let mut bytes = from_peer(PEER, Some(&info(1)), &[], true);
    bytes.truncate(bytes.len() - 4);
    session.on_packet(at(0), &bytes).unwrap_err();
    assert_eq!(session.next_deadline(), None);
    assert_eq!(session.peer_report(), None);
}

#[test]
fn the_peers_clocks_are_known_from_its_report() {
    let mut session = session(false, 5);
    session.on_packet(at(7), &from_peer(PEER, Some(&info(77)), &[], false)).unwrap();
    let report = PeerReport { sender: PEER, info: info(77), arrival: at(7) };
    assert_eq!(session.peer_report(), Some(&report));
}
