//! `mentat stream`: what an execution of a server says, from any event on.

use std::process::ExitCode;

use mentat_runtime::error::{Error, Reason};

use super::telling::{Teller, Telling};
use crate::args::StreamArguments;
use crate::client::Client;
use crate::output::{Failure, Stop};
use crate::report::ExecutionReport;

pub(crate) fn run(arguments: &StreamArguments) -> Result<ExitCode, Failure> {
    let json = arguments.json.json;
    let mut teller = Teller::new(Telling::of(true, json));
    let threads = super::threads()?;
    let result = threads.block_on(async {
        let mut client = Client::connect(&arguments.server).await?;
        let following = client.follow(&arguments.id, arguments.from, |delivery| teller.tell(delivery));
        tokio::select! {
            // The execution goes on without this reader.
            () = super::interrupted() => Err(Error::Cancelled.into()),
            ended = following => ended,
        }
    });
    match (teller.stop(), teller.closed()) {
        // As with any result: `mentat … | head` is fine.
        (Some(Stop::Unread), _) | (None, Some(true)) => return Ok(ExitCode::SUCCESS),
        (Some(Stop::Failed(failure)), _) => return Err(failure),
        (None, Some(false)) => {
            let message = "nothing was published to the stream for too long, so that it was given up".into();
            return Err(Failure::answered(Reason::Timeout, message, []));
        }
        (None, None) => {}
    }
    // Who has seen the end is told nothing more.
    let Some(result) = result.transpose() else { return Ok(ExitCode::SUCCESS) };
    let report = ExecutionReport::of_server(arguments.id.to_string(), None, None, result, teller);
    report.write(json)
}
