//! What this machine gives one process, as far as it bounds how many executions there can be: memory, and mappings.

use std::fs;
use std::path::Path;

use mentat_manifest::ByteCount;

/// Bytes of memory: the machine's, or those of the group of processes that this one belongs to, where that has less
/// (control groups, version 2). `None` where neither says.
pub(super) fn memory() -> Option<ByteCount> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_limit(&text));
    machine.into_iter().chain(group).min()
}

/// Mappings that one process may have (`vm.max_map_count`). `None` where the system does not say.
pub(super) fn max_mappings() -> Option<u64> {
    fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// The `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn total(text: &str) -> Option<ByteCount> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteCount(kib.saturating_mul(1024)))
}

/// The least that the group or one above it allows.
fn group_limit(text: &str) -> Option<ByteCount> {
    let group = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(group);
    let limit = |folder: &Path| {
        fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok().map(ByteCount)
    };
    folder.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup")).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "MemTotal:       16384 kB\nMemFree:        1 kB\n";
        assert_eq!(total(text), Some(ByteCount(16 << 20)));
        assert_eq!(total("MemFree: 1 kB"), None);
        assert!(memory().unwrap() > ByteCount(64 << 20), "this machine");
        assert_eq!(group_limit("1:cpu:/x\n"), None);
    }
}
