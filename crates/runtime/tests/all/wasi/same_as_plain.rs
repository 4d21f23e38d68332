//! Where a grant allows it, files and variables are those of plain Wasmtime: every error number, every byte, every entry,
//! whatever is left on the disk. One program of calls runs under both, in directories that are alike.
//!
//! What differs on purpose, each with a test of its own elsewhere: a quota (`ENOSPC`, `quota.rs`), and as if it were a disk
//! of its own (`EXDEV`); files open at one time (`EMFILE`); entries that are listed (`EOVERFLOW`); paths of more than 4,096
//! bytes (`ENAMETOOLONG`); writes of more than 1,024 buffers (`EINVAL`); directories for writing alone, and policies for
//! parts of one (`EACCES`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mentat_manifest::FileAccess;
use mentat_runtime::security::offers::Mount;
use mentat_runtime::security::policy::UserPowers;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wasmtime_wasi::FsPerms;

use super::calls::{ANSWER, Argument, Program, Shape, Told, guest};
use super::plain;
use crate::harness::Test;

const SHAPES: [Shape; 3] = [Shape::Preview1, Shape::Preview0, Shape::Component];
const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;

/// Names that are there, that are not, and that lead astray.
const PATHS: &[&str] = &[
    "hello.txt",
    "new",
    "empty",
    "private",
    "private/key.txt",
    "private/deep",
    "private/deep/new",
    "link",
    "directory-link",
    "directory-link/key.txt",
    "dangling",
    "absolute",
    "up",
    "up/etc/passwd",
    "loop",
    "",
    ".",
    "..",
    "/",
    "/data/hello.txt",
    "./private/../hello.txt",
    "private/../..",
    "hello.txt/",
    "private/",
    "new/",
    "link/",
    "directory-link/",
    "hello.txt/below",
    "no/such",
    "many",
    "name\0with a zero",
];

fn furnish(folder: &Path) {
    let at = |name: &str| folder.join(name);
    std::fs::create_dir_all(at("private/deep")).unwrap();
    std::fs::create_dir(at("many")).unwrap();
    for (name, content) in [("hello.txt", "hello world"), ("empty", ""), ("private/key.txt", "secret")] {
        std::fs::write(at(name), content).unwrap();
    }
    for number in 0..40 {
        std::fs::write(at(&format!("many/entry-{number}")), "x".repeat(number)).unwrap();
    }
    for (target, name) in [
        ("hello.txt", "link"),
        ("private", "directory-link"),
        ("nothing", "dangling"),
        ("/etc/passwd", "absolute"),
        ("../..", "up"),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(target, at(name)).unwrap();
    }
}

/// What lies in a directory: kinds, contents and targets, by path.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        for entry in std::fs::read_dir(folder.join(&below)).unwrap() {
            let below = below.join(entry.unwrap().file_name());
            let path = folder.join(&below);
            let metadata = path.symlink_metadata().unwrap();
            let is = if metadata.is_dir() {
                left.push(below.clone());
                "directory".to_owned()
            } else if metadata.is_symlink() {
                format!("link to {}", path.read_link().unwrap().display())
            } else {
                format!("file {:?}", std::fs::read(&path).unwrap())
            };
            found.insert(below, is);
        }
    }
    found
}

/// Takes out what differs between two directories that are alike: inodes, and times.
fn normalise(shape: Shape, told: &mut Told) {
    if told.call.contains("filestat_get") {
        told.answer[8..16].fill(0);
        // Before the forerunner's times is a count of links that is four bytes shorter.
        let times = if shape == Shape::Preview0 { 32 } else { 40 };
        told.answer[times..].fill(0);
    }
    if told.call.starts_with("fd_readdir") {
        let mut entries = &mut told.answer[8..];
        // The last may be cut off anywhere.
        while entries.len() > 8 {
            let inode = 8..entries.len().min(16);
            entries[inode].fill(0);
            if entries.len() < 24 {
                break;
            }
            let length = u32::from_le_bytes(entries[16..20].try_into().unwrap()) as usize;
            let next = (24 + length).min(entries.len());
            entries = &mut entries[next..];
        }
    }
}

