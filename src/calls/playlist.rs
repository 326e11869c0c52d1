//! What a caller is to hear: clips, one after the other, and what becomes of each.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::pace::{FRAME, Player};
use crate::media::time::SampleRate;

/// Audio handed to the sender ahead of its turn: a call's task, which hands on more five times a second, is never so late.
pub(super) const AHEAD: Duration = Duration::from_secs(1);
const FEED_EVERY: Duration = Duration::from_millis(200);
/// Most audio that waits in a call: 9.6 MB at 8 kHz.
const MOST_WAITING: Duration = Duration::from_mins(10);

/// Something happened to a clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Played {
    /// The caller hears its beginning.
    Started { clip: u64, duration: Duration },
    /// The caller hears no more of it, having heard so much.
    Finished { clip: u64, played: Duration, why: Why },
}

/// Why a caller hears no more of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// All of it was played.
    Played,
    /// Someone wanted it so.
    Stopped,
    /// The call is over.
    Ended,
    /// There is no way to the caller.
    Failed,
    /// This process ends.
    Interrupted,
}

impl Why {
    /// The `reason` of `playback.finished`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Played => "played",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// There is too much to play already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} s of audio wait to be played, and no more than {} s may: play less at a time, or stop what plays",
    .waiting.as_secs(),
    MOST_WAITING.as_secs()
)]
pub(super) struct Full {
    waiting: Duration,
}

struct Clip {
    id: u64,
    pcm: Vec<i16>,
    /// Samples given to the player.
    given: usize,
    /// The player's number of its first sample, once that is given.
    first: Option<u64>,
    started: bool,
}

impl Clip {
    /// Samples that the caller has heard once the player has passed `passed` of its own.
    fn heard(&self, passed: u64) -> u64 {
        self.first.map_or(0, |first| passed.saturating_sub(first).min(self.given as u64))
    }
}

/// The clips of one call.
pub(super) struct Playlist {
    player: Player,
    rate: SampleRate,
    clips: VecDeque<Clip>,
    last_id: u64,
}

impl Playlist {
    /// Nothing yet, for `player`, which takes `rate`.
    pub(super) fn new(player: Player, rate: SampleRate) -> Self {
        Self { player, rate, clips: VecDeque::new(), last_id: 0 }
    }

    /// Numbers up to `last` are taken.
    pub(super) fn number_after(&mut self, last: u64) {
        self.last_id = self.last_id.max(last);
    }

