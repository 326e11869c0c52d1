//! Keeps a receive shard on its processor.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::Cpus;

/// With fewer processors than this there is nothing to choose: the scheduler shares them out better.
const FEWEST: usize = 4;

/// The processor for shard `shard` of `shards`, of those in `allowed`; `None`: any.
fn choose(cpus: &Cpus, shard: usize, shards: usize, allowed: &[usize]) -> Option<usize> {
    match cpus {
        Cpus::Off => None,
        Cpus::List(list) => list.get(shard % list.len().max(1)).copied(),
        Cpus::Auto if allowed.len() < FEWEST.max(2 * shards) => None,
        Cpus::Auto => allowed.iter().rev().nth(shard).copied(),
    }
}

/// Put the calling thread, that of shard `shard` of `shards`, on its processor. Returns which; `None`: it stays free.
///
/// # Errors
/// The system refuses: the processor does not exist, or is not allowed to this process.
pub(super) fn pin(cpus: &Cpus, shard: usize, shards: usize) -> io::Result<Option<usize>> {
    let allowed = sched_getaffinity(None)?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let Some(cpu) = choose(cpus, shard, shards, &allowed) else { return Ok(None) };
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)?;
    Ok(Some(cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_processors_of_their_own_where_there_are_enough() {
        let all = |count: usize| (0..count).collect::<Vec<_>>();
        assert_eq!(choose(&Cpus::Auto, 0, 1, &all(2)), None);
        assert_eq!(choose(&Cpus::Auto, 1, 2, &all(8)), Some(6));
        assert_eq!(choose(&Cpus::Auto, 0, 4, &all(6)), None);
        assert_eq!(choose(&Cpus::List(vec![3, 5]), 2, 3, &all(2)), Some(3));
        assert_eq!(choose(&Cpus::Off, 0, 1, &all(64)), None);
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_put() {
        std::thread::spawn(|| {
            let cpu = sched_getaffinity(None).map(|set| (0..CpuSet::MAX_CPU).find(|&cpu| set.is_set(cpu)));
            let cpu = cpu.unwrap().unwrap();
            assert_eq!(pin(&Cpus::List(vec![cpu]), 0, 1).unwrap(), Some(cpu));
            let now = sched_getaffinity(None).unwrap();
            assert_eq!((now.count(), now.is_set(cpu)), (1, true));
            assert!(pin(&Cpus::List(vec![CpuSet::MAX_CPU - 1]), 0, 1).is_err());
        })
        .join()
        .unwrap();
    }
}
