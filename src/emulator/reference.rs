//! The reference: one big array into which every packet is written at its RTP position.
//!
//! The receiver chooses one number a timeline, the place at which it begins, and the reference checks that choice against
//! the arrivals; every other place follows from timestamps. What it cannot know from outside, because it lies at the very
//! edge of a reader's window or because the receiver was still holding packets back, it allows either way.

mod anew;
mod behind;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use self::anew::{hardly_drains, is_false_start, is_late_for_good};
use self::behind::{Detour, Drift};
use super::{Datagram, MS, Reception, Sent, voice};
use crate::media::receiver::END_MARGIN;
use crate::media::report::Segment;
use crate::media::slot::SlotState;

/// Time alone moves the head no nearer to the present than this (`STALL_MARGIN` of the receiver).
const HEAD_MARGIN_MS: i64 = 200;
/// A slot, a tick, and what the estimate of the clocks' drift takes.
const SLACK_MS: i64 = 25;
/// The packets of a new source, and of timestamps that jump, are held back for so long at most.
const HOLD_MS: i64 = 1_000;
/// The first packets of a leg are held back for so long.
const ANCHOR_WINDOW_MS: i64 = 200;
/// Two packets of a source whose numbers are so close together are in sequence (`MAX_STEP` of the receiver).
const MAX_STEP: u64 = 16;
/// A new timeline begins where its first packets came in, or at the seam to the audio before it if that is so near.
const SEAM_MS: i64 = 210;

/// Something that is not as the reference has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement(pub String);

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Disagreement {}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(Disagreement(format!($($message)+)));
        }
    };
}

/// Whether a reader has a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    #[default]
    Never,
    Perhaps,
    Surely,
}

/// What one sample may be.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Of the first packet for this place that came, and of another one if the sender spoke twice there; 0 is none.
    values: [i16; 2],
    recorder: Due,
    live: Due,
}

impl Cell {
    fn allows(self, pcm: i16, due: Due) -> bool {
        match (pcm, due) {
            (0, Due::Surely) | (1.., Due::Never) | (..0, Due::Never) => false,
            (0, _) => true,
            (pcm, _) => self.values.contains(&pcm),
        }
    }
}

pub(super) struct Reference {
    /// Call sample of the first cell.
    first: i64,
    cells: Vec<Cell>,
    /// Any of the sender's packets is missing, came too late for a reader, or came after a later one: what was sent between
    /// the two could be told from loss by nobody then.
    incomplete: bool,
}

impl Reference {
    pub(super) fn of(reception: &Reception) -> Result<Self, Disagreement> {
        let timelines = Timelines::of(reception)?;
        let placed = timelines.place(reception);
        let first = placed.iter().map(|packet| packet.place).min().unwrap_or(0);
        let end = placed.iter().map(Placed::end).max().unwrap_or(0);
        let mut cells = vec![Cell::default(); (end - first) as usize];
        for packet in &placed {
            let from = (packet.place - first) as usize;
            for (i, cell) in cells[from..from + packet.sent.samples()].iter_mut().enumerate() {
                let value = voice::sample(reception.codec, packet.sent.voice, packet.sent.spoken + i as i64);
                if cell.values[0] == 0 || cell.values[0] == value {
                    cell.values[0] = value;
                } else {
                    cell.values[1] = value;
                }
                cell.recorder = cell.recorder.max(packet.recorder);
                cell.live = cell.live.max(packet.live);
            }
        }
        Ok(Self { first, cells, incomplete: is_incomplete(reception, &placed) })
    }

    pub(super) fn compare(&self, reception: &Reception) -> Result<(), Disagreement> {
        reception.hold_invariants()?;
        self.compare_reader(reception, "recorder", &reception.recorder, |cell| cell.recorder)?;
        self.compare_reader(reception, "live", &reception.live, |cell| cell.live)?;
        self.compare_length(reception)?;
        self.compare_counts(reception)
    }

