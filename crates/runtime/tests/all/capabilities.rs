//! Grants with handles, from the outside: a guest asks for a capability and uses it, under a manifest, policies and
//! offers of its own.

use std::path::Path;

use mentat_manifest::{ByteCount, FileAccess};
use mentat_runtime::error::Reason;
use mentat_runtime::model::Invocation;
use mentat_runtime::security::offers::Mount;
use mentat_runtime::security::policy::OnViolation;

use crate::harness::{Test, runtime};
use crate::world::{EVERYTHING, World};

fn lines(lines: &[&str]) -> String {
    lines.join("\n")
}

#[tokio::test]
async fn files_are_read_written_listed_and_removed_within_the_grant() {
    let world = World::new(&["filesystem:readwrite:/data"]);
    let ask = async |arguments: &[&str]| {
        world.ask(&lines(&[&["filesystem:readwrite:/data"], arguments].concat())).await
    };
    assert_eq!(ask(&[r#"{"op":"read","path":"/data/hello.txt"}"#]).await, (0, "hello".into()));
    let part = r#"{"op":"read","path":"/data/hello.txt","offset":1,"length":3}"#;
    assert_eq!(ask(&[part]).await, (0, "ell".into()));
    let (code, listed) = ask(&[r#"{"op":"list"}"#]).await;
    let names = ["absolute", "hello.txt", "into", "private", "up"];
    assert_eq!(code, 0);
    let entries: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let found: Vec<&str> =
        entries["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(found, names);
    let written = ask(&[
        r#"{"op":"write","path":"/data/new.txt","data":"one"}"#,
        r#"{"op":"append","path":"/data/new.txt","data_base64":"dHdv"}"#,
        r#"{"op":"read","path":"/data/new.txt"}"#,
    ]);
    assert_eq!(written.await, (0, "onetwo".into()));
    let (_, stat) = ask(&[r#"{"op":"stat","path":"/data/new.txt"}"#]).await;
    assert!(stat.contains(r#""size":6"#) && stat.contains(r#""type":"file""#), "{stat}");
    assert_eq!(ask(&[r#"{"op":"remove","path":"/data/new.txt"}"#]).await.0, 0);
    assert!(!world.path("new.txt").exists());
    let (code, text) = ask(&[r#"{"op":"read","path":"/data/new.txt"}"#]).await;
    assert_eq!(code, -4, "{text}");
}

#[tokio::test]
async fn no_path_leads_out_of_the_grant() {
    let world = World::new(&["filesystem:readwrite:/data"]);
    for (path, code) in [
        ("/data/../etc/passwd", -3),
        ("data/hello.txt", -3),
        ("/data/absolute", -2),
        ("/data/up/etc/passwd", -2),
        ("/etc/passwd", -2),
        ("/database", -2),
        ("/data/hello.txt\\u0000", -3),
        ("/", -2),
    ] {
        for op in [r#""op":"read""#, r#""op":"write","data":"x""#, r#""op":"list""#] {
            let input = format!("filesystem:readwrite:/data\n{{{op},\"path\":\"{path}\"}}");
            let (found, text) = world.ask(&input).await;
            assert_eq!(found, code, "{input}: {text}");
        }
    }
    let long =
        format!("filesystem:read:/data\n{{\"op\":\"read\",\"path\":\"/data/{}\"}}", "x".repeat(100_000));
    assert_eq!(world.ask(&long).await.0, -3);
    assert!(Path::new("/etc/passwd").exists());
}

#[tokio::test]
async fn a_policy_for_a_part_of_a_directory_holds_by_whatever_name_it_is_reached() {
    let forbid = format!(
        "{EVERYTHING}\n@id(\"private\") forbid (principal, action, resource in Path::\"/data/private\");"
    );
    let world = World::new(&["filesystem:readwrite:/data"]).policies(&forbid);
    let ask = async |path: &str| {
        world.ask(&format!("filesystem:read:/data\n{{\"op\":\"read\",\"path\":\"{path}\"}}")).await
    };
    assert_eq!(ask("/data/hello.txt").await, (0, "hello".into()));
    for path in ["/data/private/key.txt", "/data//private/./key.txt", "/data/into"] {
        let (code, text) = ask(path).await;
        assert_eq!(code, -2, "{path}: {text}");
        assert!(text.contains("`private`"), "{path}: {text}");
    }
}

#[tokio::test]
async fn what_may_only_be_written_cannot_be_read() {
    let world = World::new(&["filesystem:write:/data"]);
    let ask = async |arguments: &str| world.ask(&format!("filesystem:write:/data\n{arguments}")).await;
    assert_eq!(ask(r#"{"op":"write","path":"/data/x","data":"x"}"#).await.0, 0);
    for read in [r#"{"op":"read","path":"/data/x"}"#, r#"{"op":"list"}"#, r#"{"op":"stat","path":"/data/x"}"#]
    {
        assert_eq!(ask(read).await.0, -2, "{read}");
    }
}

#[tokio::test]
async fn the_scratch_directory_is_empty_each_time_and_has_a_quota() {
    let world = World::new(&["filesystem:readwrite:/tmp"]);
    for _ in 0..2 {
        let (code, listed) = world
            .ask("filesystem:readwrite:/tmp\n{\"op\":\"list\"}\n{\"op\":\"write\",\"path\":\"/tmp/x\",\"data\":\"x\"}\n{\"op\":\"list\"}")
            .await;
        assert_eq!((code, listed.matches("name").count()), (0, 1), "{listed}");
    }
    let mut quota = World::new(&["filesystem:write:/data"]);
    quota.offers.mounts[0].quota = Some(ByteCount(10_000));
    let write = |name: &str| {
        format!("{{\"op\":\"write\",\"path\":\"/data/{name}\",\"data\":\"{}\"}}", "x".repeat(4000))
    };
    let (code, text) = quota.ask(&lines(&["filesystem:write:/data", &write("a"), &write("b")])).await;
    assert_eq!(code, -6, "{text}");
    assert!(
        text.contains("`/data` is full") && quota.path("a").exists() && !quota.path("b").exists(),
        "{text}"
    );
}

#[tokio::test]
async fn variables_and_budgets_are_given_by_handles_as_well() {
    let world = World::new(&["env:KEY", "env:OTHER", "compute:memory=128MB,fuel=5000000000,cpu_ms=60000"]);
    assert_eq!(world.ask("env:KEY\n{\"op\":\"get\"}").await, (0, "value".into()));
    let (code, text) = world.ask("env:OTHER\n{}").await;
    assert_eq!(code, -4);
    assert!(text.contains("[[sandbox.env]]"), "{text}");
    let (code, told) = world.ask("compute:fuel=4000000000\n{}").await;
    assert_eq!((code, told.contains("4000000000")), (0, true), "{told}");
    let (code, text) = world.ask("compute:fuel=6000000000\n{}").await;
    assert_eq!(code, -1, "{text}");
}

#[tokio::test]
async fn a_budget_that_was_raised_is_there_to_be_used() {
    let guest = r#"(module
        (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
        (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "compute:memory=128MB,fuel=90000000")
        (func (export "process") (result i32)
          (local $i i32)
          (if (i32.ne (memory.grow (i32.const 1500)) (i32.const -1)) (then (return (i32.const 1))))
          (if (i32.lt_s (call $invoke (call $request (i32.const 0) (i32.const 34)) (i32.const 0) (i32.const 0))
              (i32.const 0)) (then (return (i32.const 2))))
          (if (i32.eq (memory.grow (i32.const 1500)) (i32.const -1)) (then (return (i32.const 3))))
          (local.set $i (i32.const 10000000))
          (loop $again
            (local.set $i (i32.sub (local.get $i) (i32.const 1)))
            (br_if $again (local.get $i)))
          (i32.const 0)))"#;
    let loaded = Test::wat(guest).load().await.unwrap();
    let world = World::new(&["compute:memory=128MB,fuel=90000000"]);
    let outcome = runtime().execute(&loaded.module, &world.grant(), Invocation::new("")).await;
    assert_eq!(outcome.result.unwrap().exit_code, 0);
}

#[tokio::test]
async fn handles_cannot_be_guessed_kept_or_hoarded() {
    let guest = r#"(module
        (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
        (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
        (import "mentat" "release_capability" (func $release (param i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "env:KEY")
        (func $expect (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
        (func (export "process") (result i32)
          (local $handle i32) (local $i i32)
          (loop $guess
            (call $expect (call $invoke (local.get $i) (i32.const 0) (i32.const 0)) (i32.const -9))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $guess (i32.lt_u (local.get $i) (i32.const 1000))))
          (call $expect (call $invoke (i32.const -1) (i32.const 0) (i32.const 0)) (i32.const -9))
          (local.set $handle (call $request (i32.const 0) (i32.const 7)))
          (call $expect (call $invoke (local.get $handle) (i32.const 0) (i32.const 0)) (i32.const 5))
          (call $expect (call $release (local.get $handle)) (i32.const 0))
          (call $expect (call $release (local.get $handle)) (i32.const -9))
          (call $expect (call $invoke (local.get $handle) (i32.const 0) (i32.const 0)) (i32.const -9))
          (local.set $i (i32.const 0))
          (loop $hoard
            (if (i32.le_s (call $request (i32.const 0) (i32.const 7)) (i32.const 0)) (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $hoard (i32.lt_u (local.get $i) (i32.const 64))))
          (call $request (i32.const 0) (i32.const 7))))"#;
    let loaded = Test::wat(guest).load().await.unwrap();
    let world = World::new(&["env:KEY"]);
    let outcome = runtime().execute(&loaded.module, &world.grant(), Invocation::new("")).await;
    assert_eq!(outcome.result.unwrap().exit_code, -6);
}

#[tokio::test]
async fn a_violation_ends_the_execution_where_the_operator_wants_that() {
    let mut world = World::new(&["env:KEY"]);
    world.on_violation = OnViolation::Terminate;
    assert_eq!(world.ask("env:KEY\n{}").await.0, 0);
    for asked in ["env:OTHER\n{}", "filesystem:read:/data"] {
        let error = world.run(asked).await.result.unwrap_err();
        assert_eq!(error.reason(), Reason::SecurityViolation);
        assert!(error.to_string().contains("not in the manifest"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_capability_or_no_arguments_is_malformed() {
    let world = World::new(&["env:KEY", "filesystem:read:/data"]);
    for input in
        ["", "nonsense", "env:", "env:A=B", "network:ftp:x", "filesystem:read:data", "env:KEY\n{\"op\":1}"]
    {
        let (code, text) = world.ask(input).await;
        assert_eq!(code, -3, "{input}: {text}");
    }
    for arguments in
        ["", "{}", "[]", "{\"op\":\"format\"}", "{\"op\":\"read\",\"x\":1}", "\u{0}", "{\"op\":\"read\""]
    {
        let (code, text) = world.ask(&format!("filesystem:read:/data\n{arguments}\n")).await;
        assert_eq!(code, -3, "{arguments}: {text}");
    }
}

const EACCES: i32 = 2;
const EMFILE: i32 = 33;
const ENOENT: i32 = 44;
const ENOSPC: i32 = 51;
const EPERM: i32 = 63;

#[tokio::test]
async fn wasi_gives_the_directories_of_the_grant_and_keeps_guests_in_them() {
    let world = World::new(&["filesystem:readwrite:/data"]);
    assert_eq!(
        world.files("r hello.txt\nw new\nl .\ns new\nd sub\nm new sub/new\nr into").await,
        (0, "hellosecret".into())
    );
    assert!(world.path("sub/new").exists());
    for (line, status) in [
        ("r ../etc/passwd", EPERM),
        ("r /etc/passwd", EPERM),
        ("r absolute", EPERM),
        ("r up/etc/passwd", EPERM),
        ("r private/../../x", EPERM),
        ("r nothing", ENOENT),
        ("k ../../etc escape\nr escape/passwd", EPERM),
        ("m ../x y", EPERM),
        ("h ../x y", EPERM),
    ] {
        assert_eq!(world.files(line).await.0, status, "{line}");
    }
    let read_only = World::new(&["filesystem:read:/data"]);
    assert_eq!(read_only.files("r hello.txt").await, (0, "hello".into()));
    for line in ["w new", "u hello.txt", "d sub", "m hello.txt x", "k a b", "h hello.txt x", "t hello.txt"] {
        assert!([EPERM, EACCES].contains(&read_only.files(line).await.0), "{line}");
    }
}

#[tokio::test]
async fn what_wasi_may_only_write_it_cannot_look_at() {
    let world = World::new(&["filesystem:write:/data"]);
    assert_eq!(world.files("w new\nd sub\nm new sub/new\nu sub/new").await.0, 0);
    for line in ["r hello.txt", "o hello.txt", "l .", "s hello.txt"] {
        assert_eq!(world.files(line).await.0, EACCES, "{line}");
    }
}

#[tokio::test]
async fn a_policy_for_a_part_of_a_directory_holds_for_wasi_by_whatever_name_it_is_reached() {
    let forbid = format!(
        "{EVERYTHING}\n@id(\"private\") forbid (principal, action, resource in Path::\"/data/private\");"
    );
    let world = World::new(&["filesystem:readwrite:/data"]).policies(&forbid);
    assert_eq!(world.files("r hello.txt\nw new\ns new").await, (0, "hello".into()));
    for line in [
        "r private/key.txt",
        "r ./private//key.txt",
        "r into",
        "w into",
        "s private/key.txt",
        "l private",
        "u private/key.txt",
        "m private open",
        "m private/key.txt key",
        "h private/key.txt key",
        "k private/key.txt link\nr link",
        "k private way\nr way/key.txt",
        "d private/new",
        "m hello.txt private/hello.txt",
    ] {
        assert_eq!(world.files(line).await.0, EACCES, "{line}");
    }
    assert_eq!(std::fs::read_to_string(world.path("private/key.txt")).unwrap(), "secret");
}

#[tokio::test]
async fn a_file_that_was_granted_by_itself_is_all_there_is() {
    let world = World::new(&["filesystem:read:/data/hello.txt"]);
    assert_eq!(world.files("r hello.txt").await, (0, "hello".into()));
    for line in ["r private/key.txt", "l .", "s private", "w hello.txt"] {
        assert_eq!(world.files(line).await.0, EACCES, "{line}");
    }
}

#[tokio::test]
async fn a_file_that_was_granted_by_itself_is_found_whatever_policies_speak_of() {
    let named = "permit (principal, action, resource == Path::\"/data/hello.txt\");";
    let world = World::new(&["filesystem:read:/data/hello.txt"]).policies(named);
    assert_eq!(world.files("r hello.txt").await, (0, "hello".into()));
    assert_eq!(world.files("r private/key.txt").await.0, EACCES);
}

#[tokio::test]
async fn what_can_only_be_written_does_not_become_readable_elsewhere() {
    let other = tempfile::tempdir().unwrap();
    let mount = |folder: &Path, guest| Mount::new(folder, guest, FileAccess::ReadWrite).unwrap();
    let mut both = World::new(&["filesystem:readwrite:/data", "filesystem:readwrite:/other"]);
    both.offers.mounts.push(mount(other.path(), "/other"));
    assert_eq!(both.files("x hello.txt moved").await.0, 0);
    let mut safe = World::new(&["filesystem:write:/data", "filesystem:readwrite:/other"]);
    safe.offers.mounts.push(mount(other.path(), "/other"));
    assert_eq!(safe.files("x private/key.txt key").await.0, EACCES);
    assert!(safe.path("private/key.txt").exists());
}

#[tokio::test]
async fn wasi_writes_no_more_than_the_quota_and_opens_no_more_than_its_share() {
    let mut world = World::new(&["filesystem:readwrite:/data"]);
    world.offers.mounts[0].quota = Some(ByteCount(12_000));
    assert_eq!(world.files("w a\nw b").await.0, 0);
    assert_eq!(world.files("w a\nw b\nw c").await.0, ENOSPC);
    assert_eq!(world.files("t a").await.0, ENOSPC);
    assert_eq!(world.files("d a1\nd a2\nd a3").await.0, ENOSPC);
    assert_eq!(world.files("k x b1\nk x b2\nk x b3").await.0, ENOSPC);
    let open = "o hello.txt\n".repeat(200);
    assert_eq!(world.files(&open).await.0, EMFILE);
    for name in 0..10_001 {
        std::fs::write(world.path("private").join(name.to_string()), "").unwrap();
    }
    assert_eq!(world.files("l .\nl private").await.0, 61);
}

#[tokio::test]
async fn the_scratch_directory_of_wasi_is_the_executions_own() {
    let world = World::new(&["filesystem:readwrite:/tmp"]);
    for _ in 0..2 {
        assert_eq!(world.files("w x\nl .\nr x").await.0, 0);
        assert_eq!(world.files("r x").await.0, ENOENT);
    }
}
