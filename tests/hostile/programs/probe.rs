//! Does what each line of its stdin says, by the calls of WASI and of `mentat` themselves: a library would refuse or
//! mend half of what an attacker writes. Ends with 1 at the first line that comes to something else than it says.
//!
//!     OPERATION ARGUMENT… [as NAME] => OUTCOME [TEXT]
//!     repeat COUNT OPERATION… ; OPERATION… => OUTCOME [HOW OFTEN]
//!
//! Descriptors and handles are numbers, or names given by `as`. In arguments `\0` is a NUL, `\x` a byte that is no UTF-8,
//! `\_` a space, `<x*500>` five hundred of `x`, and `%i` the round of a `repeat`. `README.md`, a folder up, lists the
//! operations and the outcomes.

use std::collections::HashMap;
use std::io::Read;

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn environ_get(list: *mut u32, text: *mut u8) -> u32;
    fn environ_sizes_get(count: *mut u32, size: *mut u32) -> u32;
    fn fd_allocate(fd: u32, offset: u64, length: u64) -> u32;
    fn fd_close(fd: u32) -> u32;
    fn fd_filestat_get(fd: u32, stat: *mut u8) -> u32;
    fn fd_filestat_set_size(fd: u32, size: u64) -> u32;
    fn fd_filestat_set_times(fd: u32, accessed: u64, modified: u64, flags: u32) -> u32;
    fn fd_pread(fd: u32, vectors: *const Vector, count: u32, offset: u64, read: *mut u32) -> u32;
    fn fd_prestat_get(fd: u32, prestat: *mut u32) -> u32;
    fn fd_prestat_dir_name(fd: u32, name: *mut u8, length: u32) -> u32;
    fn fd_pwrite(fd: u32, vectors: *const Vector, count: u32, offset: u64, written: *mut u32) -> u32;
    fn fd_read(fd: u32, vectors: *const Vector, count: u32, read: *mut u32) -> u32;
    fn fd_readdir(fd: u32, buffer: *mut u8, size: u32, cookie: u64, used: *mut u32) -> u32;
    fn fd_renumber(from: u32, to: u32) -> u32;
    fn fd_seek(fd: u32, offset: i64, whence: u32, at: *mut u64) -> u32;
    fn fd_write(fd: u32, vectors: *const Vector, count: u32, written: *mut u32) -> u32;
    fn path_create_directory(fd: u32, path: *const u8, length: usize) -> u32;
    fn path_filestat_get(fd: u32, flags: u32, path: *const u8, length: usize, stat: *mut u8) -> u32;
    fn path_filestat_set_times(
        fd: u32,
        flags: u32,
        path: *const u8,
        length: usize,
        accessed: u64,
        modified: u64,
        times: u32,
    ) -> u32;
    fn path_link(
        fd: u32,
        flags: u32,
        path: *const u8,
        length: usize,
        to: u32,
        new: *const u8,
        new_length: usize,
    ) -> u32;
    fn path_open(
        fd: u32,
        flags: u32,
        path: *const u8,
        length: usize,
        open_flags: u32,
        rights: u64,
        inheriting: u64,
        descriptor_flags: u32,
        opened: *mut u32,
    ) -> u32;
    fn path_readlink(fd: u32, path: *const u8, length: usize, buffer: *mut u8, size: u32, used: *mut u32) -> u32;
    fn path_remove_directory(fd: u32, path: *const u8, length: usize) -> u32;
    fn path_rename(fd: u32, path: *const u8, length: usize, to: u32, new: *const u8, new_length: usize) -> u32;
    fn path_symlink(target: *const u8, target_length: usize, fd: u32, path: *const u8, length: usize) -> u32;
    fn path_unlink_file(fd: u32, path: *const u8, length: usize) -> u32;
}

#[link(wasm_import_module = "mentat")]
unsafe extern "C" {
    fn request_capability(text: *const u8, length: usize) -> i32;
    fn invoke_capability(handle: i32, arguments: *const u8, length: usize) -> i32;
    fn release_capability(handle: i32) -> i32;
    fn result_read(offset: u32, buffer: *mut u8, size: u32) -> i32;
    fn last_error(buffer: *mut u8, size: u32) -> i32;
}

#[repr(C)]
struct Vector {
    start: *mut u8,
    length: u32,
}

