//! Names of functions as the linker knows them, without what differs from one compiler and one build to the next.

/// What follows the name of a function that several units of the compiler's share.
const SHARED: &str = ".llvm.";

/// A pattern for the name that a function has in any build: hashes of crates, and places in the name that depend on their
/// lengths, are left open (`v0` mangling, RFC 2603). Names of other languages are as they are.
pub(super) fn pattern(symbol: &str) -> String {
    let symbol = symbol.split_once(SHARED).map_or(symbol, |(name, _)| name);
    let Some(mut rest) = symbol.strip_prefix("_R") else { return symbol.to_owned() };
    let mut pattern = String::from("_R");
    while let Some(first) = rest.chars().next() {
        let length = match first {
            // A crate with the hash that tells it from others of its name; a place in this name.
            'C' if rest.starts_with("Cs") => {
                rest = after_number(rest);
                pattern.push_str("Cs*_");
                continue;
            }
            'B' => {
                rest = after_number(rest);
                pattern.push_str("B*_");
                continue;
            }
            // Numbers that depend on the source alone. Where one of these letters is a type, what follows it is kept as it is.
            's' | 'G' | 'L' | 'K' => rest.len() - after_number(rest).len(),
            '0'..='9' => identifier(rest),
            other => other.len_utf8(),
        };
        let (part, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        pattern.push_str(part);
        rest = after;
    }
    pattern
}

/// What comes after a number, which ends with `_`.
fn after_number(text: &str) -> &str {
    text.split_once('_').map_or("", |(_, after)| after)
}

/// Bytes of an identifier, its length before it among them.
fn identifier(text: &str) -> usize {
    let digits = if text.starts_with('0') { 1 } else { text.bytes().take_while(u8::is_ascii_digit).count() };
    let (length, after) = text.split_at_checked(digits).unwrap_or((text, ""));
    // One that begins with a digit or `_` has a `_` before it.
    digits + usize::from(after.starts_with('_')) + length.parse::<usize>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_adds_is_left_open() {
        for (symbol, expected) in [
            ("_RNvMNtCsjrHSEGnQ3l9_3std4timeNtB2_7Instant3now", "_RNvMNtCs*_3std4timeNtB*_7Instant3now"),
            (
                "_RNvXs3_NtCsjrHSEGnQ3l9_3std4timeNtB5_7InstantNtNtNtCsgEmfK2I1SDS_4core3ops5arith3Sub3sub",
                "_RNvXs3_NtCs*_3std4timeNtB*_7InstantNtNtNtCs*_4core3ops5arith3Sub3sub",
            ),
            ("_RNvCs1a_1a8Body_Cs_.llvm.123", "_RNvCs*_1a8Body_Cs_"),
            ("_RNCNvCs1a_1a4main0B3_", "_RNCNvCs*_1a4main0B*_"),
            ("_RNvCs1a_1a4___ab", "_RNvCs*_1a4___ab"),
            ("mi_free", "mi_free"),
            ("_RNvC", "_RNvC"),
            ("_RNvC9", "_RNvC9"),
            ("_RNvCs", "_RNvCs*_"),
        ] {
            assert_eq!(pattern(symbol), expected, "{symbol}");
        }
    }
}
