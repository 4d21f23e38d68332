//! One pass over a text from left to right. Where several patterns would match, the first in the
//! order of `Kind` wins: a card number may look like a phone number, but not the other way round.

use crate::patterns;

/// What is redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Token,
    Email,
    Ip,
    Card,
    Phone,
}

/// A text without its secrets, and what was in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The text with placeholders.
    pub text: String,
    counts: [usize; Kind::ALL.len()],
}

/// Replaces everything that a pattern finds.
#[must_use]
pub fn redact(text: &str) -> Redacted {
    let mut redacted = Redacted { text: String::with_capacity(text.len()), counts: [0; Kind::ALL.len()] };
    let mut at = 0;
    while let Some((before, rest)) = text.split_at_checked(at) {
        let Some(character) = rest.chars().next() else { break };
        match find(before, rest) {
            Some((kind, length)) if length > 0 => {
                redacted.text.push_str(kind.placeholder());
                if let Some(count) = redacted.counts.get_mut(kind as usize) {
                    *count += 1;
                }
                at += length;
            }
            _ => {
                redacted.text.push(character);
                at += character.len_utf8();
            }
        }
    }
    redacted
}

/// The pattern that matches at the start of `rest`, and how many bytes of it.
fn find(before: &str, rest: &str) -> Option<(Kind, usize)> {
    if before.ends_with(char::is_alphanumeric) {
        return None;
    }
    Kind::ALL.into_iter().find_map(|kind| {
        let length = match kind {
            Kind::Token => patterns::token(before, rest),
            Kind::Email => patterns::email(before, rest),
            Kind::Ip => patterns::ip(before, rest),
            Kind::Card => patterns::card(rest),
            Kind::Phone => patterns::phone(rest),
        };
        length.map(|length| (kind, length))
    })
}

impl Kind {
    const ALL: [Self; 5] = [Self::Token, Self::Email, Self::Ip, Self::Card, Self::Phone];

    /// What stands in the text instead.
    const fn placeholder(self) -> &'static str {
        match self {
            Self::Token => "[token]",
            Self::Email => "[email]",
            Self::Ip => "[ip]",
            Self::Card => "[card]",
            Self::Phone => "[phone]",
        }
    }
}

impl Redacted {
    /// How many of each kind were replaced, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let found: Vec<String> = Kind::ALL
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{count} {}", kind.placeholder()))
            .collect();
        if found.is_empty() { "nothing to redact".into() } else { format!("redacted {}", found.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    fn check(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            assert_eq!(redact(text).text, *expected, "for {text}");
        }
    }

    #[test]
    fn email_addresses_go_and_mentions_stay() {
        check(&[
            ("Write to ada.l+news@mail.example.org.", "Write to [email]."),
            ("<mailto:ada@example.co.uk>", "<mailto:[email]>"),
            ("jörg@müller.de, ok", "[email], ok"),
            ("@ada or ada@localhost or a@b.c", "@ada or ada@localhost or a@b.c"),
            ("half@", "half@"),
        ]);
    }

    #[test]
    fn ip_addresses_go_and_versions_and_times_stay() {
        check(&[
            ("from 10.0.0.1:8080 and 192.168.1.20.", "from [ip]:8080 and [ip]."),
            ("[2001:db8::1]:443, ::1, fe80::1%eth0", "[[ip]]:443, [ip], [ip]%eth0"),
            ("version 1.2.3, 1.2.3.4.5, 300.1.1.1", "version 1.2.3, 1.2.3.4.5, 300.1.1.1"),
            ("at 12:30:45, std::fmt, :: and face", "at 12:30:45, std::fmt, :: and face"),
        ]);
    }

    #[test]
    fn card_numbers_go_only_when_their_check_digit_is_right() {
        check(&[
            ("4111 1111 1111 1111 12/27", "[card] 12/27"),
            ("3782-822463-10005", "[card]"),
            ("5555555555554444!", "[card]!"),
            ("4111 1111 1111 1112", "4111 1111 1111 1112"),
            ("order 41111111111111111111111", "order 41111111111111111111111"),
        ]);
    }

    #[test]
    fn phone_numbers_go_and_dates_and_amounts_stay() {
        check(&[
            ("call +44 20 7946 0958 or +1-555-123-4567 now", "call [phone] or [phone] now"),
            ("(555) 123-4567, 555.123.4567", "[phone], [phone]"),
            ("555-123-4567 555-123-4568", "[phone] [phone]"),
            ("020 7946 0958; 030/1234567", "[phone]; [phone]"),
            ("on 2026-11-23, 01.02.2026, 1 000 000, 3+4", "on 2026-11-23, 01.02.2026, 1 000 000, 3+4"),
        ]);
    }

    #[test]
    fn bearer_tokens_go_and_bearers_stay() {
        check(&[
            ("Authorization: Bearer abc123def456", "Authorization: [token]"),
            ("bearer  sk-live_0123456789.", "[token]."),
            ("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl;", "t=[token];"),
            ("the bearer certificate, a bearer", "the bearer certificate, a bearer"),
        ]);
    }

    #[test]
    fn what_was_replaced_is_counted() {
        assert_eq!(redact("a@b.org c@d.org ::1").summary(), "redacted 2 [email], 1 [ip]");
        assert_eq!(redact("nothing").summary(), "nothing to redact");
    }
}
