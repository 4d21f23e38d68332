//! Executions beside each other: what one does, the others do not notice.

use std::time::{Duration, Instant};

use mentat_manifest::{ByteCount, FileAccess, Fuel, LimitsRequest};
use mentat_runtime::error::Reason;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::{Event, Invocation, LogLevel};
use mentat_runtime::security::offers::Mount;
use mentat_runtime::security::policy::{Rules, UserPowers};

use crate::harness::{Test, followed, messages, runtime};

const ECHO: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (drop (call $write (i32.const 0) (call $read (i32.const 0) (i32.const 65536))))
    (i32.const 0)))"#;

const LOOP: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (loop (br 0)) (i32.const 0)))"#;

const GROW: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (loop
      (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536)))
    (loop (br 0))
    (i32.const 0)))"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_executions_finish_beside_one_that_loops_and_one_that_hoards() {
    let looping = tokio::spawn(async {
        Test::wat(LOOP).fuel(1_000_000_000_000).timeout(Duration::from_secs(20)).reason().await
    });
    let hoarding = tokio::spawn(async {
        Test::wat(GROW)
            .fuel(1_000_000_000_000)
            .timeout(Duration::from_secs(20))
            .memory(ByteCount(256 << 20))
            .reason()
            .await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    let echoes: Vec<_> = (0..200)
        .map(|number: u32| {
            tokio::spawn(async move {
                let answer = Test::wat(ECHO).input(format!("number {number}")).answer().await;
                assert_eq!(answer.output, format!("number {number}"));
            })
        })
        .collect();
    for echo in echoes {
        echo.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(15), "the neighbours held everyone up");
    assert!(!looping.is_finished(), "the loop should still be running");
    assert_eq!(looping.await.unwrap(), Reason::Timeout);
    assert_eq!(hoarding.await.unwrap(), Reason::Timeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_call_ends_the_guest_and_gives_its_place_back() {
    let test = Test::wat(LOOP).fuel(1_000_000_000_000);
    test.load().await.unwrap();
    let call = tokio::spawn(async move { test.run().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(runtime().pool().active(), 1);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(runtime().pool().active(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_arrive_while_the_guest_still_runs() {
    let guest = r#"(module
      (import "mentat" "log" (func $log (param i32 i32 i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "still here")
      (func (export "process") (result i32)
        (call $log (i32.const 1) (i32.const 0) (i32.const 10))
        (loop (br 0))
        (i32.const 0)))"#;
    let loaded = Test::wat(guest).load().await.unwrap();
    let (events, mut reader) = followed();
    let limits = LimitsRequest { fuel: Some(Fuel(1_000_000_000_000)), ..LimitsRequest::default() };
    let grant = Rules::default().decide_for_user(None, &limits, UserPowers::default()).unwrap();
    let call = tokio::spawn(async move {
        let invocation = Invocation { events: Some(events), ..Invocation::new("") };
        runtime().execute(&loaded.module, &grant, invocation).await
    });
    let Some(Delivery::Event(event)) = reader.next().await else { panic!("no event") };
    let Event::Log(line) = &event.event else { panic!("another event") };
    assert_eq!((line.level, line.message.as_str()), (LogLevel::Warn, "still here"));
    assert!(!call.is_finished());
    call.abort();
}

#[tokio::test]
async fn an_execution_is_charged_its_fuel_and_its_peak_of_memory() {
    let outcome = Test::wat(
        r#"(module (memory (export "memory") 2)
          (func (export "process") (result i32) (drop (memory.grow (i32.const 3))) (i32.const 0)))"#,
    )
    .run()
    .await;
    outcome.result.unwrap();
    assert_eq!(outcome.usage.peak_memory, ByteCount(5 << 16));
    assert!(outcome.usage.fuel.unwrap().0 > 0);
    let longer = Test::wat(ECHO).input(vec![0; 1 << 15]).run().await;
    let shorter = Test::wat(ECHO).input(vec![0; 1 << 10]).run().await;
    assert!(longer.usage.fuel > shorter.usage.fuel, "copying costs fuel");
}

#[tokio::test]
async fn a_wasi_command_sees_only_what_its_user_gave() {
    let module = Test::module(wat::parse_str(include_str!("see_all.wat")).unwrap());
    let nothing = module.run().await;
    assert_eq!(nothing.result.unwrap().output, "args=1 env=0 preopen=8");
    let directory = tempfile::tempdir().unwrap();
    let powers = UserPowers {
        args: vec!["one".into(), "two".into()],
        env: vec![("KEY".into(), "value".into())],
        mounts: vec![Mount::new(directory.path(), "/data", FileAccess::Read).unwrap()],
        ..UserPowers::default()
    };
    let given = Test::module(wat::parse_str(include_str!("see_all.wat")).unwrap()).powers(powers).run().await;
    assert_eq!(given.result.unwrap().output, "args=3 env=1 preopen=0");
    assert_eq!(messages(&given.logs), Vec::<&str>::new());
}

#[tokio::test]
async fn a_mount_that_is_not_there_is_not_there_for_the_guest_and_the_log_says_so() {
    let powers = UserPowers {
        mounts: vec![Mount::new("/no/such/directory", "/data", FileAccess::Read).unwrap()],
        ..UserPowers::default()
    };
    let outcome =
        Test::module(wat::parse_str(include_str!("see_all.wat")).unwrap()).powers(powers).run().await;
    assert_eq!(outcome.result.unwrap().output, "args=1 env=0 preopen=8");
    let said = messages(&outcome.logs).join(" ");
    assert!(said.contains("`/data` cannot be opened") && !said.contains("/no/such"), "{said}");
}
