use super::*;
use crate::media::ring::SlotRead;
use crate::media::time::SampleRate;

mod flow;
mod statistics;

struct Leg {
    receiver: LegReceiver,
    ring: Arc<Ring>,
    clock: Arc<CallClock>,
}

fn at(ms: u64) -> MediaInstant {
    MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
}

impl Leg {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut LegConfig)) -> Self {
        let clock = Arc::new(CallClock::new(at(0), SampleRate::NARROWBAND, 1));
        let mut config = LegConfig::new(Codec::Slin, clock.clone());
        adjust(&mut config);
        let (receiver, ring) = LegReceiver::new(config);
        Self { receiver, ring, clock }
    }

    fn send(&mut self, ms: u64, sequence: u16, timestamp: u32, ssrc: u32) -> PacketOutcome {
        self.receiver.on_packet(at(ms), &packet(10, sequence, timestamp, ssrc, &audio(timestamp)))
    }

    /// Twenty milliseconds a packet, from packet `n` on.
    fn stream(&mut self, packets: std::ops::Range<u64>) {
        for n in packets {
            self.send(20 * n, n as u16, 160 * n as u32, 1);
        }
    }

    fn states(&self) -> Vec<SlotState> {
        let mut reader = self.ring.reader();
        let mut states = Vec::new();
        let mut pcm = [0; 80];
        while let SlotRead::Ready { state, .. } = reader.read_slot(0, &mut pcm) {
            states.push(state);
        }
        states
    }
}

fn audio(timestamp: u32) -> Vec<u8> {
    (0..160).flat_map(|i| ((timestamp + i) as i16).to_be_bytes()).collect()
}

fn packet(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn the_first_packet_lies_a_second_into_the_ring_and_proposes_the_origin() {
    let mut leg = Leg::new();
    leg.stream(5..20);
    assert_eq!(leg.ring.base(), 800 - 8_000);
    assert_eq!(leg.clock.origin(at(400)), Some(800));
    assert_eq!(leg.ring.head(), 8_000 + 15 * 160);
    assert!(leg.states()[100..].iter().all(|&state| state == SlotState::Received));
}

#[test]
fn nothing_is_placed_before_the_anchor_window_is_over() {
    let mut leg = Leg::new();
    assert_eq!(leg.send(0, 0, 0, 1), PacketOutcome::Held);
    assert_eq!(leg.receiver.next_deadline(), Some(at(200)));
    leg.receiver.on_tick(at(199));
    assert_eq!(leg.ring.head(), 0);
    leg.receiver.on_tick(at(200));
    assert_eq!(leg.ring.head(), 8_160);
}

#[test]
fn a_hole_in_the_sequence_is_lost_until_it_is_filled() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    leg.stream(21..22);
    assert_eq!(leg.states()[140..142], [SlotState::Lost; 2]);
    assert_eq!(leg.send(425, 20, 3_200, 1), PacketOutcome::Placed);
    assert_eq!(leg.states()[140..142], [SlotState::Received; 2]);
    assert_eq!(leg.receiver.stats().packets_late, 0);
}

#[test]
fn a_packet_that_live_readers_have_passed_repairs() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    leg.stream(21..30);
    assert_eq!(leg.send(600, 20, 3_200, 1), PacketOutcome::Repaired);
    assert_eq!(leg.states()[140..142], [SlotState::Repaired; 2]);
    let stats = leg.receiver.stats();
    assert_eq!((stats.packets_late, stats.packets_repaired, stats.packets_lost), (1, 1, 0));
}

#[test]
fn time_moves_the_head_and_a_hole_in_the_sequence_turns_its_silence_into_loss() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    for ms in (400..1_000).step_by(10) {
        leg.receiver.on_tick(at(ms));
    }
    assert_eq!(leg.ring.head(), 8_000 + 790 * 8);
    assert_eq!(leg.states()[140], SlotState::Silence);
    leg.stream(50..51);
    assert_eq!(leg.states()[140..200], [SlotState::Lost; 60]);
    assert_eq!(leg.receiver.stats().packets_lost, 30);
}

