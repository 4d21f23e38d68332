//! `mentat policy`: policies as an operator works on them, without a server: whether they are in order, and whether they
//! decide as the examples beside them say.

mod replay;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mentat_manifest::ByteCount;
use mentat_runtime::error::Reason;
use mentat_runtime::security::cedar::{DEFAULT_POLICIES, Policies, PolicyProblem, PolicySource, SCHEMA};
use mentat_server::policies;
use serde::Serialize;

use crate::args::{PolicyCheckArguments, PolicyShowArguments, PolicyTestArguments, PolicyVerb};
use crate::examples::{Example, Failed};
use crate::files;
use crate::output::{self, Failure};

/// Bytes of one file at most that is named by itself.
const MAX_FILE: ByteCount = ByteCount(4 << 20);
/// How the name of a file of examples ends.
const EXAMPLES: &str = "tests.yaml";

#[derive(Serialize)]
struct CheckReply {
    valid: bool,
    policies: usize,
    problems: Vec<ProblemBody>,
}

#[derive(Serialize)]
struct ProblemBody {
    file: String,
    line: usize,
    column: usize,
    message: String,
}

#[derive(Serialize)]
struct TestReply<'a> {
    passed: usize,
    failed: Vec<&'a Failed>,
}

pub(crate) fn run(verb: &PolicyVerb) -> Result<ExitCode, Failure> {
    match verb {
        PolicyVerb::Check(arguments) => check(arguments),
        PolicyVerb::Test(arguments) => test(arguments),
        PolicyVerb::Replay(arguments) => replay::run(arguments),
        PolicyVerb::Show(arguments) => show(arguments),
    }
}

fn check(arguments: &PolicyCheckArguments) -> Result<ExitCode, Failure> {
    let sources = sources(&arguments.path)?;
    let (policies, problems) = match Policies::parse(&sources) {
        Ok(policies) => (policies.len(), Vec::new()),
        Err(error) => (0, error.0),
    };
    let valid = problems.is_empty();
    if arguments.json.json {
        let problems = problems.into_iter().map(|problem| body(&arguments.path, problem)).collect();
        output::write_json(&CheckReply { valid, policies, problems })?;
    } else if valid {
        let count = |number: usize, one: &str, many: &str| match number {
            1 => format!("1 {one}"),
            number => format!("{number} {many}"),
        };
        let (policies, files) =
            (count(policies, "policy", "policies"), count(sources.len(), "file", "files"));
        let line = format!("in order: {policies} in {files}\n");
        output::write_stdout(line.as_bytes())?;
    } else {
        for problem in problems {
            output::write_stderr(&format!("{}\n", placed(&arguments.path, &problem)));
        }
    }
    Ok(verdict(valid))
}

fn test(arguments: &PolicyTestArguments) -> Result<ExitCode, Failure> {
    let sources = sources(&arguments.folder)?;
    let policies = Policies::parse(&sources).map_err(|error| {
        let lines: Vec<String> = error.0.iter().map(|problem| placed(&arguments.folder, problem)).collect();
        Failure::invalid(format!("the policies are not in order: {}", lines.join("; ")))
    })?;
    let (mut passed, mut failed) = (0, Vec::new());
    let files = example_files(&arguments.folder)?;
    for path in &files {
        let text = files::read_regular(path, "file of examples", MAX_FILE)?;
        for example in Example::read(&text).map_err(|error| Failure::invalid(error).in_file(path))? {
            match example.check(&policies, path) {
                Ok(()) => passed += 1,
                Err(failure) => failed.push(failure),
            }
        }
    }
    if passed + failed.len() == 0 {
        return Err(Failure::invalid(format!(
            "there are no examples in `{}`; write some into a file `{EXAMPLES}`, or one whose name ends in `.{EXAMPLES}`",
            arguments.folder.display()
        )));
    }
    if arguments.json.json {
        output::write_json(&TestReply { passed, failed: failed.iter().collect() })?;
    } else {
        for failure in &failed {
            output::write_stderr(&format!("{failure}\n"));
        }
        let line = format!("{passed} of {} examples come out as they should\n", passed + failed.len());
        output::write_stdout(line.as_bytes())?;
    }
    Ok(verdict(failed.is_empty()))
}

fn show(arguments: &PolicyShowArguments) -> Result<ExitCode, Failure> {
    let text = if arguments.schema { SCHEMA } else { DEFAULT_POLICIES };
    output::write_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn verdict(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(Reason::InvalidRequest.exit_code()) }
}

/// A folder's policies, or one file.
fn sources(path: &Path) -> Result<Vec<PolicySource>, Failure> {
    if path.is_dir() {
        return Ok(policies::read(path)?);
    }
    let bytes = files::read(path, "file of policies", MAX_FILE)?;
    let text = String::from_utf8(bytes.to_vec())
        .map_err(|_| Failure::invalid(format!("`{}` is not UTF-8", path.display())))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(vec![PolicySource { name, text }])
}

fn example_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::invalid(format!("folder `{}` cannot be read: {error}", folder.display()))
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == EXAMPLES || name.ends_with(&format!(".{EXAMPLES}")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn body(path: &Path, problem: PolicyProblem) -> ProblemBody {
    let file = file_of(path, &problem);
    ProblemBody { file, line: problem.line, column: problem.column, message: problem.message }
}

/// The problem with the path of its file, as editors read it.
fn placed(path: &Path, problem: &PolicyProblem) -> String {
    PolicyProblem { file: file_of(path, problem), ..problem.clone() }.to_string()
}

fn file_of(path: &Path, problem: &PolicyProblem) -> String {
    let file = if path.is_dir() { path.join(&problem.file) } else { path.to_owned() };
    file.display().to_string()
}
