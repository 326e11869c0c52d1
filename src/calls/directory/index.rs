//! The calls in memory, by id and by age.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Cursor;
use crate::calls::record::CallRecord;

/// Every live call, those of the others that the disk has not taken yet, and those that ended last.
#[derive(Default)]
pub(super) struct Index {
    by_id: HashMap<Arc<str>, Arc<CallRecord>>,
    by_age: BTreeSet<Cursor>,
    /// Those that are over. The last to end are kept, not the last to begin: of a long call nothing is filed when it ends.
    by_end: BTreeSet<(Timestamp, Arc<str>)>,
    /// Whose record here is newer than the one on disk: nobody else has it.
    unsaved: HashSet<Arc<str>>,
    let_go: u64,
}

impl Index {
    pub(super) fn get(&self, call_id: &str) -> Option<Arc<CallRecord>> {
        self.by_id.get(call_id).cloned()
    }

    pub(super) fn put(&mut self, record: Arc<CallRecord>) {
        self.remove_from_orders(&record.call_id);
        let cursor = Cursor::of(&record);
        if let Some(end) = end_of(&record) {
            self.by_end.insert((end, Arc::clone(&cursor.call_id)));
        }
        self.by_id.insert(Arc::clone(&cursor.call_id), record);
        self.by_age.insert(cursor);
    }

    /// The same, of a record that is being saved: it stays until [`Index::saved`].
    pub(super) fn put_unsaved(&mut self, record: Arc<CallRecord>) {
        self.unsaved.insert(record.call_id.as_str().into());
        self.put(record);
    }

    /// It is on disk, unless there is a newer one by now.
    pub(super) fn saved(&mut self, record: &Arc<CallRecord>) {
        if self.by_id.get(&*record.call_id).is_some_and(|now| Arc::ptr_eq(now, record)) {
            self.unsaved.remove(&*record.call_id);
        }
    }

    pub(super) fn remove(&mut self, call_id: &str) {
        self.remove_from_orders(call_id);
        self.by_id.remove(call_id);
        self.unsaved.remove(call_id);
    }

    fn remove_from_orders(&mut self, call_id: &str) {
        let Some(old) = self.by_id.get(call_id) else { return };
        let cursor = Cursor::of(old);
        self.by_age.remove(&cursor);
        if let Some(end) = end_of(old) {
            self.by_end.remove(&(end, cursor.call_id));
        }
    }

    /// Let ended calls go, those that ended first first, until at most `max` calls are left; live ones stay, and what the disk does not have.
    pub(super) fn trim(&mut self, max: usize) {
        let surplus = self.by_id.len().saturating_sub(max);
        if surplus == 0 {
            return;
        }
        let is_saved = |call: &&Arc<str>| !self.unsaved.contains(*call);
        let first: Vec<_> =
            self.by_end.iter().map(|(_, call)| call).filter(is_saved).take(surplus).cloned().collect();
        for call in first {
            self.remove(&call);
            self.let_go += 1;
        }
    }

    /// How many calls it has let go.
    pub(super) fn let_go(&self) -> u64 {
        self.let_go
    }

    pub(super) fn unfinished(&self) -> Vec<Arc<CallRecord>> {
        self.by_age
            .iter()
            .filter_map(|cursor| self.by_id.get(&cursor.call_id))
            .filter(|record| !record.is_ended())
            .cloned()
            .collect()
    }

    pub(super) fn newest_first(&self, before: Option<&Cursor>) -> Vec<Arc<CallRecord>> {
        let newest = |cursor: &Cursor| self.by_id.get(&cursor.call_id).cloned();
        match before {
            Some(before) => self.by_age.range(..before.clone()).rev().filter_map(newest).collect(),
            None => self.by_age.iter().rev().filter_map(newest).collect(),
        }
    }
}

fn end_of(record: &CallRecord) -> Option<Timestamp> {
    record.is_ended().then(|| record.ended_at.unwrap_or(record.started_at))
}
