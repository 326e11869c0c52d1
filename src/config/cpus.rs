//! Setting `rtp.cpus`: which processors the receive shards run on.

use std::str::FromStr;

/// Processors are numbered below this (the kernel's CPU_SETSIZE).
const MAX_CPU: usize = 1_024;

/// `auto`, `off`, or processors such as `2,4-7`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cpus {
    /// One of its own for each shard, from the highest down, where there are four processors and twice as many as shards:
    /// a shard that stays finds its legs in the cache.
    #[default]
    Auto,
    /// Wherever the scheduler puts them.
    Off,
    /// Shard n runs on the nth of these, and from the first again when they are used up.
    List(Vec<usize>),
}

/// Not a choice of processors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no choice of processors: say `auto`, `off`, or processors such as `2,4-7`")]
pub struct CpusError(String);

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        let wrong = || CpusError(text.to_owned());
        match text.trim() {
            "auto" => return Ok(Self::Auto),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let [first, last] = [first, last].map(|number| number.trim().parse::<usize>().ok());
            match (first, last) {
                (Some(first), Some(last)) if first <= last && last < MAX_CPU => list.extend(first..=last),
                _ => return Err(wrong()),
            }
        }
        Ok(Self::List(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        assert_eq!("auto".parse(), Ok(Cpus::Auto));
        assert_eq!(" off ".parse(), Ok(Cpus::Off));
        assert_eq!("2, 4-6".parse(), Ok(Cpus::List(vec![2, 4, 5, 6])));
        for wrong in ["", "all", "3-1", "1,,2", "-1", "1-99999"] {
            let error = wrong.parse::<Cpus>().unwrap_err().to_string();
            assert!(error.contains("auto") && error.contains(wrong), "{error}");
        }
    }
}
