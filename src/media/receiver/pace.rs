//! At what pace did packets that are held come in? A queue of the network that drains hands out in seconds what was sent in more.

use std::time::Duration;

use super::super::hold::Held;
use super::Body;
use super::route::nanos;

/// Packets tell their pace over this much time and no less, and there must be three of them: two may have been delayed by
/// chance, each alone.
const STEADY: Duration = Duration::from_millis(100);

/// How packets held came in, against how they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Faster: the network had stopped, and its queue drains.
    CatchingUp,
    /// As they were sent: whatever made them late goes on.
    Steady,
    /// They are too few to say.
    Unknown,
}

impl Body {
    /// How the packets held came in. Timestamps that jumped back and a network that stopped make the same delay of the first
    /// packet; the ones after it are as late as it is, or less and less.
    pub(super) fn pace(&self) -> Pace {
        self.pace_of(0, self.hold.packets().len())
    }

    /// [`Body::pace`] of the packets of media held from the one that came as number `from` up to number `to`.
    fn pace_of(&self, from: usize, to: usize) -> Pace {
        let mut media = self.hold.packets().iter().filter(|held| held.is_media).take(to).skip(from);
        let Some(first) = media.next() else { return Pace::Unknown };
        // The last one to come may have been overtaken.
        let (count, passed, ticks) = media.fold((1, 0, 0), |(count, _, ticks), held| {
            let since = i64::from(held.timestamp.since(first.timestamp));
            (count + 1, held.arrival.nanos_since(first.arrival), since.max(ticks))
        });
        if ticks * 1_000_000_000 / i64::from(self.config.codec.rtp_clock_rate()) > passed + passed / 4 {
            Pace::CatchingUp
        } else if passed >= nanos(STEADY) && count >= 3 {
            Pace::Steady
        } else {
            Pace::Unknown
        }
    }

    /// Whether the newest of those held came at the pace at which they were sent, so that the queue in which the others may have
    /// waited is dry. What came behind the newest one was overtaken, and says nothing.
    pub(super) fn has_drained(&self) -> bool {
        let media = || self.hold.packets().iter().filter(|held| held.is_media).enumerate();
        let Some((_, first)) = media().next() else { return false };
        let newest = media().max_by_key(|(_, held)| held.timestamp.since(first.timestamp));
        let Some((to, newest)) = newest else { return false };
        let came_before = |held: &Held| newest.arrival.nanos_since(held.arrival) >= nanos(STEADY);
        let from = media().filter(|(_, held)| came_before(held)).last();
        from.is_some_and(|(from, _)| self.pace_of(from, to + 1) == Pace::Steady)
    }
}
