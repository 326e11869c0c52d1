use proptest::prelude::*;

use super::*;
use crate::media::report::Gap;
use crate::media::ring::{RingWriter, SlotRead, ring};

const RATE: SampleRate = SampleRate::NARROWBAND;
const SLOT: i64 = 80;

fn at(ms: u64) -> MediaInstant {
    MediaInstant::from_nanos(1_000_000_000_000 + ms * 1_000_000)
}

/// A leg in a ring of `slots`, its base at call sample `base`.
fn leg(slots: usize, base: i64) -> (RingWriter, Arc<Ring>) {
    let (mut writer, ring) = ring(RATE, slots);
    writer.set_base(base);
    (writer, ring)
}

fn emit_until(mixer: &mut Interleaver, until: i64, pauses: &[Pause]) -> Vec<[i16; 2]> {
    let mut out = vec![0; (until - mixer.next()).max(0) as usize * FRAME_BYTES];
    let frames = mixer.emit(until, pauses, &mut out);
    decode(&out[..frames * FRAME_BYTES])
}

fn decode(bytes: &[u8]) -> Vec<[i16; 2]> {
    let sample = |b: &[u8]| i16::from_le_bytes([b[0], b[1]]);
    bytes.chunks_exact(FRAME_BYTES).map(|f| [sample(&f[..2]), sample(&f[2..])]).collect()
}

fn gap(start_sample: u64, samples: u64, kind: SlotState) -> Gap {
    Gap { start_sample, samples, kind }
}

#[test]
fn legs_of_different_alignment_meet_to_the_sample() {
    let (mut a, ring_a) = leg(64, 1_000);
    let (mut b, ring_b) = leg(64, 1_037);
    a.place(0, 320, |i| i as i16, SlotState::Silence);
    b.place(80, 160, |i| -(i as i16), SlotState::Lost);
    drop((a, b));
    let mut mixer = Interleaver::new(&[Some(ring_a), Some(ring_b)], RATE, Duration::ZERO);
    mixer.set_origin(1_010);
    assert_eq!(mixer.due(at(0), 0), 1_320);
    assert_eq!(mixer.end(0), 1_320);
    let frames = emit_until(&mut mixer, 1_320, &[]);
    for (i, frame) in frames.iter().enumerate() {
        let call = 1_010 + i as i64;
        let right = if (1_117..1_277).contains(&call) { -(call - 1_117) } else { 0 };
        assert_eq!(*frame, [(call - 1_000) as i16, right as i16], "frame {i}");
    }
    assert_eq!(mixer.tracks().legs[0].as_slice(), []);
    assert_eq!(
        mixer.tracks().legs[1].as_slice(),
        [gap(0, 27, SlotState::Silence), gap(27, 80, SlotState::Lost), gap(267, 43, SlotState::Silence)]
    );
}

#[test]
fn slots_lost_to_a_lapped_reader_are_lost_and_counted() {
    let (mut a, ring_a) = leg(8, 0);
    let mut mixer = Interleaver::new(&[Some(ring_a), None], RATE, Duration::ZERO);
    a.place(0, 20 * 80, |_| 5, SlotState::Silence);
    drop(a);
    let frames = emit_until(&mut mixer, 20 * SLOT, &[]);
    let missed = mixer.take_missed();
    assert_eq!(missed, 13);
    assert_eq!(mixer.take_missed(), 0);
    assert_eq!(frames.iter().filter(|f| f[0] == 0).count() as u64, missed * 80);
    assert_eq!(mixer.tracks().legs[0].as_slice(), [gap(0, missed * 80, SlotState::Lost)]);
}

#[test]
fn without_a_packet_the_wall_clock_moves_the_recording_on() {
    let (_a, ring_a) = leg(1_024, 0);
    let mut mixer = Interleaver::new(&[Some(ring_a), None], RATE, Duration::from_secs(2));
    assert_eq!(mixer.due(at(5_000), 40_000), 24_000);
    assert_eq!(emit_until(&mut mixer, 24_000, &[]), vec![[0, 0]; 24_000]);
    assert_eq!(mixer.end(40_000), 40_000);
    assert_eq!(mixer.tracks().legs[0].as_slice(), [gap(0, 24_000, SlotState::Silence)]);
}

