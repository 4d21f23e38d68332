//! What objects are called: references as guests write them, names as capabilities have them, and media types. Pure.
//!
//! Invariant: a name is one that a capability can be for, with one spelling; it holds nothing that leads out of the place
//! that its tenant's objects lie in.

use mentat_manifest::{Capability, MediaAccess, escape_untrusted};

use super::error::MediaError;

/// The scheme of references.
pub(super) const MEDIA: &str = "media://";
/// What references to a bucket begin with.
pub(super) const S3: &str = "s3://";
/// What the names of uploads begin with; their digests follow.
pub(crate) const UPLOADS: &str = "sha256/";
/// The first part of names that the store keeps for itself.
pub(super) const RESERVED: &str = ".mentat";
/// Bytes of a name at most: a capability for it must find room in 1,024.
const MAX_NAME_BYTES: usize = 900;
/// Bytes of one part of a name at most, as file systems have it, with some left for a suffix.
const MAX_PART_BYTES: usize = 240;
/// Bytes of a media type with its parameters at most.
const MAX_TYPE_BYTES: usize = 255;
/// Bytes of a type and of a subtype at most (RFC 6838, section 4.2).
const MAX_TYPE_NAME_BYTES: usize = 127;
/// Characters of what a guest wrote that an error repeats.
const MAX_SHOWN_CHARS: usize = 120;
/// Bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;

/// The name of an object of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName(String);

/// What a guest refers to an object by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// `media://NAME`
    Name(ObjectName),
    /// `s3://BUCKET/KEY`
    Key { bucket: String, key: String },
}

/// The SHA-256 of an object's content.
pub(crate) type Digest = [u8; DIGEST_BYTES];

/// A media type (RFC 6838), its names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(String);

impl Reference {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, MediaError> {
        let wrong = |what: &str| {
            let shown = shown(text);
            MediaError::Malformed(format!("the reference `{shown}` {what}"))
        };
        if text.len() > MAX_NAME_BYTES + MEDIA.len() {
            return Err(wrong(&format!("has {} bytes, which is too many", text.len())));
        }
        let text = std::str::from_utf8(text).map_err(|_| wrong("is not UTF-8"))?;
        if let Some(name) = text.strip_prefix(MEDIA) {
            return ObjectName::parse(name).map(Self::Name);
        }
        match text.strip_prefix(S3).and_then(|rest| rest.split_once('/')) {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self::Key { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(wrong("must be `media://NAME` or `s3://BUCKET/KEY`")),
        }
    }
}

impl ObjectName {
    pub(crate) fn parse(name: &str) -> Result<Self, MediaError> {
        let wrong = |what: &str| {
            let shown = escape_untrusted(name, MAX_SHOWN_CHARS);
            Err(MediaError::Malformed(format!("`{shown}` is no name of an object: {what}")))
        };
        if name.is_empty() || name.ends_with('/') {
            return wrong("it is empty, or ends with `/`");
        }
        if name.len() > MAX_NAME_BYTES || name.split('/').any(|part| part.len() > MAX_PART_BYTES) {
            return wrong(&format!(
                "it may have {MAX_NAME_BYTES} bytes, and {MAX_PART_BYTES} between two `/`"
            ));
        }
        // One writes to a bucket what the other reads from a directory, so nobody's special characters are let through.
        if name.contains(['\\', '#']) {
            return wrong("it must not hold `\\` or `#`");
        }
        if name.split('/').next() == Some(RESERVED) {
            return wrong("the store keeps such names for itself");
        }
        if let Err(error) = format!("media:read:{name}").parse::<Capability>() {
            return Err(MediaError::Malformed(error.to_string()));
        }
        let parsed = Self(name.to_owned());
        if name.starts_with(UPLOADS) && parsed.digest().is_none() {
            return wrong("`sha256/` is followed by a digest of 64 hexadecimal digits in lower case");
        }
        Ok(parsed)
    }

