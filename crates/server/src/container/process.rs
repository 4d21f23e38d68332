//! The first process of a container as this machine sees it: its network, into which the server puts a listener, and its
//! control group, which knows its memory.
//!
//! Invariant: what is reached by a process belongs to the container that was asked for. A number alone could be that of
//! another process by now, or of one in another machine's list; so the process is held fast, and then has to be in a control
//! group that is named after the container.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;

use mentat_manifest::ByteCount;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Bytes of the list of a process's control groups that are read.
const MAX_GROUPS_BYTES: usize = 16 << 10;
/// Bytes of a number in a control group.
const MAX_NUMBER_BYTES: usize = 32;
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
    last: ByteCount,
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
        PeakMemory { file, last: ByteCount(0) }
    }
}

impl PeakMemory {
    /// Nothing is known.
    pub(super) fn unknown() -> Self {
        Self { file: None, last: ByteCount(0) }
    }

    /// Looks again; the last that was seen where the container is gone.
    pub(super) fn look(&mut self) -> ByteCount {
        let mut bytes = [0; MAX_NUMBER_BYTES];
        let length = self.file.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or_default();
        let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        if let Ok(peak) = text.trim().parse() {
            self.last = self.last.max(ByteCount(peak));
        }
        self.last
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

/// The file that tells the most memory of a control group, by its line in a process's list (cgroups(7)).
fn peak_file(line: &str) -> Option<std::path::PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.strip_prefix('/').filter(|path| !path.split('/').any(|part| part == ".."))?;
    let groups = Path::new(CONTROL_GROUPS);
    if controllers.split(',').any(|controller| controller == "memory") {
        return Some(groups.join("memory").join(path).join("memory.max_usage_in_bytes"));
    }
    (number == "0" && controllers.is_empty()).then(|| groups.join(path).join("memory.peak"))
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
}