    fn compare_reader(
        &self,
        reception: &Reception,
        name: &str,
        reader: &super::Listener,
        due: impl Fn(&Cell) -> Due,
    ) -> Result<(), Disagreement> {
        let slot = reception.codec.sample_rate().slot_samples();
        let end = reception.base + reader.pcm.len() as i64;
        let mut at = reception.base - self.first;
        for (n, (samples, &state)) in reader.pcm.chunks(slot).zip(&reader.states).enumerate() {
            let mut whole = true;
            for &pcm in samples {
                let cell =
                    usize::try_from(at).ok().and_then(|at| self.cells.get(at)).copied().unwrap_or_default();
                let due = due(&cell);
                let here = || format!("{name}: call sample {} (slot {n}, {state:?})", at + self.first);
                if state == SlotState::Concealed {
                    // Made-up audio stands where nothing came; whatever came is unaltered.
                    ensure!(
                        due != Due::Surely || cell.allows(pcm, due),
                        "{} was altered: {pcm}, {cell:?}",
                        here()
                    );
                    whole &= due == Due::Surely;
                } else {
                    ensure!(cell.allows(pcm, due), "{} is {pcm}, and not as in {cell:?}", here());
                    whole &= pcm != 0;
                }
                at += 1;
            }
            // Of a slot that was cut off after it had been read, what is left may be whole.
            let is_cut = reader.taken_back > 0 && n + 1 == reader.states.len();
            ensure!(
                state == SlotState::Concealed || is_cut || whole == state.is_audio(),
                "{name}: slot {n} is {state:?}"
            );
            ensure!(
                !(whole && state == SlotState::Concealed),
                "{name}: slot {n} is Concealed and lacks nothing"
            );
            let is_loss = matches!(state, SlotState::Lost | SlotState::Concealed);
            ensure!(
                self.incomplete || !is_loss || reader.overrun > 0,
                "{name}: slot {n} is {state:?}, and nothing is lost"
            );
        }
        let last = self.cells.iter().rposition(|cell| due(cell) == Due::Surely);
        let last = last.map(|last| last as i64 + self.first);
        ensure!(
            last.is_none_or(|last| last < end),
            "{name}: call sample {last:?} is not in it, which ends at {end}"
        );
        Ok(())
    }

    /// A leg ends with its last packet, which may have come too late to be heard; one that had fallen silent before ends with
    /// the call.
    fn compare_length(&self, reception: &Reception) -> Result<(), Disagreement> {
        let end_of = |cells: Option<usize>| cells.map_or(i64::MIN, |cells| cells as i64 + self.first);
        let surely = self.cells.iter().rposition(|cell| cell.recorder == Due::Surely).map(|last| last + 1);
        let perhaps = Some(self.cells.len()).filter(|&cells| cells > 0);
        let heard = reception.arrived.iter().filter(|datagram| datagram.sent.is_some()).map(|d| d.at).max();
        let Some(heard) = heard.filter(|_| !reception.stats.segments.is_empty()) else { return Ok(()) };
        let rate = reception.codec.sample_rate();
        let mut ends = end_of(surely)..=end_of(perhaps);
        if reception.end - heard > END_MARGIN.as_nanos() as u64 {
            let call = rate.samples_in_nanos(reception.end as i64);
            ends = call.max(*ends.start())..=call.max(*ends.end());
        }
        let end = reception.base + reception.recorder.pcm.len() as i64;
        // A leg may have nothing but comfort noise or keys in what came of it.
        let is_bare = *ends.end() == i64::MIN;
        ensure!(is_bare || ends.contains(&end), "it ends at {end}, and not within {ends:?}");
        Ok(())
    }

