//! How much memory there is for models, and how much each takes.

use std::fs;
use std::path::Path;

use super::super::ggml::Shape;

/// Memory that this process may come to use, bytes: the machine's, or less where its control group says so (a container,
/// systemd's `MemoryMax`). `None` where the system does not tell.
pub fn of_machine() -> Option<u64> {
    let machine = meminfo_total(&fs::read_to_string("/proc/meminfo").ok()?);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.into_iter().chain(group_limit(&groups, Path::new("/sys/fs/cgroup"))).min()
}

fn meminfo_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The least limit of the process' control groups from its own up to the root. `groups` is /proc/self/cgroup: `0::PATH` in version 2,
/// `N:memory:PATH` in version 1 (cgroups(7)). In a container the path need not exist from within: the root has its limit then.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let limit = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            named if named.split(',').any(|c| c == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            least = least.into_iter().chain(limit(&root.join(group).join(file))).min();
        }
    }
    least
}

/// Bytes that one recogniser's state takes besides the model: what whisper.cpp's README gives as memory of each size, less the
/// model's file (tiny 273 − 78 MB, base 388 − 148, small 852 − 488, medium 2.1 − 1.53 GB, large 3.9 − 3.09 GB).
fn of_state(shape: &Shape) -> u64 {
    const MB: u64 = 1_000_000;
    match shape.encoder_layers {
        ..=4 => 195 * MB,
        5..=6 => 240 * MB,
        7..=12 => 364 * MB,
        13..=24 => 570 * MB,
        _ => 810 * MB,
    }
}

/// Bytes that a model of `shape` in a file of `bytes` takes with `states` recognisers.
pub fn needed(shape: &Shape, bytes: u64, states: usize) -> u64 {
    bytes.saturating_add(of_state(shape).saturating_mul(states as u64))
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::entry_of;
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(meminfo_total("MemTotal:       16314444 kB\nMemFree:  1 kB\n"), Some(16_314_444 * 1_024));
        assert_eq!(meminfo_total("MemFree:  1 kB\n"), None);
        assert!(of_machine().is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_narrowest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("system.slice/sidetone.service");
        fs::create_dir_all(&group).unwrap();
        let groups = "0::/system.slice/sidetone.service\n";
        assert_eq!(group_limit(groups, root.path()), None);
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(group_limit(groups, root.path()), None);
        fs::write(root.path().join("system.slice/memory.max"), "2000000000\n").unwrap();
        assert_eq!(group_limit(groups, root.path()), Some(2_000_000_000));
        fs::write(group.join("memory.max"), "1000000000\n").unwrap();
        assert_eq!(group_limit(groups, root.path()), Some(1_000_000_000));
        // From within a container: the path is the host's, the limit lies at the root.
        fs::write(root.path().join("memory.max"), "500000000\n").unwrap();
        assert_eq!(group_limit("0::/docker/abc\n", root.path()), Some(500_000_000));

        let old = root.path().join("memory/docker/abc");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("memory.limit_in_bytes"), "700000000\n").unwrap();
        assert_eq!(group_limit("5:cpu,memory:/docker/abc\n4:pids:/x\n", root.path()), Some(700_000_000));
    }

    #[test]
    fn what_a_model_takes_grows_with_its_states() {
        let base = entry_of("base").unwrap();
        let one = needed(&base.shape(), base.bytes, 1);
        // whisper.cpp's README: about 388 MB.
        assert!((380_000_000..400_000_000).contains(&one), "{one}");
        assert_eq!(needed(&base.shape(), base.bytes, 3) - one, 480_000_000);
    }
}
