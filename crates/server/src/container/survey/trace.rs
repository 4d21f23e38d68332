//! The lines by which `strace` tells of a program's calls: what of them matters to somebody who wants to move the program.
//! Pure; whatever a line says, it is read or left aside.

use std::collections::{BTreeMap, BTreeSet};

/// Files, addresses and programs that are kept of each kind.
const MAX_SEEN: usize = 2_000;

/// What a program was seen to ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Files that it opened, made or changed, or tried to.
    pub files: BTreeMap<String, FileUse>,
    /// Where it connected to, or tried to: `tcp:192.0.2.1:80`, `udp:…`.
    pub connections: BTreeSet<String>,
    /// Sockets of this machine that it spoke to, or tried to.
    pub local_sockets: BTreeSet<String>,
    /// Threads that it started.
    pub threads: u32,
    /// Processes that it started.
    pub processes: u32,
    /// Programs that it executed, without the first.
    pub programs: BTreeSet<String>,
    /// Whether it waited for connections.
    pub listens: bool,
    /// Whether it wanted sockets below TCP and UDP.
    pub raw_sockets: bool,
    /// Whether there was more than is kept.
    pub is_cut: bool,
}

/// How a file was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUse {
    /// To be read.
    pub read: bool,
    /// To be written, made or removed.
    pub written: bool,
    /// Whether that came about.
    pub came_about: bool,
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Trace {
    folder: String,
    /// What comes before is the engine's.
    has_begun: bool,
    seen: Seen,
}

impl Trace {
    pub(super) fn in_folder(folder: &str) -> Self {
        Self { folder: folder.trim_end_matches('/').to_owned(), has_begun: false, seen: Seen::default() }
    }

    pub(super) fn into_seen(self) -> Seen {
        self.seen
    }

    /// There was more.
    pub(super) fn cut(&mut self) {
        self.seen.is_cut = true;
    }

    /// Takes a line.
    pub(super) fn take(&mut self, line: &str) {
        let line = without_process(line);
        if !self.has_begun {
            let is_start = line.starts_with("execve(") || line.starts_with("<... execve resumed>");
            self.has_begun = is_start && line.trim_end().ends_with("= 0");
            return;
        }
        let Some((call, rest)) = line.split_once('(') else { return };
        match call {
            "open" | "openat" | "openat2" | "creat" => self.opened(call, rest),
            "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "rename" | "renameat" | "renameat2"
            | "symlink" | "symlinkat" | "link" | "linkat" | "truncate" | "mknod" | "mknodat" => {
                if let Some(path) = self.path(rest) {
                    self.file(path, FileUse { read: false, written: true, came_about: came_about(rest) });
                }
            }
            "clone" | "clone3" => {
                if rest.contains("CLONE_THREAD") {
                    self.seen.threads = self.seen.threads.saturating_add(1);
                } else {
                    self.seen.processes = self.seen.processes.saturating_add(1);
                }
            }
            "fork" | "vfork" => self.seen.processes = self.seen.processes.saturating_add(1),
            "execve" | "execveat" => {
                if let Some(path) = self.path(rest) {
                    keep(&mut self.seen.programs, path, &mut self.seen.is_cut);
                }
            }
            "socket" => {
                let is_raw =
                    ["SOCK_RAW", "AF_PACKET", "AF_NETLINK, SOCK_RAW"].iter().any(|word| rest.contains(word));
                // Which interfaces there are is asked for by such a socket as well, and by every C library.
                self.seen.raw_sockets |= is_raw && !rest.starts_with("AF_NETLINK");
            }
            "listen" => self.seen.listens = true,
            "connect" | "sendto" | "sendmsg" => self.connected(call, rest),
            _ => {}
        }
    }

    fn opened(&mut self, call: &str, rest: &str) {
        let Some(path) = self.path(rest) else { return };
        let changes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
        let written = call == "creat" || changes.iter().any(|flag| rest.contains(flag));
        let read = !(written && rest.contains("O_WRONLY")) && call != "creat";
        self.file(path, FileUse { read, written, came_about: came_about(rest) });
    }

    fn file(&mut self, path: String, used: FileUse) {
        if self.seen.files.len() >= MAX_SEEN && !self.seen.files.contains_key(&path) {
            self.seen.is_cut = true;
            return;
        }
        let known = self.seen.files.entry(path).or_default();
        known.read |= used.read;
        known.written |= used.written;
        known.came_about |= used.came_about;
    }

    fn connected(&mut self, call: &str, rest: &str) {
        if let Some(path) = between(rest, "sun_path=\"", '"') {
            keep(&mut self.seen.local_sockets, path.to_owned(), &mut self.seen.is_cut);
            return;
        }
        let port = between(rest, "port=htons(", ')').and_then(|port| port.parse::<u16>().ok());
        let address =
            between(rest, "inet_addr(\"", '"').or_else(|| between(rest, "inet_pton(AF_INET6, \"", '"'));
        let (Some(port), Some(address)) = (port, address) else { return };
        // By a port of 0 a program finds out which address of its own it would use.
        if port == 0 {
            return;
        }
        let kind = if call == "connect" && port != 53 { "tcp" } else { "udp" };
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        keep(&mut self.seen.connections, format!("{kind}:{address}:{port}"), &mut self.seen.is_cut);
    }

