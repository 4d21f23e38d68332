//! What an execution may add to a directory: what is overwritten in place, cut and removed counts no more, and no trick
//! makes a directory larger than its quota.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mentat_manifest::{ByteCount, FileAccess};
use mentat_runtime::security::offers::Mount;
use mentat_runtime::security::policy::UserPowers;

use super::calls::{ANSWER, Argument, Program, Shape, guest};
use crate::harness::Test;

const SHAPES: [Shape; 3] = [Shape::Preview1, Shape::Preview0, Shape::Component];
const SUCCESS: u32 = 0;
const ENOSPC: u32 = 51;
const EXDEV: u32 = 75;

const WRITE: u64 = 1 << 6;
const CREATE: u64 = 1;
const TRUNCATE: u64 = 8;
/// What a name counts for.
const NAME: u64 = 4096;
const LIMIT: u64 = 100_000;

/// Runs calls in a mount with a quota; the error numbers.
async fn run(shape: Shape, folder: &Path, program: &Program) -> Vec<u32> {
    let mut mount = Mount::new(folder, "/data", FileAccess::ReadWrite).unwrap();
    mount.quota = Some(ByteCount(LIMIT));
    let powers = UserPowers { mounts: vec![mount], ..UserPowers::default() };
    let answer = Test::module(guest(shape)).input(program.input()).powers(powers).answer().await;
    program.told(&answer.output).into_iter().map(|told| told.errno).collect()
}

/// Bytes that a folder holds, as a quota counts them.
fn cost(folder: &Path) -> u64 {
    let mut all = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        all += NAME + if metadata.is_dir() { cost(&path) } else { metadata.size() };
    }
    all
}

fn bytes(length: u64) -> Vec<u8> {
    vec![b'x'; usize::try_from(length).unwrap()]
}

fn remove(program: &mut Program, path: &str) {
    program.path("path_unlink_file", 0, &[Argument::Number(3), Argument::Path(path)]);
}

