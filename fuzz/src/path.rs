//! The whole media path.

use std::time::Duration;

use sidetone::emulator::{Bytes, Choice, Datagram, MS, Reception, Scenario};

/// The whole path: bytes decide what a sender does, what the network makes of it, and which datagrams are altered on top, and
/// how. Nothing received is ever altered in the ring, every datagram is accounted for, memory is bounded by the call's length;
/// and where nothing was altered on top, ring and live stream agree with the reference.
pub fn path(bytes: &[u8]) {
    let mut choice = Bytes(bytes);
    let scenario = Scenario { begins_ms: 0, ..Scenario::draw(&mut choice) };
    let (mut arrived, end) = scenario.arrivals();
    let mut is_altered = false;
    while !choice.0.is_empty() && !arrived.is_empty() {
        let at = choice.below(arrived.len() as u64) as usize;
        alter(&mut arrived, at, &mut choice);
        is_altered = true;
    }
    arrived.retain(|datagram| datagram.at < end);
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::with(scenario.codec, arrived, end, |config| {
        config.repair_window = Duration::from_millis(scenario.repair_ms);
        config.conceal = scenario.conceal;
    });
    let outcome = if is_altered { reception.hold_invariants() } else { reception.compare() };
    if let Err(disagreement) = outcome {
        panic!("{disagreement}\n{scenario:#?}\n{:?}", reception.stats);
    }
}

/// Alter datagram `at`: one of its bytes, its length, its time, or a copy of it that is altered later.
fn alter(arrived: &mut Vec<Datagram>, at: usize, choice: &mut Bytes<'_>) {
    let datagram = &mut arrived[at];
    match choice.below(6) {
        0 | 1 if !datagram.bytes.is_empty() => {
            // The header's fields are where decisions are made.
            let length = datagram.bytes.len().min(16) as u64;
            datagram.bytes[choice.below(length) as usize] = choice.below(256) as u8;
        }
        2 => datagram.bytes.truncate(choice.below(180) as usize),
        3 => datagram.bytes.resize(choice.below(2_048) as usize, 0x55),
        4 => datagram.at += choice.below(5_000) * MS,
        _ => {
            let copy = datagram.clone();
            arrived.push(copy);
        }
    }
}