/// Errors of WASI by their number.
const ERRNO: [&str; 77] = [
    "ok", "2big", "acces", "addrinuse", "addrnotavail", "afnosupport", "again", "already", "badf", "badmsg", "busy",
    "canceled", "child", "connaborted", "connrefused", "connreset", "deadlk", "destaddrreq", "dom", "dquot", "exist",
    "fault", "fbig", "hostunreach", "idrm", "ilseq", "inprogress", "intr", "inval", "io", "isconn", "isdir", "loop",
    "mfile", "mlink", "msgsize", "multihop", "nametoolong", "netdown", "netreset", "netunreach", "nfile", "nobufs",
    "nodev", "noent", "noexec", "nolck", "nolink", "nomem", "nomsg", "noprotoopt", "nospc", "nosys", "notconn",
    "notdir", "notempty", "notrecoverable", "notsock", "notsup", "notty", "nxio", "overflow", "ownerdead", "perm",
    "pipe", "proto", "protonosupport", "prototype", "range", "rofs", "spipe", "srch", "stale", "timedout", "txtbsy",
    "xdev", "notcapable",
];

/// What says "you may not", in the words of WASI and of `mentat`.
const REFUSED: [&str; 6] = ["acces", "perm", "rofs", "notcapable", "denied", "not-in-manifest"];

struct Found {
    outcome: &'static str,
    text: String,
    number: Option<i32>,
}

struct Probe {
    names: HashMap<String, i32>,
    buffer: Vec<u8>,
    /// What the last operation read.
    last: String,
}

fn main() {
    let mut script = String::new();
    std::io::stdin().read_to_string(&mut script).unwrap();
    let mut probe = Probe { names: HashMap::new(), buffer: vec![0; 1 << 20], last: String::new() };
    for (line, text) in script.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (what, expected) = text.split_once(" => ").unwrap_or((text, "ok"));
        let found = probe.line(what);
        if !found.is(expected) {
            eprintln!("line {}: `{what}` came to `{} {}`, not `{expected}`", line + 1, found.outcome, found.text);
            std::process::exit(1);
        }
    }
}

impl Found {
    fn errno(errno: u32) -> Self {
        Self { outcome: ERRNO[errno as usize], text: String::new(), number: None }
    }

    fn read(errno: u32, bytes: &[u8]) -> Self {
        let text = if errno == 0 { String::from_utf8_lossy(bytes).into_owned() } else { String::new() };
        Self { text, ..Self::errno(errno) }
    }

    fn opened(errno: u32, number: u32) -> Self {
        Self { number: Some(number as i32), ..Self::errno(errno) }
    }

    /// Of a call of `mentat`, with its result or its error's text.
    fn called(code: i32) -> Self {
        let outcome = match code {
            0.. => "ok",
            -1 => "not-in-manifest",
            -2 => "denied",
            -3 => "malformed",
            -4 => "not-found",
            -5 => "too-large",
            -6 => "exhausted",
            -7 => "timed-out",
            -8 => "unavailable",
            -9 => "bad-handle",
            -38 => "unsupported",
            -61 => "no-result",
            _ => "an unknown error",
        };
        let mut text = String::new();
        if code < 0 {
            let mut buffer = vec![0; 16 << 10];
            let length = unsafe { last_error(buffer.as_mut_ptr(), buffer.len() as u32) };
            text = String::from_utf8_lossy(&buffer[..length as usize]).into_owned();
        }
        Self { outcome, text, number: Some(code) }
    }

    fn is(&self, expected: &str) -> bool {
        let (outcome, text) = expected.split_once(' ').unwrap_or((expected, ""));
        let as_expected = match outcome {
            "refused" => REFUSED.contains(&self.outcome),
            "fails" => self.outcome != "ok",
            "any" => true,
            outcome => outcome == self.outcome,
        };
        let as_said = if let Some(part) = text.strip_prefix('~') {
            self.text.contains(part)
        } else if let Some(part) = text.strip_prefix('!') {
            !self.text.contains(part)
        } else {
            text.is_empty() || self.text == text.replace("\\_", " ")
        };
        as_expected && as_said
    }
}