    /// The name of content.
    pub(crate) fn of(digest: &Digest) -> Self {
        Self(format!("{UPLOADS}{}", hex::encode(digest)))
    }

    /// What has to be granted for it.
    pub(crate) fn capability(&self, access: MediaAccess) -> Capability {
        Capability::Media { access, prefix: self.0.clone() }
    }

    /// The digest of its content, where it is called by it.
    pub(crate) fn digest(&self) -> Option<Digest> {
        let digits = self.0.strip_prefix(UPLOADS)?;
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return None;
        }
        let mut digest = [0; DIGEST_BYTES];
        hex::decode_to_slice(digits, &mut digest).ok()?;
        Some(digest)
    }

    /// How guests refer to it.
    pub(crate) fn reference(&self) -> String {
        format!("{MEDIA}{}", self.0)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl MediaType {
    /// What is not known to be anything else.
    pub(crate) fn unknown() -> Self {
        Self("application/octet-stream".into())
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, MediaError> {
        let wrong = || {
            let shown = shown(text);
            MediaError::Malformed(format!("`{shown}` is no media type such as `image/png` (RFC 6838)"))
        };
        if text.len() > MAX_TYPE_BYTES {
            return Err(wrong());
        }
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        let (essence, parameters) = text.split_once(';').map_or((text, None), |(e, p)| (e, Some(p)));
        let (kind, subtype) = essence.trim_end_matches(' ').split_once('/').ok_or_else(wrong)?;
        if !is_restricted_name(kind) || !is_restricted_name(subtype) {
            return Err(wrong());
        }
        let mut normal = format!("{kind}/{subtype}").to_ascii_lowercase();
        let mut rest = parameters.unwrap_or_default().trim_matches([' ', '\t']);
        while !rest.is_empty() {
            let (name, behind) = rest.split_once('=').ok_or_else(wrong)?;
            let (value, behind) = parameter_value(behind).ok_or_else(wrong)?;
            if !is_restricted_name(name) {
                return Err(wrong());
            }
            normal.push_str(&format!("; {}={value}", name.to_ascii_lowercase()));
            rest = behind;
        }
        Ok(Self(normal))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a guest wrote, cut before it is made text.
fn shown(text: &[u8]) -> String {
    let beginning = text.get(..MAX_SHOWN_CHARS * 4).unwrap_or(text);
    escape_untrusted(&String::from_utf8_lossy(beginning), MAX_SHOWN_CHARS)
}

/// The value of a parameter, and what stands behind it and its `;` (RFC 9110, section 5.6.6). A quoted one that need not be is
/// told without its quotes.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let (value, behind) = match text.strip_prefix('"') {
        None => {
            let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
            let (value, behind) = text.split_at_checked(end)?;
            (is_token(value).then(|| value.to_owned())?, behind)
        }
        Some(quoted) => {
            let (value, behind) = quoted_string(quoted)?;
            let told = if is_token(&value) { value } else { format!("\"{}\"", escaped(&value)) };
            (told, behind)
        }
    };
    let behind = behind.trim_start_matches([' ', '\t']);
    let behind = if behind.is_empty() { behind } else { behind.strip_prefix(';')? };
    Some((value, behind.trim_start_matches([' ', '\t'])))
}

/// What stands up to the closing quotation mark, and what behind it (RFC 9110, section 5.6.4).
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        let character = match character {
            '"' => return Some((value, text.get(index + 1..)?)),
            '\\' => characters.next()?.1,
            other => other,
        };
        if !matches!(character, '\t' | ' '..='~') {
            return None;
        }
        value.push(character);
    }
    None
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

/// RFC 6838, section 4.2.
fn is_restricted_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte));
    first && rest && name.len() <= MAX_TYPE_NAME_BYTES
}