#[test]
fn deadlines_lead_the_head_along() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    // Packets that came as expected put it off, which is not seen before it comes.
    let first = leg.receiver.next_deadline().unwrap();
    assert!((at(400)..at(610)).contains(&first));
    leg.receiver.on_tick(first);
    let first = leg.receiver.next_deadline().unwrap();
    assert_eq!(first, at(610));
    leg.receiver.on_tick(first);
    assert_eq!(leg.ring.head(), 8_000 + 410 * 8);
    assert_eq!(leg.receiver.next_deadline(), Some(at(620)));
}

#[test]
fn a_stall_is_told_once_and_so_is_its_end() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    assert_eq!(leg.receiver.take_events().count(), 1);
    for ms in (400..4_000).step_by(20) {
        leg.receiver.on_tick(at(ms));
    }
    assert_eq!(leg.receiver.take_events().collect::<Vec<_>>(), [LegEvent::Stalled]);
    leg.send(4_000, 20, 32_000, 1);
    assert_eq!(leg.receiver.take_events().next(), Some(LegEvent::Resumed { silent_ms: 3_620 }));
}

#[test]
fn a_leg_that_never_gets_a_packet_of_use_is_told_of_and_has_no_quality() {
    let mut leg = Leg::new();
    leg.receiver.on_tick(at(0));
    assert_eq!(leg.receiver.next_deadline(), Some(at(2_000)));
    for n in 0..150_u16 {
        leg.receiver.on_packet(at(20 * u64::from(n)), &packet(97, n, 160 * u32::from(n), 1, &[0; 20]));
    }
    assert_eq!(leg.receiver.take_events().collect::<Vec<_>>(), [LegEvent::Unheard { invalid: 100 }]);
    assert_eq!(leg.receiver.stats().mos, None);
    leg.send(3_500, 1, 1, 2);
    assert_eq!(leg.receiver.take_events().next(), Some(LegEvent::Resumed { silent_ms: 3_500 }));
}

#[test]
fn an_unknown_payload_type_is_invalid_but_not_lost() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    let outcome = leg.receiver.on_packet(at(400), &packet(97, 20, 3_200, 1, &[0; 20]));
    let error = PacketError::PayloadType { expected: 10, actual: 97 };
    assert_eq!(outcome, PacketOutcome::Invalid(error));
    leg.stream(21..22);
    let stats = leg.receiver.stats();
    assert_eq!((stats.packets_invalid, stats.packets_lost, stats.packets_received), (1, 0, 21));
}

#[test]
fn a_stray_packet_of_another_source_is_dropped() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    assert_eq!(leg.send(400, 9, 77, 2), PacketOutcome::Held);
    leg.stream(20..200);
    assert_eq!(leg.receiver.stats().packets_invalid, 0, "a network that stands still may be why");
    leg.stream(200..300);
    let stats = leg.receiver.stats();
    assert_eq!(stats.ssrcs, [1]);
    assert_eq!((stats.packets_invalid, stats.packets_received, stats.segments.len()), (1, 300, 1));
}

#[test]
fn a_packet_that_may_be_of_either_of_two_strays_ends_the_wait_for_a_third() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    for (n, (sequence, ssrc)) in [(100, 2), (1_500, 2), (5, 3), (900, 2)].into_iter().enumerate() {
        assert_eq!(leg.send(390 + n as u64, sequence, 77, ssrc), PacketOutcome::Held);
    }
    leg.stream(20..22);
    leg.receiver.flush(at(440));
    let stats = leg.receiver.stats();
    assert_eq!((stats.packets_invalid, stats.packets_received), (4, 22));
}

