//! Where nobody can know that a timeline goes on, so that it may be begun anew.

use super::{ANCHOR_WINDOW_MS, HOLD_MS, SEAM_MS, SLACK_MS, media, most_late};
use crate::emulator::{Reception, Sent};

/// Packets tell their pace over this much time and no less (`STEADY` of the receiver).
const STEADY_MS: i64 = 100;

/// Whether a timeline that goes on with `first` at `displacement` could not have been known to lie there before: all that came of
/// it while its first packets were held back came later than that by more than a second, since they had waited in a queue of the
/// network and the sender then paused before it was dry. A packet in time is more than a second early by what they said, which is a
/// jump of the timestamps to anybody; and so is one behind a pause of more than a second, however soon it comes.
pub(super) fn is_false_start(reception: &Reception, first: Sent, displacement: i64) -> bool {
    let per_ms = i64::from(reception.codec.sample_rate().hz()) / 1_000;
    let packets: Vec<_> = media(reception);
    let of_timeline =
        || packets.iter().filter(|(_, sent)| (sent.source, sent.timeline) == (first.source, first.timeline));
    let Some(&(begun, Sent { position: mut newest, .. })) = of_timeline().next() else { return false };
    of_timeline()
        .take_while(|&&(at, sent)| {
            let paused = sent.position - newest > 1_000 * per_ms;
            newest = newest.max(sent.position);
            !paused && at <= begun + (HOLD_MS - SLACK_MS) * per_ms
        })
        .all(|&(at, sent)| at - sent.position - displacement > (HOLD_MS - SLACK_MS) * per_ms)
}

/// Whether all that came from `first` on, for as long as packets are held back, was too late to be believed by its timeline's place at
/// `displacement`, and as late as the rest of it: nobody knows that from timestamps that jumped back, by the end of a call at the latest.
pub(super) fn is_late_for_good(reception: &Reception, first: Sent, displacement: i64) -> bool {
    let per_ms = i64::from(reception.codec.sample_rate().hz()) / 1_000;
    let packets = media(reception);
    let Some(begun) = arrival_of(first, &packets) else { return false };
    let held = packets.iter().filter(|(at, sent)| {
        (begun..=begun + HOLD_MS * per_ms).contains(at) && sent.timeline == first.timeline
    });
    let lags = || held.clone().map(|(at, sent)| at - sent.position - displacement);
    let (least, most) = (lags().min().unwrap_or(0), lags().max().unwrap_or(0));
    least > most_late(reception) - SLACK_MS * per_ms && most - least <= SEAM_MS * per_ms
}

/// Whether what came around `first`, until a jump is decided about, was too late to be believed by its timeline's place at `displacement`,
/// and came no faster than it was sent by more than a quarter: copies and garbage in a queue may have it drain as slowly for a while, and
/// nobody knows it from timestamps that jumped back then.
pub(super) fn hardly_drains(reception: &Reception, first: Sent, displacement: i64) -> bool {
    let per_ms = i64::from(reception.codec.sample_rate().hz()) / 1_000;
    let packets = media(reception);
    let Some(begun) = arrival_of(first, &packets) else { return false };
    let window = ANCHOR_WINDOW_MS * per_ms;
    let limit = most_late(reception) - SLACK_MS * per_ms;
    let is_late = |at: i64, sent: &Sent| at - sent.position - displacement > limit;
    let of_timeline = || packets.iter().filter(|(_, sent)| sent.timeline == first.timeline);
    let in_time = of_timeline().filter(|(at, sent)| *at < begun && !is_late(*at, sent));
    let newest = in_time.map(|(_, sent)| sent.sequence).max();
    let mut held = of_timeline().filter(|(at, sent)| {
        let is_near = (begun - window..=begun + window).contains(at);
        is_near && is_late(*at, sent) && newest.is_none_or(|newest| sent.sequence > newest)
    });
    let Some((from, Sent { position, .. })) = held.next() else { return false };
    let (passed, sent) = held
        .take_while(|(at, _)| *at <= from + window)
        .fold((0, 0), |(_, most), (at, packet)| (at - from, most.max(packet.position - position)));
    passed >= STEADY_MS * per_ms && sent <= passed + passed / 4 + SLACK_MS * per_ms
}

/// The call sample at which the packet `of` came first.
fn arrival_of(of: Sent, packets: &[(i64, Sent)]) -> Option<i64> {
    packets.iter().find(|(_, sent)| sent.id == of.id).map(|&(at, _)| at)
}
