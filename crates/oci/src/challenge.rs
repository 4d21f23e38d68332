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

/// One of the challenges of a header, as it stands there.
struct Offer<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Challenge {
    /// Reads the value of `WWW-Authenticate`: the first challenge in it that is understood. A server names several, with commas
    /// between them, for the client to choose from (RFC 9110, section 11.6.1).
    ///
    /// # Errors
    /// A sentence's end that says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_CHALLENGE_BYTES {
            return Err("its challenge is too long".to_owned());
        }
        let mut why = None;
        for offer in offers(text)? {
            match offer.understand() {
                Ok(challenge) => return Ok(challenge),
                Err(problem) => why = why.or(Some(problem)),
            }
        }
        Err(why.unwrap_or_else(|| "its challenge is empty".to_owned()))
    }
}

impl Offer<'_> {
    fn understand(self) -> Result<Challenge, String> {
        if self.scheme.eq_ignore_ascii_case("basic") {
            return Ok(Challenge::Basic);
        }
        if !self.scheme.eq_ignore_ascii_case("bearer") {
            return Err(format!("it wants `{}`, which is not known here", escape_untrusted(self.scheme, 40)));
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in self.parameters {
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
        Ok(Challenge::Bearer { realm, service })
    }
}

/// What a header offers: each a scheme, and behind it either one word or `name=value` and `name="value"`, with commas between
/// all of them. What has a `=` behind it is a parameter of the scheme before it, and what has none is the next scheme.
fn offers(text: &str) -> Result<Vec<Offer<'_>>, String> {
    const UNREADABLE: &str = "its challenge is not readable";
    let mut offers: Vec<Offer<'_>> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(offers);
        }
        let (name, behind) =
            rest.split_at(rest.find(|letter: char| !is_of_name(letter)).unwrap_or(rest.len()));
        if name.is_empty() {
            return Err(UNREADABLE.to_owned());
        }
        match (behind.trim_start_matches([' ', '\t']).strip_prefix('='), offers.last_mut()) {
            (Some(after), Some(offer)) => {
                let (value, left) = value(after)?;
                offer.parameters.push((name, value));
                rest = left;
            }
            (Some(_), None) => return Err(UNREADABLE.to_owned()),
            (None, _) => {
                offers.push(Offer { scheme: name, parameters: Vec::new() });
                rest = without_word(behind);
            }
        }
    }
}

/// What follows a scheme, without the one word that can stand there in place of parameters (`token68` of RFC 9110).
fn without_word(behind: &str) -> &str {
    let word = behind.trim_start_matches([' ', '\t']);
    let is_of_word = |letter: char| letter.is_ascii_alphanumeric() || "-._~+/".contains(letter);
    let after = word.trim_start_matches(is_of_word).trim_start_matches('=').trim_start_matches([' ', '\t']);
    if after.is_empty() || after.starts_with(',') { after } else { behind }
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.+!#$%&'*^`|~".contains(letter)
}

/// A parameter's value, without its quotes, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.trim_start().strip_prefix('"') else {
        let (value, rest) = text.split_once(',').unwrap_or((text, ""));
        return Ok((value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next() {
            Some('"') => return Ok((value, characters.as_str())),
            Some('\\') => value.extend(characters.next()),
            Some(character) => value.push(character),
            None => return Err("its challenge has a quotation without an end".to_owned()),
        }
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
    fn of_several_challenges_the_first_that_is_known_is_answered() {
        for text in [
            "Negotiate, Basic realm=\"x\"",
            "Negotiate dG9rZW4=, Basic realm=\"x\"",
            "Negotiate dG9r+/ZW4,Basic",
            "Digest realm=\"a, Bearer b\", nonce=\"c=\", qop=auth , Basic realm=\"x\"",
            "NTLM,, Basic realm=\"x\", Bearer realm=\"https://h/\"",
            "Bearer service=\"x\", Basic realm=\"x\"",
            "basic",
        ] {
            assert_eq!(Challenge::read(text), Ok(Challenge::Basic), "{text}");
        }
        let bearer = Challenge::Bearer { realm: "https://h/t".parse().unwrap(), service: Some("s".into()) };
        for text in [
            "Negotiate, Bearer realm=\"https://h/t\",service=s",
            "Bearer realm = \"https://h/t\" , service = \"s\", Basic realm=\"x\"",
            "X-Own a=b, c=\"d\", bearer service=s,realm=https://h/t",
        ] {
            assert_eq!(Challenge::read(text), Ok(bearer.clone()), "{text}");
        }
    }

    #[test]
    fn what_is_no_challenge_is_told() {
        for (text, says) in [
            ("Negotiate", "wants `Negotiate`"),
            ("", "is empty"),
            (" , ,", "is empty"),
            ("Negotiate, NTLM", "wants `Negotiate`"),
            ("Negotiate dG9rZW4=, Bearer service=\"x\"", "wants `Negotiate`"),
            ("realm=\"x\"", "not readable"),
            ("@", "not readable"),
            ("Basic realm=\"x", "without an end"),
            ("Bearer service=\"x\"", "does not say where"),
            ("Bearer realm=\"nowhere\"", "is no URL"),
            ("Bearer realm=\"https://a/\",realm=\"https://b/\"", "twice"),
            ("Bearer realm=\"https://a/", "without an end"),
            ("Bearer realm", "does not say where"),
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

        #[test]
        fn whatever_stands_before_a_challenge_does_not_hide_it(
            before in "[A-Z][a-z]{0,8}( [a-z]{1,5}=(\"[a-zA-Z, =]{0,9}\"|[a-z]{1,5})| [a-z+/]{1,9}={0,2})?",
        ) {
            prop_assume!(!before.starts_with("Basic") && !before.starts_with("Bearer"));
            prop_assert_eq!(Challenge::read(&format!("{before}, Basic realm=\"x\"")), Ok(Challenge::Basic));
        }
    }
}
