//! An image and a recorded run of its program: what follows from what was seen. Pure.

use mentat_server::container::{FileUse, ImageFacts, Program, Recording};

use super::finding::{Findings, Topic};

/// Where images keep what belongs to their programs; what is read there comes along into a module, or is not needed.
const OWN: &[&str] = &[
    "/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/sys", "/dev", "/opt", "/root", "/run",
    "/var/lib",
];
/// Where a module has its own files for a while.
const SCRATCH: &str = "/tmp";
/// Directories that a program asks for before they are told one by one no longer.
const MAX_FOLDERS: usize = 20;

/// What a program's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgramFile {
    /// Machine code that is complete.
    Static,
    /// Machine code that libraries belong to.
    Dynamic,
    /// A text for another program.
    Script,
    /// Something else.
    Unknown,
}

impl ProgramFile {
    /// By the beginning of the file: the tables of ELF (System V ABI, chapter 5), or `#!`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"#!") {
            return Self::Script;
        }
        if !bytes.starts_with(b"\x7fELF") {
            return Self::Unknown;
        }
        if has_interpreter(bytes) { Self::Dynamic } else { Self::Static }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Static => "machine code, complete in itself",
            Self::Dynamic => "machine code, with libraries",
            Self::Script => "a script",
            Self::Unknown => "neither machine code nor a script",
        }
    }
}

/// Whether one of the segments names a program that loads libraries.
fn has_interpreter(bytes: &[u8]) -> bool {
    const CLASS_64: u8 = 2;
    const LITTLE: u8 = 1;
    const INTERPRETER: u64 = 3;
    let is_64 = bytes.get(4) == Some(&CLASS_64);
    let number = |at: u64, size: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let digits = bytes.get(at..at.checked_add(size)?)?;
        let join = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        Some(if bytes.get(5) == Some(&LITTLE) {
            digits.iter().rev().fold(0, join)
        } else {
            digits.iter().fold(0, join)
        })
    };
    let (table, size, count) = if is_64 {
        (number(32, 8), number(54, 2), number(56, 2))
    } else {
        (number(28, 4), number(42, 2), number(44, 2))
    };
    let (Some(table), Some(size), Some(count)) = (table, size, count) else { return false };
    (0..count).any(|place| {
        let at = size.checked_mul(place).and_then(|offset| table.checked_add(offset));
        at.and_then(|at| number(at, 4)) == Some(INTERPRETER)
    })
}

/// What follows from what an image says of itself.
pub(super) fn look(image: &ImageFacts, program: &Program, findings: &mut Findings) -> ProgramFile {
    for port in &image.ports {
        findings.add(Topic::Listens, port, "EXPOSE");
    }
    for volume in &image.volumes {
        findings.add(Topic::Files, volume, "VOLUME");
        findings.wants(&format!("filesystem:readwrite:{volume}"), "VOLUME");
    }
    if !image.user.is_empty() {
        findings.add(Topic::Root, &image.user, "USER");
    }
    let Program::File { path, begin } = program else { return ProgramFile::Unknown };
    let kind = ProgramFile::of(begin);
    if matches!(kind, ProgramFile::Static | ProgramFile::Dynamic) {
        findings.add(Topic::MachineCode, path, "ENTRYPOINT");
    }
    kind
}

/// What follows from a run.
pub(super) fn follow(recording: &Recording, findings: &mut Findings) {
    const RUN: &str = "the recorded run";
    let seen = &recording.seen;
    let mut note = |topic, what: &str, count: u32| {
        if count > 0 {
            findings.add(topic, what, RUN);
        }
    };
    note(Topic::Threads, &format!("{} threads", seen.threads), seen.threads);
    note(Topic::Processes, &format!("{} processes", seen.processes), seen.processes);
    note(Topic::RawSockets, "a raw socket", seen.raw_sockets.into());
    note(Topic::Listens, "it waits for connections", seen.listens.into());
    for program in &seen.programs {
        note(Topic::Processes, program, 1);
    }
    // The services that C libraries ask for names are answered by the host.
    for socket in seen.local_sockets.iter().filter(|socket| !socket.contains("nscd")) {
        note(Topic::LocalSockets, socket, 1);
    }
    for connection in &seen.connections {
        findings.add(Topic::Network, connection, RUN);
        findings.wants(&format!("network:{connection}"), RUN);
    }
    for (folder, used) in folders(recording) {
        // There is nothing in its container but its image.
        if !used.written && used.came_about {
            findings.add(Topic::OwnFiles, &folder, RUN);
            continue;
        }
        let access = if used.written { "readwrite" } else { "read" };
        findings.add(Topic::Files, &folder, RUN);
        findings.wants(&format!("filesystem:{access}:{folder}"), RUN);
    }
}

