//! The reply to an input that came as it is: the output as it is, and what else is known of the execution in headers.

use std::ops::Range;
use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use mentat_manifest::RuntimeKind;

use super::reply::Reply;
use super::site::tell_browsers;
use crate::dispatch::Executed;

const EXECUTION_ID: &str = "mentat-execution-id";
const EXIT_CODE: &str = "mentat-exit-code";
const FUEL: &str = "mentat-fuel";
const PEAK_MEMORY: &str = "mentat-peak-memory-bytes";
const RUNTIME: &str = "mentat-runtime";
const VERSION: &str = "mentat-version";

/// Bytes that the values which are written for each reply usually have.
const USUAL_BYTES: usize = 160;

/// The headers of a reply, with the values that most have. They are copied for each, and the other values put in: to put the
/// names in one by one takes several times as long.
static PATTERN: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(EXIT_CODE, HeaderValue::from_static("0"));
    for written in [PEAK_MEMORY, FUEL, EXECUTION_ID, VERSION] {
        headers.insert(written, HeaderValue::from_static(""));
    }
    headers.insert(RUNTIME, HeaderValue::from_static(RuntimeKind::Wasm.as_str()));
    tell_browsers(&mut headers);
    headers
});

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
    headers.clone_from(&PATTERN);
    let mut values = Values(String::with_capacity(USUAL_BYTES));
    let exit_code = match answer.exit_code {
        0 => 0..0,
        exit_code => values.write_number(exit_code),
    };
    let peak_memory = values.write_number(usage.peak_memory.0);
    let fuel = usage.fuel.map_or(0..0, |fuel| values.write_number(fuel.0));
    let id = execution_id.with_text(|text| values.write(text));
    let version = version.map_or(0..0, |version| values.write(version.as_str()));
    let values = Bytes::from(values.0);
    for (name, value) in headers.iter_mut() {
        let place = match name.as_str() {
            EXIT_CODE => &exit_code,
            PEAK_MEMORY => &peak_memory,
            FUEL => &fuel,
            EXECUTION_ID => &id,
            VERSION => &version,
            _ => continue,
        };
        if !place.is_empty()
            && let Ok(written) = HeaderValue::from_maybe_shared(values.slice(place.clone()))
        {
            *value = written;
        }
    }
    for (name, place) in [(FUEL, &fuel), (VERSION, &version)] {
        if place.is_empty() {
            headers.remove(name);
        }
    }
    match runtime {
        Some(RuntimeKind::Wasm) => {}
        Some(other) => {
            headers.insert(RUNTIME, HeaderValue::from_static(other.as_str()));
        }
        None => {
            headers.remove(RUNTIME);
        }
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mentat_manifest::{ByteCount, Fuel};
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
                ("x-content-type-options", "nosniff"),
                ("cross-origin-resource-policy", "same-origin"),
                ("cache-control", "no-store"),
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let told = reply(executed(0, None)).unwrap();
        assert!(!told.headers().contains_key(FUEL));
        assert_eq!(told.headers()[EXIT_CODE], "0");
        let told = reply(Executed { runtime: Some(RuntimeKind::Container), ..executed(0, None) }).unwrap();
        assert_eq!(told.headers()[RUNTIME], "container");
        let told = reply(Executed { version: None, runtime: None, ..executed(0, None) }).unwrap();
        assert!(!told.headers().contains_key(VERSION) && !told.headers().contains_key(RUNTIME));
    }
}