/// Makes a file of that many bytes anew.
fn fill(program: &mut Program, path: &str, length: u64) {
    program.open(path, 0, CREATE | TRUNCATE, WRITE, 0);
    program.write(4, &bytes(length), None);
    program.call("fd_close", 0, &[4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_over_and_over_counts_once() {
    for shape in SHAPES {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::new();
        for _ in 0..300 {
            fill(&mut program, "anew", 10_000);
        }
        program.open("in-place", 0, CREATE, WRITE, 0);
        for _ in 0..300 {
            program.write(4, &bytes(10_000), Some(0));
        }
        program.call("fd_close", 0, &[4]);
        for _ in 0..100 {
            fill(&mut program, "other", 10_000);
            program.path(
                "path_rename",
                0,
                &[
                    Argument::Number(3),
                    Argument::Path("other"),
                    Argument::Number(3),
                    Argument::Path("in-place"),
                ],
            );
        }
        let errors = run(shape, folder.path(), &program).await;
        assert!(errors.iter().all(|errno| *errno == SUCCESS), "{shape:?}: {errors:?}");
        assert_eq!(cost(folder.path()), 2 * (NAME + 10_000), "{shape:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_filled_and_emptied_is_filled_again() {
    for shape in SHAPES {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::new();
        let mut expected = Vec::new();
        for _ in 0..3 {
            fill(&mut program, "a", LIMIT - NAME);
            expected.extend([SUCCESS; 3]);
            // Not one name more, and no byte.
            program.path("path_create_directory", 0, &[Argument::Number(3), Argument::Path("d")]);
            program.open("a", 0, 0, WRITE, 0);
            program.write(4, b"x", Some(LIMIT));
            program.write(4, b"x", Some(0));
            program.call("fd_close", 0, &[4]);
            expected.extend([ENOSPC, SUCCESS, ENOSPC, SUCCESS, SUCCESS]);
            remove(&mut program, "a");
            expected.push(SUCCESS);
        }
        program.path("path_create_directory", 0, &[Argument::Number(3), Argument::Path("d")]);
        program.path("path_remove_directory", 0, &[Argument::Number(3), Argument::Path("d")]);
        program.path("path_symlink", 0, &[Argument::Path("x"), Argument::Number(3), Argument::Path("l")]);
        remove(&mut program, "l");
        fill(&mut program, "a", LIMIT - NAME);
        expected.extend([SUCCESS; 7]);
        assert_eq!(run(shape, folder.path(), &program).await, expected, "{shape:?}");
    }
}

/// Calls that try to get more than the quota, by what was there before, with what is tried.
fn tricks() -> Vec<(&'static str, Program)> {
    let mut all = Vec::new();
    let mut trick = |name, make: &dyn Fn(&mut Program)| {
        let mut program = Program::new();
        make(&mut program);
        all.push((name, program));
    };
    trick("a size that is set, and cut", &|program| {
        program.open("a", 0, CREATE, WRITE, 0);
        for size in [90_000, 0, 95_000, 50, 95_900, 95_905, 1 << 40, u64::MAX, 1 << 63] {
            program.call("fd_filestat_set_size", 0, &[4, size]);
        }
    });
    trick("writes far behind the end", &|program| {
        program.open("a", 0, CREATE, WRITE, 0);
        for place in [50_000, 95_000, 1 << 40, 1 << 63, u64::MAX, 10] {
            program.write(4, &bytes(3_000), Some(place));
        }
    });
    trick("writes to the end", &|program| {
        program.open("a", 0, CREATE, WRITE, 1);
        // The adapter of components appends no more than a block at a time.
        for _ in 0..40 {
            program.write(4, &bytes(4_000), None).write(4, &bytes(4_000), Some(0));
        }
    });
    trick("two descriptors of one file", &|program| {
        program.open("a", 0, CREATE, WRITE, 0).open("a", 0, 0, WRITE, 0);
        for round in 0..20 {
            program.write(4, &bytes(9_000), None).write(5, &bytes(9_000), Some(round * 9_000));
            program.call("fd_filestat_set_size", 0, &[5, 0]);
        }
    });
    trick("files that were there before, and go", &|program| {
        for name in ["old-0", "old-1", "old-2", "old-3"] {
            remove(program, name);
        }
        for name in ["a", "b", "c", "d", "e", "f"] {
            fill(program, name, 60_000);
        }
    });
    trick("files that were there before, and are cut", &|program| {
        for name in ["old-0", "old-1", "old-2", "old-3"] {
            fill(program, name, 0);
        }
        for name in ["old-0", "old-1", "old-2", "old-3", "a", "b"] {
            fill(program, name, 60_000);
        }
    });
    trick("links to what is large", &|program| {
        fill(program, "a", 80_000);
        for round in 0..6 {
            let (one, other) = (format!("l{round}"), format!("m{round}"));
            for (from, to) in [("a", &one), ("old-0", &other)] {
                program.path(
                    "path_link",
                    0,
                    &[
                        Argument::Number(3),
                        Argument::Number(0),
                        Argument::Path(from),
                        Argument::Number(3),
                        Argument::Path(to),
                    ],
                );
            }
            remove(program, &one);
            remove(program, &other);
            fill(program, &format!("n{round}"), 10_000);
        }
        remove(program, "a");
        fill(program, "b", 80_000);
    });
    trick("files that are removed while they are open", &|program| {
        for descriptor in 4..14 {
            program.open("a", 0, CREATE, WRITE, 0);
            program.write(descriptor, &bytes(50_000), None);
            remove(program, "a");
        }
        for descriptor in 4..14 {
            program.call("fd_filestat_get", 64, &[descriptor, ANSWER]);
        }
    });
    trick("moves over each other", &|program| {
        for round in 0..20 {
            fill(program, "a", 20_000);
            fill(program, "b", 20_000);
            for (from, to) in [("a", "b"), ("old-1", "old-0"), ("old-2", "b"), ("b", "b")] {
                program.path(
                    "path_rename",
                    0,
                    &[Argument::Number(3), Argument::Path(from), Argument::Number(3), Argument::Path(to)],
                );
            }
            fill(program, &format!("c{round}"), 20_000);
        }
    });
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trick_makes_a_directory_larger_than_its_quota() {
    for (name, program) in tricks() {
        for shape in SHAPES {
            let folder = tempfile::tempdir().unwrap();
            for number in 0..4 {
                std::fs::write(folder.path().join(format!("old-{number}")), bytes(30_000)).unwrap();
            }
            let before = cost(folder.path());
            let errors = run(shape, folder.path(), &program).await;
            let after = cost(folder.path());
            assert!(after <= before + LIMIT, "{name} ({shape:?}): {after} bytes");
            assert!(errors.contains(&ENOSPC), "{name} ({shape:?}): was never full: {errors:?}");
            assert!(errors.contains(&SUCCESS), "{name} ({shape:?}): did nothing: {errors:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_removed_while_it_was_open_counts_until_it_is_closed() {
    for shape in SHAPES {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::new();
        program.open("a", 0, CREATE, WRITE, 0);
        program.write(4, &bytes(60_000), None);
        remove(&mut program, "a");
        program.open("b", 0, CREATE, WRITE, 0);
        program.write(5, &bytes(60_000), None);
        program.call("fd_close", 0, &[4]);
        program.write(5, &bytes(60_000), Some(0));
        let errors = run(shape, folder.path(), &program).await;
        assert_eq!(errors, [SUCCESS, SUCCESS, SUCCESS, SUCCESS, ENOSPC, SUCCESS, SUCCESS], "{shape:?}");
    }
}

#[tokio::test]
async fn two_mounts_are_two_disks() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    std::fs::write(folders[0].path().join("a"), "x").unwrap();
    let mount =
        |folder: &tempfile::TempDir, guest| Mount::new(folder.path(), guest, FileAccess::ReadWrite).unwrap();
    let powers = UserPowers {
        mounts: vec![mount(&folders[0], "/a"), mount(&folders[1], "/b")],
        ..UserPowers::default()
    };
    let (from, to) = (Argument::Path("a"), Argument::Path("b"));
    let mut program = Program::new();
    program.path("path_rename", 0, &[Argument::Number(3), from, Argument::Number(4), to]);
    program.path("path_link", 0, &[Argument::Number(3), Argument::Number(0), from, Argument::Number(4), to]);
    for shape in SHAPES {
        let answer = Test::module(guest(shape)).input(program.input()).powers(powers.clone()).answer().await;
        let told = program.told(&answer.output);
        assert!(told.iter().all(|told| told.errno == EXDEV), "{shape:?}: {told:?}");
    }
}
