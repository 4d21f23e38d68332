//! From an error to what a gRPC client is told: the one mapping of this door.

use std::collections::HashMap;

use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::{ExecutionId, Failure};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "mentat.runtime";
/// Bytes of the message at most, as the wire has it. A status travels in HTTP/2 headers twice over: the message
/// percent-encoded, and message and details in base64. Clients on gRPC's C core (Python, Ruby, C++) take 8 KiB of
/// headers and put a status of their own in the place of one that is larger, so a guest that writes long messages
/// could choose the row of the error table that its caller sees.
const MAX_MESSAGE_BYTES: usize = 1536;
/// Bytes of the details' metadata at most: what then is left of those 8 KiB, by a margin.
const MAX_METADATA_BYTES: usize = 2560;
/// Bytes that a map's entry costs besides its key and value.
const ENTRY_BYTES: usize = 8;

/// The status of an error.
pub(crate) fn status(error: &Error) -> Status {
    with_details(&error.into(), Metadata::default())
}

/// The status of an execution's error; its details name the execution.
pub(crate) fn execution_status(error: &Error, execution_id: ExecutionId) -> Status {
    failure_status(&error.into(), execution_id)
}

/// The same of an execution that has ended before.
pub(super) fn failure_status(failure: &Failure, execution_id: ExecutionId) -> Status {
    let mut metadata = Metadata::default();
    metadata.add("execution_id", execution_id.to_string());
    with_details(failure, metadata)
}

/// A refusal by gRPC itself, told in the common form with the code that gRPC has for it.
pub(super) fn refusal(code: Code, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(Reason::InvalidRequest.as_str(), DOMAIN, HashMap::new());
    Status::with_error_details(code, shortened(message, MAX_MESSAGE_BYTES), details)
}

fn with_details(failure: &Failure, mut metadata: Metadata) -> Status {
    for (key, value) in &failure.details {
        metadata.add(key, value.clone());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(failure.reason.as_str(), DOMAIN, metadata.entries);
    if let Some(delay) = failure.retry_after {
        details.set_retry_info(Some(delay));
    }
    let message = shortened(&failure.message, MAX_MESSAGE_BYTES);
    Status::with_error_details(code(failure.reason), message, details)
}

/// Facts that fit into headers; those that do not are shortened, and say so.
#[derive(Debug, Default)]
struct Metadata {
    entries: HashMap<String, String>,
    used: usize,
}

impl Metadata {
    fn add(&mut self, key: &str, value: String) {
        let room = MAX_METADATA_BYTES.saturating_sub(self.used + key.len() + ENTRY_BYTES);
        if value.len() <= room {
            self.insert(key, value);
        } else if let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(&value) {
            self.add_beginning(key, &list, room);
        } else {
            self.insert(key, shortened(&value, room));
        }
    }

    /// The first elements of a list, as many as there is room for, and how many there are besides.
    fn add_beginning(&mut self, key: &str, list: &[serde_json::Value], room: usize) {
        let key_of_rest = format!("{key}_left_out");
        let room = room.saturating_sub(key_of_rest.len() + ENTRY_BYTES + usize::MAX.to_string().len());
        let mut elements: Vec<String> = Vec::new();
        let mut used = "[]".len();
        for element in list {
            let text = element.to_string();
            used += text.len() + ",".len();
            if used > room {
                break;
            }
            elements.push(text);
        }
        let left_out = list.len() - elements.len();
        self.insert(key, format!("[{}]", elements.join(",")));
        self.insert(&key_of_rest, left_out.to_string());
    }

    fn insert(&mut self, key: &str, value: String) {
        self.used += key.len() + value.len() + ENTRY_BYTES;
        self.entries.insert(key.to_owned(), value);
    }
}

/// The text, or as much of its beginning as takes this many bytes on the wire, with a mark that it is not all.
fn shortened(text: &str, room: usize) -> String {
    // At worst every byte that is no letter or digit is percent-encoded.
    let cost = |character: char| if character.is_ascii_alphanumeric() { 1 } else { 3 * character.len_utf8() };
    if text.chars().map(cost).sum::<usize>() <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(cost('…'));
    let fits = |character: &char| {
        let fits = cost(*character) <= left;
        left = left.saturating_sub(cost(*character));
        fits
    };
    let mut beginning: String = text.chars().take_while(fits).collect();
    beginning.push('…');
    beginning
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
        Reason::Overloaded | Reason::Unavailable => Code::Unavailable,
        Reason::Cancelled => Code::Cancelled,
        Reason::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mentat_runtime::error::{ModuleProblem, ModuleProblemKind, TrapFrame};

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
    fn every_row_has_the_code_that_the_error_page_gives_it() {
        let page = include_str!("../../../../docs/errors.md");
        for reason in Reason::ALL {
            let row = format!("| `{reason}` | {:?} |", code(reason));
            assert!(page.contains(&row), "docs/errors.md has no row `{row}`");
        }
    }

    /// Bytes of headers that a status travels in, names and what HTTP/2 counts for each included.
    fn header_bytes(status: Status) -> usize {
        let response = status.into_http::<()>();
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn no_error_is_too_long_for_the_headers_that_clients_take() {
        const C_CORE_LIMIT: usize = 8192;
        for text in ["x", " ", "%", "漢", "🦀", "\u{1}", "\""] {
            let long = text.repeat(5000);
            let frame =
                TrapFrame { function: long.clone(), location: Some(long.clone()), module_offset: Some(1) };
            let problem = ModuleProblem {
                kind: ModuleProblemKind::MemoryFault,
                subject: long.clone(),
                message: long.clone(),
            };
            for error in [
                Error::Trap { message: long.clone(), backtrace: vec![frame; 30] },
                Error::InvalidModule { problems: vec![problem; 30] },
                Error::InvalidRequest { message: long.clone() },
                Error::AgentNotFound { agent: long.clone() },
            ] {
                let bytes = header_bytes(execution_status(&error, ExecutionId::new()));
                assert!(bytes < C_CORE_LIMIT, "{bytes} bytes for {text:?} in {}", error.reason());
            }
            assert!(header_bytes(refusal(Code::OutOfRange, &long)) < C_CORE_LIMIT);
        }
    }

    #[test]
    fn a_list_that_is_too_long_keeps_its_beginning_and_says_how_much_is_missing() {
        let problem = |number: usize| ModuleProblem {
            kind: ModuleProblemKind::MemoryFault,
            subject: "memory".into(),
            message: format!("problem {number}"),
        };
        let error = Error::InvalidModule { problems: (0..200).map(problem).collect() };
        let details = status(&error).get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        let kept: Vec<serde_json::Value> = serde_json::from_str(&metadata["problems"]).unwrap();
        let left_out: usize = metadata["problems_left_out"].parse().unwrap();
        assert!(kept.len() > 5);
        assert_eq!(kept[5]["message"], "problem 5");
        assert_eq!(kept.len() + left_out, 200);
    }

    #[test]
    fn what_fits_is_not_touched() {
        assert_eq!(shortened("as it is", 100), "as it is");
        assert_eq!(shortened("abcdefghijklmnop", 12), "abc…");
    }
}
