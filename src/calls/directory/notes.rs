//! Which calls that are over have something on disk that whoever keeps them elsewhere may not have seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Calls noted one by one. While nobody takes them for longer than that, it is enough to know that all have to be looked at.
const MOST: usize = 10_000;

/// Ids of calls, each noted once however often it is; taking a note costs a lock and never waits for whoever reads them.
#[derive(Default)]
pub(in crate::calls) struct Notes {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Default)]
struct State {
    calls: BTreeSet<Arc<str>>,
    too_many: bool,
}

impl Notes {
    pub(in crate::calls) fn add(&self, call_id: &str) {
        {
            let mut state = self.state.lock();
            if state.calls.len() >= MOST {
                state.too_many = true;
            } else {
                state.calls.insert(call_id.into());
            }
        }
        self.added.notify_one();
    }

    pub(in crate::calls) fn forget(&self, call_id: &str) {
        self.state.lock().calls.remove(call_id);
    }

    /// Up to `most` of them, which are noted no more; those that were first first, as ids are ordered by time.
    pub(in crate::calls) fn take(&self, most: usize) -> Vec<Arc<str>> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(call) = state.calls.pop_first()
        {
            taken.push(call);
        }
        taken
    }

    pub(in crate::calls) fn len(&self) -> usize {
        self.state.lock().calls.len()
    }

    /// Whether there were more than it keeps, since this was asked last.
    pub(in crate::calls) fn were_too_many(&self) -> bool {
        std::mem::take(&mut self.state.lock().too_many)
    }

    /// All have to be looked at, after all.
    pub(in crate::calls) fn look_at_all(&self) {
        self.state.lock().too_many = true;
    }

    /// Once there may be some.
    pub(in crate::calls) async fn added(&self) {
        self.added.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_say_when_they_were_too_many() {
        let notes = Notes::default();
        for n in 0..MOST + 5 {
            notes.add(&format!("c{n:06}"));
            notes.add(&format!("c{n:06}"));
        }
        assert_eq!((notes.len(), notes.were_too_many(), notes.were_too_many()), (MOST, true, false));
        notes.forget("c000001");
        let taken = notes.take(2);
        assert_eq!(taken.iter().map(|id| &**id).collect::<Vec<_>>(), ["c000000", "c000002"]);
        assert_eq!(notes.len(), MOST - 3);
    }
}