    fn compare_counts(&self, reception: &Reception) -> Result<(), Disagreement> {
        let stats = &reception.stats;
        let known = stats.packets_expected - stats.packets_lost;
        let sent: Vec<Sent> = reception.arrived.iter().filter_map(|datagram| datagram.sent).collect();
        let one_source = sent.iter().all(|packet| packet.source == 0);
        if one_source && !sent.is_empty() && stats.packets_invalid == garbage(reception) {
            let mut ids: Vec<u64> = sent.iter().map(|packet| packet.sequence).collect();
            ids.sort_unstable();
            let span = ids[ids.len() - 1] - ids[0] + 1;
            ids.dedup();
            let distinct = ids.len() as u64;
            ensure!(
                stats.packets_received == distinct,
                "{} received, {distinct} came",
                stats.packets_received
            );
            // Events alone make no source: what is lost between them and the first packet of media, nobody knows.
            let of_media = sent.iter().filter(|packet| packet.is_media()).map(|packet| packet.sequence).min();
            let leading = ids.iter().filter(|&&id| of_media.is_some_and(|first| id < first)).count() as u64;
            let least = of_media.map_or(distinct, |first| ids[ids.len() - 1] - first + 1 + leading);
            ensure!(
                (least..=span).contains(&stats.packets_expected),
                "{} expected of {span}",
                stats.packets_expected
            );
            ensure!(known == distinct, "{} lost of {}", stats.packets_lost, span - distinct);
        }
        Ok(())
    }
}

fn garbage(reception: &Reception) -> u64 {
    reception.arrived.iter().filter(|datagram| datagram.sent.is_none()).count() as u64
}

/// A packet of audio at its place.
struct Placed {
    sent: Sent,
    place: i64,
    recorder: Due,
    live: Due,
}

impl Placed {
    fn end(&self) -> i64 {
        self.place + self.sent.samples() as i64
    }
}

fn is_incomplete(reception: &Reception, placed: &[Placed]) -> bool {
    let has_hole = |numbers: &[(u32, u64)]| {
        numbers.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[1].1 > pair[0].1 + 1)
    };
    let audio: Vec<_> = placed.iter().map(|p| (p.sent.source, p.sent.sequence)).collect();
    // Comfort noise is missed as well.
    let all: Vec<_> =
        reception.arrived.iter().filter_map(|d| d.sent).map(|sent| (sent.source, sent.sequence)).collect();
    // The first ones to come may be in any order.
    let mut sorted = all.clone();
    sorted.sort_unstable();
    has_hole(&audio)
        || has_hole(&all)
        || has_hole(&sorted)
        || placed.iter().any(|p| p.live != Due::Surely || p.recorder != Due::Surely)
}

/// Where the receiver has each timeline begin: what to add to a position.
struct Timelines {
    /// Of each timeline, from which of its packets on.
    anchors: HashMap<u32, Vec<Anchor>>,
}

#[derive(Clone, Copy)]
struct Anchor {
    /// The first packet's number.
    from: u64,
    displacement: i64,
}

impl Timelines {
    fn of(reception: &Reception) -> Result<Self, Disagreement> {
        let mut anchors: HashMap<u32, Vec<Anchor>> = HashMap::new();
        let per_ms = i64::from(reception.codec.sample_rate().hz()) / 1_000;
        for segment in &reception.stats.segments {
            let Some(first) = reception.first_of(segment) else {
                return Err(Disagreement(format!("no packet that was sent begins {segment:?}")));
            };
            let displacement = segment.first_sample - first.position;
            let of_timeline = anchors.entry(first.timeline).or_default();
            let known = of_timeline.last().map(|anchor| anchor.displacement);
            if known == Some(displacement) {
                continue;
            }
            let may_move = |known| {
                is_late_for_good(reception, first, known)
                    || hardly_drains(reception, first, known)
                    || of_timeline.len() == 1 && is_false_start(reception, first, displacement)
            };
            ensure!(
                known.is_none_or(may_move),
                "timeline {} lies at {known:?} and at {displacement}: its anchor was written twice",
                first.timeline
            );
            of_timeline.push(Anchor { from: first.sequence, displacement });
        }
        let timelines = Self { anchors };
        timelines.check_heard(reception)?;
        timelines.check_first(reception)?;
        timelines.check_others(reception, per_ms)?;
        Ok(timelines)
    }

    /// Which anchor of its timeline a packet has its place by: the number of it, and what to add to its position.
    fn anchor(&self, sent: &Sent) -> Option<(usize, i64)> {
        let of_timeline = self.anchors.get(&sent.timeline)?;
        let n = of_timeline.iter().rposition(|anchor| anchor.from <= sent.sequence).unwrap_or(0);
        Some((n, of_timeline[n].displacement))
    }