#[test]
fn a_single_packet_of_another_source_is_taken_if_nobody_else_speaks() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    assert_eq!(leg.send(400, 900, 3_200, 2), PacketOutcome::Held);
    leg.receiver.on_tick(at(1_400));
    assert_eq!(leg.states()[140..142], [SlotState::Received; 2]);
    assert_eq!(leg.receiver.stats().ssrcs, [1, 2]);
}

#[test]
fn one_absurd_timestamp_does_not_move_the_timeline() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    assert_eq!(leg.send(400, 20, 0x7000_0000, 1), PacketOutcome::Held);
    leg.stream(21..40);
    let stats = leg.receiver.stats();
    assert_eq!((stats.packets_invalid, stats.segments.len()), (1, 1));
    assert_eq!(leg.ring.head(), 8_000 + 40 * 160);
}

#[test]
fn the_end_pads_a_leg_that_had_fallen_silent_and_no_other() {
    let mut leg = Leg::new();
    leg.stream(0..50);
    leg.receiver.finish(at(1_100));
    assert_eq!(leg.ring.head(), 8_000 + 8_000);
    assert!(leg.ring.is_closed());

    let mut silent = Leg::new();
    silent.stream(0..50);
    silent.receiver.finish(at(3_001));
    assert_eq!(silent.ring.head(), 8_000 + 3_001 * 8);
}

#[test]
fn a_call_of_a_single_packet_has_its_audio() {
    let mut leg = Leg::new();
    leg.send(100, 7, 4_000, 1);
    let stats = leg.receiver.finish(at(150));
    assert_eq!((leg.ring.base(), leg.ring.head()), (800 - 8_000, 8_160));
    assert_eq!((stats.packets_received, stats.packets_expected), (1, 1));
}

#[test]
fn a_leg_goes_on_with_the_anchor_from_before_a_restart() {
    let segment =
        Segment { ssrc: 1, first_sample: 77, first_rtp_timestamp: u32::MAX - 1_000, first_sequence: 9 };
    let mut leg = Leg::with(|config| config.resume = Some(segment.clone()));
    let timestamp = (u32::MAX - 1_000).wrapping_add(80_000);
    for n in 0..20 {
        leg.send(10_030 + 20 * u64::from(n), 60_000 + n as u16, timestamp.wrapping_add(160 * n), 1);
    }
    assert_eq!(leg.ring.base(), 77 + 80_000 - 8_000);
    let stats = leg.receiver.stats();
    assert_eq!((stats.segments, stats.packets_lost), (vec![segment], 0));
}

#[test]
fn a_press_is_told_and_its_packets_are_neither_lost_nor_audio() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    for n in 0..6_u8 {
        let payload = [7, if n > 2 { 0x80 } else { 0 }, 0, 160];
        let event = packet(101, 20 + u16::from(n), 3_200, 1, &payload);
        assert_eq!(
            leg.receiver.on_packet(at(400 + 20 * u64::from(n)), &event),
            PacketOutcome::TelephoneEvent
        );
    }
    leg.send(520, 26, 26 * 160, 1);
    let pressed: Vec<_> =
        leg.receiver.take_events().filter(|event| matches!(event, LegEvent::Dtmf { .. })).collect();
    assert_eq!(pressed, [LegEvent::Dtmf { digit: '7', duration_ms: 20 }]);
    assert_eq!(leg.states()[140..152], [SlotState::Silence; 12]);
    assert_eq!(leg.receiver.stats().packets_lost, 0);
}

#[test]
fn a_packet_from_before_a_jump_finds_its_place_by_the_timestamps_before() {
    // By the timestamps from then on it would be so much later than it is.
    for jump in [12_000_u32, 24_000] {
        let mut leg = Leg::new();
        leg.stream(0..49);
        for n in 50..100 {
            leg.send(20 * n, n as u16, 160 * n as u32 + jump, 1);
        }
        assert_eq!(leg.receiver.stats().segments.len(), 2, "{jump}");
        assert_eq!(leg.send(2_000, 49, 160 * 49, 1), PacketOutcome::Repaired, "{jump}");
        assert!(leg.states()[100..].iter().all(|state| state.is_audio()), "{jump} {:?}", leg.states());
    }
}

