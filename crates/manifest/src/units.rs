//! Quantities with their units: bytes, fuel, and lengths of time, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::escape::escape_untrusted;

/// A number of bytes. Written `64MB`, `1GB`, `512KB` or plainly; in this project KB, MB and GB (and
/// KiB, MiB, GiB) are powers of 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

/// A number of fuel units, Wasmtime's deterministic count of executed operations.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Fuel(pub u64);

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct UnitError {
    text: String,
    wanted: &'static str,
}

const SIZES: [(&str, u64); 10] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for ByteCount {
    type Err = UnitError;

    /// # Errors
    /// Echoes the text, bounded and escaped, and says how sizes are written.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || UnitError {
            text: escape_untrusted(text, 40),
            wanted: "a number of bytes, such as `65536`, `512KB`, `64MB` or `1GB`",
        };
        let text = text.trim();
        let (digits, unit) = SIZES
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), *unit)))
            .unwrap_or((text, 1));
        whole_number(digits).and_then(|number| number.checked_mul(unit)).map(Self).ok_or_else(wrong)
    }
}

/// Reads a length of time such as `500ms`, `5s`, `2m` or `1h`.
///
/// # Errors
/// Echoes the text, bounded and escaped, and says how times are written; a bare number is refused,
/// since it does not say of what.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError {
        text: escape_untrusted(text, 40),
        wanted: "a length of time, such as `500ms`, `5s`, `2m` or `1h`",
    };
    let text = text.trim();
    let (digits, unit) = TIMES
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?.trim_end(), *unit)))
        .ok_or_else(wrong)?;
    let milliseconds = whole_number(digits).and_then(|number| number.checked_mul(unit));
    milliseconds.map(Duration::from_millis).ok_or_else(wrong)
}

/// Digits alone: no sign, and `_` only between them.
fn whole_number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl fmt::Display for ByteCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, unit) in [("GB", 1u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(formatter, "{}{suffix}", self.0 / unit);
            }
        }
        write!(formatter, "{} bytes", self.0)
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for ByteCount {
    /// As a number where it is no whole number of kilobytes, so that it always reads back.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 >= 1 << 10 && self.0.is_multiple_of(1 << 10) {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteCount;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of bytes, such as 65536, \"512KB\" or \"64MB\"")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteCount, E> {
                Ok(ByteCount(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteCount, E> {
                u64::try_from(bytes)
                    .map(ByteCount)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteCount, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteCount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteCount".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A number of bytes, plainly or with KB, MB or GB (powers of 1024).",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ ?(B|K|M|G|KB|MB|GB|KiB|MiB|GiB)?$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("512KB", 512 << 10),
            ("64MB", 64 << 20),
            ("1 GiB", 1 << 30),
            ("7B", 7),
        ] {
            assert_eq!(text.parse::<ByteCount>().unwrap(), ByteCount(bytes), "{text}");
        }
        for bad in ["", "MB", "-1", "1.5GB", "64mb", "99999999999GB", "0x10", "+5"] {
            assert!(bad.parse::<ByteCount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        for bad in ["5", "s", "-1s", "1.5s", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_size_reads_back_what_it_writes(bytes: u64) {
            let json = serde_json::to_string(&ByteCount(bytes)).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteCount>(&json).unwrap(), ByteCount(bytes));
        }
    }
}
