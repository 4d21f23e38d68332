//! Report lines: a command that writes its input to its output, where its manifest says `events: ndjson`. Each line becomes
//! output or a report, whole and in order, and none becomes both or neither.

use std::sync::{Arc, OnceLock};

use mentat_manifest::{Fuel, LimitsRequest, Manifest, Metering};
use mentat_runtime::Loaded;
use mentat_runtime::events::{BackPressure, Delivery, EventBuffer, EventLimits};
use mentat_runtime::model::{Event, Invocation};
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};

use crate::abi::runtime;

/// Bytes of input that are looked at; more says nothing new.
const MAX_INPUT_BYTES: usize = 8 << 10;

const CAT: &str = r#"
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (loop $again
      (i32.store (i32.const 4) (i32.const 100))
      (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (if (i32.eqz (i32.load (i32.const 8))) (then return))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)) (then unreachable))
      (br $again))))
"#;

const MANIFEST: &str = "id: fuzz.cat\nversion: 1.0.0\nruntime: wasm\nmodule: cat.wasm\nevents: ndjson\n";

/// What is made once in a process.
struct Bench {
    executor: tokio::runtime::Runtime,
    loaded: Loaded,
    grant: Grant,
}

/// Executes the command with the bytes as its input.
///
/// # Panics
/// When a line is lost, doubled, torn or moved.
pub fn run(bytes: &[u8]) {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    let bench = BENCH.get_or_init(Bench::new);
    let input = bytes.get(..MAX_INPUT_BYTES).unwrap_or(bytes);
    let limits = EventLimits { bytes: 64 << 20, count: 100_000, back_pressure: BackPressure::Fail };
    let events = Arc::new(EventBuffer::alone(limits, Arc::default()));
    let mut reader = events.read_from(0);
    let (output, said) = bench.executor.block_on(async {
        let invocation = Invocation { events: Some(Arc::clone(&events)), ..Invocation::new(input.to_vec()) };
        let outcome = runtime().execute(&bench.loaded.module, &bench.grant, invocation).await;
        events.close();
        let answer = outcome.result.unwrap_or_else(|error| panic!("the command was stopped: {error}"));
        let (mut chunks, mut said) = (Vec::new(), 0_usize);
        while let Some(delivery) = reader.next().await {
            match delivery {
                Delivery::Event(event) => match &event.event {
                    Event::StreamData { chunk, .. } => chunks.extend_from_slice(chunk),
                    Event::Report(report) => {
                        said += 1;
                        super::check_text(report.message.as_deref().unwrap_or_default(), 64 << 10);
                    }
                    Event::Log(line) => {
                        said += 1;
                        super::check_text(&line.message, 64 << 10);
                    }
                    _ => {}
                },
                Delivery::Missed { first, last } => panic!("events {first} to {last} are missing"),
            }
        }
        assert_eq!(chunks, answer.output, "what was told as it was written is the output");
        (answer.output, said)
    });
    let mut left: &[u8] = &output;
    let mut reported = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match left.strip_prefix(line) {
            Some(rest) => left = rest,
            None => {
                assert!(line.trim_ascii().starts_with(b"{"), "a line is lost: {line:?}");
                reported += 1;
            }
        }
    }
    assert!(left.is_empty(), "output that nobody wrote: {left:?}");
    assert_eq!(reported, said, "lines that are no output are told");
}

impl Bench {
    fn new() -> Self {
        let executor = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let executor = executor.expect("an executor without I/O");
        let module = wat::parse_str(CAT).expect("the guest is WebAssembly text");
        let loaded = executor.block_on(runtime().load(module.into(), Metering::Fuel));
        let loaded = loaded.unwrap_or_else(|error| panic!("the guest can be loaded: {error}"));
        let manifest = Manifest::parse(MANIFEST).expect("the manifest can be read");
        let limits = LimitsRequest {
            fuel: Some(Fuel(10_000_000)),
            log_lines: Some(10_000),
            ..LimitsRequest::default()
        };
        let grant = Rules::default().decide_for_user(Some(&manifest), &limits, UserPowers::default());
        Self { executor, loaded, grant: grant.expect("the limits are under the ceiling") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_among_output_and_their_neighbours_hold() {
        let seeds: Vec<Vec<u8>> = [
            "plain\n{\"type\":\"log\",\"level\":\"warn\",\"message\":\"m\"}\nmore\n",
            "{\"type\":\"progress\",\"data\":{\"percent\":50},\"ts\":1.5}\n{\"type\":\"result\"}\n",
            "  {\"type\":\"heartbeat\"}  \r\n\n{}\n{\"type\":\"checkpoint\",\"message\":\"\\u202e\\u001b\"}",
            "{\"type\":\"metric\",\"data\":[1,2,{\"a\":null}],\"correlation_id\":\"c\"}\n[]\n{\"type\":7}\n",
            "{\"type\":\"log\",\"message\":\"no end of line\"}",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        for bytes in crate::variations(&seeds, 150) {
            run(&bytes);
        }
    }
}
