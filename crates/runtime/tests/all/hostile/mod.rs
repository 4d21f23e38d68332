//! The hostile suite: every file of `tests/hostile`, and the attacks that take more than one guest or more than a guest.
//! `tests/hostile/README.md` tells the families and the format of the files.

mod commands;
mod leftovers;
mod pointers;
mod programs;
mod races;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mentat_manifest::{FileAccess, Metering};
use mentat_runtime::Runtime;
use mentat_runtime::model::Outcome;
use mentat_runtime::security::policy::OnViolation;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{baseline_runtime, runtime};
use crate::headers::Headers;
use crate::world::{EVERYTHING, World};

/// What a case's first lines say that it runs under, and leaves behind.
struct Setting {
    world: World,
    /// Files that must have this content afterwards.
    left: Vec<(String, String)>,
    /// What must not be there afterwards.
    gone: Vec<String>,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile")
}

/// The cases of a family, in order of name.
pub fn cases(family: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder().join(family)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no cases in {family}");
    files
}

/// A case's module and input: its own, or the probe and its script.
pub fn guest(file: &Path, text: &str, headers: &Headers) -> Result<(Vec<u8>, Vec<u8>), String> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("wat") => match wat::parse_str(text) {
            Ok(module) => Ok((module, headers.input.clone())),
            Err(error) => Err(format!("does not assemble: {error}")),
        },
        Some("probe") => {
            let script = text.lines().filter(|line| !line.starts_with(";;")).collect::<Vec<_>>().join("\n");
            Ok((programs::compiled("probe.rs"), script.into_bytes()))
        }
        other => Err(format!("is no case: {other:?}")),
    }
}

impl Setting {
    fn of(headers: &Headers) -> Self {
        let mut world = World::new(&[]);
        world.limits(&headers.limits);
        let mut setting = Self { world, left: Vec::new(), gone: Vec::new() };
        for (key, value) in &headers.others {
            setting.add(key, value);
        }
        setting
    }

    fn add(&mut self, key: &str, value: &str) {
        let world = &mut self.world;
        let pair = |separator: &str| {
            let (one, other) = value.split_once(separator).unwrap_or_else(|| panic!("{key}: {value}"));
            (one.trim().to_owned(), other.trim().to_owned())
        };
        match key {
            "capability" => world.capabilities.push(value.to_owned()),
            "policy" => world.policies = format!("{}\n{value}", world.policies),
            "policies" => {
                assert_eq!(value, "none");
                world.policies = world.policies.replace(EVERYTHING, "");
            }
            "on_violation" => {
                assert_eq!(value, "terminate");
                world.on_violation = OnViolation::Terminate;
            }
            "env" => {
                let (name, value) = pair("=");
                world.offers.env.insert(name, value);
            }
            "mount" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                let access = match words[1] {
                    "read" => FileAccess::Read,
                    "write" => FileAccess::Write,
                    "readwrite" => FileAccess::ReadWrite,
                    other => panic!("{other} is no access"),
                };
                let quota = words.get(2).map(|word| word.strip_prefix("quota=").unwrap().parse().unwrap());
                world.mount(words[0], access, quota);
            }
            "directory" => std::fs::create_dir_all(world.path(value)).unwrap(),
            "file" => {
                let (path, content) = pair("=");
                std::fs::write(world.path(&path), content).unwrap();
            }
            "link" => {
                let (path, target) = pair("->");
                let target = target.replace("{outside}", &world.outside().display().to_string());
                std::os::unix::fs::symlink(target, world.path(&path)).unwrap();
            }
            "pipe" => {
                let path = world.path(value);
                mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }
            "files" => {
                let (directory, count) = pair("=");
                for number in 0..count.parse::<u32>().unwrap() {
                    std::fs::write(world.path(&directory).join(number.to_string()), "").unwrap();
                }
            }
            "left" => self.left.push(pair("=")),
            "gone" => self.gone.push(value.to_owned()),
            other => panic!("there is no header `{other}`"),
        }
    }

    /// What is not as the case says it must be left.
    fn complaint(&self, outcome: &Outcome) -> Option<String> {
        for (path, content) in &self.left {
            let found = std::fs::read_to_string(self.world.path(path)).ok();
            if found.as_ref() != Some(content) {
                return Some(format!("`{path}` holds {found:?}, not {content:?}"));
            }
        }
        let there = self.gone.iter().find(|path| self.world.path(path).symlink_metadata().is_ok());
        there.map(|path| format!("`{path}` is there")).or_else(|| self.world.breach(outcome))
    }
}

async fn run(
    runtime: &Arc<Runtime>,
    world: &World,
    headers: &Headers,
    module: Vec<u8>,
    input: Vec<u8>,
) -> Outcome {
    let metering = headers.limits.metering.unwrap_or(Metering::Fuel);
    let loaded = match runtime.load(module.into(), metering).await {
        Ok(loaded) => loaded,
        Err(error) => return Outcome::failed(error),
    };
    if let Err(error) = loaded.module.fits(world.rules.defaults.memory_bytes) {
        return Outcome::failed(error);
    }
    world.run(runtime, &loaded, input).await
}

async fn run_case(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let headers = Headers::parse(&text);
    let (module, input) = match guest(file, &text, &headers) {
        Ok(guest) => guest,
        Err(complaint) => return vec![complaint],
    };
    let mut complaints = Vec::new();
    // On both tiers of code.
    for (round, runtime) in [("baseline", baseline_runtime()), ("optimised", runtime())] {
        let setting = Setting::of(&headers);
        let script = String::from_utf8_lossy(&input).into_owned();
        let input = if file.extension().is_some_and(|extension| extension == "probe") {
            script.replace("{outside}", &setting.world.outside().display().to_string()).into_bytes()
        } else {
            input.clone()
        };
        let started = Instant::now();
        let outcome = run(runtime, &setting.world, &headers, module.clone(), input).await;
        let ended = headers.complaint(&outcome, started.elapsed());
        if let Some(complaint) = ended.or_else(|| setting.complaint(&outcome)) {
            complaints.push(format!("{round} run: {complaint}"));
        }
    }
    complaints
}

async fn run_family(family: &str) {
    let mut complaints = Vec::new();
    for file in cases(family) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        complaints.extend(run_case(&file).await.into_iter().map(|complaint| format!("{name}: {complaint}")));
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
    modules_made_to_hurt_the_compiler_are_refused_or_small: "bombs",
    guests_that_compute_without_end_are_ended: "computing",
    greedy_guests_meet_their_limits: "exhaustion",
    no_handle_or_descriptor_is_worth_more_than_what_was_granted: "handles",
    no_spelling_of_a_host_is_another_host: "hosts",
    nothing_is_left_over_from_another_execution: "leftovers",
    no_path_leads_to_what_was_not_granted: "paths",
    no_pointer_leads_out_of_memory: "pointers",
    a_denial_ends_the_execution_where_the_operator_wants_that: "violations",
}

#[test]
fn every_family_is_run_and_every_case_begins_with_what_must_come_of_it() {
    let known: BTreeSet<String> = FAMILIES.iter().map(|family| (*family).to_owned()).collect();
    let mut found: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(found.remove("programs"));
    assert_eq!(known, found);
    let files: Vec<PathBuf> = FAMILIES.iter().flat_map(|family| cases(family)).collect();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.starts_with(";; expect: "), "{}", file.display());
    }
    assert!(files.len() >= 60, "only {} cases", files.len());
}
