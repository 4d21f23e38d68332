//! Replacing texts in bytes that come in pieces. What a piece ends with is held back only as far as it may be the
//! beginning of one of the texts, so that a stream of events stays a stream.

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::{Bytes, BytesMut};

/// What is replaced by what.
pub(super) struct Replacements {
    automaton: AhoCorasick,
    texts: Vec<Vec<u8>>,
    by: Vec<Vec<u8>>,
    case: Case,
}

/// Whether upper and lower case are the same in the texts that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Matters,
    Ignored,
}

/// What a stream has brought and what has not gone on yet.
#[derive(Debug, Default)]
pub(super) struct Held(BytesMut);

impl Replacements {
    /// `None` where there is nothing to replace.
    pub(super) fn new(pairs: Vec<(Vec<u8>, Vec<u8>)>, case: Case) -> Option<Self> {
        let (texts, by): (Vec<_>, Vec<_>) = pairs.into_iter().filter(|(text, _)| !text.is_empty()).unzip();
        if texts.is_empty() {
            return None;
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(case == Case::Ignored)
            .build(&texts)
            .ok()?;
        Some(Self { automaton, texts, by, case })
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
        let open = self.open_end(&held.0);
        self.pass(held, held.0.len() - open)
    }

    /// What is left at the end of a stream.
    pub(super) fn finish(&self, held: &mut Held) -> Bytes {
        self.pass(held, held.0.len())
    }

    /// Lets everything go that begins before `end`. A text that begins there lies wholly in what is held: otherwise what is
    /// held would end with its beginning, and `end` would stand before it.
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
                .find(|length| {
                    let (end, begin) = (bytes.get(bytes.len() - length..), text.get(..*length));
                    match (end, begin, self.case) {
                        (Some(end), Some(begin), Case::Matters) => end == begin,
                        (Some(end), Some(begin), Case::Ignored) => end.eq_ignore_ascii_case(begin),
                        _ => false,
                    }
                })
                .unwrap_or(0)
        };
        self.texts.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replacements(pairs: &[(&str, &str)], case: Case) -> Replacements {
        let pairs = pairs.iter().map(|(text, by)| (text.as_bytes().to_vec(), by.as_bytes().to_vec()));
        Replacements::new(pairs.collect(), case).unwrap()
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
    fn what_cannot_begin_a_text_goes_on_at_once() {
        let replacements = replacements(&[("secret", "***")], Case::Matters);
        let mut held = Held::default();
        assert_eq!(replacements.push(&mut held, b"data: {\"token\": 1}\n\n"), "data: {\"token\": 1}\n\n");
        assert_eq!(replacements.push(&mut held, b"a se"), "a ");
        assert_eq!(replacements.push(&mut held, b"cret b"), "*** b");
        assert_eq!(replacements.push(&mut held, b"sesec"), "se");
        assert_eq!(replacements.finish(&mut held), "sec");
    }

    #[test]
    fn the_longer_of_two_texts_wins_and_case_can_be_ignored() {
        let one = replacements(&[("abc", "1"), ("abcdef", "2")], Case::Matters);
        assert_eq!(in_pieces(&one, &[b"xabcd", b"efx", b"abcd"]), b"x2x1d");
        let other = replacements(&[("key", "-")], Case::Ignored);
        assert_eq!(in_pieces(&other, &[b"KE", b"Y key kE"]), b"- - kE");
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same_as_the_whole(text in "[abc]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let replacements = replacements(&[("ab", "<>"), ("aba", "[]"), ("ccc", ""), ("bcab", "!")], Case::Matters);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            prop_assert_eq!(in_pieces(&replacements, &pieces), replacements.apply(text.as_bytes()));
        }
    }
}
