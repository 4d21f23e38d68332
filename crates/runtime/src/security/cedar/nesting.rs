//! How deep the expressions of a policy's text lie in one another, found before Cedar reads it: Cedar goes as deep as they
//! do on the stack, and a stack that ends takes the process with it.
//!
//! Invariant: what it finds is never less than the depth of the tree that Cedar makes of the text.

/// How deep expressions may lie. Policies that people write have a depth of about ten; a condition that lists hosts one
/// by one gets deeper by one with each `||`.
pub(crate) const MAX_NESTING: usize = 200;

/// What stands between two brackets, or between two commas in them.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators of which each holds what is before it or after it.
    operators: usize,
    /// Accesses to attributes, one of the other, since the last operator.
    accesses: usize,
    /// The most of these.
    most_accesses: usize,
    /// The deepest of what lies in brackets.
    inner: usize,
    /// The deepest of what was before the last comma.
    before: usize,
}

impl Level {
    fn depth(self) -> usize {
        self.before.max(1 + self.operators + self.accesses.max(self.most_accesses) + self.inner)
    }

    fn operator(&mut self) {
        self.operators += 1;
        self.most_accesses = self.most_accesses.max(self.accesses);
        self.accesses = 0;
    }

    fn comma(&mut self) {
        *self = Self { before: self.depth(), ..Self::default() };
    }
}

/// What of a text can be given to the parser: all of it, or up to the `;` in brackets at which no parser goes on.
///
/// # Errors
/// The byte at which it goes deeper than it may.
pub(super) fn readable(text: &str) -> Result<&str, usize> {
    let (mut levels, mut at) = (vec![Level::default()], 0);
    while let Some(token) = next(text.get(at..).unwrap_or_default()) {
        let end = at + token.len();
        let is_inside = levels.len() > 1;
        let Some(level) = levels.last_mut() else { break };
        match token {
            "(" | "{" => levels.push(Level::default()),
            "[" => {
                // It may be that of an attribute's name, as in `principal["id"]`.
                level.accesses += 1;
                levels.push(Level::default());
            }
            ")" | "]" | "}" => {
                let closed = levels.pop().unwrap_or_default();
                match levels.last_mut() {
                    Some(level) => level.inner = level.inner.max(closed.depth()),
                    // One too many, which the parser tells, and goes on behind it.
                    None => levels.push(closed),
                }
            }
            // What comes behind it would be read all the same, to tell more mistakes.
            ";" if is_inside => return Ok(text.get(..end).unwrap_or(text)),
            ";" => *level = Level::default(),
            "," => level.comma(),
            "." => level.accesses += 1,
            "&&" | "||" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "+" | "-" | "*" | "!" | "if" | "then"
            | "else" | "in" | "is" | "has" | "like" | "when" | "unless" => level.operator(),
            _ => {}
        }
        if levels.iter().map(|level| level.depth()).sum::<usize>() > MAX_NESTING {
            return Err(at);
        }
        at = end;
    }
    Ok(text)
}

/// The token, or the blanks, at the beginning of a text.
fn next(text: &str) -> Option<&str> {
    let first = text.chars().next()?;
    let length = |end: Option<usize>| end.unwrap_or(text.len());
    let end = match first {
        '/' if text.starts_with("//") => length(text.find(['\n', '\r'])),
        '"' => length(string(text)),
        '_' | 'a'..='z' | 'A'..='Z' | '0'..='9' => {
            length(text.find(|other: char| other != '_' && !other.is_ascii_alphanumeric()))
        }
        _ if first.is_whitespace() => length(text.find(|other: char| !other.is_whitespace())),
        _ => match text.get(..2) {
            Some("&&" | "||" | "==" | "!=" | "<=" | ">=") => 2,
            _ => first.len_utf8(),
        },
    };
    text.get(..end)
}

