//! The calls in memory, by id and by age.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Cursor;
use crate::calls::record::CallRecord;

/// Every live call, and the newest of the ended ones.
#[derive(Default)]
pub(super) struct Index {
    by_id: HashMap<Arc<str>, Arc<CallRecord>>,
    by_age: BTreeSet<Cursor>,
}

impl Index {
    pub(super) fn get(&self, call_id: &str) -> Option<Arc<CallRecord>> {
        self.by_id.get(call_id).cloned()
    }

    pub(super) fn put(&mut self, record: Arc<CallRecord>) {
        let cursor = Cursor::of(&record);
        if let Some(old) = self.by_id.insert(Arc::clone(&cursor.call_id), record) {
            self.by_age.remove(&Cursor::of(&old));
        }
        self.by_age.insert(cursor);
    }

    pub(super) fn remove(&mut self, call_id: &str) {
        if let Some(record) = self.by_id.remove(call_id) {
            self.by_age.remove(&Cursor::of(&record));
        }
    }

    /// Let the oldest ended calls go until at most `max` calls are left; live ones stay.
    pub(super) fn trim(&mut self, max: usize) {
        let surplus = self.by_id.len().saturating_sub(max);
        if surplus == 0 {
            return;
        }
        let ended =
            |cursor: &&Cursor| self.by_id.get(&cursor.call_id).is_some_and(|record| record.is_ended());
        let oldest: Vec<_> = self.by_age.iter().filter(ended).take(surplus).cloned().collect();
        for cursor in oldest {
            self.by_age.remove(&cursor);
            self.by_id.remove(&cursor.call_id);
        }
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