    /// What else to add to the position of a packet that comes when one of number `newest` has come: its timeline begins anew behind
    /// it, and was seen to. On which side a packet lies that was overtaken there, its timestamp says, or nothing does.
    fn other_displacement(&self, sent: &Sent, n: usize, newest: u64) -> Option<i64> {
        let next = self.anchors.get(&sent.timeline)?.get(n + 1)?;
        (next.from <= newest).then_some(next.displacement)
    }

    fn displacement(&self, sent: &Sent) -> Option<i64> {
        self.anchor(sent).map(|(_, displacement)| displacement)
    }

    /// Of a timeline that lies nowhere no two packets in sequence came one after the other: what is less may be anybody's.
    fn check_heard(&self, reception: &Reception) -> Result<(), Disagreement> {
        let came = media(reception);
        for pair in came.windows(2) {
            let [(_, one), (_, next)] = [pair[0], pair[1]];
            let step = next.sequence.abs_diff(one.sequence);
            let are_in_sequence =
                (one.source, one.timeline) == (next.source, next.timeline) && (1..=MAX_STEP).contains(&step);
            ensure!(
                !are_in_sequence || self.anchors.contains_key(&one.timeline),
                "timeline {} lies nowhere, and {} of its packets came",
                one.timeline,
                came.iter().filter(|(_, sent)| sent.timeline == one.timeline).count()
            );
        }
        Ok(())
    }

    /// The first timeline begins at the least delay of the first 200 ms, unless another source cuts these short.
    fn check_first(&self, reception: &Reception) -> Result<(), Disagreement> {
        let sent = || reception.arrived.iter().filter_map(|datagram| Some((datagram.at, datagram.sent?)));
        let Some((begun, first)) = sent().find(|(_, sent)| sent.is_media()) else { return Ok(()) };
        let Some(found) = self.anchors.get(&first.timeline).map(|anchors| anchors[0].displacement) else {
            return Ok(());
        };
        let rate = reception.codec.sample_rate();
        let window: Vec<_> = sent()
            .filter(|&(at, sent)| sent.is_media() && at < begun + ANCHOR_WINDOW_MS as u64 * MS)
            .map(|(at, sent)| {
                (rate.samples_in_nanos(at as i64) - sent.position, (sent.source, sent.timeline))
            })
            .collect();
        let alone = window.iter().all(|&(_, whose)| whose == (first.source, first.timeline));
        let Some(least) = window.iter().map(|&(delay, _)| delay).min().filter(|_| alone) else {
            return Ok(());
        };
        ensure!((found - least).abs() <= 1, "the leg is anchored at {found}; the least delay is {least}");
        Ok(())
    }

    /// Any other one begins at about its arrival.
    fn check_others(&self, reception: &Reception, per_ms: i64) -> Result<(), Disagreement> {
        let mut windows: HashMap<(u32, usize), (i64, i64, i64)> = HashMap::new();
        for (at, sent) in media(reception) {
            let Some((n, _)) = self.anchor(&sent) else { continue };
            let delay = at - sent.position;
            let (begun, least, most) = windows.entry((sent.timeline, n)).or_insert((at, delay, delay));
            if at <= *begun + HOLD_MS * per_ms {
                (*least, *most) = ((*least).min(delay), (*most).max(delay));
            }
        }
        let all = self.anchors.iter().flat_map(|(&timeline, anchors)| {
            anchors.iter().enumerate().map(move |(n, anchor)| (timeline, n, anchor.displacement))
        });
        for (timeline, n, found) in all {
            let Some(&(_, least, most)) = windows.get(&(timeline, n)) else { continue };
            let near = least - SEAM_MS * per_ms..=most + SEAM_MS * per_ms;
            ensure!(
                near.contains(&found),
                "timeline {timeline} lies at {found}; its packets came at {least}..={most}"
            );
        }
        Ok(())
    }

