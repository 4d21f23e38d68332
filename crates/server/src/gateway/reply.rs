//! From an error to what an HTTP client is told: the one mapping of this door.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::{ExecutionId, Failure};
use serde::Serialize;
use utoipa::ToSchema;

/// "Client closed request", as nginx has it; no standard status says so.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// An error as a reply.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    error: Error,
    execution_id: Option<ExecutionId>,
}

/// The body of every reply that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What went wrong.
    error: ErrorFacts,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorFacts {
    /// A row of the error table.
    #[schema(example = "AGENT_NOT_FOUND")]
    reason: &'static str,
    /// A sentence for people.
    message: String,
    /// Structured facts; the same keys as in gRPC's `ErrorInfo`.
    details: BTreeMap<&'static str, serde_json::Value>,
    /// The execution, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<String>,
}

impl Reply {
    /// A refusal by HTTP itself (no such path, body too large), told in the common form.
    pub(super) fn transport(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: Error::InvalidRequest { message: message.into() }, execution_id: None }
    }

    /// The error of an execution.
    pub(super) fn of_execution(error: Error, execution_id: ExecutionId) -> Self {
        Self { execution_id: Some(execution_id), ..Self::from(error) }
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self { status: status(error.reason()), error, execution_id: None }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let retry_after = self.error.retry_after();
        let body = ErrorBody {
            error: ErrorFacts {
                reason: self.error.reason().as_str(),
                message: self.error.to_string(),
                details: Failure::from(&self.error).facts(),
                execution_id: self.execution_id.map(|id| id.to_string()),
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(delay) = retry_after {
            let seconds = HeaderValue::from(delay.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The HTTP status of a row of the error table.
pub(crate) fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::InvalidManifest | Reason::InvalidModule | Reason::InvalidRequest => StatusCode::BAD_REQUEST,
        Reason::AgentNotFound | Reason::StreamNotFound | Reason::ExecutionNotFound => StatusCode::NOT_FOUND,
        Reason::AttestationRejected | Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
        Reason::SecurityViolation | Reason::PolicyDenied => StatusCode::FORBIDDEN,
        Reason::FuelExhausted
        | Reason::MemoryLimit
        | Reason::OutputTooLarge
        | Reason::StackOverflow
        | Reason::Trap => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::Overloaded | Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mentat_manifest::Fuel;
    use mentat_runtime::error::{TimeLimit, TrapFrame};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_overloaded_server_says_when_to_come_back() {
        let error = Error::Overloaded { message: "full".into(), retry_after: Duration::from_millis(1) };
        let response = Reply::from(error).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn the_type_of_a_fact_does_not_depend_on_its_text() {
        let facts = async |error: Error| {
            let body = axum::body::to_bytes(Reply::from(error).into_response().into_body(), 10_000).await;
            serde_json::from_slice::<serde_json::Value>(&body.unwrap()).unwrap()["error"]["details"].clone()
        };
        let frame = TrapFrame { function: "f".into(), location: None, module_offset: Some(7) };
        let trap = Error::Trap { message: "[1]".into(), backtrace: vec![frame] };
        let trap = facts(trap).await;
        assert_eq!((&trap["trap"], &trap["backtrace"][0]["module_offset"]), (&json!("[1]"), &json!(7)));
        assert_eq!(facts(Error::AgentNotFound { agent: "1e3".into() }).await["agent"], "1e3");
        assert_eq!(
            facts(Error::Timeout { limit: Duration::from_secs(1), clock: TimeLimit::Wall }).await["limit_ms"],
            1000
        );
        assert_eq!(facts(Error::FuelExhausted { limit: Fuel(u64::MAX) }).await["limit_fuel"], u64::MAX);
        let overloaded = Error::Overloaded { message: "full".into(), retry_after: Duration::from_secs(1) };
        assert_eq!(facts(overloaded).await["retry_after_ms"], 1000);
    }

    #[test]
    fn the_error_page_is_up_to_date() {
        let mut page = String::from(
            "# Errors\n\nEvery error has a stable reason, a sentence that says what was wrong and what to do, and \
             structured details: as `google.rpc.ErrorInfo` (domain `mentat.runtime`) on gRPC, as \
             `{\"error\": {\"reason\", \"message\", \"details\", \"execution_id\"}}` on HTTP, and as the exit code of the \
             command line. A guest that returns a non-zero exit code is no error: the call succeeds with that \
             `exit_code`, and `mentat run` exits with it.\n\n| reason | gRPC | HTTP | CLI exit | meaning |\n|---|---|---|---|---|\n",
        );
        for reason in Reason::ALL {
            page.push_str(&format!(
                "| `{reason}` | {:?} | {} | {} | {} |\n",
                crate::grpc::status::code(reason),
                status(reason).as_u16(),
                reason.exit_code(),
                reason.meaning()
            ));
        }
        page.push_str(
            "\nOn HTTP, what the protocol itself refuses (an unknown path, a method that is not offered, a body that \
             stops coming, is over the limit or of a type that is not taken) has the status that HTTP has for it (404, \
             405, 408, 413, 415) and the reason `INVALID_REQUEST`. A message over the limit on gRPC has the code \
             OutOfRange and the same reason.\n\nOn gRPC, message and details travel in headers, of which clients take \
             8 KiB. What is longer is cut there, and says so: a text ends in `…`; of a list stand the first elements, \
             and `…_left_out` counts the rest (`problems_left_out`). HTTP has the whole.\n",
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            page,
            "run the tests with UPDATE_EXPECT=1"
        );
    }
}
