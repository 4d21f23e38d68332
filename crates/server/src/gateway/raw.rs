//! The reply to an input that came as it is: the output as it is, and what else is known of the execution in headers.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;

use super::reply::Reply;
use crate::dispatch::Executed;

const EXECUTION_ID: HeaderName = HeaderName::from_static("mentat-execution-id");
const EXIT_CODE: HeaderName = HeaderName::from_static("mentat-exit-code");
const FUEL: HeaderName = HeaderName::from_static("mentat-fuel");
const PEAK_MEMORY: HeaderName = HeaderName::from_static("mentat-peak-memory-bytes");
const RUNTIME: HeaderName = HeaderName::from_static("mentat-runtime");
const VERSION: HeaderName = HeaderName::from_static("mentat-version");

/// Headers of a reply, those that browsers are told by among them.
const REPLY_HEADERS: usize = 12;
/// Headers whose values are written for each reply, in this order.
const WRITTEN: [HeaderName; VALUES] = [EXIT_CODE, PEAK_MEMORY, FUEL, EXECUTION_ID, VERSION];
const VALUES: usize = 5;
/// Bytes that these values usually have.
const USUAL_BYTES: usize = 160;

/// The reply to an execution.
///
/// # Errors
/// What the client is told of one whose guest did not run to its end.
pub(super) fn reply(executed: Executed) -> Result<Response, Reply> {
    let Executed { execution_id, version, runtime, outcome, .. } = executed;
    let usage = outcome.usage;
    let answer = outcome.result.map_err(|error| Reply::of_execution(error, execution_id))?;
    let mut response = Response::new(Body::from(answer.output));
    let headers = response.headers_mut();
    headers.reserve(REPLY_HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let mut values = Values(String::with_capacity(USUAL_BYTES));
    let places = [
        values.write_number(answer.exit_code),
        values.write_number(usage.peak_memory.0),
        usage.fuel.map_or(0..0, |fuel| values.write_number(fuel.0)),
        execution_id.with_text(|text| values.write(text)),
        version.map_or(0..0, |version| values.write(version.as_str())),
    ];
    values.insert_into(headers, places);
    if let Some(runtime) = runtime {
        headers.insert(RUNTIME, HeaderValue::from_static(runtime.as_str()));
    }
    Ok(response)
}

/// Values of headers, one after the other in memory that they share.
struct Values(String);

impl Values {
    /// Answers where it stands.
    fn write(&mut self, value: &str) -> Range<usize> {
        let from = self.0.len();
        self.0.push_str(value);
        from..self.0.len()
    }

    fn write_number(&mut self, value: impl itoa::Integer) -> Range<usize> {
        self.write(itoa::Buffer::new().format(value))
    }

    /// What is empty is left out.
    fn insert_into(self, headers: &mut HeaderMap, places: [Range<usize>; VALUES]) {
        let text = Bytes::from(self.0);
        for (name, place) in WRITTEN.into_iter().zip(places) {
            if !place.is_empty()
                && let Ok(value) = HeaderValue::from_maybe_shared(text.slice(place))
            {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mentat_manifest::{ByteCount, Fuel, RuntimeKind};
    use mentat_runtime::model::{Answer, ExecutionId, HostCalls, Outcome, Usage};

    use super::*;

    fn executed(exit_code: i32, fuel: Option<Fuel>) -> Executed {
        let usage =
            Usage { fuel, peak_memory: ByteCount(65536), execution: Duration::ZERO, ..Usage::default() };
        let result = Ok(Answer { output: Bytes::from_static(b"out"), exit_code });
        let outcome =
            Outcome { result, host_calls: HostCalls::default(), usage, logs: Vec::new(), logs_dropped: 0 };
        let (version, runtime) = ("1.2.3-beta.1+5".parse().ok(), Some(RuntimeKind::Wasm));
        Executed { execution_id: ExecutionId::new(), version, runtime, outcome, receipt: None }
    }

    #[test]
    fn headers_tell_what_the_body_does_not() {
        let executed_one = executed(-7, Some(Fuel(u64::MAX)));
        let id = executed_one.execution_id.to_string();
        let reply = reply(executed_one).unwrap();
        let told: Vec<(&str, &str)> =
            reply.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            told,
            [
                ("content-type", "application/octet-stream"),
                ("mentat-exit-code", "-7"),
                ("mentat-peak-memory-bytes", "65536"),
                ("mentat-fuel", "18446744073709551615"),
                ("mentat-execution-id", id.as_str()),
                ("mentat-version", "1.2.3-beta.1+5"),
                ("mentat-runtime", "wasm"),
            ]
        );
    }

    #[test]
    fn fuel_that_nobody_counted_is_not_told() {
        let reply = reply(executed(0, None)).unwrap();
        assert!(!reply.headers().contains_key(FUEL));
        assert_eq!(reply.headers()[EXIT_CODE], "0");
    }
}
