//! Times as records and policies write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// RFC 3339 in UTC, with milliseconds. A time that no calendar has is the beginning of 1970.
pub(crate) fn rfc3339(milliseconds: u128) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(DateTime::from_timestamp_millis);
    time.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same of a system time; one before 1970 is the beginning of 1970.
pub(crate) fn rfc3339_of(time: SystemTime) -> String {
    rfc3339(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()))
}

/// Reads what [`rfc3339`] writes.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(time.timestamp_millis()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn writes_milliseconds_and_survives_absurd_times() {
        assert_eq!(rfc3339(1_795_510_800_042), "2026-11-24T09:00:00.042Z");
        assert_eq!(rfc3339(u128::MAX), "1970-01-01T00:00:00.000Z");
    }
}
