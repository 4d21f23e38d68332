//! From an error to what a gRPC client is told: the one mapping of this door.

use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::ExecutionId;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "mentat.runtime";
/// Bytes of details at most; they travel in HTTP/2 headers, which clients bound.
const MAX_DETAIL_BYTES: usize = 4 << 10;

/// The status of an error.
pub(crate) fn status(error: &Error) -> Status {
    with_details(error, HashMap::new())
}

/// The status of an execution's error; its details name the execution.
pub(crate) fn execution_status(error: &Error, execution_id: ExecutionId) -> Status {
    with_details(error, HashMap::from([("execution_id".to_owned(), execution_id.to_string())]))
}

fn with_details(error: &Error, mut metadata: HashMap<String, String>) -> Status {
    let reason = error.reason();
    let mut room = MAX_DETAIL_BYTES;
    for (key, value) in error.details() {
        if value.len() <= room {
            room -= value.len();
            metadata.insert(key.to_owned(), value);
        }
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str(), DOMAIN, metadata);
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    let message: String = error.to_string().chars().take(MAX_DETAIL_BYTES / 4).collect();
    Status::with_error_details(code(reason), message, details)
}

/// The gRPC code of a row of the error table.
pub(crate) fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidManifest | Reason::InvalidModule | Reason::InvalidRequest => Code::InvalidArgument,
        Reason::AgentNotFound | Reason::StreamNotFound | Reason::ExecutionNotFound => Code::NotFound,
        Reason::AttestationRejected | Reason::Unauthenticated => Code::Unauthenticated,
        Reason::SecurityViolation | Reason::PolicyDenied => Code::PermissionDenied,
        Reason::FuelExhausted
        | Reason::MemoryLimit
        | Reason::OutputTooLarge
        | Reason::StackOverflow
        | Reason::RateLimited => Code::ResourceExhausted,
        Reason::Timeout => Code::DeadlineExceeded,
        Reason::Trap => Code::Aborted,
        Reason::Overloaded => Code::Unavailable,
        Reason::Cancelled => Code::Cancelled,
        Reason::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_details_carry_the_reason_the_execution_and_when_to_retry() {
        let error = Error::Overloaded { message: "full".into(), retry_after: Duration::from_secs(1) };
        let id = ExecutionId::new();
        let details = execution_status(&error, id).get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", DOMAIN));
        assert_eq!(info.metadata["execution_id"], id.to_string());
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_cause_of_an_internal_error_stays_inside() {
        let error = Error::internal("reading the store", "password is hunter2");
        let status = status(&error);
        assert!(!format!("{status:?}").contains("hunter2"));
    }

    #[test]
    fn details_that_are_too_long_for_a_header_are_left_out() {
        let error = Error::Trap { message: "x".repeat(100_000), backtrace: Vec::new() };
        assert!(status(&error).details().len() < 2 * MAX_DETAIL_BYTES);
    }
}
