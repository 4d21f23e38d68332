//! Splits Rust source into its words and punctuation, leaving out comments and the insides of strings,
//! so that a wall is tested against what is code and not against what is said about it. Knows no grammar.

/// One word (identifier, keyword, number) or one punctuation character, with its line counted from 1.
/// `::` is one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
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

    #[test]
    fn what_is_cut_off_ends() {
        for text in ["\"abc", "/* abc", "r#\"abc\"", "'", "'\\", "b"] {
            let _ = words(text);
        }
    }
}
