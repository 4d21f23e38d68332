//! `mentat unload`: an agent, or one version of it, away from a server.

use std::process::ExitCode;

use mentat_manifest::escape_untrusted;
use serde::Serialize;

use crate::args::UnloadArguments;
use crate::client::Client;
use crate::output::{self, Failure};

#[derive(Serialize)]
struct Reply {
    agent: String,
    versions: Vec<String>,
}

pub(crate) fn run(arguments: &UnloadArguments) -> Result<ExitCode, Failure> {
    let versions = super::threads()?
        .block_on(async { Client::connect(&arguments.server).await?.unload(&arguments.agent).await })?;
    let agent = arguments.agent.id.to_string();
    if arguments.json.json {
        output::write_json(&Reply { agent, versions })?;
    } else {
        for version in versions {
            let line = format!("unloaded {agent} {}\n", escape_untrusted(&version, 128));
            output::write_stdout(line.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
