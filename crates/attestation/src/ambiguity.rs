//! What two readers of YAML could take for two documents: tags, directives, and values that were other values in YAML 1.1 or
//! are more exact than a double. Nothing of that is signed, so that whoever looks at a manifest, with whichever reader, sees
//! what was signed. Knows nothing of what the values mean.
//!
//! Invariant: a text without an ambiguity says the same by YAML 1.1, by YAML 1.2 and by the reader of manifests here.

use granit_parser::{Event, Parser, ScalarStyle, Span};
use mentat_manifest::escape_untrusted;

use crate::statement::ATTESTATION;

/// Characters of a value that an error repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// Something in a manifest that not everybody reads alike; where it stands, from line 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// A tag on a value.
    #[error(
        "line {0}: it has a tag (`!`), which gives one text several meanings; leave it out, and write text in quotes"
    )]
    Tag(usize),
    /// An anchor or an alias.
    #[error("line {0}: it has an anchor (`&`) or an alias (`*`); write the value where it is meant")]
    Anchor(usize),
    /// A directive, other than one for YAML 1.2.
    #[error("line {line}: the directive `{text}` changes how the text is read; leave it out")]
    Directive {
        /// Where it is.
        line: usize,
        /// The line.
        text: String,
    },
    /// A character that ends a line for some readers, and with it a comment or a value.
    #[error(
        "line {line}: it has the character U+{code:04X}, which ends a line for some readers and not for others; write it as \
         `\\u{code:04x}` in quotes, or leave it out"
    )]
    LineBreak {
        /// Where it is.
        line: usize,
        /// Which one.
        code: u32,
    },
    /// A value that is text for some readers, and a number, a date or a truth value for others.
    #[error("line {line}: `{text}` is text for some readers and {other} for others; {advice}")]
    Value {
        /// Where it is.
        line: usize,
        /// As it stands there.
        text: String,
        /// What it is for others.
        other: &'static str,
        /// What to write instead.
        advice: &'static str,
    },
    /// A character that is escaped in two halves.
    #[error(
        "line {0}: a character is escaped in two halves (`\\ud83d\\ude00`), which is one for some readers and two for others; \
         write it as it is, or as `\\U0001f600`"
    )]
    Halves(usize),
    /// A key that is no text.
    #[error("line {line}: the key `{text}` is no text for some readers; write it in quotes")]
    Key {
        /// Where it is.
        line: usize,
        /// As it stands there.
        text: String,
    },
    /// A number that is rounded when it is read.
    #[error(
        "line {line}: the number `{text}` is more exact than numbers of JSON are; write `{read}`, or it in quotes"
    )]
    Inexact {
        /// Where it is.
        line: usize,
        /// As it stands there.
        text: String,
        /// The number that it is read as.
        read: String,
    },
    /// A block of lines whose last one does not end.
    #[error(
        "line {0}: the text ends within the block of lines (`|` or `>`) that begins here, and some readers add the line break \
         that is missing; end it with one"
    )]
    Unended(usize),
    /// What the reader of manifests takes and the one that looks for ambiguities does not.
    #[error("it is no YAML that every reader takes: {0}")]
    Unreadable(String),
}

/// Finds the first ambiguity of a manifest's text that was read already, and is within its bounds. The values within
/// `attestation` are passed over: they are not signed.
///
/// # Errors
/// It.
pub(crate) fn refuse(text: &str) -> Result<(), Ambiguity> {
    check_characters(text)?;
    check_directives(text)?;
    // What encloses a place: whether it is a mapping, and whether a key of it is to come.
    let mut within: Vec<Enclosing> = Vec::new();
    // How deep the block begins that is not signed.
    let mut unsigned = None;
    // Where the last value begins, if it is a block of lines.
    let mut lines = None;
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| Ambiguity::Unreadable(escape_untrusted(&error.to_string(), 200)))?;
        let line = span.start.line();
        match &event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => return Err(Ambiguity::Tag(line)),
            Event::Alias(_) | Event::UnresolvedAlias(_) => return Err(Ambiguity::Anchor(line)),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(_, anchor, _)
            | Event::MappingStart(_, anchor, _)
                if *anchor != 0 =>
            {
                return Err(Ambiguity::Anchor(line));
            }
            _ => {}
        }
        match event {
            Event::Scalar(value, style, ..) => {
                // One that is left out ends nothing.
                if span.start.byte_offset() != span.end.byte_offset() {
                    lines = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded).then_some(line);
                }
                let is_key = within.last().is_some_and(|enclosing| *enclosing == Enclosing::BeforeKey);
                if is_key && within.len() == 1 && value == ATTESTATION {
                    unsigned = Some(1);
                } else if unsigned.is_none() {
                    match style {
                        ScalarStyle::Plain if is_key => check_key(&value, line)?,
                        ScalarStyle::Plain => check_value(&value, line)?,
                        ScalarStyle::DoubleQuoted => check_escapes(text, &span)?,
                        _ => {}
                    }
                }
                ended_value(&mut within, &mut unsigned, is_key);
            }
            Event::SequenceStart(..) => within.push(Enclosing::List),
            Event::MappingStart(..) => within.push(Enclosing::BeforeKey),
            Event::SequenceEnd | Event::MappingEnd => {
                within.pop();
                let is_key = within.last().is_some_and(|enclosing| *enclosing == Enclosing::BeforeKey);
                ended_value(&mut within, &mut unsigned, is_key);
            }
            _ => {}
        }
    }
    match lines {
        Some(line) if !text.ends_with(['\n', '\r']) => Err(Ambiguity::Unended(line)),
        _ => Ok(()),
    }
}

