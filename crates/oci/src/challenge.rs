//! What a registry wants before it answers: a name and a password, or a token and where that is had (RFC 7235, RFC 6750, and
//! the token authentication of the distribution project).

use mentat_manifest::escape_untrusted;
use url::Url;

/// Characters of a challenge that are looked at.
const MAX_CHALLENGE_BYTES: usize = 4096;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token.
    Bearer {
        /// Where it is had.
        realm: Url,
        /// For whom, as the registry calls itself.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads the value of `WWW-Authenticate`: the first challenge in it that is understood.
    ///
    /// # Errors
    /// A sentence's end that says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CHALLENGE_BYTES {
            return Err("its challenge is too long".to_owned());
        }
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(format!("it wants `{}`, which is not known here", escape_untrusted(scheme, 40)));
        }
        let (mut realm, mut service) = (None, None);
        let mut parameters = Parameters(rest);
        while let Some((name, value)) = parameters.next()? {
            let place = match name.to_ascii_lowercase().as_str() {
                "realm" => &mut realm,
                "service" => &mut service,
                // What the token is to be for is known better here.
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(format!("its challenge has `{name}` twice"));
            }
        }
        let realm = realm.ok_or("its challenge does not say where a token is had")?;
        let realm = realm
            .parse()
            .map_err(|_| format!("its token service `{}` is no URL", escape_untrusted(&realm, 200)))?;
        Ok(Self::Bearer { realm, service })
    }
}

/// `name=value` and `name="value"`, with commas between them.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn next(&mut self) -> Result<Option<(&'a str, String)>, String> {
        let rest = self.0.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(None);
        }
        let (name, rest) = rest.split_once('=').ok_or("its challenge is not readable")?;
        let name = name.trim();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("its challenge is not readable".to_owned());
        }
        let Some(quoted) = rest.trim_start().strip_prefix('"') else {
            let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
            self.0 = rest;
            return Ok(Some((name, value.trim().to_owned())));
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next() {
                Some('"') => break,
                Some('\\') => value.extend(characters.next()),
                Some(character) => value.push(character),
                None => return Err("its challenge has a quotation without an end".to_owned()),
            }
        }
        self.0 = characters.as_str();
        Ok(Some((name, value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_of_registries_are_understood() {
        assert_eq!(Challenge::read("Basic realm=\"Registry Realm\""), Ok(Challenge::Basic));
        let bearer = |realm: &str, service: Option<&str>| {
            Ok(Challenge::Bearer { realm: realm.parse().unwrap(), service: service.map(str::to_owned) })
        };
        assert_eq!(
            Challenge::read(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#
            ),
            bearer("https://auth.docker.io/token", Some("registry.docker.io"))
        );
        assert_eq!(Challenge::read("bearer realm=https://h/t , x=y"), bearer("https://h/t", None));
        assert_eq!(
            Challenge::read(r#"Bearer service="a\"b",realm="https://h/""#),
            bearer("https://h/", Some("a\"b"))
        );
    }

    #[test]
    fn what_is_no_challenge_is_told() {
        for (text, says) in [
            ("Negotiate", "wants `Negotiate`"),
            ("", "wants ``"),
            ("Bearer service=\"x\"", "does not say where"),
            ("Bearer realm=\"nowhere\"", "is no URL"),
            ("Bearer realm=\"https://a/\",realm=\"https://b/\"", "twice"),
            ("Bearer realm=\"https://a/", "without an end"),
            ("Bearer realm", "not readable"),
            (&format!("Bearer realm=\"{}\"", "a".repeat(5000)), "too long"),
        ] {
            let error = Challenge::read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_challenge_makes_it_panic_or_go_on_for_ever(text in any::<String>()) {
            let _ = Challenge::read(&text);
            let _ = Challenge::read(&format!("Bearer {text}"));
        }
    }
}
