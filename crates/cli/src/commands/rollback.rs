//! `mentat rollback`: another loaded version of an agent as the active one.

use std::process::ExitCode;

use mentat_manifest::escape_untrusted;

use crate::args::RollbackArguments;
use crate::client::Client;
use crate::output::{self, Failure};

pub(crate) fn run(arguments: &RollbackArguments) -> Result<ExitCode, Failure> {
    let agent = super::threads()?.block_on(async {
        let mut client = Client::connect(&arguments.server).await?;
        client.activate(arguments.id.to_string(), &arguments.version).await
    })?;
    if arguments.json.json {
        output::write_json(&agent)?;
    } else {
        let line = format!("{} {} is active", agent.agent, agent.version);
        output::write_stdout(format!("{}\n", escape_untrusted(&line, 512)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