/// What a value stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enclosing {
    List,
    BeforeKey,
    BeforeValue,
}

/// A key or a value is over: after a key its value comes, and after that the next key.
fn ended_value(within: &mut [Enclosing], unsigned: &mut Option<usize>, is_key: bool) {
    if !is_key && *unsigned == Some(within.len()) {
        *unsigned = None;
    }
    match within.last_mut() {
        Some(enclosing @ Enclosing::BeforeKey) => *enclosing = Enclosing::BeforeValue,
        Some(enclosing @ Enclosing::BeforeValue) => *enclosing = Enclosing::BeforeKey,
        Some(Enclosing::List) | None => {}
    }
}

/// YAML 1.1 ends lines at characters that YAML 1.2 takes for ordinary ones: behind such a one a comment is a key.
fn check_characters(text: &str) -> Result<(), Ambiguity> {
    let Some(place) = text.find(['\u{85}', '\u{2028}', '\u{2029}']) else { return Ok(()) };
    let (before, rest) = text.split_at(place);
    let line = before.matches('\n').count() + 1;
    Err(Ambiguity::LineBreak { line, code: rest.chars().next().map_or(0, u32::from) })
}

/// Directives stand before all else but comments; the reader of manifests takes them only there.
fn check_directives(text: &str) -> Result<(), Ambiguity> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A carriage return alone ends a line as well.
    let lines = (1..).zip(text.lines()).flat_map(|(line, all)| all.split('\r').map(move |part| (line, part)));
    for (line, content) in lines {
        let bare = content.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = bare.split_ascii_whitespace().collect();
        match words.as_slice() {
            [] | ["%YAML", "1.2"] => {}
            [first, ..] if first.starts_with('#') => {}
            [first, ..] if first.starts_with('%') => {
                return Err(Ambiguity::Directive { line, text: shown(content) });
            }
            _ => break,
        }
    }
    Ok(())
}

/// JSON escapes characters beyond U+FFFF in two halves, of which YAML says nothing.
fn check_escapes(text: &str, span: &Span) -> Result<(), Ambiguity> {
    let range = span.start.byte_offset().zip(span.end.byte_offset());
    let written = range.and_then(|(start, end)| text.get(start..end));
    let Some(written) = written else { return Err(Ambiguity::Unreadable("its text has no end".into())) };
    let mut rest = written;
    let mut line = span.start.line();
    while let Some((before, escape)) = rest.split_once('\\') {
        line += before.matches('\n').count();
        let code = escape.strip_prefix('u').and_then(|digits| digits.get(..4));
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        if code.is_some_and(|code| (0xd800..=0xdfff).contains(&code)) {
            return Err(Ambiguity::Halves(line));
        }
        // What is escaped can be a backslash itself, or a line break.
        let mut characters = escape.chars();
        line += usize::from(characters.next() == Some('\n'));
        rest = characters.as_str();
    }
    Ok(())
}

fn check_key(text: &str, line: usize) -> Result<(), Ambiguity> {
    let is_text = !is_null(text) && !is_truth(text) && !is_number(text) && other_reading(text).is_none();
    if is_text { Ok(()) } else { Err(Ambiguity::Key { line, text: shown(text) }) }
}

fn check_value(text: &str, line: usize) -> Result<(), Ambiguity> {
    if is_number(text) {
        return check_exact(text, line);
    }
    match other_reading(text) {
        Some((other, advice)) => Err(Ambiguity::Value { line, text: shown(text), other, advice }),
        None => Ok(()),
    }
}

