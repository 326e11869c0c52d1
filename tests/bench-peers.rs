//! The judge of `benches/peers` judges rightly: it finds what is there, misses what is not, and tells how far it was moved.

#[path = "../benches/peers/tool/content.rs"]
mod content;
#[path = "../benches/peers/tool/line.rs"]
mod line;
#[path = "../benches/peers/tool/place.rs"]
mod place;

use content::{PACKETS_A_SECOND, SAMPLES, payload, samples};
use line::{Fate, Line};
use place::{Found, find};

use std::time::Duration;

use sidetone::media::codec::g711::{ULAW, to_ulaw};

const STREAM: usize = 7;
const PACKETS: u32 = 200;

/// A recording of packets `of` one behind the other.
fn recording(of: impl IntoIterator<Item = u32>) -> Vec<i16> {
    of.into_iter().flat_map(|packet| samples(STREAM, packet)).collect()
}

fn found(recorded: &[i16]) -> Vec<Option<Found>> {
    find(recorded, STREAM, &(0..PACKETS).collect::<Vec<_>>())
}

fn offset(found: Option<Found>) -> Option<i64> {
    found.filter(|found| found.samples == SAMPLES).map(|found| found.offset)
}

#[test]
fn every_code_survives_decoding_so_that_a_recording_can_be_compared() {
    for packet in 0..PACKETS {
        assert!(payload(STREAM, packet).iter().all(|&code| to_ulaw(ULAW[usize::from(code)]) == code));
    }
}

#[test]
fn a_whole_recording_is_found_wherever_it_begins() {
    let mut recorded = vec![0; 1_234];
    recorded.extend(recording(0..PACKETS));
    assert!(found(&recorded).into_iter().all(|found| offset(found) == Some(1_234)));
}

#[test]
fn another_streams_audio_is_not_taken_for_this_ones() {
    let other: Vec<i16> = (0..PACKETS).flat_map(|packet| samples(STREAM + 1, packet)).collect();
    assert!(found(&other).iter().all(Option::is_none));
    assert!(found(&[0; 32_000]).iter().all(Option::is_none));
}

#[test]
fn what_is_left_out_is_missing_and_moves_what_follows() {
    let all = found(&recording((0..50).chain(60..PACKETS)));
    assert!(all[..50].iter().all(|&found| offset(found) == Some(0)));
    assert!(all[50..60].iter().all(Option::is_none));
    assert!(all[60..].iter().all(|&found| offset(found) == Some(-10 * SAMPLES as i64)));
}

#[test]
fn packets_that_changed_places_are_found_where_they_are() {
    let all = found(&recording((0..20).chain([21, 20]).chain(22..PACKETS)));
    assert_eq!(offset(all[20]), Some(SAMPLES as i64));
    assert_eq!(offset(all[21]), Some(-(SAMPLES as i64)));
    assert_eq!(offset(all[22]), Some(0));
}

#[test]
fn samples_that_were_altered_are_counted_as_lost() {
    let mut recorded = recording(0..PACKETS);
    recorded[30 * SAMPLES + 40..][..9].fill(0);
    assert_eq!(found(&recorded)[30].map(|found| found.samples), Some(SAMPLES - 9));
}

#[test]
fn a_recording_whose_beginning_is_missing_is_found() {
    let all = found(&recording(150..PACKETS));
    assert!(all[..150].iter().all(Option::is_none));
    assert!(all[150..].iter().all(|&found| offset(found) == Some(-150 * SAMPLES as i64)));
}

/// On a line with pauses: what `pause` writes for a packet that was not spoken, and where the delivered ones are then found.
fn with_pauses(line: Line, pause: impl Fn() -> Vec<i16>) -> (Vec<u32>, Vec<Option<Found>>) {
    const SECONDS: u32 = 20;
    let spoken = |packet: &u32| line.fate(STREAM, *packet, SECONDS) != Fate::Unspoken;
    let all = 0..SECONDS * PACKETS_A_SECOND;
    let say = |packet| if spoken(&packet) { samples(STREAM, packet).to_vec() } else { pause() };
    let recorded: Vec<i16> = all.clone().flat_map(say).collect();
    let delivered: Vec<u32> = all.filter(spoken).collect();
    let found = find(&recorded, STREAM, &delivered);
    (delivered, found)
}

#[test]
fn silence_left_in_the_place_of_a_pause_is_exact() {
    for line in [Line::Dtx, Line::Hold] {
        let (delivered, found) = with_pauses(line, || vec![0; SAMPLES]);
        assert!(delivered.len() < 20 * PACKETS_A_SECOND as usize);
        assert!(found.iter().all(|&found| offset(found) == Some(0)), "{line:?}");
    }
}

#[test]
fn a_pause_that_is_left_out_moves_what_follows_by_its_length() {
    for line in [Line::Dtx, Line::Hold] {
        let (delivered, found) = with_pauses(line, Vec::new);
        for (before, (packet, found)) in delivered.iter().zip(&found).enumerate() {
            let left_out = i64::from(*packet) - before as i64;
            assert_eq!(offset(*found), Some(-left_out * SAMPLES as i64), "{line:?}, packet {packet}");
        }
    }
}

#[test]
fn of_a_packet_recorded_twice_the_one_in_its_place_counts() {
    let all = found(&recording((0..30).chain([30]).chain(30..PACKETS)));
    assert!(all[..=30].iter().all(|&found| offset(found) == Some(0)));
    assert!(all[31..].iter().all(|&found| offset(found) == Some(SAMPLES as i64)));
}

/// Packets of a minute with the fate `is`.
fn count(line: Line, is: impl Fn(Fate) -> bool) -> usize {
    (0..60 * PACKETS_A_SECOND).filter(|&packet| is(line.fate(STREAM, packet, 60))).count()
}

#[test]
fn lines_do_to_packets_what_they_say() {
    let lost = |line| count(line, |fate| fate == Fate::Lost);
    let unspoken = |line| count(line, |fate| fate == Fate::Unspoken);
    assert_eq!((lost(Line::Clean), unspoken(Line::Clean)), (0, 0));
    assert!((15..=45).contains(&lost(Line::Loss)), "{}", lost(Line::Loss));
    assert_eq!(lost(Line::Bursts), 150);
    assert_eq!(unspoken(Line::Hold), 35 * PACKETS_A_SECOND as usize);
    assert_eq!(unspoken(Line::Dtx), 20 * 60);
    let late = |fate| matches!(fate, Fate::Delivered { late, .. } if late > Duration::from_millis(20));
    assert!(count(Line::Jitter, late) > 1_500);
    let twice = count(Line::Twice, |fate| matches!(fate, Fate::Delivered { twice: true, .. }));
    assert!((30..=90).contains(&twice), "{twice}");
}
