//! What WASI refuses, by either version of it, and what the log says of it.

use mentat_manifest::FileAccess;
use mentat_runtime::model::Outcome;

use crate::capabilities::world;
use crate::harness::{Test, messages, runtime};
use crate::world::{EVERYTHING, World};

const EACCES: i32 = 2;
const EBADF: i32 = 8;

/// The directory of the other tests, of which a policy forbids a part.
fn with_a_forbidden_part(capabilities: &[&str]) -> World {
    let forbid = "@id(\"private\") forbid (principal, action, resource in Path::\"/data/private\");";
    let mut world = world(capabilities);
    world.policies = format!("{EVERYTHING}\n{forbid}");
    world
}

async fn run(world: &World, guest: &str, input: &str) -> Outcome {
    let loaded = Test::wat(guest).load().await.unwrap();
    world.run(runtime(), &loaded, input.to_owned()).await
}

/// Exit status of a command of WASI's forerunner that does these things to files.
async fn forerunner(world: &World, input: &str) -> i32 {
    let guest = include_str!("../files.wat").replace("wasi_snapshot_preview1", "wasi_unstable");
    let outcome = run(world, &guest, input).await;
    outcome.result.unwrap_or_else(|error| panic!("{input}: {error}")).exit_code
}

#[tokio::test]
async fn the_forerunner_of_wasi_has_the_same_files_and_no_others() {
    let parted = with_a_forbidden_part(&["filesystem:readwrite:/data", "env:KEY"]);
    assert_eq!(forerunner(&parted, "r hello.txt\nw new\nr new").await, 0);
    for (line, status) in
        [("r private/key.txt", EACCES), ("r into", EACCES), ("w private/new", EACCES), ("r ../x", EACCES)]
    {
        assert_eq!(forerunner(&parted, line).await, status, "{line}");
    }
    let nothing = world(&[]);
    assert_eq!(forerunner(&nothing, "r hello.txt").await, EBADF);
    let guest = include_str!("../see_all.wat").replace("wasi_snapshot_preview1", "wasi_unstable");
    let seen = run(&parted, &guest, "").await.result.unwrap().output;
    assert_eq!(seen, "args=1 env=1 preopen=0");
}

#[tokio::test]
async fn a_refusal_by_wasi_is_told_in_the_log_once_with_what_would_give_it() {
    let told = async |world: &World, input: &str| {
        let outcome = run(world, include_str!("../files.wat"), input).await;
        messages(&outcome.logs).join("\n")
    };
    let parted = with_a_forbidden_part(&["filesystem:readwrite:/data"]);
    assert_eq!(
        told(&parted, "r private/key.txt").await,
        "capability `filesystem:read:/data/private/key.txt` is forbidden by the policy `private`; the operator excepts \
         it there with `unless { principal == Agent::\"a.b\" && action == Action::\"filesystem:read\" && resource is \
         Path && resource in Path::\"/data/private/key.txt\" }`"
    );
    let read_only = world(&["filesystem:read:/data"]);
    assert_eq!(
        told(&read_only, "w new").await,
        "capability `filesystem:write:/data` is not in the manifest of `a.b`; add `- \"filesystem:write:/data\"` \
         under `wasm.capabilities`"
    );
    let mut mounted = world(&["filesystem:readwrite:/data"]);
    mounted.offers.mounts[0].access = FileAccess::Read;
    let said = told(&mounted, "w new").await;
    assert!(
        said.contains("the mount `/data` is read") && said.contains("`access` in `[[sandbox.mounts]]`"),
        "{said}"
    );

    // A guest that asks for the same over and over, and for many things.
    let guest = r#"(module
        (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "private/key-aa")
        (func (export "_start")
          (local $i i32)
          (loop $again
            (i32.store8 (i32.const 12) (i32.add (i32.const 97) (i32.rem_u (local.get $i) (i32.const 26))))
            (i32.store8 (i32.const 13) (i32.add (i32.const 97) (i32.rem_u (i32.div_u (local.get $i) (i32.const 26)) (i32.const 26))))
            (if (i32.ne (call $stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 14) (i32.const 100)) (i32.const 2))
              (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))))"#;
    let outcome = run(&parted, guest, "").await;
    outcome.result.unwrap();
    assert_eq!(outcome.logs.len(), 50);
}