/// Null by both versions.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A truth value by both versions.
fn is_truth(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// A number by both versions, and by JSON: `-12`, `0.5`, `1.0e-7`. In YAML 1.1 an exponent has a sign, and a point before it.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| {
            fraction.is_some() && exponent.strip_prefix(['+', '-']).is_some_and(digits)
        })
}

/// What a plain text is for a reader of another version, which is neither text nor the same value, and what to write instead.
fn other_reading(text: &str) -> Option<(&'static str, &'static str)> {
    const QUOTES: &str = "write it in quotes, or otherwise where it is none";
    if ["yes", "no", "on", "off", "y", "n"].iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Some(("a truth value", "write `true` or `false`, or it in quotes"));
    }
    // `? ` and `: ` begin keys and values, and in braces some readers want no blank behind them.
    if text == "-" || text.starts_with(['?', ':']) {
        return Some(("a mark of the grammar", "write it in quotes"));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if [".inf", ".nan"].iter().any(|word| word.eq_ignore_ascii_case(unsigned)) {
        return Some(("a number", QUOTES));
    }
    let begins = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if !unsigned.bytes().next().is_some_and(begins) || !unsigned.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let of = |also: &[u8]| unsigned.bytes().all(|byte| byte.is_ascii_digit() || also.contains(&byte));
    let lower = unsigned.to_ascii_lowercase();
    let in_radix = [("0x", 16), ("0o", 8), ("0b", 2)].iter().any(|(prefix, radix)| {
        let digits = lower.strip_prefix(prefix).filter(|digits| !digits.is_empty());
        digits.is_some_and(|digits| digits.chars().all(|digit| digit.is_digit(*radix) || digit == '_'))
    });
    let points = unsigned.bytes().filter(|byte| *byte == b'.').count();
    if in_radix || (of(b"._eE+-") && points <= 1 && is_like_number(&lower)) {
        return Some(("a number", "write it as `12`, `0.5` or `1.5e+3`, or in quotes"));
    }
    if is_base_60(unsigned) {
        return Some(("a number", QUOTES));
    }
    is_date(text).then_some(("a date", QUOTES))
}

/// Digits, with underscores, a point and an exponent in any of the places in which some reader takes them.
fn is_like_number(lower: &str) -> bool {
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((lower, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let of = |text: &str, also: &[u8]| text.bytes().all(|byte| byte.is_ascii_digit() || also.contains(&byte));
    of(mantissa, b"._") && of(exponent, b"_") && !exponent.is_empty()
}

/// `12:30`, which is 750 in YAML 1.1; not `8080:80`.
fn is_base_60(unsigned: &str) -> bool {
    let of = |text: &str, also: &[u8]| text.bytes().all(|byte| byte.is_ascii_digit() || also.contains(&byte));
    let Some((first, rest)) = unsigned.split_once(':') else { return false };
    let (rest, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let is_sixtieth = |part: &str| part.len() <= 2 && part.parse::<u8>().is_ok_and(|part| part < 60);
    of(first, b"_") && of(fraction, b"_") && rest.split(':').all(is_sixtieth)
}

/// `2026-01-31`, with or without a time.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, most: usize| {
        part.is_some_and(|part| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let (year, month, rest) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    year.is_some_and(|year| year.len() == 4)
        && digits(year, 4)
        && digits(month, 2)
        && rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || b"tTzZ:.+- \t".contains(&byte))
}

/// Refuses a number that is read as another one: what is signed would be that other one, whichever of them stands there.
fn check_exact(text: &str, line: usize) -> Result<(), Ambiguity> {
    let read: f64 = text.parse().map_err(|_| Ambiguity::Unreadable(shown(text)))?;
    // Of an infinity the reader of manifests has told already.
    if significant(text) == significant(&format!("{read:e}")) {
        return Ok(());
    }
    Err(Ambiguity::Inexact { line, text: shown(text), read: ryu_js::Buffer::new().format(read).to_owned() })
}

/// The digits of a number that count, and the power of ten of the last of them: equal for equal numbers alone. The sign is
/// left out, which reading does not change.
fn significant(text: &str) -> Option<(String, i64)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_end_matches('0');
    let dropped = i64::try_from(all.len() - digits.len()).ok()?;
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some((String::new(), 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    Some((digits.to_owned(), power))
}

fn shown(text: &str) -> String {
    escape_untrusted(text, MAX_SHOWN_CHARS)
}

#[cfg(test)]
mod tests;
