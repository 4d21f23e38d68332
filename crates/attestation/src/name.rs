//! Distinguished names as text: how one is written (RFC 4514), and whether a text that somebody wrote is one. OpenSSL and
//! others write the same name in several ways, so texts are compared by what they say.

use std::fmt;

use mentat_manifest::escape_untrusted;
use unicode_normalization::UnicodeNormalization as _;
use x509_parser::x509::X509Name;

/// Attributes of a name.
const MAX_ATTRIBUTES: usize = 32;
/// Characters of an attribute's value.
const MAX_VALUE_CHARS: usize = 256;
/// Bytes of a name as somebody wrote it.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// Short names of attribute types, the first of each type the one that is written (RFC 4514, section 3; OpenSSL).
const TYPES: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("GN", "2.5.4.42"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("E", "1.2.840.113549.1.9.1"),
    ("EMAIL", "1.2.840.113549.1.9.1"),
    ("S", "2.5.4.8"),
];

/// A certificate's name: types by their object identifiers, and values, in the order of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    attributes: Vec<(String, String)>,
}

impl Name {
    /// The name, where all its values are text that can be shown as it is.
    pub(crate) fn read(name: &X509Name<'_>) -> Option<Self> {
        let mut attributes = Vec::new();
        for attribute in name.iter_attributes() {
            let value = attribute.as_str().ok()?;
            if !is_plain(value) || attributes.len() == MAX_ATTRIBUTES {
                return None;
            }
            attributes.push((attribute.attr_type().to_id_string(), value.to_owned()));
        }
        Some(Self { attributes })
    }

    /// The one value of a type; none where there are none or several.
    pub(crate) fn only(&self, oid: &str) -> Option<&str> {
        let mut values = self.attributes.iter().filter(|(of, _)| of == oid).map(|(_, value)| value.as_str());
        let first = values.next();
        first.filter(|_| values.next().is_none())
    }

    /// Whether it has a value of a type.
    pub(crate) fn has(&self, oid: &str) -> bool {
        self.attributes.iter().any(|(of, _)| of == oid)
    }

    /// Whether it is the same name in other bytes, such as strings of another type, capital letters or more blanks (RFC 5280,
    /// section 7.1). Two names that are not one can be alike here, since the order of attributes is not looked at: it decides
    /// what is refused, and never what is accepted.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let folded = |name: &Self| {
            let mut all: Vec<(String, String)> =
                name.attributes.iter().map(|(oid, value)| (oid.clone(), folded(value))).collect();
            all.sort_unstable();
            all
        };
        self.attributes.len() == other.attributes.len() && folded(self) == folded(other)
    }

    /// Whether `text` says this name and nothing else: by RFC 4514 or as OpenSSL writes it, in whichever order, all of its
    /// attributes or some.
    pub(crate) fn is_said_by(&self, text: &str) -> bool {
        let Some(said) = parse(text) else { return false };
        let mut own: Vec<&(String, String)> = self.attributes.iter().collect();
        for attribute in &said {
            let Some(place) = own.iter().position(|own| *own == attribute) else { return false };
            own.swap_remove(place);
        }
        !said.is_empty() || self.attributes.is_empty()
    }
}

/// Whether `text` is a name as one is written here: by RFC 4514, the last attribute first, without blanks between them. Only such
/// a text can be equal to the [`subject`](crate::Signer::subject) of a signer.
#[must_use]
pub fn is_written_name(text: &str) -> bool {
    let name = parse(text).map(|attributes| Name { attributes: attributes.into_iter().rev().collect() });
    name.is_some_and(|name| !name.attributes.is_empty() && name.to_string() == text)
}

