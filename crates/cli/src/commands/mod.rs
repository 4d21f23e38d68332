//! One file for each verb: it takes the parsed arguments, does the work, writes the result, and
//! answers the exit code or a failure.

pub(crate) mod analyze;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod compile;
pub(crate) mod completions;
pub(crate) mod execute;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod pki;
pub(crate) mod policy;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod sign;
mod standing;
pub(crate) mod stream;
pub(crate) mod telling;
pub(crate) mod unload;
pub(crate) mod validate;
pub(crate) mod verify;
pub(crate) mod verify_receipt;

use std::future::pending;

use crate::output::Failure;

/// The threads of a verb that waits for things.
pub(crate) fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("starting threads", &error))
}

/// Comes back when the user presses Ctrl-C.
pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process by itself.
        pending::<()>().await;
    }
}
