//! A request about the main channel that is made again until it succeeds or has failed too often.

use std::time::Duration;

use super::io::OpId;
use crate::media::time::MediaInstant;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Pause before the next try after `failures` of them (from 1): 200 ms, doubled each time, at most 3 s.
pub(super) fn backoff(failures: u8) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << u32::from(failures.saturating_sub(1)).min(8)).min(LONGEST_PAUSE)
}

/// What is asked about the main channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Subscribe,
    Continue,
    Answer,
    Home,
    JoinHome,
    Hangup,
    Probe,
}

impl Errand {
    pub(super) const ALL: [Self; 7] = [
        Self::Subscribe,
        Self::Continue,
        Self::Answer,
        Self::Home,
        Self::JoinHome,
        Self::Hangup,
        Self::Probe,
    ];

    const fn most_tries(self) -> u8 {
        match self {
            Self::Continue => 6,
            Self::Probe => 5,
            Self::Subscribe => 4,
            Self::Answer | Self::JoinHome | Self::Hangup => 3,
            Self::Home => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Not wanted.
    #[default]
    Idle,
    /// Wanted, not before this instant.
    Due(MediaInstant),
    Asked(OpId),
    Done,
    GaveUp,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    state: State,
    failures: u8,
}

impl Task {
    /// Want it, with all its tries, from `at` on. One under way is left alone.
    pub(super) fn want(&mut self, at: MediaInstant) {
        if !self.is_asked() {
            *self = Self { state: State::Due(at), failures: 0 };
        }
    }

    pub(super) fn cancel(&mut self) {
        *self = Self::default();
    }

    pub(super) fn asked(&mut self, op: OpId) {
        self.state = State::Asked(op);
    }

    pub(super) fn done(&mut self) {
        self.state = State::Done;
    }

    /// It failed. `false`: too often, that was the last try.
    pub(super) fn failed(&mut self, errand: Errand, now: MediaInstant) -> bool {
        self.failures += 1;
        if self.failures >= errand.most_tries() {
            self.state = State::GaveUp;
            return false;
        }
        self.state = State::Due(now + backoff(self.failures));
        true
    }

    pub(super) fn is_due(&self, now: MediaInstant) -> bool {
        matches!(self.state, State::Due(at) if at <= now)
    }

    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked(_))
    }

    pub(super) fn is_asked_as(&self, op: OpId) -> bool {
        self.state == State::Asked(op)
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.state, State::Due(_) | State::Asked(_))
    }

    /// It was wanted and something has come of it, if only a failure.
    pub(super) fn was_tried(&self) -> bool {
        self.failures > 0 || matches!(self.state, State::Done | State::GaveUp)
    }

    pub(super) fn due_at(&self) -> Option<MediaInstant> {
        match self.state {
            State::Due(at) => Some(at),
            _ => None,
        }
    }
}
