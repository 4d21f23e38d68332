//! JSON in one form only: RFC 8785, the JSON Canonicalization Scheme. Owns how a value is written, and nothing of what is
//! written; there is no reading here.
//!
//! Invariant: equal values have equal bytes, and different values different ones. Whole numbers that a double cannot hold
//! would break that, and are refused.

use serde_json::{Number, Value};

/// Beyond it not every whole number is a double (RFC 7493, section 2.2, which RFC 8785 builds on).
const MAX_EXACT: u64 = 1 << 53;

/// A value that has no canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the number {0} is beyond 2^53, where JSON's numbers are no longer exact; write it in quotes")]
pub struct InexactNumber(pub String);

/// The bytes of `value` by RFC 8785: no white space, keys in the order of their UTF-16, numbers as ECMAScript writes them.
///
/// # Errors
/// A whole number beyond 2^53.
pub fn canonical(value: &Value) -> Result<Vec<u8>, InexactNumber> {
    let mut bytes = Vec::new();
    write(value, &mut bytes)?;
    Ok(bytes)
}

fn write(value: &Value, bytes: &mut Vec<u8>) -> Result<(), InexactNumber> {
    match value {
        Value::Null => bytes.extend_from_slice(b"null"),
        Value::Bool(true) => bytes.extend_from_slice(b"true"),
        Value::Bool(false) => bytes.extend_from_slice(b"false"),
        Value::Number(number) => bytes.extend_from_slice(number_text(number)?.as_bytes()),
        Value::String(text) => write_string(text, bytes),
        Value::Array(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write(item, bytes)?;
            }
            bytes.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            // By UTF-16 code units: a surrogate pair comes before U+E000, which bytes of UTF-8 would have after it.
            entries.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            bytes.push(b'{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_string(key, bytes);
                bytes.push(b':');
                write(value, bytes)?;
            }
            bytes.push(b'}');
        }
    }
    Ok(())
}

/// As ECMAScript's `Number::toString` has it (RFC 8785, section 3.2.2.3).
fn number_text(number: &Number) -> Result<String, InexactNumber> {
    let inexact = || InexactNumber(number.to_string());
    let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    if whole.is_some_and(|whole| whole > MAX_EXACT) {
        return Err(inexact());
    }
    let double = number.as_f64().filter(|double| double.is_finite()).ok_or_else(inexact)?;
    Ok(ryu_js::Buffer::new().format_finite(double).to_owned())
}

/// Section 3.2.2.2: the two-character escapes, `\u00xx` for other control characters, and all else as it is.
fn write_string(text: &str, bytes: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    bytes.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => bytes.extend_from_slice(b"\\\""),
            b'\\' => bytes.extend_from_slice(b"\\\\"),
            0x08 => bytes.extend_from_slice(b"\\b"),
            0x09 => bytes.extend_from_slice(b"\\t"),
            0x0a => bytes.extend_from_slice(b"\\n"),
            0x0c => bytes.extend_from_slice(b"\\f"),
            0x0d => bytes.extend_from_slice(b"\\r"),
            0x00..=0x1f => {
                bytes.extend_from_slice(b"\\u00");
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                bytes.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => bytes.push(byte),
        }
    }
    bytes.push(b'"');
}

#[cfg(test)]
mod tests;