    /// When each packet of media is let go, in samples. One that is later than its place by more than a second (or the repair
    /// window) may mean that timestamps jumped: it is held until one comes that is not, or for a second.
    fn releases(&self, reception: &Reception) -> Vec<i64> {
        let rate = reception.codec.sample_rate();
        let limit = most_late(reception);
        let hold = (HOLD_MS + SLACK_MS) * i64::from(rate.hz()) / 1_000;
        let mut releases = Vec::new();
        let mut answer = i64::MAX;
        for (at, sent) in media(reception).into_iter().rev() {
            let place = self.displacement(&sent).map(|displacement| sent.position + displacement);
            let is_late = place.is_some_and(|place| at - place > limit - SLACK_MS * limit / 1_000);
            if !is_late {
                answer = at;
            }
            releases.push(if is_late { answer.min(at + hold) } else { at });
        }
        releases.reverse();
        releases
    }

    /// Each packet of audio that came, once, at its place; and which readers must have it.
    fn place(&self, reception: &Reception) -> Vec<Placed> {
        let rate = reception.codec.sample_rate();
        let per_ms = i64::from(rate.hz()) / 1_000;
        let repair = rate.samples_in(reception.repair) as i64;
        let live = reception.live.lag as i64;
        let (mut seen, mut placed) = (HashMap::new(), Vec::new());
        let believed = believed(reception);
        // The highest number of each timeline so far.
        let mut numbers: HashMap<u32, u64> = HashMap::new();
        let mut epochs: HashMap<(u32, u32, usize), i64> = HashMap::new();
        let mut first = None;
        // Where the audio that came ends.
        let mut highest = i64::MIN / 2;
        let (mut drift, mut detour) = (Drift::default(), Detour::default());
        for ((at, sent), released) in media(reception).into_iter().zip(self.releases(reception)) {
            if seen.insert(sent.id, ()).is_some() {
                continue;
            }
            let anchor = self.anchor(&sent);
            let epoch = (sent.source, sent.timeline, anchor.map_or(0, |(n, _)| n));
            let first = *first.get_or_insert(epoch);
            let begun = *epochs.entry(epoch).or_insert(at);
            let newest = numbers.entry(sent.timeline).or_insert(sent.sequence);
            *newest = sent.sequence.max(*newest);
            let Some((n, displacement)) = anchor else { continue };
            let other = self.other_displacement(&sent, n, *newest);
            let place = sent.position + displacement;
            let end = place + sent.samples() as i64;
            // Of the very first source nothing passes while it is held, until another one begins.
            let is_first = epoch == first && epochs.len() == 1 && at < begun + ANCHOR_WINDOW_MS * per_ms - 1;
            let is_settled = epoch == first || at > begun + HOLD_MS * per_ms;
            let settled = if is_settled { at } else { begun + HOLD_MS * per_ms + SLACK_MS * per_ms };
            let latest = settled.max(released);
            let by_time = |at: i64| at - HEAD_MARGIN_MS * per_ms;
            let surely = by_time(latest).max(highest);
            let due = |lag: i64| {
                // The first packets are put into order before any reader sees them.
                if is_first || place >= surely - lag {
                    Due::Surely
                } else if end > by_time(at) - drift.most.max(detour.most) - lag - SLACK_MS * per_ms {
                    Due::Perhaps
                } else {
                    Due::Never
                }
            };
            // A packet alone is nobody's; it may be let go when its source is known by other means.
            let is_alone = !believed.contains(&(sent.source, sent.timeline));
            let most = if !is_alone && other.is_none() { Due::Surely } else { Due::Perhaps };
            let packet = Placed { sent, place, recorder: due(repair).min(most), live: due(live).min(most) };
            drift.note(at, at - place, per_ms);
            detour.note(at, at - place, epoch, per_ms);
            highest = highest.max(end);
            if matches!(sent.content, super::Content::Audio(_)) {
                placed.push(packet);
                placed.extend(other.map(|other| {
                    let perhaps = Due::Perhaps;
                    Placed { sent, place: sent.position + other, recorder: perhaps, live: perhaps }
                }));
            }
        }
        placed
    }
}

