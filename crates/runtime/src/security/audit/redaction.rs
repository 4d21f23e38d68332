//! Values that must not get into the log, and what takes their place where they would: a guest can put what it was told
//! into a path that it asks for, or into a capability.
//!
//! Finds a value as it is, in base64 (alone or inside something longer), and with any of its characters percent-encoded;
//! upper and lower case alike, since hosts are lower-cased. A guest that encodes it in a way of its own is not stopped:
//! what must not be seen is not given to guests.

use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Event, Record};

/// Bytes of the shortest value that is looked for. Shorter ones occur by chance, and would shred the records.
const MIN_VALUE_BYTES: usize = 8;
/// What stands in the place of a value.
const REDACTED: &str = "[redacted]";

/// Values of secrets, which no record may hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SensitiveValues(Vec<String>);

/// Finds them.
pub(super) struct Redaction(Option<AhoCorasick>);

impl FromIterator<String> for SensitiveValues {
    fn from_iter<I: IntoIterator<Item = String>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl fmt::Debug for SensitiveValues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SensitiveValues({} of them)", self.0.len())
    }
}

impl Redaction {
    /// # Errors
    /// When the values are too many or too long to be looked for.
    pub(super) fn new(values: &SensitiveValues) -> Result<Self, aho_corasick::BuildError> {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        for value in values.0.iter().filter(|value| value.len() >= MIN_VALUE_BYTES) {
            patterns.push(value.as_bytes().to_vec());
            // Texts are searched as they stand and decoded, and a value may look encoded itself.
            patterns.push(percent_decoded(value.as_bytes()).0);
            patterns.extend(in_base64(value.as_bytes()));
        }
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let mut builder = AhoCorasick::builder();
        builder.ascii_case_insensitive(true).match_kind(MatchKind::LeftmostLongest);
        Ok(Self(Some(builder.build(patterns)?)))
    }

    /// Whether there is anything to take out of records.
    pub(super) fn replaces(&self) -> bool {
        self.0.is_some()
    }

    /// Takes the values out of all texts of a record.
    pub(super) fn apply(&self, record: &mut Record) {
        let Some(finder) = &self.0 else { return };
        // Through its JSON, so that no text of a record is forgotten here when one is added there.
        let Ok(mut value) = serde_json::to_value(&record.event) else { return };
        if let Value::Object(event) = &mut value {
            let texts = event.iter_mut().filter(|(key, _)| *key != "event_type");
            let changed: usize = texts.map(|(_, value)| redact(finder, value)).sum();
            if changed > 0
                && let Ok(event) = serde_json::from_value::<Event>(value)
            {
                record.event = event;
            }
        }
    }
}

/// Answers how many texts there were with something to take out.
fn redact(finder: &AhoCorasick, value: &mut Value) -> usize {
    match value {
        Value::String(text) => redacted(finder, text).map_or(0, |redacted| {
            *text = redacted;
            1
        }),
        Value::Array(values) => values.iter_mut().map(|value| redact(finder, value)).sum(),
        Value::Object(values) => values.values_mut().map(|value| redact(finder, value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn redacted(finder: &AhoCorasick, text: &str) -> Option<String> {
    let (decoded, origins) = percent_decoded(text.as_bytes());
    let at = |index: usize| origins.get(index).copied().unwrap_or(text.len());
    let mut all: Vec<Range<usize>> =
        finder.find_iter(&decoded).map(|found| at(found.start())..at(found.end())).collect();
    // As it stands as well: a `%` before a value makes its first characters look encoded.
    all.extend(finder.find_iter(text).map(|found| found.range()));
    all.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(before) if range.start < before.end => before.end = before.end.max(range.end),
            _ => merged.push(range),
        }
    }
    if merged.is_empty() {
        return None;
    }
    let mut kept = Vec::with_capacity(text.len());
    let mut after = 0;
    for Range { start, end } in merged {
        kept.extend_from_slice(text.as_bytes().get(after..start)?);
        kept.extend_from_slice(REDACTED.as_bytes());
        after = end;
    }
    kept.extend_from_slice(text.as_bytes().get(after..)?);
    // A value may have been found between the halves of a character.
    Some(String::from_utf8_lossy(&kept).into_owned())
}

/// The text without its percent-encoding, and where each byte of it, and its end, stood.
fn percent_decoded(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut origins) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        origins.push(at);
        let encoded = (*byte == b'%').then(|| digit(text.get(at + 1)).zip(digit(text.get(at + 2)))).flatten();
        let encoded = encoded.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        decoded.push(encoded.unwrap_or(*byte));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    origins.push(text.len());
    (decoded, origins)
}

/// How base64 of anything with the value in it looks, whatever stands before: the characters that are the value's alone.
fn in_base64(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
        let first = (before * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            forms.extend(encoded.as_bytes().get(first..last).map(<[u8]>::to_vec));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "s3cr3t/Value+42";

    fn through(text: &str) -> String {
        let values = [VALUE.to_owned(), "short".to_owned()].into_iter().collect();
        let finder = Redaction::new(&values).unwrap().0.unwrap();
        redacted(&finder, text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn a_value_is_found_in_every_form_and_nothing_else_is_touched() {
        assert_eq!(through("/data/short/x"), "/data/short/x");
        assert_eq!(through(&format!("/data/{VALUE}/x{VALUE}")), "/data/[redacted]/x[redacted]");
        assert_eq!(through("network:https:S3CR3T/VALUE+42.example"), "network:https:[redacted].example");
        assert_eq!(through("a%2Fb?key=s3cr3t%2FValue%2b42&c=%zz"), "a%2Fb?key=[redacted]&c=%zz");
        assert_eq!(through("%73%33cr3t/Value+42"), "[redacted]");
        for before in ["", "u", "us", "user:"] {
            for after in ["", "x", "xy", " more"] {
                let whole = format!("{before}{VALUE}{after}");
                for encoded in [STANDARD_NO_PAD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
                    let text = through(&format!("Basic {encoded}="));
                    assert!(text.contains(REDACTED), "{whole}: {text}");
                }
            }
        }
    }

    #[test]
    fn values_are_not_printed() {
        let values: SensitiveValues = [VALUE.to_owned()].into_iter().collect();
        assert_eq!(format!("{values:?}"), "SensitiveValues(1 of them)");
    }
}
