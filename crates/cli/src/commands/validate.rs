//! `mentat validate`: what manifests mean, and everything that is wrong with them and their modules.

use std::path::Path;
use std::process::ExitCode;

use mentat_manifest::RuntimeKind;
use mentat_runtime::error::Reason;
use mentat_runtime::security::policy::Rules;
use serde::Serialize;

use crate::args::ValidateArguments;
use crate::local;
use crate::output::{self, ErrorBody, Failure};
use crate::source::{self, AgentSource, Found, ManifestFile};

#[derive(Serialize)]
struct Reply<'a> {
    valid: bool,
    agents: Vec<Verdict<'a>>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    path: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
}

pub(crate) fn run(arguments: &ValidateArguments) -> Result<ExitCode, Failure> {
    let verdicts: Vec<Result<String, Failure>> = arguments.agents.iter().map(|path| validate(path)).collect();
    let valid = verdicts.iter().all(Result::is_ok);
    if arguments.json.json {
        let agents = arguments.agents.iter().zip(&verdicts).map(|(path, verdict)| Verdict {
            path: path.display().to_string(),
            valid: verdict.is_ok(),
            explanation: verdict.as_ref().ok().map(String::as_str),
            error: verdict.as_ref().err().map(Failure::body),
        });
        output::write_json(&Reply { valid, agents: agents.collect() })?;
    } else {
        for verdict in &verdicts {
            match verdict {
                Ok(explanation) => output::write_stdout(format!("{}\n", explanation.trim_end()).as_bytes())?,
                Err(failure) => failure.write_text(),
            }
        }
    }
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(Reason::InvalidManifest.exit_code()) })
}

fn validate(path: &Path) -> Result<String, Failure> {
    let file = match source::find(path)? {
        Found::Manifest(path) => ManifestFile::read(path)?,
        Found::Module(path) => {
            return Err(Failure::invalid(format!(
                "`{}` is no manifest, whose name ends in `.yaml`; `mentat inspect` reads modules",
                path.display()
            )));
        }
    };
    let budget = Rules::default()
        .budget(Some(&file.manifest))
        .map_err(|error| Failure::from(error).in_file(&file.path))?;
    let explanation = file.manifest.explain(&budget);
    if file.manifest.runtime_kind() == RuntimeKind::Wasm {
        local::check(&AgentSource::of(file)?)?;
    }
    Ok(explanation)
}
