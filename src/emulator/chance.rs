//! Who decides in a run, and how often what happens.

pub use crate::media::random::Rng;

/// Where decisions come from: a seeded generator, or a fuzzer's bytes.
pub trait Choice {
    /// A number below `limit`; 0 if that is 0.
    fn below(&mut self, limit: u64) -> u64;

    /// A number in `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// One of `options`, which must not be empty.
    fn one_of<T: Copy>(&mut self, options: &[T]) -> T
    where
        Self: Sized,
    {
        options[self.below(options.len() as u64) as usize]
    }

    /// True in one of `n` cases.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Exponential with this mean.
pub(super) fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.unit()).ln()
}

/// Normal with mean 0 and deviation 1: twelve uniforms (the sum of so many has variance 1), which ends at 6.
pub(super) fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0
}

impl Choice for Rng {
    fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}

/// Decisions read off bytes, as many of them as the limit needs; 0 once they are used up.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Choice for Bytes<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        let mut value = 0;
        let mut reach: u64 = 1;
        while reach < limit {
            let Some((&byte, rest)) = self.0.split_first() else { break };
            self.0 = rest;
            value = value << 8 | u64::from(byte);
            reach = reach.saturating_mul(256);
        }
        if limit == 0 { 0 } else { value % limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_moments_they_state() {
        let mut rng = Rng(5);
        let n = 100_000;
        let mean = (0..n).map(|_| exponential(&mut rng, 3.0)).sum::<f64>() / f64::from(n);
        assert!((mean - 3.0).abs() < 0.05, "{mean}");
        let variance = (0..n).map(|_| normal(&mut rng).powi(2)).sum::<f64>() / f64::from(n);
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn bytes_decide_and_then_zero_does() {
        let mut bytes = Bytes(&[7, 1, 2]);
        assert_eq!(bytes.below(10), 7);
        assert_eq!(bytes.below(1), 0, "nothing to decide takes no byte");
        assert_eq!(bytes.below(1_000), 258);
        assert_eq!(bytes.below(10), 0);
        assert_eq!(bytes.below(0), 0);
    }
}
