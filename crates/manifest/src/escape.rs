//! Text that strangers wrote, made safe to show: bounded, and without characters that move a cursor,
//! hide text or reverse its order.

/// The text with control characters, bidirectional controls and other invisible characters written as
/// `\u{…}`, at most `max_chars` characters of it, and `…` where more was cut off.
///
/// Stops terminal escape sequences and the reordering tricks of Unicode TR 36 and TR 9 from reaching an
/// operator's screen.
#[must_use]
pub fn escape_untrusted(text: &str, max_chars: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(max_chars));
    let mut characters = text.chars();
    for character in characters.by_ref().take(max_chars) {
        if is_treacherous(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    if characters.next().is_some() {
        escaped.push('…');
    }
    escaped
}

fn is_treacherous(character: char) -> bool {
    // A tab only makes a space.
    (character.is_control() && character != '\t')
        || matches!(character,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_moves_hides_or_reverses() {
        assert_eq!(escape_untrusted("a\x1b[31mb", 100), "a\\u{1b}[31mb");
        assert_eq!(escape_untrusted("a\u{202e}b\u{200b}\n", 100), "a\\u{202e}b\\u{200b}\\u{a}");
        assert_eq!(escape_untrusted("plain é 漢字\t!", 100), "plain é 漢字\t!");
    }

    #[test]
    fn cuts_by_characters_and_says_so() {
        assert_eq!(escape_untrusted("äöü", 2), "äö…");
        assert_eq!(escape_untrusted("äöü", 3), "äöü");
    }
}