/// The stretches, source and timeline, of which a packet in sequence with another one of its source came, and the first one if no
/// other source speaks against it while its first packets are held.
fn believed(reception: &Reception) -> HashSet<(u32, u32)> {
    let came = media(reception);
    let mut numbers: Vec<_> =
        came.iter().map(|(_, sent)| (sent.source, sent.sequence, sent.timeline)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let in_sequence = |pair: &[(u32, u64, u32)]| pair[0].0 == pair[1].0 && pair[1].1 - pair[0].1 <= MAX_STEP;
    let known = numbers.windows(2).filter(|pair| in_sequence(pair)).flatten();
    let window = reception.codec.sample_rate().samples_in(Duration::from_millis(ANCHOR_WINDOW_MS as u64));
    let first = came.first().filter(|(begun, first)| {
        let mut others = came.iter().filter(|(_, sent)| sent.source != first.source);
        others.all(|(at, _)| *at > begun + window as i64)
    });
    let first = first.map(|(_, first)| (first.source, first.timeline));
    known.map(|&(source, _, timeline)| (source, timeline)).chain(first).collect()
}

/// Samples by which a packet may be later than its place and still be believed to be merely late.
fn most_late(reception: &Reception) -> i64 {
    reception.codec.sample_rate().samples_in(reception.repair.min(Duration::from_secs(1))) as i64
}

/// What came of media, with the call sample of its arrival.
fn media(reception: &Reception) -> Vec<(i64, Sent)> {
    let rate = reception.codec.sample_rate();
    let arrival = |datagram: &Datagram| rate.samples_in_nanos(datagram.at as i64);
    let sent = reception.arrived.iter().filter_map(|datagram| Some((arrival(datagram), datagram.sent?)));
    sent.filter(|(_, sent)| sent.is_media()).collect()
}

impl Reception {
    /// What holds whatever came in, sent by nobody's plan or by chance: nothing that a reader got as received audio is
    /// altered later, every datagram is accounted for, the head never goes back, and memory is bounded by the call's length.
    ///
    /// # Errors
    /// [`Disagreement`]: the first of these that does not hold.
    pub fn hold_invariants(&self) -> Result<(), Disagreement> {
        let slot = self.codec.sample_rate().slot_samples();
        ensure!(self.recorder.ended && self.live.ended, "a reader did not come to the end");
        ensure!(self.retreats == 0, "the head went back {} times", self.retreats);
        for reader in [&self.recorder, &self.live] {
            let (samples, slots) = (reader.pcm.len(), reader.states.len());
            ensure!(samples.div_ceil(slot) == slots, "{samples} samples in {slots} slots");
        }
        let both = self.live.pcm.chunks(slot).zip(self.recorder.pcm.chunks(slot));
        let states = self.live.states.iter().zip(&self.recorder.states);
        for (n, ((live, recorder), (before, after))) in both.zip(states).enumerate() {
            // The very last slot may have been cut off for one of them.
            let is_same = live == recorder && after.is_audio();
            let is_missed = self.recorder.overrun + self.live.overrun > 0 && *after == SlotState::Lost;
            ensure!(
                !before.is_audio() || is_same || is_missed,
                "slot {n} was {before:?}, and altered to {after:?}"
            );
        }
        let stats = &self.stats;
        let counted = stats.packets_received + stats.packets_duplicate + stats.packets_invalid;
        let arrived = self.arrived.len() as u64;
        ensure!(counted == arrived, "{counted} of {arrived} datagrams are accounted for");
        ensure!(stats.packets_lost <= stats.packets_expected, "more lost than expected");
        ensure!(stats.packets_repaired <= stats.packets_late, "more repaired than late");
        ensure!(stats.segments.len() <= 1_000 && stats.ssrcs.len() <= 1_000, "segments without bound");
        let end = self.base + self.recorder.pcm.len() as i64;
        let rate = self.codec.sample_rate();
        // A packet is believed if it is no further than a second ahead, and may hold another.
        let latest = rate.samples_in_nanos(self.end as i64) + 2 * i64::from(rate.hz());
        ensure!(stats.segments.is_empty() || end <= latest, "it ends at {end}, long after {latest}");
        Ok(())
    }

    /// The packet that begins `segment`.
    pub(super) fn first_of(&self, segment: &Segment) -> Option<Sent> {
        self.arrived.iter().filter_map(|datagram| datagram.sent).find(|sent| {
            sent.is_media()
                && sent.ssrc == segment.ssrc
                && sent.timestamp == segment.first_rtp_timestamp
                && sent.sequence as u16 == segment.first_sequence
        })
    }
}
