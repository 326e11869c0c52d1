//! How many calls at a time, and how many a second. Sans-IO.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::media::time::MediaInstant;

/// What a tenant may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Calls at a time.
    pub at_once: usize,
    /// Calls begun a second; 0: as many as come.
    pub per_second: f64,
}

/// The answer to who wants to call.
#[derive(Debug)]
pub enum Turn {
    /// Now. The place is taken until this is dropped.
    Go(Place),
    /// Not before then.
    Later(MediaInstant),
    /// When a call has ended.
    Full,
}

#[derive(Debug, Default)]
struct Tenant {
    running: usize,
    /// The next call may begin then.
    next: Option<MediaInstant>,
}

type Tenants = Arc<Mutex<HashMap<String, Tenant>>>;

/// All tenants' calls.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    tenants: Tenants,
}

/// A call under way.
#[derive(Debug)]
pub struct Place {
    tenants: Tenants,
    tenant: String,
}

impl Pace {
    /// Whether `tenant` may begin a call.
    pub fn ask(&self, tenant: &str, limits: Limits, now: MediaInstant) -> Turn {
        let mut tenants = self.tenants.lock();
        let state = tenants.entry(tenant.to_owned()).or_default();
        if state.running >= limits.at_once {
            return Turn::Full;
        }
        if let Some(next) = state.next.filter(|next| *next > now) {
            return Turn::Later(next);
        }
        state.running += 1;
        state.next = (limits.per_second > 0.0)
            .then(|| now + Duration::from_secs_f64(1.0 / limits.per_second.max(f64::MIN_POSITIVE)));
        Turn::Go(Place { tenants: self.tenants.clone(), tenant: tenant.to_owned() })
    }

    /// Take a place for a call that runs already, whatever the limits: after a restart.
    pub fn occupy(&self, tenant: &str) -> Place {
        self.tenants.lock().entry(tenant.to_owned()).or_default().running += 1;
        Place { tenants: self.tenants.clone(), tenant: tenant.to_owned() }
    }

    /// Tenants that have as many calls under way as `limits` allows them.
    pub fn full(&self, limits: impl Fn(&str) -> Limits) -> Vec<String> {
        let tenants = self.tenants.lock();
        let full = tenants.iter().filter(|(tenant, state)| state.running >= limits(tenant).at_once);
        full.map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Calls of `tenant` under way.
    pub fn running(&self, tenant: &str) -> usize {
        self.tenants.lock().get(tenant).map_or(0, |state| state.running)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(state) = self.tenants.lock().get_mut(&self.tenant) {
            state.running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> MediaInstant {
        MediaInstant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn calls_begin_one_by_one() {
        let (pace, limits) = (Pace::default(), Limits { at_once: 10, per_second: 4.0 });
        let Turn::Go(_first) = pace.ask("a", limits, at(0)) else { panic!("the first goes") };
        let Turn::Later(then) = pace.ask("a", limits, at(100)) else { panic!("the second waits") };
        assert_eq!(then, at(250));
        let Turn::Go(_other) = pace.ask("b", limits, at(100)) else { panic!("another tenant does not") };
        let Turn::Go(_second) = pace.ask("a", limits, at(250)) else { panic!("its time has come") };
        // Time that was not used is not saved up.
        let Turn::Go(_third) = pace.ask("a", limits, at(5_000)) else { panic!("long after") };
        assert!(matches!(pace.ask("a", limits, at(5_100)), Turn::Later(then) if then == at(5_250)));
        assert_eq!((pace.running("a"), pace.running("b")), (3, 1));
    }

    #[test]
    fn a_call_that_ends_makes_room() {
        let (pace, limits) = (Pace::default(), Limits { at_once: 2, per_second: 0.0 });
        let Turn::Go(first) = pace.ask("a", limits, at(0)) else { panic!("room for two") };
        let Turn::Go(_second) = pace.ask("a", limits, at(0)) else { panic!("room for two") };
        assert!(matches!(pace.ask("a", limits, at(0)), Turn::Full));
        drop(first);
        assert!(matches!(pace.ask("a", limits, at(0)), Turn::Go(_)));
        let _running = pace.occupy("a");
        assert_eq!(pace.running("a"), 2);
        assert!(matches!(pace.ask("a", limits, at(0)), Turn::Full));
    }
}