#[test]
fn a_gap_is_told_once_however_many_there_are() {
    let mut leg = Leg::with(|config| config.repair_window = Duration::from_secs(5));
    leg.stream(0..20);
    let mut gaps = 0;
    for n in (20..600).step_by(2) {
        leg.stream(n..n + 1);
        gaps += leg.receiver.take_events().filter(|event| matches!(event, LegEvent::Gap { .. })).count();
    }
    assert_eq!(gaps, 289 - 1);
}

#[test]
fn a_press_is_told_though_the_sender_began_anew_with_earlier_timestamps() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    for n in 0..3_u8 {
        let payload = [7, 0x80, 0, 160];
        leg.receiver
            .on_packet(at(400 + 20 * u64::from(n)), &packet(101, 20 + u16::from(n), 3_200, 1, &payload));
    }
    for n in 23..60_u64 {
        leg.send(20 * n, n as u16, (160 * n as u32).wrapping_sub(1_000_000), 1);
    }
    assert_eq!(leg.receiver.stats().segments.len(), 2);
    let payload = [8, 0x80, 0, 160];
    leg.receiver.on_packet(at(1_200), &packet(101, 60, 9_600_u32.wrapping_sub(1_000_000), 1, &payload));
    let pressed: Vec<_> =
        leg.receiver.take_events().filter(|event| matches!(event, LegEvent::Dtmf { .. })).collect();
    assert_eq!(pressed.len(), 2, "{pressed:?}");
}

#[test]
fn a_flood_of_sources_takes_bounded_memory() {
    let mut leg = Leg::new();
    leg.stream(0..20);
    for n in 0..20_000_u32 {
        let ssrc = 100 + n / 2;
        leg.send(400 + u64::from(n), (n % 2) as u16, n * 8, ssrc);
    }
    let stats = leg.receiver.stats();
    assert!(stats.segments.len() <= 1_000, "{}", stats.segments.len());
    assert!(stats.ssrcs.len() <= 1_000, "{}", stats.ssrcs.len());
}

impl Leg {
    /// The samples from `slot` on, and their states.
    fn read(&self, slot: u64, slots: usize, lag: u64) -> (Vec<i16>, Vec<SlotState>) {
        let mut reader = self.ring.reader();
        let (mut samples, mut states) = (Vec::new(), Vec::new());
        let mut pcm = [0; 80];
        while states.len() < slots {
            let position = reader.position();
            let SlotRead::Ready { state, .. } = reader.read_slot(lag, &mut pcm) else { break };
            if position >= slot * 80 {
                samples.extend(pcm);
                states.push(state);
            }
        }
        (samples, states)
    }

    /// A tone of 100 Hz, packet by packet.
    fn hum(&mut self, packets: impl IntoIterator<Item = u64>) {
        for n in packets {
            self.send_hum(20 * n, n);
        }
    }

    fn send_hum(&mut self, ms: u64, n: u64) -> PacketOutcome {
        let payload: Vec<u8> = (0..160).flat_map(|i| hum(160 * n + i).to_be_bytes()).collect();
        self.receiver.on_packet(at(ms), &packet(10, n as u16, 160 * n as u32, 1, &payload))
    }
}

fn hum(sample: u64) -> i16 {
    (10_000.0 * (std::f64::consts::TAU * sample as f64 / 80.0).sin()) as i16
}

fn hummed(from: u64, samples: u64) -> Vec<i16> {
    (from..from + samples).map(hum).collect()
}

