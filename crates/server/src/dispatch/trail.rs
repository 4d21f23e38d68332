//! What the audit log has on an execution, for the tenant whose it was.
//!
//! Invariant: searches read files, so that they take place on threads that may wait, and no more than a few at a time:
//! whoever asks for many trails keeps neither executions nor connections waiting.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mentat_runtime::error::Error;
use mentat_runtime::model::{Caller, ExecutionId};
use mentat_runtime::security::audit::{Trail, TrailQuestion, TrailSource, TrailStart};
use tokio::sync::Semaphore;

use super::Dispatcher;

/// Searches at one time.
const MAX_SEARCHES: usize = 2;
/// How long a search waits for those before it.
const SEARCH_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much earlier than an execution the search for its records begins, for clocks that are set back meanwhile.
const EARLIER: Duration = Duration::from_secs(2);
/// The same, where nothing but the execution's id tells when that was: ids may be made by the clocks of callers.
const EARLIER_BY_ID: Duration = Duration::from_secs(60);

/// Where the trails of executions are looked for.
#[derive(Debug)]
pub struct Trails {
    source: TrailSource,
    searches: Arc<Semaphore>,
}

/// What the audit log has on an execution.
#[derive(Debug)]
pub struct ExecutionTrail {
    /// The records as they lie in the log, in JSON, in their order.
    pub records: Vec<String>,
    /// The token to go on with; empty unless the search was cut off before the log and the execution ended.
    pub next: String,
}

impl Trails {
    /// Trails in that log.
    #[must_use]
    pub fn new(source: TrailSource) -> Self {
        Self { source, searches: Arc::new(Semaphore::new(MAX_SEARCHES)) }
    }
}

impl Dispatcher {
    /// The records of an execution. `token` is empty, or that of the answer before.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND` where neither the table nor the log knows it, `INVALID_REQUEST` for a token that was never
    /// answered, `OVERLOADED`, `INTERNAL` for a log that cannot be read.
    pub async fn trail(
        &self,
        caller: &Caller,
        execution: ExecutionId,
        token: &str,
    ) -> Result<ExecutionTrail, Error> {
        let record = self.executions.get(caller, execution);
        let from = match (token, &record) {
            ("", Ok(record)) => TrailStart::Time(before(record.started, EARLIER)),
            ("", Err(_)) => TrailStart::Time(before(execution.time(), EARLIER_BY_ID)),
            (token, _) => TrailStart::Record(token.parse().map_err(|_| Error::InvalidRequest {
                message: "`page_token` is not one that an audit trail has answered".into(),
            })?),
        };
        let free = Arc::clone(&self.trails.searches).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(SEARCH_QUEUE_TIMEOUT, free).await else {
            return Err(Error::Overloaded {
                message: "too many searches of the audit log wait for their turn".into(),
                retry_after: SEARCH_QUEUE_TIMEOUT,
            });
        };
        let (source, tenant) = (self.trails.source.clone(), Arc::clone(&caller.tenant));
        let search = move || {
            // Until it has ended, whether or not anybody still waits for it.
            let _place = place;
            source.find(&TrailQuestion { tenant: &tenant, execution, from })
        };
        let found = tokio::task::spawn_blocking(search).await;
        let found = found.map_err(|error| Error::internal("searching the audit log", error))?;
        let Trail { records, next } = found.map_err(|error| {
            tracing::error!(execution_id = %execution, %error, "the audit log could not be searched");
            Error::internal("searching the audit log", error)
        })?;
        if records.is_empty() && next.is_none() && token.is_empty() {
            record?;
        }
        Ok(ExecutionTrail { records, next: next.map(|next| next.to_string()).unwrap_or_default() })
    }
}

fn before(time: SystemTime, earlier: Duration) -> SystemTime {
    time.checked_sub(earlier).unwrap_or(SystemTime::UNIX_EPOCH)
}