/// The directories of the files that are not the image's own business.
fn folders(recording: &Recording) -> std::collections::BTreeMap<String, FileUse> {
    let mut folders = std::collections::BTreeMap::<String, FileUse>::new();
    let is_below = |path: &str, folder: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for (path, used) in &recording.seen.files {
        if !used.written && OWN.iter().any(|own| is_below(path, own)) {
            continue;
        }
        if is_below(path, "/dev") || is_below(path, "/proc") || path.contains("/../") {
            continue;
        }
        let folder = match path.rsplit_once('/') {
            _ if is_below(path, SCRATCH) => SCRATCH,
            Some(("", _)) | None => path,
            Some((folder, _)) => folder,
        };
        if folders.len() < MAX_FOLDERS || folders.contains_key(folder) {
            let known = folders.entry(folder.to_owned()).or_default();
            known.read |= used.read;
            known.written |= used.written;
            known.came_about |= used.came_about;
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use mentat_server::container::Seen;
    use proptest::prelude::*;

    use super::super::finding::{Scope, Verdict};
    use super::*;

    #[test]
    fn this_program_has_libraries_and_a_script_is_one() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(ProgramFile::of(&own), ProgramFile::Dynamic);
        assert_eq!(ProgramFile::of(b"#!/bin/sh\n"), ProgramFile::Script);
        assert_eq!(ProgramFile::of(b""), ProgramFile::Unknown);
        assert_eq!(ProgramFile::of(b"\x7fELF\x02\x01"), ProgramFile::Static);
    }

    #[test]
    fn a_run_tells_the_directories_that_are_wanted_and_not_those_of_the_system() {
        let used = |read, written| FileUse { read, written, came_about: true };
        let files = [
            ("/usr/lib/x.so", used(true, false)),
            ("/data/in/words.txt", FileUse { came_about: false, ..used(true, false) }),
            ("/app/main.py", used(true, false)),
            ("/data/out/a", used(false, true)),
            ("/tmp/x/y", used(true, true)),
            ("/dev/null", used(false, true)),
        ];
        let files = files.map(|(path, used)| (path.to_owned(), used)).into();
        let seen =
            Seen { files, threads: 2, connections: ["tcp:192.0.2.1:443".into()].into(), ..Seen::default() };
        let recording = Recording { seen, exit_code: Some(0), output: Bytes::new(), took: Duration::ZERO };
        let mut findings = Findings::default();
        follow(&recording, &mut findings);
        let wanted: Vec<&str> = findings.capabilities.keys().map(String::as_str).collect();
        assert_eq!(
            wanted,
            [
                "filesystem:read:/data/in",
                "filesystem:readwrite:/data/out",
                "filesystem:readwrite:/tmp",
                "network:tcp:192.0.2.1:443",
            ]
        );
        assert_eq!(findings.verdict(Scope::Whole), Verdict::WithChanges);
        let own: Vec<_> =
            findings.sorted().into_iter().filter(|found| found.topic == Topic::OwnFiles).collect();
        assert!(own.len() == 1 && own[0].what.contains("/app"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_kind_of_file(mut bytes in prop::collection::vec(any::<u8>(), 0..200), elf in any::<bool>()) {
            if elf {
                bytes.splice(0..0, *b"\x7fELF\x02\x01");
            }
            let _ = ProgramFile::of(&bytes);
        }
    }
}
