//! The first process of a container as this machine sees it: its network, into which the server puts a listener, and its
//! control group, which knows its memory and its processor time.
//!
//! Invariant: what is reached by a process belongs to the container that was asked for. A number alone could be that of
//! another process by now, or of one in another machine's list; so the process is held fast, and then has to be in a control
//! group that is named after the container.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use mentat_manifest::ByteCount;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Bytes of the list of a process's control groups that are read.
const MAX_GROUPS_BYTES: usize = 16 << 10;
/// Bytes of a number in a control group, with the word before it.
const MAX_NUMBER_BYTES: usize = 64;
/// Bytes of what the kernel says of a process's state, which stand at the beginning.
const MAX_STATE_BYTES: usize = 256;
/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The first process of a container.
#[derive(Debug)]
pub(super) struct Process {
    /// Its directory in `/proc`, which is that of no other process, whatever number that has.
    folder: OwnedFd,
    groups: String,
}

/// The most memory that a container had, as its control group tells while it is there.
#[derive(Debug)]
pub(super) struct PeakMemory {
    /// None where this machine does not tell.
    file: Option<File>,
    /// The directory of the container's first process.
    folder: Option<OwnedFd>,
    last: ByteCount,
    /// That process has ended.
    has_ended: bool,
    /// It had when the last one was seen.
    is_final: bool,
}

/// The processor time that all programs of a container have used, as its control group tells while it is there.
#[derive(Debug)]
pub(super) struct ProcessorTime {
    /// None where this machine does not tell.
    file: Option<File>,
}

impl Process {
    /// The process of this number, which has to be of this container.
    pub(super) fn of(number: i64, container: &str) -> io::Result<Self> {
        let path = format!("/proc/{number}");
        let folder =
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let groups = File::from(open_in(&folder, "cgroup")?);
        let mut bytes = vec![0; MAX_GROUPS_BYTES];
        let length = groups.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        let groups = String::from_utf8_lossy(&bytes).into_owned();
        if container.is_empty() || !groups.lines().any(|line| line.contains(container)) {
            return Err(io::Error::other(
                "the process that the engine names is in no control group of the container",
            ));
        }
        Ok(Self { folder, groups })
    }

    /// Listens within the network of the container, at its loopback.
    pub(super) async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        let namespace = File::from(open_in(&self.folder, "ns/net")?);
        let (theirs, ours) = (namespace.metadata()?, std::fs::metadata("/proc/self/ns/net")?);
        if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            return Err(io::Error::other("the container has the network of this machine"));
        }
        let (sender, listening) = oneshot::channel();
        // A thread of its own, which ends with it: whatever else it did would be done in there.
        std::thread::Builder::new().name("listen".into()).spawn(move || {
            let listened = enter(&namespace)
                .and_then(|()| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
            let _ = sender.send(listened);
        })?;
        let listener = listening.await.map_err(|_| io::Error::other("the thread that listens is gone"))??;
        TcpListener::from_std(listener)
    }

    /// What its control group tells of its memory.
    pub(super) fn memory(&self) -> PeakMemory {
        let file = self.groups.lines().find_map(|line| File::open(peak_file(line)?).ok());
        let folder = self.folder.try_clone().ok();
        PeakMemory { file, folder, ..PeakMemory::unknown() }
    }

    /// And of its processor time.
    pub(super) fn processor_time(&self) -> ProcessorTime {
        let file = self.groups.lines().find_map(|line| File::open(processor_file(line)?).ok());
        ProcessorTime { file }
    }
}

impl PeakMemory {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self { file: None, folder: None, last: ByteCount(0), has_ended: false, is_final: false }
    }

    /// Looks again; the last that was seen where the container is gone.
    pub(super) fn look(&mut self) -> ByteCount {
        // In this order: what is read of one that has ended is all that there will be.
        self.has_ended = self.has_ended || self.folder.as_ref().is_some_and(has_ended);
        if let Some(peak) = first_line(self.file.as_ref()).and_then(|line| line.parse().ok()) {
            self.last = self.last.max(ByteCount(peak));
            self.is_final = self.has_ended;
        }
        self.last
    }

    /// Whether there is nothing more to be seen: the first process has ended, or is not known.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended || self.folder.is_none()
    }

    /// The most that there ever was, where that was seen after the first process had ended.
    pub(super) fn at_end(&self) -> Option<ByteCount> {
        self.is_final.then_some(self.last)
    }
}

impl ProcessorTime {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self { file: None }
    }

    /// Whether this machine tells of it.
    pub(super) fn is_known(&self) -> bool {
        self.file.is_some()
    }

    /// What was used so far; `None` where this machine does not tell, or the container is gone.
    pub(super) fn look(&self) -> Option<Duration> {
        processor_time(&first_line(self.file.as_ref())?)
    }
}