impl Probe {
    fn line(&mut self, line: &str) -> Found {
        if let Some(rest) = line.strip_prefix("repeat ") {
            let (count, lines) = rest.split_once(' ').unwrap();
            for round in 0..count.parse().unwrap() {
                for line in lines.split(" ; ") {
                    let found = self.line(&line.replace("%i", &round.to_string()));
                    if found.outcome != "ok" {
                        return Found { text: round.to_string(), ..found };
                    }
                }
            }
            return Found { text: count.to_owned(), ..Found::errno(0) };
        }
        let (line, name) = match line.rsplit_once(" as ") {
            Some((line, name)) => (line, Some(name)),
            None => (line, None),
        };
        let (operation, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut buffer = std::mem::take(&mut self.buffer);
        let found = self.operation(operation, rest, &mut buffer);
        self.buffer = buffer;
        if let (Some(name), Some(number), "ok") = (name, found.number, found.outcome) {
            self.names.insert(name.to_owned(), number);
        }
        self.last.clone_from(&found.text);
        found
    }

    fn number(&self, word: &str) -> i32 {
        self.names.get(word).copied().unwrap_or_else(|| {
            word.parse::<i64>().unwrap_or_else(|_| panic!("{word} is nothing that was opened")) as i32
        })
    }

    fn operation(&self, operation: &str, rest: &str, buffer: &mut [u8]) -> Found {
        let words: Vec<Vec<u8>> = rest.split_whitespace().map(expanded).collect();
        let plain: Vec<&str> = rest.split_whitespace().collect();
        let fd = || self.number(plain[0]) as u32;
        let count = |place: usize| plain[place].parse::<u64>().unwrap();
        let has = |flag: &str| plain.contains(&flag);
        let follow = u32::from(!has("keep"));
        let path = |place: usize| (words[place].as_ptr(), words[place].len());
        let (start, size) = (buffer.as_mut_ptr(), buffer.len() as u32);
        let mut used = 0;
        let from = |text: &[u8]| Vector { start: text.as_ptr().cast_mut(), length: text.len() as u32 };
        unsafe {
            match operation {
                "open" => {
                    let flags = [("create", 1), ("directory", 2), ("exclusive", 4), ("truncate", 8)];
                    let open = flags.iter().filter(|(flag, _)| has(flag)).map(|(_, bit)| bit).sum();
                    let rights = u64::from(has("read")) * 2 + u64::from(has("write")) * 64;
                    let append = u32::from(has("append"));
                    let (path, length) = path(1);
                    let errno =
                        path_open(fd(), follow, path, length, open, rights, 0, append, &raw mut used);
                    Found::opened(errno, used)
                }
                "close" => Found::errno(fd_close(fd())),
                "renumber" => Found::errno(fd_renumber(fd(), self.number(plain[1]) as u32)),
                "read" => {
                    let vector = Vector { start, length: size };
                    let errno = fd_read(fd(), &raw const vector, 1, &raw mut used);
                    Found::read(errno, &buffer[..used as usize])
                }
                "pread" => {
                    let vector = Vector { start, length: size };
                    let errno = fd_pread(fd(), &raw const vector, 1, count(1), &raw mut used);
                    Found::read(errno, &buffer[..used as usize])
                }
                "write" => {
                    let vector = from(&words[1]);
                    Found::errno(fd_write(fd(), &raw const vector, 1, &raw mut used))
                }
                "pwrite" => {
                    let vector = from(&words[2]);
                    Found::errno(fd_pwrite(fd(), &raw const vector, 1, count(1), &raw mut used))
                }
                "seek" => {
                    let mut at = 0;
                    Found::errno(fd_seek(fd(), count(1) as i64, 0, &raw mut at))
                }
                "size" => Found::errno(fd_filestat_set_size(fd(), count(1))),
                "allocate" => Found::errno(fd_allocate(fd(), 0, count(1))),
                "list" => {
                    let errno = fd_readdir(fd(), start, size, 0, &raw mut used);
                    Found::read(errno, names(&buffer[..used as usize]).as_bytes())
                }
                "look" => {
                    let (path, length) = path(1);
                    let errno = path_filestat_get(fd(), follow, path, length, start);
                    Found::read(errno, looks(buffer).as_bytes())
                }
                "flook" => {
                    let errno = fd_filestat_get(fd(), start);
                    Found::read(errno, looks(buffer).as_bytes())
                }
                "times" => {
                    let (path, length) = path(1);
                    Found::errno(path_filestat_set_times(fd(), follow, path, length, 0, 0, 5))
                }
                "ftimes" => Found::errno(fd_filestat_set_times(fd(), 0, 0, 5)),
                "mkdir" => Found::errno(path_create_directory(fd(), path(1).0, path(1).1)),
                "rmdir" => Found::errno(path_remove_directory(fd(), path(1).0, path(1).1)),
                "unlink" => Found::errno(path_unlink_file(fd(), path(1).0, path(1).1)),
                "rename" => {
                    let to = self.number(plain[2]) as u32;
                    Found::errno(path_rename(fd(), path(1).0, path(1).1, to, path(3).0, path(3).1))
                }
                "link" => {
                    let (to, flags) = (self.number(plain[2]) as u32, u32::from(has("follow")));
                    Found::errno(path_link(fd(), flags, path(1).0, path(1).1, to, path(3).0, path(3).1))
                }
                "symlink" => {
                    let directory = self.number(plain[1]) as u32;
                    Found::errno(path_symlink(path(0).0, path(0).1, directory, path(2).0, path(2).1))
                }
                "readlink" => {
                    let errno = path_readlink(fd(), path(1).0, path(1).1, start, size, &raw mut used);
                    Found::read(errno, &buffer[..used as usize])
                }
                "directory" => {
                    let mut prestat = [0; 2];
                    let errno = fd_prestat_get(fd(), prestat.as_mut_ptr());
                    if errno == 0 {
                        fd_prestat_dir_name(fd(), start, prestat[1]);
                    }
                    Found::read(errno, &buffer[..prestat[1] as usize])
                }
                "environment" => {
                    let (mut count, mut size) = (0, 0);
                    environ_sizes_get(&raw mut count, &raw mut size);
                    let mut list = vec![0; count as usize];
                    let errno = environ_get(list.as_mut_ptr(), start);
                    let text = String::from_utf8_lossy(&buffer[..size as usize]).replace('\0', " ");
                    Found::read(errno, text.trim().as_bytes())
                }
                "request" => Found::called(request_capability(path(0).0, path(0).1)),
                "use" => {
                    let (handle, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
                    let arguments = expanded(arguments);
                    let code = invoke_capability(self.number(handle), arguments.as_ptr(), arguments.len());
                    let mut found = Found::called(code);
                    if code >= 0 {
                        let length = result_read(0, start, size);
                        found.text = String::from_utf8_lossy(&buffer[..length as usize]).into_owned();
                    }
                    found
                }
                "release" => Found::called(release_capability(self.number(plain[0]))),
                "print" => {
                    println!("{}", self.number(plain[0]));
                    Found::errno(0)
                }
                "tell" => {
                    println!("{}", self.last);
                    Found::errno(0)
                }
                other => panic!("there is no operation {other}"),
            }
        }
    }
}

/// An argument with its escapes and repetitions resolved.
fn expanded(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some(character) = rest.chars().next() {
        let repeated = rest.strip_prefix('<').and_then(|inner| inner.split_once('>')).and_then(|(inner, after)| {
            let (text, times) = inner.rsplit_once('*')?;
            Some((text, times.parse::<usize>().ok()?, after))
        });
        if let Some((text, times, after)) = repeated {
            bytes.extend(text.as_bytes().repeat(times));
            rest = after;
            continue;
        }
        let escaped = [("\\0", b'\0'), ("\\x", 0xff), ("\\_", b' '), ("\\n", b'\n')];
        match escaped.iter().find(|(written, _)| rest.starts_with(written)) {
            Some((written, byte)) => {
                bytes.push(*byte);
                rest = &rest[written.len()..];
            }
            None => {
                bytes.extend(character.to_string().as_bytes());
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    bytes
}

/// The names of directory entries, in order.
fn names(mut entries: &[u8]) -> String {
    let mut names = Vec::new();
    while entries.len() > 24 {
        let length = u32::from_le_bytes(entries[16..20].try_into().unwrap()) as usize;
        let end = entries.len().min(24 + length);
        names.push(String::from_utf8_lossy(&entries[24..end]).into_owned());
        entries = &entries[end..];
    }
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names.join(" ")
}

/// What a thing is, and its size.
fn looks(stat: &[u8]) -> String {
    let kind = match stat[16] {
        3 => "directory",
        4 => "file",
        7 => "link",
        _ => "other",
    };
    format!("{kind} {}", u64::from_le_bytes(stat[32..40].try_into().unwrap()))
}