    /// The first path of a call, as the program's folder makes it whole.
    fn path(&self, rest: &str) -> Option<String> {
        let begin = rest.find('"')?;
        let path = rest.get(begin + 1..)?.split('"').next().filter(|path| !path.is_empty())?;
        if path.starts_with('/') {
            return Some(path.to_owned());
        }
        let is_here = begin == 0 || rest.starts_with("AT_FDCWD");
        is_here.then(|| format!("{}/{}", self.folder, path.trim_start_matches("./")))
    }
}

/// A line without the number of the process that it is about.
fn without_process(line: &str) -> &str {
    let line =
        line.strip_prefix("[pid").and_then(|rest| rest.split_once("] ")).map_or(line, |(_, rest)| rest);
    line.trim_start_matches(|character: char| character.is_ascii_digit() || character == ' ')
}

/// Whether the kernel did what it was asked for; of what is told in two lines, that is not known.
fn came_about(rest: &str) -> bool {
    rest.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'))
}

fn between<'a>(text: &'a str, begin: &str, end: char) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(inner, _)| inner)
}

fn keep(kept: &mut BTreeSet<String>, text: String, is_cut: &mut bool) {
    if kept.len() < MAX_SEEN || kept.contains(&text) {
        kept.insert(text);
    } else {
        *is_cut = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(lines: &str) -> Seen {
        let mut trace = Trace::in_folder("/work/");
        lines.lines().for_each(|line| trace.take(line));
        trace.into_seen()
    }

    #[test]
    fn what_a_program_asks_for_is_read_off_its_calls_and_what_comes_before_is_the_engines() {
        let seen = seen(
            "openat(AT_FDCWD, \"/proc/self/fd/5\", O_WRONLY|O_CLOEXEC) = 3\n\
             [pid    12] execve(\"/agent\", [\"/agent\"], 0xc0 /* 6 vars */ <unfinished ...>\n\
             [pid    12] <... execve resumed>)   = 0\n\
             openat(AT_FDCWD, \"words.txt\", O_RDONLY) = 3\n\
             [pid    12] open(\"/data/out\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = -1 EROFS (Read-only file system)\n\
             openat(7, \"somewhere\", O_RDONLY) = 3\n\
             mkdir(\"/data/new\", 0777) = 0\n\
             clone3({flags=CLONE_VM|CLONE_THREAD, child_tid=0x7f}, 88) = 7\n\
             clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 8\n\
             vfork() = 9\n\
             execve(\"/bin/sh\", [\"sh\"], 0x7f) = -1 ENOENT\n\
             socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 3\n\
             connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr(\"192.0.2.1\")}, 16) = -1 ENETUNREACH\n\
             connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, \"2001:db8::1\", &sin6_addr), sin6_scope_id=0}, 28) = 0\n\
             connect(3, {sa_family=AF_UNIX, sun_path=\"/run/x.sock\"}, 110) = -1 ENOENT\n\
             sendto(3, \"..\", 2, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr(\"9.9.9.9\")}, 16) = 2\n",
        );
        let used = |read, written, came_about| FileUse { read, written, came_about };
        let files: Vec<(&str, FileUse)> =
            seen.files.iter().map(|(path, used)| (path.as_str(), *used)).collect();
        assert_eq!(
            files,
            [
                ("/data/new", used(false, true, true)),
                ("/data/out", used(false, true, false)),
                ("/work/words.txt", used(true, false, true)),
            ]
        );
        assert_eq!((seen.threads, seen.processes, seen.raw_sockets, seen.listens), (1, 2, false, false));
        assert_eq!(Vec::from_iter(&seen.programs), ["/bin/sh"]);
        let connections: Vec<&str> = seen.connections.iter().map(String::as_str).collect();
        assert_eq!(connections, ["tcp:192.0.2.1:443", "tcp:[2001:db8::1]:80", "udp:9.9.9.9:53"]);
        assert_eq!(Vec::from_iter(&seen.local_sockets), ["/run/x.sock"]);
    }

    #[test]
    fn raw_sockets_and_servers_are_told_and_what_is_too_much_is_cut() {
        let begin = "execve(\"/a\", [\"/a\"], 0x7f /* 1 var */) = 0\n";
        let told =
            seen(&format!("{begin}socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) = -1 EPERM\nlisten(3, 128) = 0\n"));
        assert!(told.raw_sockets && told.listens && !told.is_cut);
        let many: String =
            (0..MAX_SEEN + 5).map(|number| format!("open(\"/{number}\", O_RDONLY) = 3\n")).collect();
        let told = seen(&format!("{begin}{many}"));
        assert_eq!((told.files.len(), told.is_cut), (MAX_SEEN, true));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_left_aside(
            lines in prop::collection::vec(
                "(execve|open|openat|connect|clone|socket|mkdir)?[(]?[\\PC\"=,() ]{0,60}", 0..20)
        ) {
            let text = format!("execve(\"/a\") = 0\n{}", lines.join("\n"));
            let _ = seen(&text);
        }
    }
}