/// The end of the string that a text begins with, if it has one.
fn string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, other) in text.char_indices().skip(1) {
        match other {
            '"' if !is_escaped => return Some(at + 1),
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{circumstances, principal};
    use super::super::{Policies, PolicySource, Verdict};
    use super::*;
    use crate::security::principal::Trust;

    fn permit(condition: &str) -> String {
        format!("permit (principal, action, resource) when {{ {condition} }};")
    }

    /// What is wrong with a text, or with asking it.
    fn told(text: String) -> String {
        match Policies::parse(&[PolicySource { name: "own".into(), text }]) {
            Ok(policies) => {
                let asked = "env:KEY".parse().unwrap();
                match policies.ask(&principal(Trust::Untrusted), &asked, &circumstances()) {
                    Verdict::Faulty(_, message) => message,
                    _ => String::new(),
                }
            }
            Err(error) => error.to_string(),
        }
    }

    /// Each grows with a number.
    fn shapes() -> [fn(usize) -> String; 13] {
        [
            |depth| permit(&["true"].repeat(depth).join(" && ")),
            |depth| permit(&["context.time < datetime(\"2027-01-01\")"].repeat(depth).join(" || ")),
            |depth| permit(&format!("{}true{}", "(".repeat(depth), ")".repeat(depth))),
            |depth| format!("{}permit", "(".repeat(depth)),
            |depth| format!(") {}", permit(&format!("{}true{}", "(".repeat(depth), ")".repeat(depth)))),
            |depth| permit(&format!("{}true{} == true", "[".repeat(depth), "]".repeat(depth))),
            |depth| permit(&format!("{}1{} == true", "{a:".repeat(depth), "}".repeat(depth))),
            |depth| permit(&format!("{}true", "if true then true else ".repeat(depth))),
            |depth| permit(&format!("principal{} == 1", ".a".repeat(depth))),
            |depth| permit(&format!("principal{} == 1", "[\"a\"]".repeat(depth))),
            |depth| permit(&format!("true //\r && {}true{}", "(".repeat(depth), ")".repeat(depth))),
            |depth| permit(&format!("{} == 1", ["1"].repeat(depth).join(" + "))),
            |depth| format!("permit (principal, action, resource) {};", "when { true }".repeat(depth)),
        ]
    }

    #[test]
    fn what_is_too_deep_is_told_and_never_reaches_the_parser() {
        for (index, shape) in shapes().into_iter().enumerate() {
            for depth in [MAX_NESTING, 10_000, 100_000] {
                let message = told(shape(depth));
                assert!(message.contains("too deep"), "shape {index}: {message}");
            }
        }
    }

    #[test]
    fn the_deepest_that_is_read_fits_any_stack() {
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let run = || {
            for (index, shape) in shapes().into_iter().enumerate() {
                let fits = |depth: &usize| readable(&shape(*depth)).is_ok();
                let depth = (1..MAX_NESTING).rev().find(fits).unwrap();
                assert!(depth >= MAX_NESTING / 4, "shape {index}: {depth}");
                let message = told(shape(depth));
                assert!(!message.contains("too deep"), "shape {index}: {message}");
                assert!(!message.contains("recursion"), "shape {index}: {message}");
            }
        };
        small.spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn what_comes_behind_an_open_bracket_is_not_read() {
        for part in ["if ; then ; else ", "(; ", "[; , ", "{a: ; , b: "] {
            let text = permit(&part.repeat(100_000));
            assert!(readable(&text).unwrap().ends_with(';'), "{part}");
            assert!(readable(&text).unwrap().len() < 100, "{part}");
            assert!(told(text).contains("own:1:"), "{part}");
        }
        let policies = permit("true").repeat(500);
        let unclosed = policies.replacen('}', "", 1);
        assert!(told(unclosed).starts_with("own:1:50: unexpected token `;`"));
    }

    #[test]
    fn length_is_no_depth() {
        let hosts = ["ip(\"10.0.0.1\")"].repeat(5_000).join(", ");
        let listed = permit(&format!("[{hosts}].contains(ip(\"10.0.0.2\"))"));
        assert_eq!(told(listed.clone()), "");
        assert_eq!(told(listed.repeat(3)), "");
        let text = format!(
            "{}\n{}",
            "// ((((((".repeat(1_000),
            permit(&format!("\"{}\\\"((\" == \"\"", "(".repeat(1_000)))
        );
        assert_eq!(readable(&text), Ok(text.as_str()));
    }
}
