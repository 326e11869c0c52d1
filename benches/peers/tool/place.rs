//! Where in a recording a stream's packets are.

use std::collections::HashMap;

use crate::content::{KEY_SAMPLES, SAMPLES, key, next_key, samples};

/// A packet is there if this many of its samples are: of noise with 30 values, chance alone makes five of 160 equal.
const ENOUGH: usize = SAMPLES / 2;

/// The offset of any packet is one to try for the others; it is looked for among these many first.
const BEGINNING: usize = 50;

/// A packet that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where it begins, less where it belongs as counted from the stream's first packet. Samples.
    pub offset: i64,
    /// Samples of it that are there.
    pub samples: usize,
}

/// What became of each of the `packets` of `stream` in `recorded`, 8 kHz.
pub fn find(recorded: &[i16], stream: usize, packets: &[u32]) -> Vec<Option<Found>> {
    let beginning = &packets[..BEGINNING.min(packets.len())];
    let usual = first(recorded, stream, beginning).or_else(|| first(recorded, stream, packets));
    let Some(usual) = usual else { return vec![None; packets.len()] };
    let mut found: Vec<_> = packets.iter().map(|&packet| at(recorded, stream, packet, usual)).collect();
    let missing: HashMap<u64, usize> = packets
        .iter()
        .enumerate()
        .filter(|(index, _)| found[*index].is_none())
        .map(|(index, &packet)| (key(&samples(stream, packet)), index))
        .collect();
    if !missing.is_empty() {
        each_key(recorded, |begin, key| {
            if let Some(&index) = missing.get(&key)
                && found[index].is_none()
            {
                found[index] = at(recorded, stream, packets[index], begin as i64 - belongs(packets[index]));
            }
            true
        });
    }
    found
}

fn belongs(packet: u32) -> i64 {
    i64::from(packet) * SAMPLES as i64
}

/// The offset of the first in the recording of `packets`.
fn first(recorded: &[i16], stream: usize, packets: &[u32]) -> Option<i64> {
    let keys: HashMap<_, _> = packets.iter().map(|&packet| (key(&samples(stream, packet)), packet)).collect();
    let mut offset = None;
    each_key(recorded, |begin, key| {
        offset = keys
            .get(&key)
            .and_then(|&packet| at(recorded, stream, packet, begin as i64 - belongs(packet)))
            .map(|found| found.offset);
        offset.is_none()
    });
    offset
}

/// `packet`, if it is at `offset` from where it belongs.
fn at(recorded: &[i16], stream: usize, packet: u32, offset: i64) -> Option<Found> {
    let begin = usize::try_from(belongs(packet) + offset).ok()?;
    let there = &recorded.get(begin..)?;
    let same = there.iter().zip(samples(stream, packet)).filter(|(a, b)| **a == *b).count();
    (same >= ENOUGH).then_some(Found { offset, samples: same })
}

/// Hand out the key at each sample, until `each` says false.
fn each_key(recorded: &[i16], mut each: impl FnMut(usize, u64) -> bool) {
    let mut key = 0;
    for (end, &sample) in recorded.iter().enumerate() {
        key = next_key(key, sample);
        if end + 1 >= KEY_SAMPLES && !each(end + 1 - KEY_SAMPLES, key) {
            return;
        }
    }
}
