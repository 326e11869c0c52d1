//! The streams in memory, and word of those that leave it.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::{Condvar, Mutex};

use super::stream::Stream;

/// Of all calls whose events are in memory.
#[derive(Default)]
pub(super) struct OpenStreams {
    streams: DashMap<Arc<str>, Arc<Stream>>,
    left: (Mutex<()>, Condvar),
}

impl OpenStreams {
    pub(super) fn map(&self) -> &DashMap<Arc<str>, Arc<Stream>> {
        &self.streams
    }

    pub(super) fn remove(&self, call_id: &str) {
        self.streams.remove(call_id);
        // Under the lock, so that nobody is between a look and its wait.
        drop(self.left.0.lock());
        self.left.1.notify_all();
    }

    /// Wait until the call has none; says whether that came within `within`. Blocks.
    pub(super) fn until_left(&self, call_id: &str, within: Duration) -> bool {
        let mut lock = self.left.0.lock();
        !self.left.1.wait_while_for(&mut lock, |()| self.streams.contains_key(call_id), within).timed_out()
    }
}
