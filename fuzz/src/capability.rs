//! Capability strings: what is understood says the same when it is written and read again, and covers the same.

use mentat_manifest::Capability;

/// Reads the bytes as a capability, or, where there is a line break in them, as two.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((one, two)) = text.split_once('\n')
        && let (Ok(one), Ok(two)) = (one.parse::<Capability>(), two.parse::<Capability>())
    {
        check_cover(&one, &two);
        check_cover(&two, &one);
        return;
    }
    match text.parse::<Capability>() {
        Ok(capability) => {
            let written = capability.to_string();
            let again = written.parse::<Capability>();
            assert_eq!(
                again.as_ref().ok(),
                Some(&capability),
                "`{text}` was written as `{written}`: {again:?}"
            );
            assert!(!capability.explain().is_empty());
        }
        Err(error) => super::check_text(&error.to_string(), 4 << 10),
    }
}

fn check_cover(one: &Capability, two: &Capability) {
    let again = |capability: &Capability| capability.to_string().parse::<Capability>();
    assert!(one.covers(one), "{one} does not cover itself");
    if one.covers(two) {
        assert_eq!(one.kind(), two.kind(), "{one} covers {two}");
        let (Ok(one), Ok(two)) = (again(one), again(two)) else { panic!("{one} or {two} is not read again") };
        assert!(one.covers(&two), "{one} no longer covers {two}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_every_kind_and_their_neighbours_hold() {
        let seeds = [
            "filesystem:read:/data",
            "filesystem:readwrite:/tmp/a b",
            "network:https:*.openai.com:8443",
            "network:*:[2001:db8::/32]:443",
            "network:tcp:10.0.0.0/8:5432",
            "env:OPENAI_API_KEY",
            "secret:TOKEN",
            "compute:memory=64MB,cpu_ms=500,fuel=1000",
            "media:read:prefix/",
            "extension:name",
            "filesystem:read:/data\nfilesystem:read:/data/a",
            "network:https:*.openai.com\nnetwork:https:api.openai.com:443",
            "network:*:0.0.0.0/0\nnetwork:tcp:[::ffff:10.0.0.1]:80",
            "compute:memory=64MB,fuel=9\ncompute:fuel=3",
        ];
        let read: Vec<_> = seeds.iter().filter(|seed| seed.parse::<Capability>().is_ok()).collect();
        assert!(read.len() >= 8, "most seeds should be capabilities: {read:?}");
        for bytes in crate::variations(&seeds.map(|seed| seed.as_bytes().to_vec()), 500) {
            run(&bytes);
        }
    }
}
