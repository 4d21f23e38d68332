//! `mentat execute`: an agent of a server, once.

use std::process::ExitCode;

use mentat_manifest::escape_untrusted;
use mentat_runtime::error::Error;
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::Narrowing;
use mentat_runtime::security::policy::Rules;

use crate::args::ExecuteArguments;
use crate::client::Client;
use crate::files;
use crate::output::{self, Failure};
use crate::report::ExecutionReport;

/// Characters of a log line that are shown at most; the server bounds them more tightly.
const MAX_LINE_CHARS: usize = 64 << 10;

pub(crate) fn run(arguments: &ExecuteArguments) -> Result<ExitCode, Failure> {
    // The server may allow less, and says so; this bound only keeps the command line from filling up.
    let input = files::read_input(arguments.input.input.as_ref(), Rules::default().max_input)?;
    let narrowing = Narrowing { limits: arguments.limits.request(), capabilities: arguments.left() };
    let json = arguments.json.json;
    let execution_id = ExecutionId::new();
    let mut logs = Vec::new();
    let threads = super::threads()?;
    let result = threads.block_on(async {
        let mut client = Client::connect(&arguments.server).await?;
        let execution = client.execute(&arguments.agent, execution_id, input, &narrowing, |line| {
            if json {
                logs.push(line);
            } else {
                output::write_log(line.level, &escape_untrusted(&line.message, MAX_LINE_CHARS));
            }
        });
        tokio::select! {
            // The call goes away with its future, and the execution with the call.
            () = super::interrupted() => Err(Error::Cancelled.into()),
            executed = execution => executed,
        }
    });
    let (usage, version, logs_dropped) = match &result {
        Ok(executed) => (Some(executed.usage), Some(executed.version.clone()), executed.logs_dropped),
        Err(_) => (None, arguments.agent.version.as_ref().map(ToString::to_string), 0),
    };
    let report = ExecutionReport {
        execution_id: execution_id.to_string(),
        agent: Some(arguments.agent.id.to_string()),
        version,
        result: result.map(|executed| (executed.output, executed.exit_code)),
        usage,
        logs,
        logs_dropped,
    };
    report.write(json)
}
