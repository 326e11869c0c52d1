//! The search for the largest number that still works: doubling until it does not, then halving the difference.

/// How a number did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It worked.
    Carried,
    /// It did not.
    Failed,
}

/// The numbers to try.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    carried: usize,
    failed: Option<usize>,
    first: usize,
    max: usize,
    /// No other number than the first is of interest.
    alone: bool,
}

/// The search ends when what is known to work and not to work are this close: a twentieth.
const CLOSE: usize = 20;

impl Search {
    /// From `first` on, up to `max`; `first` is at least 1 and no more than `max`.
    pub fn new(first: usize, max: usize) -> Self {
        Self { carried: 0, failed: None, first, max, alone: false }
    }

    /// One number alone.
    pub fn of_one(n: usize) -> Self {
        Self { alone: true, ..Self::new(n, n) }
    }

    /// The number to try now; `None` if enough is known.
    pub fn next(&self) -> Option<usize> {
        match self.failed {
            None if self.carried == 0 => Some(self.first),
            None if self.carried == self.max => None,
            None => Some((2 * self.carried).min(self.max)),
            Some(_) if self.alone => None,
            Some(failed) if failed - self.carried <= (failed / CLOSE).max(1) => None,
            Some(failed) => Some(self.carried + (failed - self.carried) / 2),
        }
    }

    /// Number `n` did so.
    pub fn note(&mut self, n: usize, trial: Trial) {
        match trial {
            Trial::Carried => self.carried = self.carried.max(n),
            Trial::Failed => self.failed = Some(self.failed.map_or(n, |failed| failed.min(n))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mut search: Search, capacity: usize) -> (usize, Vec<usize>) {
        let mut tried = Vec::new();
        while let Some(n) = search.next() {
            assert!(!tried.contains(&n), "{n} again after {tried:?}");
            tried.push(n);
            search.note(n, if n <= capacity { Trial::Carried } else { Trial::Failed });
        }
        (search.carried, tried)
    }

    #[test]
    fn the_capacity_is_found_to_a_twentieth() {
        for capacity in [0, 1, 3, 100, 249, 250, 251, 999, 7_777, 19_999] {
            let (carried, tried) = found(Search::new(250, 20_000), capacity);
            assert!(carried <= capacity && capacity - carried <= capacity / 19 + 1, "{capacity}: {tried:?}");
            assert!(tried.len() <= 16, "{capacity}: {tried:?}");
        }
    }

    #[test]
    fn the_most_that_is_asked_for_ends_it() {
        assert_eq!(found(Search::new(250, 600), 1_000), (600, vec![250, 500, 600]));
        assert_eq!(found(Search::of_one(40), 1_000), (40, vec![40]));
        assert_eq!(found(Search::of_one(40), 39), (0, vec![40]));
        assert_eq!(found(Search::new(40, 40), 39).0, 38, "a twentieth of 40 is 2");
    }
}