/// Runs a program under both, and answers how they differ.
async fn differences(
    shape: Shape,
    access: FileAccess,
    env: &[(String, String)],
    program: &Program,
) -> Vec<String> {
    let (ours, plains) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    furnish(ours.path());
    furnish(plains.path());
    let powers = UserPowers {
        mounts: vec![Mount::new(ours.path(), "/data", access).unwrap()],
        env: env.to_vec(),
        ..UserPowers::default()
    };
    let answer = Test::module(guest(shape)).input(program.input()).powers(powers).answer().await;
    let perms = if access == FileAccess::Read { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
    let plain = plain::run(shape, plains.path(), perms, env, program.input()).await;
    let mut found = Vec::new();
    for (mut ours, mut plain) in program.told(&answer.output).into_iter().zip(program.told(&plain)) {
        normalise(shape, &mut ours);
        normalise(shape, &mut plain);
        if ours != plain {
            found.push(format!(
                "{}: {} {:02x?}, plain {} {:02x?}",
                ours.call, ours.errno, ours.answer, plain.errno, plain.answer
            ));
        }
    }
    if answer.exit_code != 0 {
        found.push(format!("exit code {}", answer.exit_code));
    }
    let (ours, plain) = (tree(ours.path()), tree(plains.path()));
    if ours != plain {
        found.push(format!("left on the disk {ours:?}, plain {plain:?}"));
    }
    found
}

async fn assert_same(program: &Program) {
    for shape in SHAPES {
        for access in [FileAccess::Read, FileAccess::ReadWrite] {
            let found = differences(shape, access, &[], program).await;
            assert!(found.is_empty(), "{shape:?} {access:?}: {} differ:\n{}", found.len(), found.join("\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_with_every_combination_of_flags_is_the_same() {
    for paths in PATHS.chunks(8) {
        let mut program = Program::new();
        for path in paths {
            for lookup in 0..2 {
                for flags in 0..16 {
                    for rights in [0, READ, WRITE, READ | WRITE] {
                        program.open(path, lookup, flags, rights, flags & 1);
                        program.call("fd_fdstat_get", 24, &[4, ANSWER]);
                        program.call("fd_filestat_get", 64, &[4, ANSWER]);
                        program.write(4, b"more", None);
                        program.read(4, 16, Some(2));
                        program.call("fd_close", 0, &[4]);
                    }
                }
            }
        }
        assert_same(&program).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_a_directory_in_pieces_and_from_any_cookie_is_the_same() {
    let mut program = Program::new();
    for path in ["many", ".", "private/deep", "hello.txt", "directory-link", "up"] {
        program.open(path, 1, 2, READ, 0);
        for (length, cookie) in [(4096, 0), (100, 0), (24, 0), (1, 0), (0, 0), (300, 5), (4096, 41), (64, 43)]
        {
            program.call("fd_readdir", 8 + length, &[4, ANSWER + 8, length, cookie, ANSWER]);
        }
        program.call("fd_readdir", 16, &[4, ANSWER + 8, 8, u64::MAX, ANSWER]);
        program.call("fd_close", 0, &[4]);
    }
    program.call("fd_prestat_get", 8, &[3, ANSWER]);
    program.call("fd_prestat_get", 8, &[4, ANSWER]);
    program.call("fd_prestat_dir_name", 5, &[3, ANSWER, 5]);
    program.call("fd_prestat_dir_name", 4, &[3, ANSWER, 4]);
    assert_same(&program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_are_the_same() {
    let env = [("A", "1"), ("EMPTY", ""), ("HOME", "/data"), ("UTF", "\u{fc}=x y")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut program = Program::new();
    program.call("environ_sizes_get", 8, &[ANSWER, ANSWER + 4]);
    program.call("environ_get", 128, &[ANSWER, ANSWER + 64]);
    for shape in SHAPES {
        let found = differences(shape, FileAccess::Read, &env, &program).await;
        assert!(found.is_empty(), "{shape:?}: {}", found.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_any_length_are_the_same() {
    let mut program = Program::new();
    for length in [254, 255, 256, 1000, 4095] {
        let name = "x".repeat(length);
        let deep = "private/../".repeat(length.saturating_sub(9) / 11) + "hello.txt";
        for path in [&name, &deep] {
            program.open(path, 1, 1, READ | WRITE, 0).call("fd_close", 0, &[4]);
            program.path("path_filestat_get", 64, &at(3, &[Argument::Number(0)], path, &[ANSWER]));
            program.path(
                "path_symlink",
                0,
                &[Argument::Path(path), Argument::Number(3), Argument::Path("made")],
            );
            program.path("path_readlink", 64, &at(3, &[], "made", &[ANSWER + 8, 56, ANSWER]));
            program.path("path_unlink_file", 0, &at(3, &[], "made", &[]));
        }
    }
    assert_same(&program).await;
}

/// Arguments of a call on a path below a descriptor.
fn at<'a>(descriptor: u64, before: &[Argument<'a>], path: &'a str, after: &[u64]) -> Vec<Argument<'a>> {
    let mut all = vec![Argument::Number(descriptor)];
    all.extend(before);
    all.push(Argument::Path(path));
    all.extend(after.iter().map(|number| Argument::Number(*number)));
    all
}

/// One call of a generated program: which, of which descriptor, two paths, a length, a place and flags.
type Step = (u8, u64, usize, usize, u64, u64, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let descriptor = prop_oneof![1 => Just(3_u64), 8 => 4..9_u64, 1 => Just(77)];
    let place = prop_oneof![
        6 => 0..200_u64,
        2 => 0..20_000_u64,
        1 => prop_oneof![Just(u64::MAX), Just(1 << 63), Just(i64::MAX.unsigned_abs())]
    ];
    let step = (0..30_u8, descriptor, 0..PATHS.len(), 0..PATHS.len(), 0..300_u64, place, 0..256_usize);
    proptest::collection::vec(step, 10..60)
}

fn add(program: &mut Program, (kind, descriptor, one, other, length, place, choice): Step) {
    use Argument::{Number, Path};
    let (path, second, flags) = (PATHS[one], PATHS[other], choice as u64);
    // Paths are looked up below the mount, and now and then below what is open.
    let directory = if flags % 5 == 0 { descriptor } else { 3 };
    let content: Vec<u8> = (0..length).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
    // What would be refused for want of room is left out: there is no quota to compare with.
    let size = if place == i64::MAX.unsigned_abs() { 0 } else { place };
    match kind {
        0..=4 => {
            let rights = [READ, WRITE, READ | WRITE, 0][choice / 16 % 4];
            let flags = [0, 0, 1, 1, 9, 5, 2, 8][choice % 8];
            program.open(path, flags & 1, flags, rights, u64::from(place % 3 == 0))
        }
        5 => program.call("fd_close", 0, &[descriptor]),
        6 | 7 => program.write(descriptor, &content, None),
        8 => program.write(descriptor, &content, Some(place)),
        9 | 10 => program.read(descriptor, length, None),
        11 => program.read(descriptor, length, Some(place)),
        12 => program.call("fd_seek", 8, &[descriptor, place, flags % 3, ANSWER]),
        13 => program.call("fd_tell", 8, &[descriptor, ANSWER]),
        14 => program.call("fd_filestat_get", 64, &[descriptor, ANSWER]),
        15 => program.call("fd_filestat_set_size", 0, &[descriptor, size]),
        16 => program.call("fd_fdstat_get", 24, &[descriptor, ANSWER]),
        17 => program.call("fd_fdstat_set_flags", 0, &[descriptor, flags % 32]),
        18 => program.call("fd_renumber", 0, &[descriptor, 3 + flags % 7]),
        19 => program.call("fd_readdir", 1032, &[descriptor, ANSWER + 8, 1024, place % 5, ANSWER]),
        20 => program.path("path_create_directory", 0, &at(directory, &[], path, &[])),
        21 => program.path("path_filestat_get", 64, &at(directory, &[Number(flags % 2)], path, &[ANSWER])),
        22 => {
            let times = [flags * 1_000_000_000, place % 100_000 * 1_000, flags % 16];
            program.path("path_filestat_set_times", 0, &at(directory, &[Number(flags % 2)], path, &times))
        }
        23 => {
            let arguments = [Number(directory), Number(flags % 2), Path(path), Number(3), Path(second)];
            program.path("path_link", 0, &arguments)
        }
        24 => program.path("path_readlink", 48, &at(directory, &[], path, &[ANSWER + 8, flags % 40, ANSWER])),
        25 => program.path("path_remove_directory", 0, &at(directory, &[], path, &[])),
        26 => program.path("path_rename", 0, &[Number(directory), Path(path), Number(3), Path(second)]),
        27 => program.path("path_symlink", 0, &[Path(second), Number(directory), Path(path)]),
        28 => program.path("path_unlink_file", 0, &at(directory, &[], path, &[])),
        _ => match flags % 6 {
            0 => program.call("fd_advise", 0, &[descriptor, place, length, flags % 6]),
            1 => program.call("fd_allocate", 0, &[descriptor, size, length]),
            2 => program.call("fd_datasync", 0, &[descriptor]),
            3 => program.call("fd_sync", 0, &[descriptor]),
            4 => program.call("fd_fdstat_set_rights", 0, &[descriptor, READ, READ]),
            _ => program.call("fd_filestat_set_times", 0, &[descriptor, place, length, flags % 16]),
        },
    };
}

#[test]
fn whatever_calls_a_guest_makes_it_gets_the_same() {
    let threads = tokio::runtime::Runtime::new().unwrap();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let access = prop_oneof![1 => Just(FileAccess::Read), 4 => Just(FileAccess::ReadWrite)];
    let shape = proptest::sample::select(SHAPES.to_vec());
    let done = runner.run(&(shape, access, steps()), |(shape, access, steps)| {
        let mut program = Program::new();
        steps.into_iter().for_each(|step| add(&mut program, step));
        let found = threads.block_on(differences(shape, access, &[], &program));
        prop_assert!(found.is_empty(), "{} of {} calls:\n{}", found.len(), program.len(), found.join("\n"));
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}"));
}
