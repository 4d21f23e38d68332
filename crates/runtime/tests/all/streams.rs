//! What guests say while they work is told to who follows them: in order, whole or marked as cut off, whichever interface they
//! speak.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::LimitsRequest;
use mentat_runtime::error::Reason;
use mentat_runtime::events::{BackPressure, Delivery, EventBuffer, EventLimits, EventReader};
use mentat_runtime::model::{Event, Invocation, Outcome};
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};

use crate::harness::{Test, followed, runtime};

/// Starts a stream `words`, writes two chunks, ends it or does what its input says: `t`raps, `l`eaves it open.
const SPEAKER: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (import "mentat" "end_stream" (func $end (param i32) (result i32)))
  (import "mentat" "record_metric" (func $record (param i32 i32 f64) (result i32)))
  (import "mentat" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "wordshello world\n")
  (func (export "process") (result i32) (local $words i32)
    (drop (call $read (i32.const 100) (i32.const 10)))
    (local.set $words (call $start (i32.const 0) (i32.const 5)))
    (drop (call $write (local.get $words) (i32.const 5) (i32.const 6)))
    (call $log (i32.const 2) (i32.const 5) (i32.const 5))
    (drop (call $write (local.get $words) (i32.const 11) (i32.const 6)))
    (drop (call $record (i32.const 0) (i32.const 5) (f64.const 2)))
    (if (i32.eq (i32.load8_u (i32.const 100)) (i32.const 116)) (then unreachable))
    (if (i32.ne (i32.load8_u (i32.const 100)) (i32.const 108)) (then (drop (call $end (local.get $words)))))
    (i32.const 0)))"#;

/// Writes chunks of 1000 bytes, as many as its input says, and answers the last result.
const FLOOD: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "s")
  (func (export "process") (result i32) (local $stream i32) (local $last i32)
    (drop (call $read (i32.const 0) (i32.const 4)))
    (local.set $stream (call $start (i32.const 100) (i32.const 1)))
    (loop $again
      (local.set $last (call $write (local.get $stream) (i32.const 200) (i32.const 1000)))
      (i32.store (i32.const 0) (i32.sub (i32.load (i32.const 0)) (i32.const 1)))
      (br_if $again (i32.and (i32.eqz (local.get $last)) (i32.ne (i32.load (i32.const 0)) (i32.const 0)))))
    (local.get $last)))"#;