#[test]
fn a_leg_whose_receiver_died_does_not_hold_the_other_up() {
    let lag = Duration::from_secs(2);
    let (mut a, ring_a) = leg(1_024, 0);
    let (mut b, ring_b) = leg(1_024, 0);
    let mut mixer = Interleaver::new(&[Some(ring_a), Some(ring_b)], RATE, lag);
    b.place(0, 8_000, |_| 2, SlotState::Silence);
    for ms in (0..20_000).step_by(100) {
        a.place(ms * 8, 800, |_| 1, SlotState::Silence);
        let until = mixer.due(at(ms), ms as i64 * 8 + 800);
        emit_until(&mut mixer, until, &[]);
    }
    assert_eq!(mixer.take_missed(), 0, "the living leg's ring was lapped");
    assert_eq!(mixer.tracks().legs[0].as_slice(), []);
    let [dead] = mixer.tracks().legs[1].as_slice() else { panic!("{:?}", mixer.tracks()) };
    assert_eq!((dead.start_sample, dead.kind), (8_000, SlotState::Lost));

    // A process that stood still for long gives the receivers their turn first.
    let (mut c, ring_c) = leg(1_024, 0);
    c.place(0, 24_000, |_| 1, SlotState::Silence);
    let mut mixer = Interleaver::new(&[Some(ring_c), None], RATE, lag);
    mixer.due(at(0), 24_000);
    assert_eq!(mixer.due(at(60_000), 504_000), 8_000);
}

#[test]
fn a_resumed_leg_is_lost_until_it_is_heard() {
    let (mut a, ring_a) = leg(64, 1_000);
    let mut before = Tracks::default();
    before.legs[0].note(90, 10, SlotState::Lost);
    let mut mixer = Interleaver::resumed(&[Some(ring_a), None], RATE, Duration::ZERO, 100, before);
    mixer.set_origin(500);
    // Room before the first packet, then audio, then silence that is the sender's.
    a.place(160, 80, |_| 9, SlotState::Silence);
    a.advance(320, SlotState::Silence);
    drop(a);
    assert_eq!(mixer.next(), 600);
    let frames = emit_until(&mut mixer, 1_320, &[]);
    assert_eq!(frames.iter().position(|f| f[0] == 9), Some(560));
    assert_eq!(
        mixer.tracks().legs[0].as_slice(),
        [gap(90, 570, SlotState::Lost), gap(740, 80, SlotState::Silence)]
    );
}

/// What happens to a leg.
#[derive(Clone, Debug)]
enum Step {
    /// A packet of `len` samples, `ahead` behind the head (or before it, if negative).
    Packet { ahead: i64, len: usize, value: i16, missing: SlotState },
    /// Time passes without packets.
    Quiet { samples: u64, state: SlotState },
    /// The recorder takes its turn, with room for so many frames.
    Turn { frames: usize },
}

fn state() -> impl Strategy<Value = SlotState> {
    prop_oneof![Just(SlotState::Lost), Just(SlotState::Silence), Just(SlotState::ComfortNoise)]
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => (-400i64..300, 1usize..250, 1i16.., state())
            .prop_map(|(ahead, len, value, missing)| Step::Packet { ahead, len, value, missing }),
        2 => (1u64..500, state()).prop_map(|(samples, state)| Step::Quiet { samples, state }),
        3 => (1usize..900).prop_map(|frames| Step::Turn { frames }),
    ];
    (0usize..2, step)
}

/// What a leg holds, by call sample, read with an eye of its own: state and sample.
fn oracle(ring: &Arc<Ring>, resumed: bool) -> (i64, Vec<(SlotState, i16)>) {
    let mut reader = ring.reader();
    let mut slot = [0; SLOT as usize];
    let mut all = Vec::new();
    let mut heard = !resumed;
    loop {
        match reader.read_slot(0, &mut slot) {
            SlotRead::Ready { state, len } => {
                heard |= state.is_audio();
                let state = if heard { state } else { SlotState::Lost };
                all.extend(slot[..len].iter().map(|sample| (state, *sample)));
            }
            SlotRead::End => return (ring.base(), all),
            other => panic!("{other:?}"),
        }
    }
}

