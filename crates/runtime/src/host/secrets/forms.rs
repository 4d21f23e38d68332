//! The forms in which a host may repeat a value: as it is, and as common encodings write it. Matching ignores case, which
//! covers the two cases of hexadecimal digits.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Every form of a value.
pub(super) fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec(), hexadecimal(value)];
    // As strict libraries write it, as browsers do, and with what paths and whole URLs keep.
    for kept in ["", "!'()*", "/", "/!'()*", "/:?#[]@!$&'()*+,;="] {
        let encoded = percent_encoded(value, kept);
        // Forms write a space as a plus sign.
        forms.push(encoded.replace("%20", "+").into_bytes());
        forms.push(encoded.into_bytes());
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let json = serde_json::to_string(text).unwrap_or_default();
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
        let ascii = ascii_json(json);
        forms.extend(
            [json.replace('/', "\\/"), for_html(&ascii), ascii, json.to_owned()].map(String::into_bytes),
        );
        // The quotes as one and another library writes them.
        for (quote, apostrophe) in
            [("&quot;", "&#39;"), ("&#34;", "&#39;"), ("&quot;", "&#x27;"), ("\"", "'")]
        {
            forms.push(html_escaped(text, quote, apostrophe).into_bytes());
        }
    }
    // Inside a longer text it may begin at each of three places of a group.
    for before in 0..3 {
        forms.push(inner_base64(value, before, |bytes| STANDARD_NO_PAD.encode(bytes)));
        forms.push(inner_base64(value, before, |bytes| URL_SAFE_NO_PAD.encode(bytes)));
    }
    forms.sort();
    forms.dedup();
    forms.retain(|form| !form.is_empty());
    forms
}

/// As in URLs (RFC 3986, section 2.1): all but the unreserved characters, and those that are kept, in hexadecimal.
fn percent_encoded(value: &[u8], kept: &str) -> String {
    let encode = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        other if kept.as_bytes().contains(other) => char::from(*other).to_string(),
        other => format!("%{other:02x}"),
    };
    value.iter().map(encode).collect()
}

/// JSON in ASCII alone (RFC 8259, section 7).
fn ascii_json(json: &str) -> String {
    let mut ascii = String::new();
    for character in json.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// JSON that can stand in a page, as some libraries write all of theirs.
fn for_html(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

fn hexadecimal(value: &[u8]) -> Vec<u8> {
    value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

fn html_escaped(text: &str, quote: &str, apostrophe: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', quote).replace('\'', apostrophe)
}

/// The characters of a base64 text that depend on the value alone, where `before` bytes stand before it.
fn inner_base64(value: &[u8], before: usize, encode: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value);
    let encoded = encode(&bytes).into_bytes();
    // A character carries six bits; those that share some with a neighbour are left out.
    let (first, last) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    encoded.get(first..last).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn is_found(forms: &[Vec<u8>], text: &[u8]) -> bool {
        forms.iter().any(|form| text.windows(form.len()).any(|window| window.eq_ignore_ascii_case(form)))
    }

    proptest! {
        #[test]
        fn a_value_is_found_in_base64_of_any_text_around_it(
            before in proptest::collection::vec(any::<u8>(), 0..7),
            value in proptest::collection::vec(any::<u8>(), 8..40),
            after in proptest::collection::vec(any::<u8>(), 0..7),
        ) {
            let text = [before, value.clone(), after].concat();
            prop_assert!(is_found(&forms(&value), STANDARD.encode(&text).as_bytes()));
            prop_assert!(is_found(&forms(&value), URL_SAFE_NO_PAD.encode(&text).as_bytes()));
        }
    }

    #[test]
    fn a_value_is_found_as_common_encodings_write_it() {
        let forms = forms(b"a/b+c=\"&<d>'");
        for text in [
            "x a/b+c=\"&<d>' y",
            "q=a%2Fb%2Bc%3D%22%26%3Cd%3E%27",
            "path/a/b+c=%22&%3Cd%3E'",
            "q=a%2Fb%2Bc%3D%22%26%3Cd%3E'",
            r#"{"k":"a/b+c=\"\u0026\u003cd\u003e'"}"#,
            "<p>a/b+c=&#34;&amp;&lt;d&gt;&#39;</p>",
            "<p>a/b+c=&quot;&amp;&lt;d&gt;&#x27;</p>",
            r#"{"k":"a/b+c=\"&<d>'"}"#,
            r#"{"k":"a\/b+c=\"&<d>'"}"#,
            "<p>a/b+c=&quot;&amp;&lt;d&gt;&#39;</p>",
            "612F622B633D22263C643E27",
        ] {
            assert!(is_found(&forms, text.as_bytes()), "{text}");
        }
    }
}
