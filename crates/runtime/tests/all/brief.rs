//! Executions that are over in a moment take place on the caller's stack, longer ones on a fibre, and some begin on the one
//! and are begun anew on the other: nobody can tell from what comes of them.

use std::time::Duration;

use crate::harness::{Test, followed, runtime};
use bytes::Bytes;
use mentat_manifest::{Fuel, LimitsRequest, Metering};
use mentat_runtime::error::Reason;
use mentat_runtime::model::{HostCallKind, Invocation, Outcome};
use mentat_runtime::security::policy::{Rules, UserPowers};
use mentat_runtime::{Expected, Loaded};

/// Says `begun`, counts down from the number that is its input, and writes how often it did.
const COUNTS: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "begun")
  (func (export "process") (result i32)
    (call $log (i32.const 2) (i32.const 100) (i32.const 5))
    (drop (call $read (i32.const 0) (i32.const 8)))
    (loop $again
      (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
      (i32.store (i32.const 0) (i32.sub (i32.load (i32.const 0)) (i32.const 1)))
      (br_if $again (i32.load (i32.const 0))))
    (call $write (i32.const 8) (i32.const 4))))"#;
/// More than what a brief execution can.
const MANY: u32 = 1_000_000;

/// Who has little time is not tried on the caller's stack.
const ON_A_FIBRE: Duration = Duration::from_millis(99);
const ANYWHERE: Duration = Duration::from_secs(30);

async fn count(loaded: &Loaded, times: u32, fuel: u64, timeout: Duration) -> Outcome {
    let limits = LimitsRequest { fuel: Some(Fuel(fuel)), timeout: Some(timeout), ..LimitsRequest::default() };
    let grant = Rules::default().decide_for_user(None, &limits, UserPowers::default()).unwrap();
    let (events, mut reader) = followed();
    let invocation = Invocation { events: Some(events), ..Invocation::new(times.to_le_bytes().to_vec()) };
    let outcome = runtime().execute(&loaded.module, &grant, invocation).await;
    let told = std::iter::from_fn(|| reader.now()).count();
    assert_eq!(told, outcome.logs.len(), "each line is told once");
    outcome
}

fn assert_counted(outcome: &Outcome, times: u32) {
    let answer = outcome.result.as_ref().unwrap();
    assert_eq!((answer.exit_code, &answer.output[..]), (0, &times.to_le_bytes()[..]));
    let lines: Vec<&str> = outcome.logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(lines, ["begun"]);
    for kind in [HostCallKind::Input, HostCallKind::Output, HostCallKind::Log] {
        assert!(outcome.host_calls.iter().any(|call| call == (kind, 1)), "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_begun_anew_leaves_no_trace_and_costs_what_it_takes() {
    let test = Test::wat(COUNTS);
    let loaded = test.load().await.unwrap();
    let brief = count(&loaded, 10, 1_000_000_000, ANYWHERE).await;
    assert_counted(&brief, 10);
    let on_a_fibre = count(&loaded, 10, 1_000_000_000, ON_A_FIBRE).await;
    assert_counted(&on_a_fibre, 10);
    assert_eq!(brief.usage.fuel, on_a_fibre.usage.fuel);
    assert_eq!(brief.usage.peak_memory, on_a_fibre.usage.peak_memory);
    // The first finds out that it is long, the second is not tried.
    let mut fuel = Vec::new();
    for _ in 0..2 {
        let long = count(&loaded, MANY, 1_000_000_000, ANYWHERE).await;
        assert_counted(&long, MANY);
        fuel.push(long.usage.fuel);
    }
    assert!(fuel[0] > Some(Fuel(u64::from(MANY))) && fuel[0] == fuel[1], "{fuel:?}");
    assert_counted(&count(&loaded, 10, 1_000_000_000, ANYWHERE).await, 10);
}

#[tokio::test]
async fn fuel_runs_out_where_it_does_on_a_fibre() {
    // Another module, so that nothing is known of how long it takes.
    let test = Test::wat(&COUNTS.replace("begun", "begin"));
    let loaded = test.load().await.unwrap();
    for fuel in [10, 5_000, 999_999, 1_000_000, 1_000_001, 3_000_000] {
        let mut outcomes = Vec::new();
        for timeout in [ANYWHERE, ON_A_FIBRE] {
            let outcome = count(&loaded, MANY, fuel, timeout).await;
            assert_eq!(outcome.result.as_ref().unwrap_err().reason(), Reason::FuelExhausted, "{fuel}");
            outcomes.push((outcome.usage.fuel, outcome.logs.len(), outcome.result.unwrap_err().to_string()));
        }
        assert_eq!(outcomes[0], outcomes[1], "{fuel}");
    }
    assert_eq!(loaded.module.metering(), Metering::Fuel);
}

/// Grows its memory by as many pages as its input says, and writes what that answered: how many there were before.
const GROWS: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "process") (result i32)
    (drop (call $read (i32.const 0) (i32.const 8)))
    (i32.store (i32.const 0) (memory.grow (i32.load (i32.const 0))))
    (call $write (i32.const 0) (i32.const 4))))"#;

#[tokio::test]
async fn who_needs_more_memory_than_a_brief_execution_has_is_given_it() {
    let loaded = Test::wat(GROWS).load().await.unwrap();
    // As often as makes it one of whom short executions are expected, which have less.
    for _ in 0..80 {
        assert_grown(&loaded, 1).await;
    }
    let rules = Rules::default();
    let grant = rules.decide_for_user(None, &LimitsRequest::default(), UserPowers::default()).unwrap();
    let is_short = |pages: u32| {
        let input = Bytes::from(pages.to_le_bytes().to_vec());
        runtime().execute_now(&loaded.module, &grant, &input, Expected::Short).is_some()
    };
    assert_eq!(loaded.module.expected(), Expected::Short);
    assert!(is_short(1));
    assert!(!is_short(40));
    assert_eq!(loaded.module.expected(), Expected::Brief);
    assert_grown(&loaded, 40).await;
    // 12 MiB; those after the first are not tried on the caller's stack.
    for pages in [100, 200, 200, 100] {
        assert_grown(&loaded, pages).await;
    }
}

async fn assert_grown(loaded: &Loaded, pages: u32) {
    let outcome = count(loaded, pages, 1_000_000_000, ANYWHERE).await;
    let answer = outcome.result.as_ref().unwrap();
    assert_eq!(answer.output[..], 1_u32.to_le_bytes(), "{pages} pages");
    assert_eq!(outcome.usage.peak_memory.0, u64::from(pages + 1) << 16);
}

#[tokio::test]
async fn what_is_refused_besides_does_not_hide_that_memory_was() {
    let grows = GROWS.replace(
        "(i32.store (i32.const 0) (memory.grow (i32.load (i32.const 0))))",
        "(i32.store (i32.const 0) (memory.grow (i32.load (i32.const 0))))
         (drop (table.grow $t (ref.null func) (i32.const 50000000)))",
    );
    let grows = grows.replace("(memory (export", "(table $t 1 funcref) (memory (export");
    let loaded = Test::wat(&grows).load().await.unwrap();
    assert_grown(&loaded, 200).await;
}