fn gaps_of(states: impl Iterator<Item = SlotState>) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for (i, state) in states.enumerate().filter(|(_, state)| !state.is_audio()) {
        match gaps.last_mut() {
            Some(gap) if gap.kind == state && gap.start_sample + gap.samples == i as u64 => gap.samples += 1,
            _ => gaps.push(gap(i as u64, 1, state)),
        }
    }
    gaps
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever packets come in whatever order, and however the recorder's turns fall among them: every sample lands on
    /// its place on the call's clock, and every missing one in the gap list.
    #[test]
    fn the_recording_is_what_the_rings_hold(
        bases in (-300i64..300, -300i64..300),
        origin in -500i64..500,
        lag_ms in 50u64..80,
        resumed in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..60),
        pause in proptest::option::of((0i64..3_000, proptest::option::of(0i64..3_000))),
    ) {
        let lag = Duration::from_millis(lag_ms);
        let (a, ring_a) = leg(1_024, bases.0);
        let (b, ring_b) = leg(1_024, bases.1);
        let rings = [Some(ring_a.clone()), Some(ring_b.clone())];
        let mut mixer = if resumed {
            Interleaver::resumed(&rings, RATE, lag, 0, Tracks::default())
        } else {
            Interleaver::new(&rings, RATE, lag)
        };
        mixer.set_origin(origin);
        let pauses: Vec<Pause> = pause
            .map(|(from, len)| Pause { from: origin + from, until: len.map(|len| origin + from + len) })
            .into_iter()
            .collect();

        let mut writers = [a, b];
        let mut frames = Vec::new();
        for (leg, step) in steps {
            let writer = &mut writers[leg];
            match step {
                Step::Packet { ahead, len, value, missing } => {
                    let head = writer.head() as i64;
                    let at = (head + ahead).max(head - lag_ms as i64 * 8).max(0);
                    writer.place(at as u64, len, |i| value.wrapping_add(i as i16), missing);
                }
                Step::Quiet { samples, state } => writer.advance(writer.head() + samples, state),
                Step::Turn { frames: room } => {
                    // A wall clock far back: only what is in the rings counts here.
                    let until = mixer.due(at(0), i64::MIN / 2);
                    let mut out = vec![0; room * FRAME_BYTES];
                    let count = mixer.emit(until, &pauses, &mut out);
                    frames.extend(decode(&out[..count * FRAME_BYTES]));
                }
            }
        }
        drop(writers);
        let end = mixer.end(origin);
        frames.extend(emit_until(&mut mixer, end, &pauses));
        prop_assert_eq!(frames.len() as i64, end - origin);

        let paused = |call: i64| {
            pauses.iter().any(|p| p.from <= call && p.until.is_none_or(|until| call < until))
        };
        for (channel, ring) in [ring_a, ring_b].iter().enumerate() {
            let (base, held) = oracle(ring, resumed);
            let ends = base + held.len() as i64;
            let heard = held.iter().any(|(state, _)| state.is_audio());
            let outside = |call: i64| {
                let hole = resumed && (call < base || !heard || held.is_empty());
                if hole || (resumed && call >= ends && !heard) { SlotState::Lost } else { SlotState::Silence }
            };
            let expected: Vec<(SlotState, i16)> = (origin..end)
                .map(|call| match usize::try_from(call - base).ok().and_then(|i| held.get(i)) {
                    _ if paused(call) => (SlotState::Silence, 0),
                    Some(&(state, sample)) => (state, sample),
                    None => (outside(call), 0),
                })
                .collect();
            let samples: Vec<i16> = frames.iter().map(|frame| frame[channel]).collect();
            let wanted: Vec<i16> = expected.iter().map(|(_, sample)| *sample).collect();
            prop_assert_eq!(samples, wanted);
            let wanted = gaps_of(expected.iter().map(|(state, _)| *state));
            prop_assert_eq!(mixer.tracks().legs[channel].as_slice(), &wanted[..]);
        }
        let wanted: i64 = (origin..end).filter(|&call| paused(call)).count() as i64;
        let noted: u64 = mixer.tracks().paused.as_slice().iter().map(|gap| gap.samples).sum();
        prop_assert_eq!(noted as i64, wanted);
    }
}
