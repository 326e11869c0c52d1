//! Telephone events.

use std::collections::HashSet;

use sidetone::media::counter::{RtpTimestamp, Ssrc};
use sidetone::media::dtmf::TelephoneEvents;
use sidetone::media::time::MediaInstant;

use super::after;

/// Any telephone events at any times. Each has a byte for the milliseconds since the one before (from 250 on: seconds), one for its
/// source, one for the steps of its timestamp, and four bytes of payload. No key is told that was not pressed, none without a
/// packet of its own, and none is held for ever.
pub fn dtmf(bytes: &[u8]) {
    let mut events = TelephoneEvents::default();
    let (mut now, mut timestamp) = (MediaInstant::from_nanos(1_000_000_000), u32::MAX - 1_000);
    let (mut packets, mut presses, mut pressed) = (0_u64, 0_u64, HashSet::new());
    for packet in bytes.chunks_exact(7) {
        let &[pause, source, step, ref payload @ ..] = packet else { break };
        now = after(now, pause);
        timestamp = timestamp.wrapping_add_signed(i32::from(step as i8) * 160);
        packets += 1;
        if let Some(digit) = b"0123456789*#ABCD".get(usize::from(payload[0])) {
            pressed.insert(char::from(*digit));
        }
        let mut told = |press: sidetone::media::dtmf::Press| {
            presses += 1;
            assert!(pressed.contains(&press.digit), "{} was never pressed", press.digit);
        };
        events.on_deadline(now, &mut told);
        events.on_packet(Ssrc(u32::from(source % 4)), RtpTimestamp(timestamp), payload, now, &mut told);
        if let Some(due) = events.deadline() {
            assert!(due > now, "a key that was just heard of is not over");
        }
    }
    if let Some(due) = events.deadline() {
        events.on_deadline(due, |_| presses += 1);
    }
    assert_eq!(events.deadline(), None);
    assert!(presses <= packets);
}
