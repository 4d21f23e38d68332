//! What is called how in registries: hosts, repositories and tags by the grammar of the OCI distribution specification 1.1, and
//! the names of images that are put together of them, as container engines read those. Pure.
//!
//! Invariant: a name that passes is one that every engine takes for an image of that name, and for nothing else.

use std::net::Ipv4Addr;

use crate::digest::Digest;
use crate::escape::escape_untrusted;

/// Characters of an image's name; registries allow 255 for a path, besides host, tag and digest.
const MAX_IMAGE_BYTES: usize = 512;
/// Characters of a repository's name at most, with the host, as clients agree on.
const MAX_NAME_BYTES: usize = 255;
/// Characters of a tag at most.
const MAX_TAG_BYTES: usize = 128;
/// Of a host's name, and of one label of it (RFC 1035).
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// Words before a colon by which Podman takes the rest for a place of its own, such as a directory of the machine.
const TRANSPORTS: [&str; 11] = [
    "atomic",
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
];

/// Why a name cannot be one of an image; what it refers to, the engine knows.
pub(crate) fn image(name: &str) -> Result<(), String> {
    read(name).map_err(|why| {
        let name = escape_untrusted(name, 80);
        format!("`{name}` is no name of an image, such as `harbor.lan/agents/echo:1.0.0`: {why}")
    })
}

/// `[HOST[:PORT]/]REPOSITORY[:TAG][@sha256:…]`. What stands before the first `/` is a host where nothing else is it: where
/// there is a dot or a port in it, or it is `localhost`.
fn read(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_IMAGE_BYTES {
        return Err("it is too long");
    }
    if text.split_once(':').is_some_and(|(first, _)| TRANSPORTS.contains(&first)) {
        return Err(
            "engines take that for a place and not for a name; put the image into the engine, and say its name",
        );
    }
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|digest| digest.parse::<Digest>().is_err()) {
        return Err("a digest is `sha256:` and 64 lower-case hexadecimal digits");
    }
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with neither `.` nor `-`",
        );
    }
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (registry, repository) = match name.split_once('/') {
        Some((first, repository)) if is_registry(first) => (Some(first), repository),
        _ => (None, name),
    };
    if name.len() > MAX_NAME_BYTES {
        return Err("it is too long");
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(
            "engines take hexadecimal digits for the beginning of an image's id; say its tag as well",
        );
    }
    if registry.is_some_and(|registry| !is_host_and_port(registry)) {
        return Err(
            "before the first `/` stands a host's name or address, and a port if need be, such as `harbor.lan:5000`",
        );
    }
    if !is_repository(repository) {
        return Err(
            "a repository has parts between `/`, each of lower-case letters and digits with `.`, `_`, `__` or `-` between \
             them",
        );
    }
    Ok(())
}

fn is_host_and_port(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Whether it is the name of a host, or an IPv4 address.
#[must_use]
pub fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // What ends in a number is an address, whatever form some resolvers take for one (WHATWG URL, "ends in a number").
    let ends_in_number = host.rsplit('.').next().is_some_and(|last| {
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X")
    });
    host.len() <= MAX_HOST_BYTES
        && host.split('.').all(is_label)
        && (!ends_in_number || host.parse::<Ipv4Addr>().is_ok())
}

/// Whether it is the name of a repository, or the beginning of some.
#[must_use]
pub fn is_repository(name: &str) -> bool {
    name.split('/').all(is_component)
}

fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [part.bytes().next(), part.bytes().next_back()];
    if !ends.iter().all(|byte| byte.is_some_and(is_word))
        || !part.bytes().all(|byte| is_word(byte) || b"._-".contains(&byte))
    {
        return false;
    }
    // Between words stands one `.`, one or two `_`, or any number of `-`.
    let separators =
        part.split(|character: char| !"._-".contains(character)).filter(|separator| !separator.is_empty());
    separators
        .into_iter()
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

/// Whether it is a tag.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_TAG_BYTES).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_engines_read_are_names() {
        let digest = Digest::of(b"x");
        for name in [
            "echo",
            "a/b:1",
            "a/b__c/d--e.f_g:1.0.0-rc.1",
            "localhost/probe:1",
            "localhost:5000/x",
            "Harbor.LAN/agents/echo:Latest",
            "127.0.0.1:5000/echo",
            "harbor.lan:5000/agents/echo:_x",
            "registry.internal/team/oci:1",
            &format!("harbor.lan/echo@{digest}"),
            &format!("harbor.lan/echo:1@{digest}"),
            &digest.to_string(),
        ] {
            assert_eq!(image(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_an_engine_would_refuse_or_take_for_something_else_is_told_why() {
        let long = "a".repeat(256);
        let digest = Digest::of(b"x").to_string();
        for (name, says) in [
            ("", "a repository has"),
            ("@sha256:9ce", "a digest is"),
            (&format!("@{digest}"), "a repository has"),
            (&format!("x@{}", digest.to_uppercase()), "a digest is"),
            (&format!("x@{digest}@{digest}"), "a digest is"),
            ("docker-archive:/tmp/x.tar", "take that for a place"),
            ("oci:/tmp/x:1", "take that for a place"),
            ("oci:x", "take that for a place"),
            ("dir:x", "take that for a place"),
            ("docker://harbor.lan/x", "take that for a place"),
            ("https://harbor.lan/x", "before the first `/`"),
            ("Echo:1", "a repository has"),
            ("harbor.lan/Agents/echo", "a repository has"),
            ("Harbor/echo", "a repository has"),
            ("echo:", "a tag has"),
            ("cafe", "say its tag as well"),
            ("echo:-1", "a tag has"),
            ("echo:1:2", "a repository has"),
            ("harbor.lan:0/x", "before the first `/`"),
            ("harbor.lan:+1/x", "before the first `/`"),
            (":5000/x", "before the first `/`"),
            ("[::1]:5000/x", "before the first `/`"),
            ("../x", "before the first `/`"),
            ("a/../x", "a repository has"),
            ("a//x", "a repository has"),
            ("a/", "a repository has"),
            ("/a", "a repository has"),
            ("-x", "a repository has"),
            ("a b", "a repository has"),
            (&long, "too long"),
            (&"a".repeat(600), "too long"),
        ] {
            let refused = image(name).unwrap_err();
            assert!(refused.contains(says), "{name}: {refused}");
        }
        assert!(!image("\u{1b}[2J").unwrap_err().contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn what_passes_has_no_way_out_of_a_path_and_no_second_meaning(
            name in "([a-zA-Z0-9.:-]{0,12}/)?[a-z0-9/._-]{0,12}(:[a-zA-Z0-9._-]{0,6})?(@sha256:[0-9a-f]{60,68})?"
        ) {
            if image(&name).is_ok() {
                prop_assert!(name.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/@".contains(&byte)));
                let is_of = |transport: &&&str| name.strip_prefix(**transport).is_some_and(|rest| rest.starts_with(':'));
                prop_assert_eq!(TRANSPORTS.iter().find(is_of), None);
                prop_assert!(name.starts_with(|first: char| first.is_ascii_alphanumeric()));
                prop_assert!(name.ends_with(|last: char| last != ':' && last != '/' && last != '@'));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = image(&text);
        }
    }
}
