//! Every pointer of every host call, in all the ways in which it can be wrong: past the end, astride it, wrapping around,
//! and right at the end, which is no mistake. The calls stand in a table; one that has no row fails a test.

use std::collections::BTreeSet;
use std::path::Path;

use mentat_runtime::error::Reason;
use mentat_runtime::model::Outcome;

use crate::harness::{Test, runtime};
use crate::world::World;

/// The functions of `mentat`, with their parameters: `r` is a range, as pointer and length, `i` a number, `f` a float.
/// Functions in upper case answer nothing.
const MENTAT: &[(&str, &str)] = &[
    ("read_input", "r"),
    ("write_output", "r"),
    ("LOG", "ir"),
    ("result_read", "ir"),
    ("last_error", "r"),
    ("request_capability", "r"),
    ("invoke_capability", "ir"),
    ("release_capability", "i"),
    ("download_media", "r"),
    ("upload_media", "rr"),
    ("start_stream", "r"),
    ("write_stream", "ir"),
    ("end_stream", "i"),
    ("record_metric", "rf"),
];

/// The functions of WASI 0.1, with their parameters: `p` is a pointer to what is read or written, `s` a text, as pointer
/// and length, `v` a list of buffers, as pointer and count, `b` a buffer, as pointer and size, `d` the directory, `o`
/// standard output, `n` standard input, `i` and `I` zero, in 32 and 64 bits.
const WASI: &[(&str, &str)] = &[
    ("args_get", "pp"),
    ("args_sizes_get", "pp"),
    ("environ_get", "pp"),
    ("environ_sizes_get", "pp"),
    ("clock_res_get", "ip"),
    ("clock_time_get", "iIp"),
    ("fd_advise", "dIIi"),
    ("fd_allocate", "dII"),
    ("fd_close", "o"),
    ("fd_datasync", "d"),
    ("fd_fdstat_get", "dp"),
    ("fd_fdstat_set_flags", "di"),
    ("fd_fdstat_set_rights", "dII"),
    ("fd_filestat_get", "dp"),
    ("fd_filestat_set_size", "dI"),
    ("fd_filestat_set_times", "dIIi"),
    ("fd_pread", "nvIp"),
    ("fd_prestat_get", "dp"),
    ("fd_prestat_dir_name", "db"),
    ("fd_pwrite", "ovIp"),
    ("fd_read", "nvp"),
    ("fd_readdir", "dbIp"),
    ("fd_renumber", "oo"),
    ("fd_seek", "oIip"),
    ("fd_sync", "d"),
    ("fd_tell", "op"),
    ("fd_write", "ovp"),
    ("path_create_directory", "ds"),
    ("path_filestat_get", "disp"),
    ("path_filestat_set_times", "disIIi"),
    ("path_link", "disds"),
    ("path_open", "disiIIip"),
    ("path_readlink", "dsbp"),
    ("path_remove_directory", "ds"),
    ("path_rename", "dsds"),
    ("path_symlink", "sds"),
    ("path_unlink_file", "ds"),
    ("poll_oneoff", "pxlp"),
    ("proc_raise", "i"),
    ("random_get", "b"),
    ("sched_yield", ""),
    ("sock_accept", "oip"),
    ("sock_recv", "nvipp"),
    ("sock_send", "ovip"),
    ("sock_shutdown", "oi"),
];

/// Bytes of the memory of the guests here: one page.
const SIZE: u32 = 65_536;

/// Ranges that are not inside of a page, as pointer and length.
const OUTSIDE: &[(u32, u32)] = &[
    (SIZE, 1),
    (SIZE - 1, 2),
    (SIZE + 1, 0),
    (0, SIZE + 1),
    (0, u32::MAX),
    (1, u32::MAX),
    (4, u32::MAX - 3),
    (u32::MAX, 0),
    (u32::MAX, 1),
    (u32::MAX, u32::MAX),
    (u32::MAX - 3, 8),
    (0x7fff_ffff, 0x7fff_ffff),
    (1 << 31, 1 << 31),
];

/// Ranges that are inside, up to the very end.
const INSIDE: &[(u32, u32)] = &[(SIZE, 0), (SIZE - 1, 1), (0, SIZE), (0, 0)];

/// A guest that makes one call of `mentat`, with these arguments.
fn mentat_guest(function: &str, types: &[&str], arguments: &[String], answers: bool) -> String {
    let (result, answer) = if answers { ("(result i32)", "drop") } else { ("", "") };
    let (types, arguments) = (types.join(" "), arguments.join(" "));
    format!(
        r#"(module
          (import "mentat" "{function}" (func $call (param {types}) {result}))
          (memory (export "memory") 1 1)
          (func (export "process") (result i32) (call $call {arguments}) {answer} (i32.const 0)))"#
    )
}

/// A command that makes one call of WASI, with these arguments, and ends with what it answers. A list of one buffer lies
/// at 4096, its bytes at 8192.
fn wasi_guest(function: &str, types: &[&str], arguments: &[String]) -> String {
    let (types, arguments) = (types.join(" "), arguments.join(" "));
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "{function}" (func $call (param {types}) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1 1)
          (data (i32.const 4096) "\00\20\00\00\01\00\00\00")
          (data (i32.const 8192) "x")
          (func (export "_start") (call $exit (call $call {arguments}))))"#
    )
}

