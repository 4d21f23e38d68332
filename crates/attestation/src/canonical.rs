//! JSON in one form only: RFC 8785, the JSON Canonicalization Scheme. Owns how a value is written, and nothing of what is
//! written; there is no reading here.
//!
//! Invariant: equal values have equal bytes, and different values different ones. Whole numbers that a double cannot hold
//! would break that, and are refused.

use serde_json::{Number, Value};

/// Beyond it not every whole number is a double (RFC 7493, section 2.2, which RFC 8785 builds on).
pub(crate) const MAX_EXACT: u64 = 1 << 53;

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
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Number, Value, json};

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).unwrap()).unwrap()
    }

    #[test]
    fn the_numbers_of_appendix_b_are_written_as_there() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let number = Number::from_f64(f64::from_bits(bits)).unwrap();
            assert_eq!(text(&Value::Number(number)), expected, "{bits:016x}");
        }
        // The other two of the appendix, which have no form: JSON knows neither.
        for bits in [0x7fff_ffff_ffff_ffff_u64, 0x7ff0_0000_0000_0000] {
            assert_eq!(Number::from_f64(f64::from_bits(bits)), None);
        }
    }

    #[test]
    fn the_example_of_section_3_2_2_is_written_as_in_3_2_3() {
        let source = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                        \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        // By the reader of manifests, which is exact; that of JSON, as it is built here, misses the last digit of some numbers.
        let value = Value::Object(mentat_manifest::Manifest::document(source).unwrap());
        assert_eq!(text(&value), expected);
        // Section 3.2.4 has the same as bytes.
        let bytes = concat!(
            "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a",
            "5b3333333333333333332e333333333333332c31652b33302c342e352c302e3030322c31652d3237",
            "5d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d",
        );
        assert_eq!(hex::encode(canonical(&value).unwrap()), bytes);
    }

    #[test]
    fn keys_are_in_the_order_of_section_3_2_3() {
        let value: Value = serde_json::from_str(
            r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
                "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
        )
        .unwrap();
        let written = text(&value);
        let names = ["Carriage Return", "One", "Control", "Latin Small", "Euro Sign", "Emoji", "Hebrew"];
        let places: Vec<usize> = names.iter().map(|name| written.find(name).unwrap()).collect();
        assert!(places.is_sorted(), "{written}");
    }

    #[test]
    fn control_characters_have_one_form_and_others_none() {
        let all: String = (0..=0x7f_u8).map(char::from).collect();
        let written = text(&Value::String(all));
        assert!(written.starts_with(
            r#""\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f\u0010"#
        ));
        assert!(written.contains("\\u001f !\\\"#$%") && written.ends_with("~\u{7f}\""), "{written}");
    }

    #[test]
    fn composed_and_decomposed_letters_stay_apart() {
        assert_ne!(text(&json!("\u{e9}")), text(&json!("e\u{301}")));
    }

    #[test]
    fn one_and_one_point_nought_are_one_number() {
        assert_eq!(text(&json!([1, 1.0, -0.0, 0, 100.0, 1e2])), "[1,1,0,0,100,100]");
    }

    #[test]
    fn whole_numbers_that_a_double_cannot_tell_apart_are_refused() {
        let exact = 1_u64 << 53;
        assert_eq!(text(&json!([exact, -9_007_199_254_740_992_i64])), "[9007199254740992,-9007199254740992]");
        for beyond in [json!(exact + 1), json!(u64::MAX), json!(i64::MIN), json!({ "a": [exact + 2] })] {
            let error = canonical(&beyond).unwrap_err();
            assert!(error.to_string().contains("beyond 2^53"), "{error}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let whole = -(1_i64 << 53)..=(1_i64 << 53);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            whole.prop_map(Value::from),
            // Others than whole ones have a test of their own, since the reader of JSON is not exact about them.
            (-1_000_i32..1_000).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<String, Value>>())),
            ]
        })
    }

    /// Whether two values are one, where numbers are doubles.
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
            }
            (a, b) => a == b,
        }
    }

    fn reversed(value: &Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
            Value::Object(map) => {
                Value::Object(map.iter().rev().map(|(key, value)| (key.clone(), reversed(value))).collect())
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn the_value_is_kept_and_its_form_is_fixed(value in any_value()) {
            let once = canonical(&value).unwrap();
            let read: Value = serde_json::from_slice(&once).unwrap();
            prop_assert!(same(&value, &read), "{value} became {read}");
            prop_assert_eq!(canonical(&read).unwrap(), once);
        }

        #[test]
        fn the_order_in_which_keys_came_is_forgotten(value in any_value()) {
            prop_assert_eq!(canonical(&value).unwrap(), canonical(&reversed(&value)).unwrap());
        }

        #[test]
        fn every_double_is_written_so_that_it_is_read_again(double in any::<f64>()) {
            prop_assume!(double.is_finite());
            prop_assert_eq!(text(&Value::from(double)).parse::<f64>().unwrap(), double);
        }

        #[test]
        fn different_values_have_different_bytes(a in any_value(), b in any_value()) {
            prop_assert_eq!(canonical(&a).unwrap() == canonical(&b).unwrap(), same(&a, &b));
        }
    }
}