    /// Play `pcm`, which is not empty, after all that is in the list. Returns its number, from 1.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn add(&mut self, pcm: Vec<i16>) -> Result<u64, Full> {
        let waiting: usize = self.clips.iter().map(|clip| clip.pcm.len() - clip.given).sum();
        let waiting = self.rate.duration_of(waiting as u64);
        if waiting + self.rate.duration_of(pcm.len() as u64) > MOST_WAITING {
            return Err(Full { waiting });
        }
        self.last_id += 1;
        self.clips.push_back(Clip { id: self.last_id, pcm, given: 0, first: None, started: false });
        Ok(self.last_id)
    }

    /// Give the player what it takes, and tell what it has played.
    pub(super) fn feed(&mut self) -> Vec<Played> {
        for clip in &mut self.clips {
            let before = self.player.pushed();
            let taken = self.player.push(&clip.pcm[clip.given..]);
            clip.given += taken;
            if taken > 0 {
                clip.first.get_or_insert(before);
            }
            if clip.given < clip.pcm.len() {
                break;
            }
        }
        let (passed, rate, mut told) = (self.player.passed(), self.rate, Vec::new());
        while let Some(clip) = self.clips.iter_mut().find(|clip| !clip.started && clip.heard(passed) > 0) {
            clip.started = true;
            let duration = rate.duration_of(clip.pcm.len() as u64);
            told.push(Played::Started { clip: clip.id, duration });
        }
        while let Some(clip) = self.clips.pop_front_if(|clip| clip.heard(passed) == clip.pcm.len() as u64) {
            let played = rate.duration_of(clip.pcm.len() as u64);
            told.push(Played::Finished { clip: clip.id, played, why: Why::Played });
        }
        told
    }

    /// Play nothing more of what is in the list.
    pub(super) fn stop(&mut self, why: Why) -> Vec<Played> {
        self.player.clear();
        let (passed, rate) = (self.player.passed(), self.rate);
        let finished = |clip: Clip| Played::Finished {
            clip: clip.id,
            played: rate.duration_of(clip.heard(passed)),
            why,
        };
        self.clips.drain(..).map(finished).collect()
    }

    /// How long until [`Self::feed`] has something to do; `None`: not before something is added.
    pub(super) fn next_feed(&self) -> Option<Duration> {
        let passed = self.player.passed();
        let next = |clip: &Clip| {
            let first = clip.first?;
            let at = if clip.started { first + clip.pcm.len() as u64 } else { first };
            Some(self.rate.duration_of(at.saturating_sub(passed)) + FRAME)
        };
        let soonest = self.clips.iter().filter_map(next).min();
        (!self.clips.is_empty()).then(|| soonest.unwrap_or(FEED_EVERY).min(FEED_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::pace::{Pacer, playout};
    use crate::media::time::MediaInstant;

    const RATE: SampleRate = SampleRate::NARROWBAND;

    fn list() -> (Playlist, Pacer) {
        let (player, pacer) = playout(RATE, AHEAD);
        (Playlist::new(player, RATE), pacer)
    }

    /// `frames` more turns of the pacer, from turn `from` on.
    fn play(pacer: &mut Pacer, from: u64, frames: u64) -> Vec<i16> {
        let mut out = Vec::new();
        for turn in from..from + frames {
            let mut frame = [0; 160];
            assert!(pacer.take(MediaInstant::from_nanos((1 + turn) * 20_000_000), &mut frame));
            out.extend(frame);
        }
        out
    }

    #[test]
    fn clips_follow_each_other_without_a_gap_and_each_is_told_of() {
        let (mut list, mut pacer) = list();
        let long: Vec<i16> = (0..12_100).map(|n| (n % 1_000 + 1) as i16).collect();
        assert_eq!((list.add(long.clone()), list.add(vec![-5; 100])), (Ok(1), Ok(2)));
        assert_eq!(list.feed(), []);
        let mut out = play(&mut pacer, 0, 1);
        let duration = Duration::from_micros(1_512_500);
        assert_eq!(list.feed(), [Played::Started { clip: 1, duration }]);
        let mut told = Vec::new();
        for turn in 1..80 {
            out.extend(play(&mut pacer, turn, 1));
            told.extend(list.feed());
        }
        let short = Duration::from_micros(12_500);
        assert_eq!(
            told,
            [
                Played::Started { clip: 2, duration: short },
                Played::Finished { clip: 1, played: duration, why: Why::Played },
                Played::Finished { clip: 2, played: short, why: Why::Played },
            ]
        );
        assert_eq!(out[..12_100], long);
        assert_eq!(out[12_100..12_200], [-5; 100]);
        assert!(out[12_200..].iter().all(|&sample| sample == 0));
        assert_eq!(list.next_feed(), None);
    }

    #[test]
    fn what_is_stopped_is_heard_no_more_and_what_comes_next_is() {
        let (mut list, mut pacer) = list();
        list.add(vec![7; 4_000]).unwrap();
        list.add(vec![8; 4_000]).unwrap();
        list.feed();
        assert_eq!(play(&mut pacer, 0, 2), [7; 320]);
        let stopped =
            |clip, ms| Played::Finished { clip, played: Duration::from_millis(ms), why: Why::Stopped };
        assert_eq!(list.stop(Why::Stopped), [stopped(1, 40), stopped(2, 0)]);
        assert_eq!(list.add(vec![9; 160]), Ok(3));
        list.feed();
        assert_eq!(play(&mut pacer, 2, 1), [9; 160]);
        assert_eq!(list.feed().len(), 2);
    }

    #[test]
    fn the_list_is_looked_at_when_something_begins_or_ends_and_while_there_is_more_to_give() {
        let (mut list, mut pacer) = list();
        assert_eq!(list.next_feed(), None);
        list.add(vec![1; 16_000]).unwrap();
        list.feed();
        assert_eq!(list.next_feed(), Some(FRAME), "its beginning");
        play(&mut pacer, 0, 1);
        list.feed();
        assert_eq!(list.next_feed(), Some(FEED_EVERY));
        for turn in 1..97 {
            play(&mut pacer, turn, 1);
            list.feed();
        }
        assert_eq!(list.next_feed(), Some(Duration::from_millis(60 + 20)), "its end");
    }

    #[test]
    fn ten_minutes_may_wait_and_no_more() {
        let (mut list, _pacer) = list();
        list.add(vec![0; 8_000 * 599]).unwrap();
        let refused = list.add(vec![0; 8_000 * 2]).unwrap_err().to_string();
        assert!(refused.starts_with("599 s") && refused.contains("600 s"), "{refused}");
        list.add(vec![0; 8_000]).unwrap();
    }
}
