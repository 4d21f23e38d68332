//! What executions take of memory, as the system tells: of modules, what the server's process grows by; of containers, what
//! belongs to the processes that come with them. Told of all that are executed at one time, and divided.
//!
//! Knows nothing of engines but how their processes are called.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often processes are looked at.
const EVERY: Duration = Duration::from_millis(20);
/// The processes that engines leave with each container.
const COMPANIONS: [&str; 2] = ["conmon", "containerd-shim"];
/// What the names of containers' groups of processes have in them.
const GROUPS: [&str; 2] = ["libpod-", "docker"];

/// A look at what comes and grows from a moment on.
pub(super) struct Watch {
    server: u32,
    /// What the server's process had then.
    before: Option<u64>,
    is_over: Arc<AtomicBool>,
    /// The most that one container was seen to have.
    looking: JoinHandle<Option<u64>>,
}

impl Watch {
    pub(super) fn begin(server: u32) -> Self {
        // Forgets what the most was so far; where that is not permitted, growth is told from all of its life.
        let _ = fs::write(format!("/proc/{server}/clear_refs"), "5");
        let before = status(server, "VmRSS:");
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let known: HashSet<u32> = processes().collect();
        let looking = std::thread::spawn(move || {
            let mut most = None;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(of_one_container(&known));
                std::thread::sleep(EVERY);
            }
            most
        });
        Self { server, before, is_over, looking }
    }

    /// The memory of one execution; `None` where the system does not tell.
    pub(super) fn end(self, is_module: bool, parallel: u32) -> Option<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let of_container = self.looking.join().ok().flatten();
        if !is_module {
            return of_container;
        }
        let grown = status(self.server, "VmHWM:")?.saturating_sub(self.before?);
        Some(grown / u64::from(parallel.max(1)))
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A line of a process's status, in bytes.
fn status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    Some(kilobytes.parse::<u64>().ok()?.saturating_mul(1024))
}

/// What the processes of containers that have come take together, by each container. What processes share is divided among
/// those who share it.
fn of_one_container(known: &HashSet<u32>) -> Option<u64> {
    let (mut sum, mut containers) = (0_u64, 0_u64);
    for process in processes().filter(|process| !known.contains(process)) {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let name = read("comm");
        let is_companion = COMPANIONS.iter().any(|companion| name.trim().starts_with(companion));
        if !is_companion && !GROUPS.iter().any(|group| read("cgroup").contains(group)) {
            continue;
        }
        let shares = read("smaps_rollup");
        let share = shares.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
        sum =
            sum.saturating_add(share.and_then(|share| share.parse::<u64>().ok()).unwrap_or_default() * 1024);
        containers += u64::from(is_companion);
    }
    (containers > 0 && sum > 0).then(|| sum / containers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_a_process_is_divided_among_its_executions() {
        let watch = Watch::begin(std::process::id());
        let held = vec![1_u8; 64 << 20];
        std::hint::black_box(&held);
        let memory = watch.end(true, 4).unwrap();
        assert!((12 << 20..64 << 20).contains(&memory), "{memory}");
        drop(held);
        assert_eq!(of_one_container(&processes().collect()), None);
    }
}
