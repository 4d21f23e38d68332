//! Which executions a tenant has, running and lately finished, in pages: the newest first.
//!
//! Cost: one look at every execution that is remembered, of whichever tenant, and a copy of those that are answered. No part
//! of the table is locked for longer than its own entries take.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mentat_runtime::error::Error;
use mentat_runtime::model::{Caller, ExecutionId};

use super::{ExecutionRecord, ExecutionStatus, Executions};

/// Executions of one page where the client does not say, and at most.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// Some of a tenant's executions, without their receipts.
#[derive(Debug)]
pub struct ExecutionPage {
    /// The newest first.
    pub executions: Vec<ExecutionRecord>,
    /// The token of the next page; empty where this is the last.
    pub next: String,
}

/// Where an execution stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionState {
    /// Waiting for a place, or running.
    Running,
    /// The guest ran to its end.
    Finished,
    /// The guest did not run to its end.
    Failed,
}

/// What orders executions: when they were asked for, and which.
type Rank = (SystemTime, ExecutionId);

impl ExecutionStatus {
    /// The same in a word.
    #[must_use]
    pub fn state(&self) -> ExecutionState {
        match self {
            Self::Running => ExecutionState::Running,
            Self::Finished { .. } => ExecutionState::Finished,
            Self::Failed { .. } => ExecutionState::Failed,
        }
    }
}

impl Executions {
    /// A page of the tenant's executions that stand there, or of all. `size` 0 is the usual one.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a token that no page has answered.
    pub fn list(
        &self,
        caller: &Caller,
        state: Option<ExecutionState>,
        size: usize,
        token: &str,
    ) -> Result<ExecutionPage, Error> {
        let size = if size == 0 { DEFAULT_PAGE } else { size.min(MAX_PAGE) };
        let before = match token {
            "" => None,
            token => Some(rank(token)?),
        };
        // One more than fits, which tells whether there is another page.
        let mut newest: BinaryHeap<Reverse<Rank>> = BinaryHeap::with_capacity(size + 2);
        for part in self.parts.iter().take(self.used) {
            for (_, entry) in &part.lock().entries {
                let record = &entry.record;
                let rank = (record.started, record.execution_id);
                let is_wanted = record.caller.tenant == caller.tenant
                    && state.is_none_or(|state| record.status.state() == state)
                    && before.is_none_or(|before| rank < before);
                if is_wanted {
                    newest.push(Reverse(rank));
                    if newest.len() > size + 1 {
                        newest.pop();
                    }
                }
            }
        }
        let mut ranks: Vec<Rank> = newest.into_sorted_vec().into_iter().map(|Reverse(rank)| rank).collect();
        let has_more = ranks.len() > size;
        ranks.truncate(size);
        let next = ranks.last().filter(|_| has_more).map(token_of).unwrap_or_default();
        // One that was forgotten meanwhile is left out, and so are receipts, of which a page could have hundreds of megabytes.
        let executions = ranks.iter().filter_map(|(_, id)| self.get(caller, *id).ok());
        let executions = executions.map(|record| ExecutionRecord { receipt: None, ..record }).collect();
        Ok(ExecutionPage { executions, next })
    }
}

fn token_of((started, id): &Rank) -> String {
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}@{id}", since.as_secs(), since.subsec_nanos())
}

fn rank(token: &str) -> Result<Rank, Error> {
    let parse = || {
        let (time, id) = token.split_once('@')?;
        let (seconds, nanoseconds) = time.split_once('.')?;
        // More nanoseconds than a second has would be carried into the seconds, beyond what those can hold.
        let nanoseconds = nanoseconds.parse().ok().filter(|count| *count < 1_000_000_000)?;
        let since = Duration::new(seconds.parse().ok()?, nanoseconds);
        Some((UNIX_EPOCH.checked_add(since)?, id.parse().ok()?))
    };
    parse().ok_or_else(|| Error::InvalidRequest {
        message: "`page_token` is not one that a list has answered".into(),
    })
}
