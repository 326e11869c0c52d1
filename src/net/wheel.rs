//! When which leg is to be looked at: a hashed timing wheel (G. Varghese, T. Lauck, "Hashed and hierarchical timing
//! wheels", SOSP 1987, scheme 4).
//!
//! A leg whose packets flow is looked at five times a second, an idle one ten times, instead of at every tick. The
//! entries are linked through an array that grows as legs come: nothing is allocated to schedule one.

use std::time::Duration;

use crate::media::time::MediaInstant;

/// How exact it is: a leg is looked at no earlier than it is due, and no more than this later.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// 2.56 s: beyond most deadlines of a leg. What is due later is looked at then, and scheduled anew.
const BUCKETS: u64 = 512;
const NOBODY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    before: u32,
    after: u32,
    /// The tick it is scheduled for; `None` if it is not.
    tick: Option<u64>,
}

/// Items 0, 1, 2…, each scheduled once at most.
pub(super) struct Wheel {
    /// The first item of each bucket.
    buckets: Box<[u32]>,
    entries: Vec<Entry>,
    /// Ticks before this one are over.
    current: u64,
}

impl Wheel {
    /// A wheel that turns from `now` on.
    pub(super) fn new(now: MediaInstant) -> Self {
        let buckets = vec![NOBODY; BUCKETS as usize].into_boxed_slice();
        Self { buckets, entries: Vec::new(), current: ticks(now) }
    }

    /// Have `item` come up at `due`, or sooner if that is more than 2.5 s away; at the next tick if that is over. An item
    /// that is to come up sooner already stays as it is.
    pub(super) fn schedule(&mut self, item: u32, due: MediaInstant) {
        let due = ticks(due + (TICK - Duration::from_nanos(1)));
        let tick = due.clamp(self.current, self.current + BUCKETS - 1);
        let index = item as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, Entry { before: NOBODY, after: NOBODY, tick: None });
        }
        match self.entries[index].tick {
            Some(scheduled) if scheduled <= tick => return,
            Some(_) => self.unlink(item),
            None => {}
        }
        let bucket = &mut self.buckets[(tick % BUCKETS) as usize];
        let after = std::mem::replace(bucket, item);
        self.entries[index] = Entry { before: NOBODY, after, tick: Some(tick) };
        if let Some(entry) = self.entries.get_mut(after as usize) {
            entry.before = item;
        }
    }

    /// Forget about `item`.
    pub(super) fn cancel(&mut self, item: u32) {
        if self.entries.get(item as usize).is_some_and(|entry| entry.tick.is_some()) {
            self.unlink(item);
        }
    }

    /// The next item that is due at `now`, which is scheduled no more.
    pub(super) fn take_due(&mut self, now: MediaInstant) -> Option<u32> {
        let end = ticks(now) + 1;
        // After a whole turn every bucket has been seen.
        self.current = self.current.max(end.saturating_sub(BUCKETS));
        while self.current < end {
            let item = self.buckets[(self.current % BUCKETS) as usize];
            if item != NOBODY {
                self.unlink(item);
                return Some(item);
            }
            self.current += 1;
        }
        None
    }

    fn unlink(&mut self, item: u32) {
        let Entry { before, after, tick } = self.entries[item as usize];
        if let Some(entry) = self.entries.get_mut(after as usize) {
            entry.before = before;
        }
        match (self.entries.get_mut(before as usize), tick) {
            (Some(entry), _) => entry.after = after,
            (None, Some(tick)) => self.buckets[(tick % BUCKETS) as usize] = after,
            (None, None) => {}
        }
        self.entries[item as usize] = Entry { before: NOBODY, after: NOBODY, tick: None };
    }
}

/// When the tick after the one that `now` lies in begins. All lie on one grid, so that what is due every 20 ms comes up every 20 ms.
pub(super) fn next_tick(now: MediaInstant) -> MediaInstant {
    MediaInstant::from_nanos((ticks(now) + 1) * TICK.as_nanos() as u64)
}

fn ticks(at: MediaInstant) -> u64 {
    at.as_nanos() / TICK.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(7_000_000_000 + ms * 1_000_000)
    }

    fn due(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut items: Vec<_> = std::iter::from_fn(|| wheel.take_due(at(now))).collect();
        items.sort_unstable();
        items
    }

    #[test]
    fn items_come_up_when_they_are_due_and_once() {
        let mut wheel = Wheel::new(at(0));
        for (item, ms) in [(0, 12), (1, 15), (2, 700), (3, 16)] {
            wheel.schedule(item, at(ms));
        }
        assert!(due(&mut wheel, 11).is_empty());
        assert_eq!(due(&mut wheel, 15), [0, 1]);
        assert_eq!(due(&mut wheel, 699), [3]);
        assert_eq!(due(&mut wheel, 700), [2]);
        assert!(due(&mut wheel, 10_000).is_empty());
    }

    #[test]
    fn ticks_lie_on_one_grid_however_late_one_is_noticed() {
        assert_eq!([0, 1, 4, 5, 9, 23].map(|ms| next_tick(at(ms))), [5, 5, 5, 10, 10, 25].map(at));
    }

    #[test]
    fn the_sooner_of_two_times_counts_and_a_cancelled_item_never_comes() {
        let mut wheel = Wheel::new(at(0));
        wheel.schedule(5, at(100));
        wheel.schedule(5, at(200));
        wheel.schedule(6, at(300));
        wheel.schedule(6, at(50));
        wheel.schedule(7, at(60));
        wheel.cancel(7);
        wheel.cancel(99);
        assert_eq!(due(&mut wheel, 99), [6]);
        assert_eq!(due(&mut wheel, 1_000), [5]);
    }

    #[test]
    fn what_is_over_or_far_away_comes_up_at_the_next_tick_or_after_a_turn() {
        let mut wheel = Wheel::new(at(0));
        assert!(due(&mut wheel, 500).is_empty());
        wheel.schedule(1, at(10));
        wheel.schedule(2, at(60_000));
        assert_eq!(due(&mut wheel, 505), [1]);
        assert_eq!(due(&mut wheel, 3_100), [2]);
    }

    #[test]
    fn a_pause_longer_than_a_turn_skips_nobody() {
        let mut wheel = Wheel::new(at(0));
        for item in 0..1_000 {
            wheel.schedule(item, at(u64::from(item) * 2));
        }
        assert_eq!(due(&mut wheel, 100_000).len(), 1_000);
        wheel.schedule(3, at(100_001));
        assert_eq!(due(&mut wheel, 100_005), [3]);
    }

    /// Against a list that is searched.
    #[test]
    fn it_agrees_with_a_list() {
        let mut wheel = Wheel::new(at(0));
        let mut list = std::collections::BTreeMap::<u32, u64>::new();
        let mut random = 12_345_u64;
        let mut now = 0;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (item, ms) = ((random >> 33) as u32 % 50, (random >> 40) % 400);
            match random >> 61 {
                0..=4 => {
                    wheel.schedule(item, at(now + ms));
                    let tick = (now + ms).div_ceil(5).max(now / 5 + 1);
                    list.entry(item).and_modify(|known| *known = tick.min(*known)).or_insert(tick);
                }
                5 => {
                    wheel.cancel(item);
                    list.remove(&item);
                }
                _ => {
                    now += ms % 37;
                    let expected: Vec<_> =
                        list.extract_if(.., |_, tick| *tick <= now / 5).map(|(item, _)| item).collect();
                    assert_eq!(due(&mut wheel, now), expected);
                }
            }
        }
    }
}
