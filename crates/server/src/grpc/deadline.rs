//! How long the client waits, as it says in `grpc-timeout`: an execution is not given more time than that. (The form of
//! the header is that of the gRPC protocol over HTTP/2, "Timeout".)

use std::time::Duration;

use mentat_manifest::LimitsRequest;
use tonic::metadata::MetadataMap;

/// Digits of a timeout at most, by the protocol.
const MAX_DIGITS: usize = 8;

/// The client's timeout; `None` where it says none, or nothing that can be understood.
pub(super) fn of(metadata: &MetadataMap) -> Option<Duration> {
    parse(metadata.get("grpc-timeout")?.to_str().ok()?)
}

/// Gives an execution no more time than its client.
pub(super) fn narrow(limits: &mut LimitsRequest, deadline: Option<Duration>) {
    limits.timeout = match (limits.timeout, deadline) {
        (Some(asked), Some(deadline)) => Some(asked.min(deadline)),
        (asked, deadline) => asked.or(deadline),
    };
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    if digits.len() > MAX_DIGITS {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match text.strip_prefix(digits)? {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_protocols_form_and_nothing_else() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "S", "5", "123456789S", "-1S", "5 S", "5x", "5SS", "५S"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_shortens() {
        let mut limits = LimitsRequest::default();
        narrow(&mut limits, Some(Duration::from_secs(5)));
        assert_eq!(limits.timeout, Some(Duration::from_secs(5)));
        narrow(&mut limits, Some(Duration::from_secs(9)));
        narrow(&mut limits, None);
        assert_eq!(limits.timeout, Some(Duration::from_secs(5)));
    }
}