async fn call_mentat(function: &str, parameters: &str, at: usize, range: (u32, u32)) -> Outcome {
    let answers = function.chars().any(char::is_lowercase);
    let (mut types, mut arguments) = (Vec::new(), Vec::new());
    for (place, parameter) in parameters.chars().enumerate() {
        match parameter {
            'r' => {
                let (pointer, length) = if place == at { range } else { (0, 0) };
                types.extend(["i32", "i32"]);
                arguments.extend([format!("(i32.const {pointer})"), format!("(i32.const {length})")]);
            }
            'i' => {
                types.push("i32");
                arguments.push("(i32.const 1)".into());
            }
            'f' => {
                types.push("f64");
                arguments.push("(f64.const 1)".into());
            }
            other => panic!("{other} is no parameter"),
        }
    }
    Test::wat(&mentat_guest(&function.to_lowercase(), &types, &arguments, answers)).run().await
}

fn ranges(parameters: &str) -> impl Iterator<Item = usize> {
    parameters.chars().enumerate().filter(|(_, parameter)| *parameter == 'r').map(|(place, _)| place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_outside_of_memory_traps_in_every_call() {
    for (function, parameters) in MENTAT {
        for at in ranges(parameters) {
            for &range in OUTSIDE {
                let outcome = call_mentat(function, parameters, at, range).await;
                let error = outcome.result.expect_err(&format!("{function} with {range:?} at {at}"));
                assert_eq!(error.reason(), Reason::Trap, "{function} with {range:?} at {at}: {error}");
                let said = format!("{error} {:?}", error.details());
                assert!(said.contains(&function.to_lowercase()), "{function} with {range:?}: {said}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_up_to_the_end_of_memory_is_inside_in_every_call() {
    for (function, parameters) in MENTAT {
        for at in ranges(parameters) {
            for &range in INSIDE {
                let outcome = call_mentat(function, parameters, at, range).await;
                assert!(outcome.result.is_ok(), "{function} with {range:?} at {at}: {:?}", outcome.result);
            }
        }
    }
}

/// Every function that the host registers, by its source.
#[test]
fn every_function_of_the_host_stands_in_the_table() {
    fn registered(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                registered(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for behind in text.split("(MENTAT,").skip(1).chain(text.split("MENTAT,\n").skip(1)) {
                let name = behind.trim_start().strip_prefix('"').and_then(|name| name.split_once('"'));
                found.extend(name.map(|(name, _)| name.to_owned()));
            }
        }
    }
    let mut found = BTreeSet::new();
    registered(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/host"), &mut found);
    let table: BTreeSet<String> = MENTAT.iter().map(|(function, _)| function.to_lowercase()).collect();
    assert_eq!(found, table);
}

/// The arguments of a call of WASI, of which one place is `bad`; without one, all are good.
fn wasi_arguments(parameters: &str, bad: Option<(usize, u32)>) -> (Vec<&'static str>, Vec<String>) {
    let (mut types, mut arguments) = (Vec::new(), Vec::new());
    for (place, parameter) in parameters.chars().enumerate() {
        let pointer = |good| bad.filter(|(at, _)| *at == place).map_or(good, |(_, pointer)| pointer);
        let (kinds, values): (&[&str], Vec<u32>) = match parameter {
            'p' => (&["i32"], vec![pointer(16_384)]),
            'x' => (&["i32"], vec![pointer(20_480)]),
            's' => (&["i32", "i32"], vec![pointer(8192), 1]),
            'v' => (&["i32", "i32"], vec![pointer(4096), 1]),
            'b' => (&["i32", "i32"], vec![pointer(24_576), 64]),
            'd' => (&["i32"], vec![3]),
            'o' | 'l' => (&["i32"], vec![1]),
            'n' | 'i' => (&["i32"], vec![0]),
            'I' => (&["i64"], vec![0]),
            other => panic!("{other} is no parameter"),
        };
        types.extend(kinds);
        arguments.extend(values.iter().map(|value| format!("({}.const {value})", kinds[0])));
    }
    (types, arguments)
}

async fn call_wasi(function: &str, parameters: &str, bad: Option<(usize, u32)>) -> Outcome {
    let mut world = World::new(&["filesystem:readwrite:/data", "env:KEY"]);
    world.mount("/data", mentat_manifest::FileAccess::ReadWrite, None);
    world.offers.env.insert("KEY".into(), "value".into());
    std::os::unix::fs::symlink("y", world.path("/data/x")).unwrap();
    std::fs::write(world.path("/data/y"), "y").unwrap();
    let (types, arguments) = wasi_arguments(parameters, bad);
    let guest = Test::wat(&wasi_guest(function, &types, &arguments));
    let loaded = guest.load().await.unwrap_or_else(|error| panic!("{function}: {error}"));
    let outcome = world.run(runtime(), &loaded, "").await;
    assert_eq!(world.breach(&outcome), None, "{function}");
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointer_outside_of_memory_is_never_followed_by_wasi() {
    for (function, parameters) in WASI {
        for (at, _) in parameters.chars().enumerate().filter(|(_, parameter)| "pxsvb".contains(*parameter)) {
            for pointer in [SIZE, SIZE + 8, 1 << 31, u32::MAX, u32::MAX - 7] {
                let outcome = call_wasi(function, parameters, Some((at, pointer))).await;
                match outcome.result {
                    // What is said before the pointer is looked at: an error, never a success.
                    Ok(answer) => assert_ne!(answer.exit_code, 0, "{function} with {pointer} at {at}"),
                    Err(error) => {
                        assert_eq!(
                            error.reason(),
                            Reason::Trap,
                            "{function} with {pointer} at {at}: {error}"
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_wasi_comes_back_with_pointers_that_are_good() {
    for (function, parameters) in WASI {
        let outcome = call_wasi(function, parameters, None).await;
        assert!(outcome.result.is_ok(), "{function}: {:?}", outcome.result);
    }
}
