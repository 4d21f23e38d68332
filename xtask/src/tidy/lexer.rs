//! Splits Rust source into its words and punctuation, leaving out comments and strings, so that a wall
//! is tested against what is code and not against what is said about it. Of the grammar it knows paths
//! alone, those of `use` with their braces included.

/// One word (identifier, keyword, number) or one punctuation character, with its line counted from 1.
/// `::` is one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// A path as `use` or an expression has it: `std::env`, with the line that it begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourcePath<'a> {
    pub(super) segments: Vec<&'a str>,
    pub(super) line: usize,
}

/// Every path in the source, single words included; `a::{b, c::d}` is two.
pub(super) fn paths<'a>(tokens: &[Token<'a>]) -> Vec<SourcePath<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let begins = token.text.starts_with(is_word);
        // A field or method; the rest of a path that began in angle brackets.
        let continues = at > 0 && tokens.get(at - 1).is_some_and(|before| [".", "::"].contains(&before.text));
        at = if begins && !continues { path(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found
}

/// Reads the path at `at`, below the segments of `prefix`, and answers where it ends.
fn path<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<SourcePath<'a>>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let line = tokens.get(at).map_or(0, |token| token.line);
    let mut segments = prefix.to_vec();
    while text(at).starts_with(is_word) {
        segments.push(text(at));
        at += 1;
        if text(at) != "::" || !(text(at + 1).starts_with(is_word) || text(at + 1) == "{") {
            found.push(SourcePath { segments, line });
            return at;
        }
        at += 1;
    }
    // A group of `use`.
    at += 1;
    while !["}", ""].contains(&text(at)) {
        at = if text(at).starts_with(is_word) { path(tokens, at, &segments, found) } else { at + 1 };
    }
    at + 1
}

/// The tokens before the tests of the file, which stand at its end and are free of most walls.
pub(super) fn without_tests<'a, 'b>(tokens: &'b [Token<'a>]) -> &'b [Token<'a>] {
    let begin = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let end = tokens.windows(begin.len()).position(|window| window.iter().map(|token| token.text).eq(begin));
    tokens.get(..end.unwrap_or(tokens.len())).unwrap_or(tokens)
}

/// The tokens of a source text, in order.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = next(rest, first);
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if is_code {
            tokens.push(Token { text: piece, line });
        }
        line += piece.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The length of what stands at the beginning, and whether it is code.
fn next(rest: &str, first: char) -> (usize, bool) {
    if first.is_whitespace() {
        return (first.len_utf8(), false);
    }
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), false);
    }
    if let Some(length) = raw_string(rest) {
        return (length, false);
    }
    match first {
        '"' => (quoted(rest, '"'), false),
        '\'' => match character(rest) {
            Some(length) => (length, false),
            // A lifetime: the quote goes alone.
            None => (1, false),
        },
        _ if is_word(first) => (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), true),
        _ if rest.starts_with("::") => (2, true),
        _ => (first.len_utf8(), true),
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(here) = rest.get(at..) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else if let Some(character) = here.chars().next() {
            at += character.len_utf8();
        } else {
            break;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, and those with `b` or `c` before; raw identifiers are none.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after.trim_start_matches('#').strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |at| begin + at + end.len()))
}

/// A quoted literal's length; a backslash hides the next character.
fn quoted(rest: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if hidden => hidden = false,
            '\\' => hidden = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal's length; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut characters = rest.chars().skip(1);
    let first = characters.next()?;
    if first == '\\' || characters.next() == Some('\'') { Some(quoted(rest, '\'')) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "a // b\n/* c /* d */ e */ f \"g \\\" h\" i r#\"j \" k\"# b\"l\" m";
        assert_eq!(words(text), ["a", "f", "i", "b", "m"]);
    }

    #[test]
    fn a_raw_string_with_a_prefix_is_no_code() {
        assert_eq!(words("br\"x\" y r#type"), ["y", "r", "#", "type"]);
    }

    #[test]
    fn lifetimes_are_words_and_characters_are_not() {
        assert_eq!(words("'a 'b' '\\'' c '\\\\' d"), ["a", "c", "d"]);
    }

    #[test]
    fn paths_and_lines_are_kept() {
        let tokens = tokens("std::env\n\n::x");
        assert_eq!(tokens.iter().map(|token| token.line).collect::<Vec<_>>(), [1, 1, 1, 3, 3]);
        assert_eq!(words("std::env"), ["std", "::", "env"]);
    }

    fn joined(text: &str) -> Vec<String> {
        paths(&tokens(text)).into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn groups_are_spread_out() {
        let text = "use a::{b, c::{d as e, self}}; f::g(h.i::<j>())";
        assert_eq!(
            joined(text),
            ["use", "a::b", "a::c::d", "a::c::as", "a::c::e", "a::c::self", "f::g", "h", "j"]
        );
    }

    #[test]
    fn tests_at_the_end_are_left_out() {
        let tokens = tokens("a #[cfg(test)] fn b() {} #[cfg(test)] mod tests { c }");
        let kept: Vec<_> = without_tests(&tokens).iter().map(|token| token.text).collect();
        assert!(kept.contains(&"b") && !kept.contains(&"c"));
    }

    #[test]
    fn what_is_cut_off_ends() {
        for text in ["\"abc", "/* abc", "r#\"abc\"", "'", "'\\", "b", "use a::{b, c", "a::{", "a::"] {
            let tokens = tokens(text);
            assert!(paths(&tokens).len() <= 4, "{text}");
        }
    }
}