impl fmt::Display for Name {
    /// By RFC 4514: the last attribute first.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (oid, value)) in self.attributes.iter().rev().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            let short = TYPES.iter().find(|(_, known)| known == oid).map_or(oid.as_str(), |(short, _)| short);
            write!(formatter, "{short}=")?;
            let last = value.chars().count().saturating_sub(1);
            for (place, character) in value.chars().enumerate() {
                let at_edge =
                    (character == ' ' && (place == 0 || place == last)) || (character == '#' && place == 0);
                if at_edge || r#""+,;<>\="#.contains(character) {
                    formatter.write_str("\\")?;
                }
                write!(formatter, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Text of a certificate that may be shown and compared: short, and without characters that hide or reverse others.
pub(crate) fn is_plain(text: &str) -> bool {
    escape_untrusted(text, MAX_VALUE_CHARS) == text && !text.contains('\t')
}

/// A value as names are compared by RFC 4518: without the differences of letters' sizes and forms, and of blanks.
fn folded(value: &str) -> String {
    let folded = value.nfkc().collect::<String>().to_lowercase();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The attributes that a text names; nothing where it is no name.
fn parse(text: &str) -> Option<Vec<(String, String)>> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    // `openssl x509 -subject` begins with what it was asked for.
    let text = ["subject=", "issuer="].iter().find_map(|asked| text.strip_prefix(asked)).unwrap_or(text);
    // `/C=DE/CN=x` is OpenSSL's older form.
    let (separators, text) = match text.strip_prefix('/') {
        Some(rest) => (['/', '/', '/'], rest),
        None => ([',', '+', ';'], text),
    };
    let mut attributes = Vec::new();
    let mut rest = text;
    while !rest.trim().is_empty() {
        let (kind, after) = rest.split_once('=')?;
        let (value, after) = value(after, separators)?;
        attributes.push((oid(kind.trim())?, value));
        rest = after;
        if attributes.len() > MAX_ATTRIBUTES {
            return None;
        }
    }
    Some(attributes)
}

fn oid(kind: &str) -> Option<String> {
    let known = TYPES.iter().find(|(short, _)| short.eq_ignore_ascii_case(kind));
    let is_oid = || kind.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    known.map(|(_, oid)| (*oid).to_owned()).or_else(|| is_oid().then(|| kind.to_owned()))
}

/// One value, without its escapes and quotes, and what follows the separator behind it.
fn value(text: &str, separators: [char; 3]) -> Option<(String, &str)> {
    let text = text.trim_start();
    let mut bytes: Vec<u8> = Vec::new();
    // Spaces at the end count where they are escaped or quoted.
    let mut kept = 0;
    let mut quoted = false;
    let mut characters = text.char_indices();
    let mut rest = "";
    while let Some((place, character)) = characters.next() {
        let mut buffer = [0; 4];
        match character {
            '"' => {
                quoted = !quoted;
                kept = bytes.len();
            }
            '\\' => {
                let (_, escaped) = characters.next()?;
                if let Some(high) = escaped.to_digit(16) {
                    let (_, low) = characters.next()?;
                    bytes.push(u8::try_from(high * 16 + low.to_digit(16)?).ok()?);
                } else {
                    bytes.extend_from_slice(escaped.encode_utf8(&mut buffer).as_bytes());
                }
                kept = bytes.len();
            }
            _ if !quoted && separators.contains(&character) => {
                rest = text.get(place + character.len_utf8()..)?;
                // `CN=x,` ends with a separator that separates nothing.
                if rest.trim().is_empty() {
                    return None;
                }
                break;
            }
            _ => {
                bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                if quoted || !character.is_whitespace() {
                    kept = bytes.len();
                }
            }
        }
    }
    if quoted {
        return None;
    }
    bytes.truncate(kept);
    Some((String::from_utf8(bytes).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(attributes: &[(&str, &str)]) -> Name {
        let own = |(kind, value): &(&str, &str)| (oid(kind).unwrap(), (*value).to_owned());
        Name { attributes: attributes.iter().map(own).collect() }
    }

    #[test]
    fn every_way_of_writing_a_name_says_it() {
        let own = name(&[("C", "DE"), ("O", "Foo, Inc."), ("CN", "Dev = 1"), ("E", "a@b.c")]);
        assert_eq!(own.to_string(), r"emailAddress=a@b.c,CN=Dev \= 1,O=Foo\, Inc.,C=DE");
        for text in [
            &own.to_string(),
            r#"C = DE, O = "Foo, Inc.", CN = Dev = 1, emailAddress = a@b.c"#,
            r"C=DE, O=Foo\, Inc., CN=Dev \= 1, emailAddress=a@b.c",
            "/C=DE/O=Foo, Inc./CN=Dev = 1/emailAddress=a@b.c",
            r"1.2.840.113549.1.9.1=a@b.c,cn=Dev \3D 1,o=Foo\2C Inc.,c=DE",
            r"E=a@b.c+CN=Dev \= 1;O=Foo\, Inc.;C=DE",
            r#"subject=C = DE, O = "Foo, Inc.", CN = Dev = 1, emailAddress = a@b.c"#,
            r"CN=Dev \= 1,C=DE",
            "E=a@b.c",
        ] {
            assert!(own.is_said_by(text), "{text}");
        }
    }

    #[test]
    fn other_names_do_not_say_it() {
        let own = name(&[("O", "Foo"), ("CN", "Dev")]);
        for text in [
            "",
            "Dev",
            "subject=",
            "CN=Dev,CN=Dev",
            "CN=Dev,O=Foo,O=Foo",
            "CN=Dev,O=foo",
            "CN=Dev,O=Foo,",
            "CN=Dev,O=\"Foo",
            "CN=Foo,O=Dev",
            "CN=Dev,XX=Foo",
            "CN=Dev,O=Foo\\",
            "CN=Dev,O=Foo\\ ",
            ",CN=Dev,O=Foo",
        ] {
            assert!(!own.is_said_by(text), "{text}");
        }
        assert!(!own.is_said_by(&"CN=a,".repeat(5000)));
    }

    #[test]
    fn a_value_cannot_pass_for_two_attributes() {
        let spoof = name(&[("CN", "Dev,O=Foo")]);
        let honest = name(&[("O", "Foo"), ("CN", "Dev")]);
        assert_ne!(spoof.to_string(), honest.to_string());
        assert!(spoof.is_said_by(&spoof.to_string()) && !spoof.is_said_by(&honest.to_string()));
        assert!(!honest.is_said_by(&spoof.to_string()));
        assert!(
            !is_plain("a\u{202e}b") && !is_plain("a\nb") && !is_plain(&"x".repeat(300)) && is_plain("Jürgen")
        );
    }

    #[test]
    fn a_written_name_is_one_that_a_certificate_can_have() {
        for own in [
            name(&[("C", "DE"), ("O", "Foo, Inc."), ("CN", "Dev = 1"), ("E", "a@b.c")]),
            name(&[("1.2.3", " x "), ("CN", "#1")]),
            name(&[("O", "Caf\u{e9}\\")]),
        ] {
            assert!(is_written_name(&own.to_string()), "{own}");
        }
        for other in [
            "",
            " ",
            "dev",
            "CN = dev",
            "CN=dev, O=Example",
            "/O=Example/CN=dev",
            "cn=dev",
            "CN=\"dev\"",
            "CN=dev,",
            "EMAIL=a@b.c",
            "subject=CN=dev",
            "2.5.4.3=dev",
            "CN=dev ",
            "CN=a;O=b",
        ] {
            assert!(!is_written_name(other), "{other}");
        }
    }

    #[test]
    fn names_are_alike_where_their_letters_sizes_and_blanks_alone_differ() {
        let own = name(&[("O", "Caf\u{e9}  Inc."), ("CN", "Root CA")]);
        for alike in [
            name(&[("O", "CAFE\u{301} inc. "), ("CN", "root ca")]),
            name(&[("CN", "Root\u{a0}CA"), ("O", "\u{ff23}af\u{e9} Inc.")]),
            own.clone(),
        ] {
            assert!(own.is_alike(&alike) && alike.is_alike(&own), "{alike}");
        }
        for other in [
            name(&[("O", "Caf\u{e9} Inc."), ("CN", "Root CB")]),
            name(&[("O", "Cafe Inc."), ("CN", "Root CA")]),
            name(&[("O", "Caf\u{e9} Inc.")]),
            name(&[("OU", "Caf\u{e9} Inc."), ("CN", "Root CA")]),
            name(&[("O", "Caf\u{e9}Inc."), ("CN", "Root CA")]),
        ] {
            assert!(!own.is_alike(&other), "{other}");
        }
    }

    #[test]
    fn any_text_is_read_or_not_without_a_panic() {
        use proptest::prelude::*;
        proptest!(|(text in "[A-Za-z0-9=,+;/\\\\\" \u{e9}]{0,60}")| {
            let _ = name(&[("CN", "x")]).is_said_by(&text);
        });
    }
}