/// RFC 9110, section 5.6.2.
fn is_token(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !value.is_empty() && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_name_or_a_key_of_a_bucket() {
        let name = |text: &str| match Reference::parse(text.as_bytes()) {
            Ok(Reference::Name(name)) => name.as_str().to_owned(),
            Ok(Reference::Key { bucket, key }) => format!("{bucket} {key}"),
            Err(error) => error.to_string(),
        };
        let digest = "0f".repeat(32);
        assert_eq!(name("media://pictures/cat.png"), "pictures/cat.png");
        assert_eq!(name("media://Bücher/ein Blatt.txt"), "Bücher/ein Blatt.txt");
        assert_eq!(name(&format!("media://sha256/{digest}")), format!("sha256/{digest}"));
        assert_eq!(name("s3://bucket/a/b"), "bucket a/b");
        for (text, says) in [
            ("", "must be `media://NAME`"),
            ("pictures/cat.png", "must be `media://NAME`"),
            ("s3://bucket", "must be `media://NAME`"),
            ("media://", "is empty"),
            ("media://a/", "ends with `/`"),
            ("media:///a", "must not begin with `/`"),
            ("media://a//b", "hold `//`"),
            ("media://../a", "`..` as a component"),
            ("media://a/./b", "`..` as a component"),
            ("media://a\u{0}b", "control character"),
            ("media://a\\b", "must not hold"),
            ("media://a#1", "must not hold"),
            ("media://.mentat/x", "for itself"),
            ("media://sha256/0f", "64 hexadecimal digits"),
            (&format!("media://sha256/{}", "0F".repeat(32)), "lower case"),
            (&format!("media://sha256/{digest}/x"), "64 hexadecimal digits"),
            (&format!("media://{}", "a".repeat(241)), "240 between"),
            (&format!("media://{}", "a/".repeat(500)), "too many"),
        ] {
            assert!(name(text).contains(says), "{text}: {}", name(text));
        }
    }

    #[test]
    fn a_name_by_digest_gives_the_digest_back() {
        let digest = [7; 32];
        assert_eq!(ObjectName::of(&digest).digest(), Some(digest));
        assert_eq!(ObjectName::of(&digest).reference(), format!("media://sha256/{}", "07".repeat(32)));
        assert_eq!(ObjectName::parse("pictures/cat.png").unwrap().digest(), None);
    }

    #[test]
    fn media_types_are_read_by_their_grammar() {
        let read = |text: &str| MediaType::parse(text.as_bytes()).map(|read| read.0).ok();
        assert_eq!(read("image/PNG").as_deref(), Some("image/png"));
        assert_eq!(
            read("application/vnd.oasis.opendocument.text+xml").as_deref(),
            Some("application/vnd.oasis.opendocument.text+xml")
        );
        assert_eq!(read("text/plain;Charset=UTF-8").as_deref(), Some("text/plain; charset=UTF-8"));
        for (said, told) in [
            ("image/svg+xml;charset=\"utf-8\"", "image/svg+xml; charset=utf-8"),
            ("multipart/x; boundary=\"abc def\" ; a=b;", "multipart/x; boundary=\"abc def\"; a=b"),
            (r#"a/b;x="q\"; y""#, r#"a/b; x="q\"; y""#),
        ] {
            assert_eq!(read(said).as_deref(), Some(told));
            assert_eq!(read(told).as_deref(), Some(told), "it is read as it is told");
        }
        for wrong in [
            "text/plain; a=\"b",
            "text/plain; a=\"b\"c",
            "text/plain; a=\"\u{e9}\"",
            "text/plain; a=\"b\r\nc: d\"",
            "text/plain; a=",
            "text/plain;; a=b",
            "",
            "png",
            "image/",
            "/png",
            "image/png/x",
            "image png",
            "image/p\u{e9}",
            "text/plain; charset",
            "text/plain; a=b c",
            ".a/b",
            "image/png\r\nx: y",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read(&format!("image/{}", "a".repeat(128))), None);
    }
}
