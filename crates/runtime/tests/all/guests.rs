//! Every guest of `tests/guests`: each file says in its first lines what must come of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mentat_runtime::Tier;

use crate::harness::{Test, baseline_runtime, runtime};
use crate::headers::Headers;

/// Guests with instructions that Winch does not know.
const BEYOND_BASELINE: [&str; 6] = [
    "exception-that-nobody-catches",
    "exceptions",
    "garbage-collection",
    "references",
    "tail-calls",
    "vectors",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests")
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
        let headers = Headers::parse(&text);
        let module = match wat::parse_str(&text) {
            Ok(module) => module,
            Err(error) => {
                complaints.push(format!("{name}: does not assemble: {error}"));
                continue;
            }
        };
        let test = Test::module(module).input(headers.input.clone()).limits(headers.limits.clone());
        // On both tiers of code: the same comes of it. Twice on one: what an execution leaves behind must not be there for
        // the next one.
        let mut fuel = Vec::new();
        for (round, runtime) in
            [("baseline", baseline_runtime()), ("first", runtime()), ("second", runtime())]
        {
            if round == "baseline"
                && let Ok(loaded) = test.load_in(runtime).await
                && (loaded.module.tier() == Tier::Optimized)
                    != (loaded.module.info().component || BEYOND_BASELINE.contains(&&*name))
            {
                complaints.push(format!("{name}: it runs on {:?} code", loaded.module.tier()));
            }
            let started = Instant::now();
            let outcome = test.run_in(runtime).await;
            if let Some(complaint) = headers.complaint(&outcome, started.elapsed()) {
                complaints.push(format!("{name} ({round} run): {complaint}"));
            }
            // One that is cut off has counted to where it last looked.
            fuel.extend(outcome.result.is_ok().then_some(outcome.usage.fuel));
        }
        fuel.dedup();
        if fuel.len() > 1 {
            complaints.push(format!("{name}: it costs {fuel:?}"));
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