#[test]
fn a_short_loss_is_concealed_before_live_readers_come_by_and_nothing_received_is_altered() {
    let mut leg = Leg::new();
    leg.hum((0..50).chain(52..60));
    let live = leg.read(100, usize::MAX, 480);
    let (pcm, states) = leg.read(100, usize::MAX, 0);
    assert_eq!(live.0, pcm[..live.0.len()]);
    assert_eq!(states[100..104], [SlotState::Concealed; 4]);
    assert!(states[..100].iter().chain(&states[104..]).all(|&state| state == SlotState::Received));
    let (gap, after) = pcm[8_000..].split_at(320);
    assert_eq!(pcm[..8_000], hummed(0, 8_000));
    assert_eq!(after, hummed(8_320, 8 * 160));
    let error = gap.iter().zip(hummed(8_000, 320)).map(|(a, b)| a.abs_diff(b)).max().unwrap();
    // 20 ms away from either side its continuation has faded to 60 %.
    assert!(error < 4_200, "{error}");
    assert_eq!(leg.receiver.stats().packets_lost, 2);
}

#[test]
fn a_late_packet_takes_the_place_of_what_was_made_up_for_it() {
    let mut leg = Leg::new();
    leg.hum((0..50).chain(52..80));
    assert_eq!(leg.send_hum(1_610, 51), PacketOutcome::Repaired);
    let (pcm, states) = leg.read(200, 4, 0);
    use SlotState::{Concealed, Repaired};
    assert_eq!(states, [Concealed, Concealed, Repaired, Repaired]);
    assert_eq!(pcm[160..], hummed(8_160, 160));
}

#[test]
fn what_a_packet_of_half_the_length_leaves_of_its_gap_is_silence_and_not_made_up() {
    let mut leg = Leg::new();
    leg.hum((0..50).chain(51..80));
    let payload: Vec<u8> = (0..80).flat_map(|i| hum(8_000 + i).to_be_bytes()).collect();
    leg.receiver.on_packet(at(1_610), &packet(10, 50, 8_000, 1, &payload));
    let (pcm, states) = leg.read(200, 2, 0);
    assert_eq!(states, [SlotState::Repaired, SlotState::Silence]);
    assert_eq!(pcm, [hummed(8_000, 80), vec![0; 80]].concat());
}

#[test]
fn a_long_loss_a_pause_and_any_loss_with_the_switch_off_stay_zeros() {
    let lost = |leg: &mut Leg, missing: u64| {
        leg.hum((0..50).chain(50 + missing..70));
        leg.read(200, 2 * missing as usize, 0)
    };
    let (pcm, states) = lost(&mut Leg::new(), 4);
    assert_eq!((pcm, states), (vec![0; 640], vec![SlotState::Lost; 8]));
    let (pcm, states) = lost(&mut Leg::with(|config| config.conceal = false), 1);
    assert_eq!((pcm, states), (vec![0; 160], vec![SlotState::Lost; 2]));

    let mut pausing = Leg::new();
    pausing.hum(0..50);
    for n in 50..60_u64 {
        let payload: Vec<u8> = (0..160).flat_map(|i| hum(160 * n + 320 + i).to_be_bytes()).collect();
        pausing.receiver.on_packet(at(20 * n + 40), &packet(10, n as u16, 160 * n as u32 + 320, 1, &payload));
    }
    let (pcm, states) = pausing.read(200, 4, 0);
    assert_eq!((pcm, states), (vec![0; 320], vec![SlotState::Silence; 4]));
}

#[test]
fn a_loss_at_the_very_end_of_a_call_is_concealed_too() {
    let mut leg = Leg::new();
    leg.hum((0..50).chain([51]));
    leg.receiver.finish(at(1_041));
    let mut reader = leg.ring.reader();
    let mut pcm = [0; 80];
    let mut states = Vec::new();
    while let SlotRead::Ready { state, .. } = reader.read_slot(0, &mut pcm) {
        states.push(state);
    }
    assert_eq!(states[200..], [[SlotState::Concealed; 2], [SlotState::Received; 2]].concat());
}
