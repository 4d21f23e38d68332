//! Grants with handles, from the outside: a guest asks for a capability and uses it as it may. How it would use it as it
//! may not stands in `tests/hostile`.

use mentat_manifest::{ByteCount, FileAccess};

use crate::harness::{Test, runtime};
use crate::world::World;

/// A directory mounted at `/data`, with a file, a folder and a link in it; policies that permit everything.
pub fn world(capabilities: &[&str]) -> World {
    let mut world = World::new(capabilities);
    world.mount("/data", FileAccess::ReadWrite, None);
    std::fs::write(world.path("/data/hello.txt"), "hello").unwrap();
    std::fs::create_dir(world.path("/data/private")).unwrap();
    std::fs::write(world.path("/data/private/key.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("private/key.txt", world.path("/data/into")).unwrap();
    world.offers.env.insert("KEY".into(), "value".into());
    world
}

/// Exit code and output of asking and using.
async fn ask(world: &World, input: &str) -> (i32, String) {
    let loaded = Test::wat(include_str!("ask.wat")).load().await.unwrap();
    let outcome = world.run(runtime(), &loaded, input.to_owned()).await;
    let answer = outcome.result.unwrap_or_else(|error| panic!("{input}: {error}"));
    (answer.exit_code, String::from_utf8(answer.output.to_vec()).unwrap())
}

fn lines(lines: &[&str]) -> String {
    lines.join("\n")
}

#[tokio::test]
async fn files_are_read_written_listed_and_removed_within_the_grant() {
    let world = world(&["filesystem:readwrite:/data"]);
    let ask = async |arguments: &[&str]| {
        ask(&world, &lines(&[&["filesystem:readwrite:/data"], arguments].concat())).await
    };
    assert_eq!(ask(&[r#"{"op":"read","path":"/data/hello.txt"}"#]).await, (0, "hello".into()));
    let part = r#"{"op":"read","path":"/data/hello.txt","offset":1,"length":3}"#;
    assert_eq!(ask(&[part]).await, (0, "ell".into()));
    let (code, listed) = ask(&[r#"{"op":"list"}"#]).await;
    let names = ["hello.txt", "into", "private"];
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
    assert!(!world.path("/data/new.txt").exists());
    let (code, text) = ask(&[r#"{"op":"read","path":"/data/new.txt"}"#]).await;
    assert_eq!(code, -4, "{text}");
}

#[tokio::test]
async fn what_is_written_over_and_removed_by_a_handle_counts_no_more() {
    let content = "x".repeat(4000);
    let mut world = World::new(&["filesystem:write:/data"]);
    world.mount("/data", FileAccess::ReadWrite, Some(ByteCount(12_000)));
    let ask = async |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ask(&world, &lines(&[&["filesystem:write:/data"], &arguments[..]].concat())).await
    };
    let put = |op: &str, name: &str| format!(r#"{{"op":"{op}","path":"/data/{name}","data":"{content}"}}"#);
    let remove = r#"{"op":"remove","path":"/data/b"}"#.to_owned();
    assert_eq!(ask(&vec![[put("write", "b"), remove]; 10].concat()).await.0, 0);
    assert_eq!(ask(&vec![put("write", "a"); 50]).await.0, 0);
    let (code, text) = ask(&vec![put("append", "a"); 4]).await;
    assert_eq!((code, text.contains("`/data` is full")), (-6, true), "{text}");
    let (code, text) = ask(&[put("write", "b"), put("write", "c")]).await;
    assert_eq!((code, text.contains("`/data` is full")), (-6, true), "{text}");
    assert!(world.path("/data/b").exists() && !world.path("/data/c").exists());
}

#[tokio::test]
async fn variables_and_budgets_are_given_by_handles_as_well() {
    let world = world(&["env:KEY", "env:OTHER", "compute:memory=128MB,fuel=5000000000,cpu_ms=60000"]);
    assert_eq!(ask(&world, "env:KEY\n{\"op\":\"get\"}").await, (0, "value".into()));
    let (code, text) = ask(&world, "env:OTHER\n{}").await;
    assert_eq!(code, -4);
    assert!(text.contains("[[sandbox.env]]"), "{text}");
    let (code, told) = ask(&world, "compute:fuel=4000000000\n{}").await;
    assert_eq!((code, told.contains("4000000000")), (0, true), "{told}");
    let (code, text) = ask(&world, "compute:fuel=6000000000\n{}").await;
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
    let outcome = world.run(runtime(), &loaded, "").await;
    assert_eq!(outcome.result.unwrap().exit_code, 0);
}
