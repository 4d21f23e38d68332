//! What secrets look like. Each pattern gets the text before and from the present position, and
//! answers how many bytes match there. Each looks at a bounded number of characters, so that no text
//! takes more than linear time.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest local part of an address (RFC 5321), in characters.
const MAX_LOCAL: usize = 64;

/// Longest domain name, in characters.
const MAX_DOMAIN: usize = 253;

/// Longest token that is looked at, in characters.
const MAX_TOKEN: usize = 16_384;

/// Longest card or phone number with its separators, in characters.
const MAX_NUMBER: usize = 40;

/// `Bearer …` of an HTTP header, or a JSON web token wherever it stands.
pub fn token(before: &str, rest: &str) -> Option<usize> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let scheme = "bearer";
    if rest.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) {
        let after = rest.get(scheme.len()..)?;
        let spaces = after.len() - after.trim_start_matches([' ', '\t']).len();
        let token = run(after.get(spaces..)?, MAX_TOKEN, is_token).trim_end_matches('.');
        let is_word = token.len() < 20 && !token.contains(|c: char| c.is_ascii_digit());
        return (spaces > 0 && token.len() >= 8 && !is_word).then_some(scheme.len() + spaces + token.len());
    }
    if !rest.starts_with("eyJ") || before.ends_with(['-', '_', '.']) {
        return None;
    }
    let token =
        run(rest, MAX_TOKEN, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)).trim_end_matches('.');
    (token.split('.').filter(|part| part.len() >= 4).count() == 3).then_some(token.len())
}

/// `local@domain.tld`; letters of any script.
pub fn email(before: &str, rest: &str) -> Option<usize> {
    let is_local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    if before.ends_with(is_local) {
        return None;
    }
    let local = run(rest, MAX_LOCAL, is_local);
    let after = rest.get(local.len()..)?.strip_prefix('@')?;
    let domain = run(after, MAX_DOMAIN, |c| c.is_alphanumeric() || c == '.' || c == '-');
    let domain = domain.trim_end_matches(['.', '-']);
    let (host, top) = domain.rsplit_once('.')?;
    let is_domain = host.split('.').all(|label| !label.is_empty() && !label.starts_with('-'))
        && top.chars().count() >= 2
        && top.starts_with(char::is_alphabetic);
    (!local.is_empty() && is_domain).then_some(local.len() + 1 + domain.len())
}

/// An address of either version; the standard library knows what is one.
pub fn ip(before: &str, rest: &str) -> Option<usize> {
    // In `1.2.3.4.5` no part is an address.
    let mut preceding = before.chars().rev();
    if matches!(preceding.next(), Some('.' | ':')) && preceding.next().is_some_and(char::is_alphanumeric) {
        return None;
    }
    let ends =
        |length: usize| !rest.get(length..).is_some_and(|after| after.starts_with(char::is_alphanumeric));
    let text = run(rest, 16, |c| c.is_ascii_digit() || c == '.').trim_end_matches('.');
    if text.parse::<Ipv4Addr>().is_ok() && ends(text.len()) {
        return Some(text.len());
    }
    let text = run(rest, 46, |c| c.is_ascii_hexdigit() || c == ':' || c == '.').trim_end_matches('.');
    let is_address = |text: &str| text.len() > 2 && text.parse::<Ipv6Addr>().is_ok() && ends(text.len());
    // A colon after the address may belong to the sentence.
    [text, text.strip_suffix(':').unwrap_or(text)].into_iter().find(|text| is_address(text)).map(str::len)
}

/// 13 to 19 digits, in groups or not, that begin as cards do and end in the right check digit.
pub fn card(rest: &str) -> Option<usize> {
    if !rest.starts_with(['2', '3', '4', '5', '6']) {
        return None;
    }
    let text = run(rest, MAX_NUMBER, |c| c.is_ascii_digit() || c == ' ' || c == '-');
    // What follows the number may be digits too, such as the year it expires in.
    (13..=text.len()).rev().find(|length| {
        let candidate = text.get(..*length).unwrap_or_default();
        let digits: Vec<u32> = candidate.chars().filter_map(|c| c.to_digit(10)).collect();
        let is_whole = candidate.ends_with(|c: char| c.is_ascii_digit())
            && !rest.get(*length..).is_some_and(|after| after.starts_with(char::is_alphanumeric));
        is_whole && has_single_separators(candidate) && (13..=19).contains(&digits.len()) && is_luhn(&digits)
    })
}

/// A number that begins with `+`, `(` or `0`, or is written as in North America: 555-123-4567.
pub fn phone(rest: &str) -> Option<usize> {
    if !rest.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '(') {
        return None;
    }
    let text = run(rest, MAX_NUMBER, |c| c.is_ascii_digit() || "+-. ()/".contains(c));
    // The next number of a list may follow.
    (9..=text.len()).rev().find(|length| {
        let ends = !rest.get(*length..).is_some_and(|after| after.starts_with(char::is_alphanumeric));
        ends && text.get(..*length).is_some_and(is_phone)
    })
}

fn is_phone(text: &str) -> bool {
    let inner = text.strip_prefix('+').unwrap_or(text);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let groups: Vec<usize> =
        text.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|length| *length > 0).collect();
    let is_number = match text.chars().next() {
        Some('+') => (8..=15).contains(&digits) && inner.starts_with(|c: char| c.is_ascii_digit()),
        Some('(' | '0') => (9..=15).contains(&digits),
        _ => groups == [3, 3, 4] || groups == [1, 3, 3, 4],
    };
    let is_tidy = !inner.contains('+') && has_single_separators(&inner.replace(") ", ")"));
    is_number && is_tidy && text.ends_with(|c: char| c.is_ascii_digit())
}

/// The longest start of the text whose characters all pass, up to a number of them.
fn run(text: &str, most: usize, passes: impl Fn(char) -> bool) -> &str {
    let end = text.char_indices().take(most).take_while(|(_, c)| passes(*c)).last();
    end.and_then(|(at, c)| text.get(..at + c.len_utf8())).unwrap_or_default()
}

/// Whether no two separators stand side by side.
fn has_single_separators(text: &str) -> bool {
    let mut previous_is_digit = true;
    text.chars().enumerate().all(|(index, c)| {
        let passes = c.is_ascii_digit() || previous_is_digit || index == 0 || c == '(';
        previous_is_digit = c.is_ascii_digit();
        passes
    })
}

/// The check of ISO/IEC 7812: every second digit from the right counts double.
fn is_luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => *digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}