/// Whether a process has ended, waited for or not.
fn has_ended(folder: &OwnedFd) -> bool {
    let read = || {
        let mut bytes = [0; MAX_STATE_BYTES];
        let length = File::from(open_in(folder, "stat")?).read_at(&mut bytes, 0)?;
        io::Result::Ok(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned())
    };
    match read() {
        // Behind its number and its name, which can have anything in it (proc(5)).
        Ok(text) => text.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['Z', 'X'])),
        Err(error) => error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()),
    }
}

/// The first line of a file in a control group.
fn first_line(file: Option<&File>) -> Option<String> {
    let mut bytes = [0; MAX_NUMBER_BYTES];
    let length = file?.read_at(&mut bytes, 0).ok()?;
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// Nanoseconds alone in the first version of control groups, and microseconds behind a word in the second.
fn processor_time(line: &str) -> Option<Duration> {
    match line.strip_prefix("usage_usec ") {
        Some(micros) => micros.parse().ok().map(Duration::from_micros),
        None => line.parse().ok().map(Duration::from_nanos),
    }
}

/// Whether this process may enter the networks of containers, which takes `CAP_SYS_ADMIN`: found out by entering its own.
pub(super) fn may_enter() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let enter_own = || File::open("/proc/thread-self/ns/net").and_then(|own| enter(&own));
        std::thread::Builder::new()
            .name("listen".into())
            .spawn(enter_own)
            .is_ok_and(|entering| entering.join().is_ok_and(|entered| entered.is_ok()))
    })
}

/// Moves this thread into a network.
fn enter(namespace: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn open_in(folder: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The file that tells the most memory of a control group, by its line in a process's list.
fn peak_file(line: &str) -> Option<PathBuf> {
    file_of(line, "memory", "memory.max_usage_in_bytes", "memory.peak")
}

/// The file that tells its processor time.
fn processor_file(line: &str) -> Option<PathBuf> {
    file_of(line, "cpuacct", "cpuacct.usage", "cpu.stat")
}

/// A file of a control group by its line in a process's list (cgroups(7)): one of a controller in the first version of control
/// groups, or one in the second.
fn file_of(line: &str, controller: &str, first: &str, second: &str) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.strip_prefix('/').filter(|path| !path.split('/').any(|part| part == ".."))?;
    let groups = Path::new(CONTROL_GROUPS);
    if controllers.split(',').any(|listed| listed == controller) {
        return Some(groups.join(controller).join(path).join(first));
    }
    (number == "0" && controllers.is_empty()).then(|| groups.join(path).join(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_in_no_group_of_the_container_is_not_taken_for_its() {
        let own = i64::from(std::process::id());
        for container in ["", &"0a".repeat(32)] {
            let refused = Process::of(own, container).unwrap_err();
            assert!(refused.to_string().contains("no control group"), "{refused}");
        }
        assert!(Process::of(0, "x").is_err() && Process::of(i64::MAX, "x").is_err());
    }

    #[test]
    fn a_control_group_tells_its_peak_where_it_lies() {
        let found = |line: &str| peak_file(line).map(|path| path.display().to_string());
        assert_eq!(found("0::/a/libpod-1").as_deref(), Some("/sys/fs/cgroup/a/libpod-1/memory.peak"));
        assert_eq!(
            found("4:memory:/docker/1").as_deref(),
            Some("/sys/fs/cgroup/memory/docker/1/memory.max_usage_in_bytes")
        );
        for line in ["8:pids:/x", "0::/../x", "0::x", "", "a:b", "4:memory:/x/../../etc"] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn a_process_is_seen_to_have_ended_before_and_after_it_is_waited_for() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let path = format!("/proc/{}", child.id());
        let folder =
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .unwrap();
        assert!(!has_ended(&folder));
        drop(child.stdin.take());
        let since = std::time::Instant::now();
        while !has_ended(&folder) {
            assert!(since.elapsed() < Duration::from_secs(10), "it has not ended, or is not seen to have");
        }
        child.wait().unwrap();
        assert!(has_ended(&folder));
    }

    #[test]
    fn processor_time_is_read_of_either_version_of_control_groups() {
        let found = |line: &str| processor_file(line).map(|path| path.display().to_string());
        assert_eq!(found("0::/libpod-1").as_deref(), Some("/sys/fs/cgroup/libpod-1/cpu.stat"));
        assert_eq!(
            found("3:cpu,cpuacct:/docker/1").as_deref(),
            Some("/sys/fs/cgroup/cpuacct/docker/1/cpuacct.usage")
        );
        assert_eq!(found("8:cpu:/x"), None);
        assert_eq!(processor_time("usage_usec 1500"), Some(Duration::from_micros(1_500)));
        assert_eq!(processor_time("1500"), Some(Duration::from_nanos(1_500)));
        for line in ["", "user_usec 1", "usage_usec", "-1"] {
            assert_eq!(processor_time(line), None, "{line}");
        }
        assert_eq!(ProcessorTime::unknown().look(), None);
    }
}
