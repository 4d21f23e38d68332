//! `mentat execute`: an agent of a server, once; and its receipt, where one is wanted.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::Narrowing;
use mentat_runtime::security::policy::Rules;

use super::telling::{Teller, Telling};
use crate::args::ExecuteArguments;
use crate::client::{Client, ExecutionWish};
use crate::files;
use crate::output::{Failure, Stop};
use crate::report::ExecutionReport;

/// The file of a receipt, opened before anything is executed, so that no receipt is lost for want of a place.
struct ReceiptFile {
    path: PathBuf,
    file: File,
    /// Whether it was made for this execution, and goes again if there is no receipt.
    is_new: bool,
}

pub(crate) fn run(arguments: &ExecuteArguments) -> Result<ExitCode, Failure> {
    // The server may allow less, and says so; this bound only keeps the command line from filling up.
    let input = files::read_input(arguments.input.input.as_ref(), Rules::default().max_input)?;
    let receipt_file = arguments.receipt.clone().map(ReceiptFile::open).transpose()?;
    let json = arguments.json.json;
    let execution_id = ExecutionId::new();
    let wish = ExecutionWish {
        execution_id,
        narrowing: Narrowing { limits: arguments.limits.request(), capabilities: arguments.left() },
        receipt: receipt_file.is_some(),
    };
    let mut teller = Teller::new(Telling::of(arguments.stream.stream, json));
    let threads = super::threads()?;
    let (result, receipt) = threads.block_on(async {
        let mut client = match Client::connect(&arguments.server).await {
            Ok(client) => client,
            Err(failure) => return (Err(failure), Ok(None)),
        };
        let execution = client.execute(&arguments.agent, input, &wish, |delivery| teller.tell(delivery));
        let executed = tokio::select! {
            // The call goes away with its future, and the execution with the call.
            () = super::interrupted() => return (Err(Error::Cancelled.into()), Ok(None)),
            executed = execution => executed,
        };
        let receipt = match &executed {
            _ if !wish.receipt => Ok(None),
            Ok(executed) => executed.receipt.clone().map(Some),
            // An execution that failed has left its receipt with the server, if it was executed at all.
            Err(_) => Ok(client.receipt(execution_id).await.ok().flatten()),
        };
        (executed, receipt)
    });
    let kept = receipt_file.map_or(Ok(()), |file| file.keep(receipt));
    match teller.stop() {
        // As with any result: `mentat … | head` is fine.
        Some(Stop::Unread) => return Ok(ExitCode::SUCCESS),
        Some(Stop::Failed(failure)) => return Err(failure),
        None => {}
    }
    let (agent, version) = (arguments.agent.id.to_string(), arguments.agent.version.as_ref());
    let version = version.map(ToString::to_string);
    let report = ExecutionReport::of_server(execution_id.to_string(), Some(agent), version, result, teller);
    let exit_code = report.write(json)?;
    // The output is there; that the receipt is not must not look like success.
    kept.map(|()| exit_code).or_else(|failure| {
        failure.write_text();
        Ok(failure.exit_code())
    })
}

impl ReceiptFile {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let is_new = !path.exists();
        // Emptied at once: a receipt of another execution must not be taken for the one that is not made.
        let file = File::create(&path).map_err(|error| {
            Failure::invalid(format!("receipt `{}` cannot be written: {error}", path.display()))
        })?;
        Ok(Self { path, file, is_new })
    }

    /// Writes the receipt, where there is one.
    fn keep(mut self, receipt: Result<Option<Bytes>, String>) -> Result<(), Failure> {
        let missing = match receipt {
            Ok(Some(receipt)) => {
                let written = self.file.write_all(&receipt).and_then(|()| self.file.flush());
                return written.map_err(|error| Failure::system("writing the receipt", &error));
            }
            Ok(None) => None,
            Err(problem) => Some(problem),
        };
        if self.is_new {
            let _ = std::fs::remove_file(&self.path);
        }
        match missing {
            // The execution's own error says enough.
            None => Ok(()),
            Some(problem) => {
                Err(Failure::answered(Reason::Overloaded, format!("there is no receipt: {problem}"), []))
            }
        }
    }
}
