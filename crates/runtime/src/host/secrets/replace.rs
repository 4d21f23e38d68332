//! Replacing texts in bytes that come in pieces. Some of each piece is held back, since it may be the beginning of one of the
//! texts.
//!
//! Invariant: where the texts are secrets, how much is held back does not depend on what has come. A guest that has a host
//! send it guesses would otherwise see, by what is missing, how much of a guess is right.

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::{Bytes, BytesMut};

/// What is replaced by what.
pub(super) struct Replacements {
    automaton: AhoCorasick,
    texts: Vec<Vec<u8>>,
    by: Vec<Vec<u8>>,
    hold: Hold,
}

/// How much of a piece is held back.
enum Hold {
    /// As much of its end as may be the beginning of a text.
    Beginnings,
    /// Always so many bytes: one less than the longest text has.
    Always(usize),
}

/// What a stream has brought and what has not gone on yet.
#[derive(Debug, Default)]
pub(super) struct Held(BytesMut);

impl Replacements {
    /// Puts values in the place of placeholders, which are no secret. `None` where there is nothing to replace.
    pub(super) fn placing(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Option<Self> {
        Self::new(pairs, false, |_| Hold::Beginnings)
    }

    /// Puts placeholders in the place of values, in upper and lower case alike. `None` where there is nothing to replace.
    pub(super) fn masking(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Option<Self> {
        Self::new(pairs, true, |longest| Hold::Always(longest.saturating_sub(1)))
    }

    fn new(
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
        case_insensitive: bool,
        hold: impl Fn(usize) -> Hold,
    ) -> Option<Self> {
        let (texts, by): (Vec<_>, Vec<_>) = pairs.into_iter().filter(|(text, _)| !text.is_empty()).unzip();
        let hold = hold(texts.iter().map(Vec::len).max()?);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(case_insensitive)
            .build(&texts)
            .ok()?;
        Some(Self { automaton, texts, by, hold })
    }

    /// Whether any of the texts is in these bytes.
    pub(super) fn occur_in(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    /// Replaces in bytes that are whole.
    pub(super) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        self.automaton.replace_all_bytes(bytes, &self.by)
    }

    /// Takes the next piece of a stream; answers what can go on.
    pub(super) fn push(&self, held: &mut Held, piece: &[u8]) -> Bytes {
        held.0.extend_from_slice(piece);
        let kept = match self.hold {
            Hold::Beginnings => self.open_end(&held.0),
            Hold::Always(bytes) => bytes,
        };
        self.pass(held, held.0.len().saturating_sub(kept))
    }

    /// What is left at the end of a stream.
    pub(super) fn finish(&self, held: &mut Held) -> Bytes {
        self.pass(held, held.0.len())
    }

    /// Lets everything go that begins before `end`. A text that begins there lies wholly in what is held, by either way to
    /// hold back: otherwise `end` would stand before it.
    fn pass(&self, held: &mut Held, end: usize) -> Bytes {
        let bytes = std::mem::take(&mut held.0);
        let mut passed = Vec::with_capacity(bytes.len());
        let mut position = 0;
        for found in self.automaton.find_iter(&bytes).take_while(|found| found.start() < end) {
            passed.extend_from_slice(bytes.get(position..found.start()).unwrap_or_default());
            passed.extend_from_slice(self.by.get(found.pattern().as_usize()).map_or(&[], Vec::as_slice));
            position = found.end();
        }
        let rest = position.max(end);
        passed.extend_from_slice(bytes.get(position..rest).unwrap_or_default());
        held.0.extend_from_slice(bytes.get(rest..).unwrap_or_default());
        passed.into()
    }

    /// Bytes at the end that may be the beginning of a text.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let longest = |text: &Vec<u8>| {
            (1..text.len().min(bytes.len() + 1))
                .rev()
                .find(|length| bytes.get(bytes.len() - length..) == text.get(..*length))
                .unwrap_or(0)
        };
        self.texts.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(text, by)| (text.as_bytes().to_vec(), by.as_bytes().to_vec())).collect()
    }

    fn in_pieces(replacements: &Replacements, pieces: &[&[u8]]) -> Vec<u8> {
        let mut held = Held::default();
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(&replacements.push(&mut held, piece));
        }
        passed.extend_from_slice(&replacements.finish(&mut held));
        passed
    }

    #[test]
    fn what_cannot_begin_a_placeholder_goes_on_at_once() {
        let replacements = Replacements::placing(pairs(&[("secret", "***")])).unwrap();
        let mut held = Held::default();
        assert_eq!(replacements.push(&mut held, b"data: {\"token\": 1}\n\n"), "data: {\"token\": 1}\n\n");
        assert_eq!(replacements.push(&mut held, b"a se"), "a ");
        assert_eq!(replacements.push(&mut held, b"cret b"), "*** b");
        assert_eq!(replacements.push(&mut held, b"sesec"), "se");
        assert_eq!(replacements.finish(&mut held), "sec");
    }

    #[test]
    fn a_guess_of_a_part_of_a_value_is_passed_on_like_anything_else() {
        let replacements = Replacements::masking(pairs(&[("hunter2hunter2", "***")])).unwrap();
        let passed = |guess: &str| replacements.push(&mut Held::default(), guess.as_bytes()).len();
        let wrong = passed("nothing of the kind, at all");
        for guess in
            ["nothing of the kind, hunter", "hunter2hunter, of the kind,", "of the kind, hunter2hunter."]
        {
            assert_eq!(passed(guess), wrong, "{guess}");
        }
        assert_eq!(in_pieces(&replacements, &[b"is it hunter2", b"hunter2?"]), b"is it ***?");
    }

    #[test]
    fn the_longer_of_two_texts_wins_and_case_does_not_hide_a_value() {
        let one = Replacements::placing(pairs(&[("abc", "1"), ("abcdef", "2")])).unwrap();
        assert_eq!(in_pieces(&one, &[b"xabcd", b"efx", b"abcd"]), b"x2x1d");
        let other = Replacements::masking(pairs(&[("key", "-")])).unwrap();
        assert_eq!(in_pieces(&other, &[b"KE", b"Y key kE"]), b"- - kE");
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same_as_the_whole(text in "[abc]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let texts = pairs(&[("ab", "<>"), ("aba", "[]"), ("ccc", ""), ("bcab", "!")]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            for replacements in [Replacements::placing(texts.clone()), Replacements::masking(texts)] {
                let replacements = replacements.unwrap();
                prop_assert_eq!(in_pieces(&replacements, &pieces), replacements.apply(text.as_bytes()));
            }
        }
    }
}
