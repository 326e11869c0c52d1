//! The bounded log over all calls.

use std::collections::VecDeque;
use std::sync::Arc;

use super::StoredEvent;

/// What a reader of the log gets.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Events in the order they were published.
    pub events: Vec<Arc<StoredEvent>>,
    /// How many events before these, after the reader's position, the log does not have any more. At least 1 for a
    /// position of an earlier run of the process, where nobody knows.
    pub missed: u64,
    /// The reader's next position.
    pub next: u64,
}

/// The newest events of all calls, at positions without holes.
pub(super) struct Log {
    events: VecDeque<Arc<StoredEvent>>,
    bytes: usize,
    /// Position of the first event of this run.
    start: u64,
    /// Position of the next event.
    next: u64,
    max_events: usize,
    max_bytes: usize,
}

impl Log {
    pub(super) fn new(start: u64, max_events: usize, max_bytes: usize) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            start,
            next: start,
            max_events: max_events.max(1),
            max_bytes,
        }
    }

    /// Give the event its position and keep it.
    pub(super) fn push(&mut self, mut event: StoredEvent) -> Arc<StoredEvent> {
        event.position = self.next;
        self.next += 1;
        self.bytes += event.json.len();
        let event = Arc::new(event);
        self.events.push_back(Arc::clone(&event));
        while self.events.len() > self.max_events || (self.bytes > self.max_bytes && self.events.len() > 1) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.json.len();
            }
        }
        event
    }

    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    pub(super) fn since(&self, after: u64, max: usize) -> Batch {
        if after >= self.last() {
            // A position from the future comes from a run whose clock was ahead: start afresh.
            return Batch { events: Vec::new(), missed: u64::from(after > self.last()), next: self.last() };
        }
        let first = self.next - self.events.len() as u64;
        let missed = match after + 1 {
            wanted if wanted >= self.start => first.saturating_sub(wanted),
            1 => first - self.start,
            _ => (first - self.start).max(1),
        };
        let skip = (after + 1).saturating_sub(first) as usize;
        let events: Vec<_> = self.events.iter().skip(skip).take(max).cloned().collect();
        // Without an event the reader still passes what it missed, so as not to be told of it again.
        let next = events.last().map_or(after.max(first - 1), |event| event.position);
        Batch { events, missed, next }
    }
}
