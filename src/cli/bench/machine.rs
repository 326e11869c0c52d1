//! What the kernel says of this process: time of its threads, memory, files.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Processor time that threads whose name begins with `prefix` have had.
pub fn time_of_threads(prefix: &str) -> Duration {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let nanos = tasks.flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        // The first number is the time on a processor, in nanoseconds.
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        name.starts_with(prefix).then(|| times.split(' ').next()?.parse::<u64>().ok())?
    });
    Duration::from_nanos(nanos.sum())
}

/// KiB of memory that this process has.
pub fn resident_kib() -> u64 {
    field("/proc/self/status", "VmRSS:")
}

/// KiB of memory that can still be had without swapping.
pub fn available_kib() -> u64 {
    field("/proc/meminfo", "MemAvailable:")
}

/// Files that may be open at once.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_is_read() {
        assert!(super::resident_kib() > 1_000 && super::available_kib() > 1_000 && super::open_files() > 10);
        let spin = std::thread::Builder::new().name("spin-test".into()).spawn(|| {
            let begun = crate::clock::now();
            while crate::clock::since(begun) < std::time::Duration::from_millis(50) {}
            super::time_of_threads("spin-test")
        });
        let spent = spin.unwrap().join().unwrap();
        assert!(spent > std::time::Duration::ZERO, "{spent:?}");
    }
}
