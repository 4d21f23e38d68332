//! What a sandbox may take of the machine, in each shape of guest: open files, entries of a directory, time asleep, random
//! bytes, lines of log.

use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::{FileAccess, LimitsRequest, Metering};
use mentat_runtime::error::Reason;
use mentat_runtime::model::{Invocation, Outcome};
use mentat_runtime::security::offers::Mount;
use mentat_runtime::security::policy::{Rules, UserPowers};
use mentat_runtime::{Compiler, EngineConfig, Runtime, RuntimeConfig, SandboxLimits};

use super::calls::{ANSWER, Program, Shape, guest};

const SHAPES: [Shape; 3] = [Shape::Preview1, Shape::Preview0, Shape::Component];
const READ: u64 = 1 << 1;
const EMFILE: u32 = 33;
const ENOMEM: u32 = 48;
const EOVERFLOW: u32 = 61;

/// Runs calls in a runtime with small limits.
async fn run(shape: Shape, folder: &tempfile::TempDir, program: &Program) -> Outcome {
    let sandbox = SandboxLimits {
        open_files: 5,
        directory_entries: 10,
        sleep: Duration::from_millis(300),
        ..SandboxLimits::default()
    };
    let engine = EngineConfig { max_executions: 4, ..EngineConfig::default() };
    let config = RuntimeConfig { sandbox, engine, ..RuntimeConfig::default() };
    let runtime = Arc::new(Runtime::new(config, Compiler::InProcess).unwrap());
    let loaded = runtime.load(guest(shape).into(), Metering::Fuel).await.unwrap();
    let powers = UserPowers {
        mounts: vec![Mount::new(folder.path(), "/data", FileAccess::Read).unwrap()],
        ..UserPowers::default()
    };
    let grant = Rules::default().decide_for_user(None, &LimitsRequest::default(), powers).unwrap();
    runtime.execute(&loaded.module, &grant, Invocation::new(program.input())).await
}

#[tokio::test]
async fn every_shape_of_guest_meets_the_same_limits() {
    let folder = tempfile::tempdir().unwrap();
    for name in 0..11 {
        std::fs::write(folder.path().join(name.to_string()), "x").unwrap();
    }
    let mut program = Program::new();
    program.call("fd_readdir", 8, &[3, ANSWER + 8, 0x8000, 0, ANSWER]);
    // The directory is one of the five.
    for _ in 0..6 {
        program.open("1", 0, 0, READ, 0);
    }
    program.call("fd_close", 0, &[4]).open("1", 0, 0, READ, 0);
    // Twenty thousand lines of log, of which ten thousand are kept.
    for _ in 0..20 {
        program.write(2, &[b'\n'; 1000], None);
    }
    for shape in SHAPES {
        let outcome = run(shape, &folder, &program).await;
        let told = program.told(&outcome.result.unwrap().output);
        let errors: Vec<u32> = told.iter().map(|told| told.errno).collect();
        // WASI 0.2 has no error of its own for too many files.
        let many = if shape == Shape::Component { ENOMEM } else { EMFILE };
        assert_eq!(errors[..9], [EOVERFLOW, 0, 0, 0, 0, many, many, 0, 0], "{shape:?}");
        assert_eq!((outcome.logs.len(), outcome.logs_dropped), (10_000, 10_000), "{shape:?}");
    }
}

#[tokio::test]
async fn every_shape_of_guest_is_woken_when_it_has_slept_enough() {
    let folder = tempfile::tempdir().unwrap();
    for shape in SHAPES {
        // A clock, the monotonic one, for an hour; the forerunner has a number more, and the time behind it.
        let mut subscription = [0_u8; 56];
        let (clock, time) = if shape == Shape::Preview0 { (24, 32) } else { (16, 24) };
        subscription[clock] = 1;
        subscription[time..time + 8].copy_from_slice(&3_600_000_000_000_u64.to_le_bytes());
        let mut program = Program::new();
        let (address, _) = program.put(&subscription);
        program.call("poll_oneoff", 0, &[address, ANSWER, 1, ANSWER + 64]);
        let error = run(shape, &folder, &program).await.result.unwrap_err();
        assert_eq!(error.reason(), Reason::Timeout, "{shape:?}: {error}");
        assert!(error.to_string().contains("300 ms"), "{shape:?}: {error}");
    }
}

#[tokio::test]
async fn no_shape_of_guest_gets_randomness_without_bound() {
    let folder = tempfile::tempdir().unwrap();
    for shape in SHAPES {
        let mut program = Program::new();
        program.call("random_get", 0, &[ANSWER, 1_000]);
        program.call("random_get", 0, &[0, 17 << 20]);
        let error = run(shape, &folder, &program).await.result.unwrap_err();
        assert_eq!(error.reason(), Reason::Trap, "{shape:?}: {error}");
    }
}