/// A command that writes two lines to stdout.
const COMMAND: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\04\00\00\00\24\00\00\00\04\00\00\00")
  (data (i32.const 32) "one\0atwo\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#;

/// The typed twin: starts `words` by the component interface, writes a chunk, and ends the stream or leaves it.
const COMPONENT: &str = r#"(component
  (import "mentat:agent/errors@1.0.0" (instance $errors
    (type $code (enum "not-in-manifest" "denied" "malformed" "not-found" "too-large" "exhausted" "timed-out"
      "unavailable" "closed" "unsupported"))
    (export "code" (type $c (eq $code)))
    (type $error (record (field "code" $c) (field "message" string)))
    (export "error" (type (eq $error)))))
  (alias export $errors "error" (type $error))
  (import "mentat:agent/streams@1.0.0" (instance $streams
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "output-stream" (type $stream (sub resource)))
    (export "[method]output-stream.write" (func (param "self" (borrow $stream)) (param "chunk" (list u8))
      (result (result (error $error)))))
    (export "[static]output-stream.end" (func (param "this" (own $stream)) (result (result (error $error)))))
    (export "start" (func (param "name" string) (result (result (own $stream) (error $error)))))))
  (core module $libc
    (memory (export "memory") 1)
    (data (i32.const 0) "wordshello")
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.set $free (i32.add (global.get $free) (i32.const 512)))
      (global.get $free)))
  (core instance $libc (instantiate $libc))
  (core func $start (canon lower (func $streams "start")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $write (canon lower (func $streams "[method]output-stream.write")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $end (canon lower (func $streams "[static]output-stream.end")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $code
    (import "libc" "memory" (memory 1))
    (import "host" "start" (func $start (param i32 i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "end" (func $end (param i32 i32)))
    (func (export "run") (result i32)
      (call $start (i32.const 0) (i32.const 5) (i32.const 100))
      (call $write (i32.load (i32.const 104)) (i32.const 5) (i32.const 5) (i32.const 200))
      ENDS
      (i32.load8_u (i32.const 200))))
  (core instance $main (instantiate $code
    (with "libc" (instance $libc))
    (with "host" (instance (export "start" (func $start)) (export "write" (func $write)) (export "end" (func $end))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;

async fn execute(module: &str, input: &'static [u8], events: &Arc<EventBuffer>) -> Outcome {
    Test::wat(module).input(input).events(events).run().await
}

fn grant(timeout: Duration) -> Grant {
    let limits = LimitsRequest { timeout: Some(timeout), ..LimitsRequest::default() };
    Rules::default().decide_for_user(None, &limits, UserPowers::default()).unwrap()
}

async fn all(mut reader: EventReader) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(delivery) = reader.next().await {
        told.push(match delivery {
            Delivery::Missed { first, last } => format!("missed {first} to {last}"),
            Delivery::Event(event) => match &event.event {
                Event::Log(line) => format!("log {}", line.message),
                Event::StreamStart { stream } => format!("start {stream}"),
                Event::StreamData { stream, index, chunk } => {
                    format!("{stream} {index} {:?}", String::from_utf8_lossy(chunk))
                }
                Event::StreamEnd { stream, total_chunks, whole } => {
                    format!("end {stream} {total_chunks} whole={whole}")
                }
                Event::Metric { name, value } => format!("metric {name} {value}"),
                Event::Report(_) | Event::End(_) => "another".into(),
            },
        });
    }
    told
}

#[tokio::test]
async fn what_a_module_says_is_told_in_order_and_a_stream_that_is_cut_off_says_so() {
    let said = ["start words", r#"words 0 "hello ""#, "log hello", r#"words 1 "world\n""#, "metric words 2"];
    for (input, end) in [
        (&b"e"[..], "end words 2 whole=true"),
        (b"l", "end words 2 whole=false"),
        (b"t", "end words 2 whole=false"),
    ] {
        let (events, reader) = followed();
        let outcome = execute(SPEAKER, input, &events).await;
        assert_eq!(outcome.result.is_err(), input == b"t");
        let told = all(reader).await;
        assert_eq!(told, [&said[..], &[end]].concat());
        // Whoever comes late is told the same.
        assert_eq!(all(events.read_from(5)).await, [end]);
    }
}

#[tokio::test]
async fn a_component_says_the_same_by_its_types() {
    let ends = "(call $end (i32.load (i32.const 104)) (i32.const 300))";
    for (ends, last) in [(ends, "end words 1 whole=true"), ("", "end words 1 whole=false")] {
        let (events, reader) = followed();
        let outcome = execute(&COMPONENT.replace("ENDS", ends), b"", &events).await;
        assert_eq!(outcome.result.unwrap().exit_code, 0);
        assert_eq!(all(reader).await, ["start words", r#"words 0 "hello""#, last]);
    }
}

#[tokio::test]
async fn where_nobody_can_ever_read_a_stream_the_guest_is_told() {
    let loaded = Test::wat(FLOOD).load().await.unwrap();
    let invocation = Invocation::new(1_u32.to_le_bytes().to_vec());
    let outcome = runtime().execute(&loaded.module, &grant(Duration::from_secs(30)), invocation).await;
    // No handle, so that writing is to a bad one.
    assert_eq!(outcome.result.unwrap().exit_code, -9);
}

#[tokio::test]
async fn the_output_of_a_command_is_told_as_it_is_written_where_somebody_follows() {
    let (events, reader) = followed();
    let outcome = execute(COMMAND, b"", &events).await;
    assert_eq!(outcome.result.unwrap().output, "one\ntwo\n");
    let told = ["start stdout", r#"stdout 0 "one\n""#, r#"stdout 1 "two\n""#, "end stdout 2 whole=true"];
    assert_eq!(all(reader).await, told);
    let unread = Arc::new(EventBuffer::alone(EventLimits::default(), Arc::default()));
    let outcome = execute(COMMAND, b"", &unread).await;
    assert_eq!(outcome.result.unwrap().output, "one\ntwo\n");
    assert!(unread.is_unused(), "what nobody follows is not kept twice");
}

#[tokio::test]
async fn a_flood_is_held_back_refused_or_passes_a_reader_by_as_configured() {
    static HUNDRED: [u8; 4] = 100_u32.to_le_bytes();
    let with = |back_pressure| {
        let limits = EventLimits { bytes: 1 << 20, count: 10, back_pressure };
        let events = Arc::new(EventBuffer::alone(limits, Arc::default()));
        let reader = events.read_from(0);
        (events, reader)
    };
    let (events, reader) = with(BackPressure::Block(Duration::from_secs(20)));
    let reading = tokio::spawn(async move { all(reader).await });
    let outcome = execute(FLOOD, &HUNDRED, &events).await;
    assert_eq!(outcome.result.unwrap().exit_code, 0);
    assert_eq!(reading.await.unwrap().len(), 102, "all of it came, and what began and ended it");

    let (events, unread) = with(BackPressure::Fail);
    let outcome = execute(FLOOD, &HUNDRED, &events).await;
    assert_eq!(outcome.result.unwrap().exit_code, -6, "EXHAUSTED");
    drop(unread);

    let (events, slow) = with(BackPressure::DropOldest);
    let outcome = execute(FLOOD, &HUNDRED, &events).await;
    assert_eq!(outcome.result.unwrap().exit_code, 0);
    let told = all(slow).await;
    assert_eq!((told[0].as_str(), told.len()), ("missed 0 to 91", 11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_waits_for_its_reader_is_ended_by_its_clock_and_by_a_cancel() {
    let limits = EventLimits { bytes: 1 << 20, count: 2, back_pressure: BackPressure::Block(Duration::MAX) };
    let loaded = Test::wat(FLOOD).load().await.unwrap();
    for is_cancelled in [false, true] {
        let events = Arc::new(EventBuffer::alone(limits, Arc::default()));
        let _stalled = events.read_from(0);
        let input = Bytes::copy_from_slice(&100_u32.to_le_bytes());
        let invocation = Invocation { events: Some(events), ..Invocation::new(input) };
        let cancel = invocation.cancel.clone();
        if is_cancelled {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                cancel.cancel();
            });
        }
        let timeout = Duration::from_millis(if is_cancelled { 30_000 } else { 200 });
        let outcome = runtime().execute(&loaded.module, &grant(timeout), invocation).await;
        let reason = outcome.result.unwrap_err().reason();
        assert_eq!(reason, if is_cancelled { Reason::Cancelled } else { Reason::Timeout });
        assert_eq!(runtime().pool().active(), 0);
    }
}
