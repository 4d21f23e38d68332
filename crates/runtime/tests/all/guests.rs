//! Every guest of `tests/guests`: each file says in its first lines what must come of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mentat_manifest::{ByteCount, Fuel, LimitsRequest, Metering};
use mentat_runtime::model::Outcome;

use crate::harness::{Test, messages};

/// What a guest's first lines say.
#[derive(Default)]
struct Expectation {
    expect: String,
    says: Vec<String>,
    logs: Vec<String>,
    output: Option<Vec<u8>>,
    input: Vec<u8>,
    limits: LimitsRequest,
    within: Option<Duration>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests")
}

fn unescape(text: &str) -> Vec<u8> {
    let text: String =
        serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| panic!("bad string: {text}"));
    text.into_bytes()
}

fn parse(text: &str) -> Expectation {
    let mut found = Expectation::default();
    for line in text.lines().map_while(|line| line.strip_prefix(";;")) {
        let Some((key, value)) = line.trim().split_once(':') else { continue };
        let value = value.trim();
        match key {
            "expect" => found.expect = value.split_whitespace().collect::<Vec<_>>().join(" "),
            "says" => found.says.push(value.to_owned()),
            "logs" => found.logs.push(value.to_owned()),
            "output" => found.output = Some(unescape(value)),
            "input" => found.input = unescape(value),
            "within_ms" => found.within = Some(Duration::from_millis(value.parse().unwrap())),
            "limits" => {
                for limit in value.split_whitespace() {
                    let (key, value) = limit.split_once('=').unwrap();
                    let bytes = || value.parse::<ByteCount>().unwrap();
                    match key {
                        "timeout_ms" => {
                            found.limits.timeout = Some(Duration::from_millis(value.parse().unwrap()));
                        }
                        "memory" => found.limits.memory_bytes = Some(bytes()),
                        "fuel" => found.limits.fuel = Some(Fuel(value.parse().unwrap())),
                        "output" => found.limits.output_bytes = Some(bytes()),
                        "log" => found.limits.log_bytes = Some(bytes()),
                        "metering" => {
                            found.limits.metering =
                                Some(if value == "epoch" { Metering::Epoch } else { Metering::Fuel });
                        }
                        other => panic!("unknown limit {other}"),
                    }
                }
            }
            _ => {}
        }
    }
    assert!(!found.expect.is_empty(), "the guest has no `expect` line");
    found
}

fn complaint(expected: &Expectation, outcome: &Outcome, took: Duration) -> Option<String> {
    let got = match &outcome.result {
        Ok(answer) if answer.exit_code == 0 => "ok".to_owned(),
        Ok(answer) => format!("exit {}", answer.exit_code),
        Err(error) => error.reason().to_string(),
    };
    let said = match &outcome.result {
        Ok(_) => String::new(),
        Err(error) => format!("{error} {:?}", error.details()),
    };
    let logged = messages(&outcome.logs).join("\n");
    if got != expected.expect {
        return Some(format!("expected {}, got {got}: {said} {logged}", expected.expect));
    }
    if let Some(missing) = expected.says.iter().find(|text| !said.contains(text.as_str())) {
        return Some(format!("`{missing}` is not in: {said}"));
    }
    if let Some(missing) = expected.logs.iter().find(|text| !logged.contains(text.as_str())) {
        return Some(format!("`{missing}` is not logged: {logged}"));
    }
    if let (Some(output), Ok(answer)) = (&expected.output, &outcome.result)
        && answer.output != *output
    {
        return Some(format!("output is {:?}", String::from_utf8_lossy(&answer.output)));
    }
    // Generous, since the machine may be busy: ten times what the file says.
    if let Some(within) = expected.within
        && took > within * 10
    {
        return Some(format!("took {took:?}"));
    }
    None
}

async fn run_family(family: &str) {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder().join(family)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wat"));
    files.sort();
    assert!(!files.is_empty(), "no guests in {family}");
    let mut complaints = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap();
        let expected = parse(&text);
        let module = match wat::parse_str(&text) {
            Ok(module) => module,
            Err(error) => {
                complaints.push(format!("{name}: does not assemble: {error}"));
                continue;
            }
        };
        let test = Test::module(module).input(expected.input.clone()).limits(expected.limits.clone());
        // Twice: what an execution leaves behind must not be there for the next one.
        for round in ["first", "second"] {
            let started = Instant::now();
            let outcome = test.run().await;
            if let Some(complaint) = complaint(&expected, &outcome, started.elapsed()) {
                complaints.push(format!("{name} ({round} run): {complaint}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{} of {family}:\n{}", complaints.len(), complaints.join("\n"));
}

macro_rules! families {
    ($($test:ident: $family:literal,)*) => {
        const FAMILIES: &[&str] = &[$($family),*];
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                run_family($family).await;
            }
        )*
    };
}

families! {
    core_abi_guests_get_what_they_expect: "abi",
    component_guests_get_what_they_expect: "components",
    initialising_guests_get_what_they_expect: "initialise",
    invalid_modules_are_refused_by_name: "invalid-modules",
    greedy_guests_meet_their_limits: "resources",
    trapping_guests_are_reported_with_their_place: "traps",
    wasi_guests_get_what_they_expect: "wasi",
    well_behaved_guests_get_their_answers: "well-behaved",
}

#[test]
fn every_family_of_guests_is_run() {
    let known: BTreeSet<String> = FAMILIES.iter().map(|family| (*family).to_owned()).collect();
    let found: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(known, found);
}
