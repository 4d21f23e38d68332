//! Which process a container of a survey was made by, so that the next survey sees whether that is gone.
//!
//! Invariant: a process is taken for gone only by who would see it if it were there: in the same list of processes, since the same
//! start of the machine. Its number alone could be another's by now, so its start belongs to it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Where in a process's line, behind its name, its state and its start stand (proc_pid_stat(5)).
const STATE: usize = 0;
const START: usize = 19;

/// This process, for a label; `None` where the machine does not tell.
pub(super) fn own() -> Option<String> {
    let number = std::process::id();
    let start = process(number).ok()?.start;
    Some(format!("{}/{number}/{start}", surroundings()?))
}

/// Whether the process of such a label has certainly ended.
pub(super) fn is_gone(label: &str) -> bool {
    let gone = || {
        let (rest, start) = label.rsplit_once('/')?;
        let (place, number) = rest.rsplit_once('/')?;
        if place != surroundings()? {
            return None;
        }
        let number: u32 = number.parse().ok()?;
        let id = Pid::from_raw(i32::try_from(number).ok()?)?;
        // Asked first: where others' processes are hidden, their files are not there either.
        if test_kill_process(id) == Err(Errno::SRCH) {
            return Some(true);
        }
        let process = process(number).ok()?;
        Some(process.start != start || process.has_ended)
    };
    gone().unwrap_or_default()
}

/// What makes the number of a process one process's: this start of the machine, and this list of processes.
fn surroundings() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let list = fs::metadata("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), list.ino()))
}

struct Process {
    start: String,
    /// Nobody has taken note of its end yet.
    has_ended: bool,
}

fn process(number: u32) -> std::io::Result<Process> {
    let line = fs::read_to_string(format!("/proc/{number}/stat"))?;
    // The name may have anything in it.
    let fields: Vec<&str> =
        line.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().collect();
    let field = |place: usize| fields.get(place).copied().unwrap_or_default();
    Ok(Process { start: field(START).to_owned(), has_ended: matches!(field(STATE), "Z" | "X") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_one_that_has_ended_is_gone() {
        let label = own().unwrap();
        assert!(!is_gone(&label));
        let (rest, start) = label.rsplit_once('/').unwrap();
        // Its number is another's now.
        assert!(is_gone(&format!("{rest}/{start}0")));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let number = child.id();
        let started = process(number).unwrap().start;
        let (place, _) = rest.rsplit_once('/').unwrap();
        child.wait().unwrap();
        assert!(is_gone(&format!("{place}/{number}/{started}")));
    }

    #[test]
    fn nothing_is_known_of_a_process_elsewhere() {
        let label = own().unwrap();
        for label in [
            "",
            "/",
            "///",
            "x/1/2/3",
            &format!("x{label}"),
            &format!("{label}/x"),
            &format!("{label}/1/x/2"),
        ] {
            assert!(!is_gone(label), "{label}");
        }
    }
}
