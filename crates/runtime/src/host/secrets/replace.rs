//! Replacing texts in bytes that come in pieces. Some of each piece is held back, since it may be the beginning of one of the
//! texts.
//!
//! Invariant: where the texts are secrets, how much is held back does not depend on what has come. A guest that has a host
//! send it guesses would otherwise see, by what is missing, how much of a guess is right.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use bytes::{Bytes, BytesMut};

/// What is replaced by what.
pub(super) struct Replacements {
    automaton: AhoCorasick,
    texts: Vec<Vec<u8>>,
    by: Vec<Vec<u8>>,
    hold: Hold,
    /// How many are replaced in one stream; the others stay as they are.
    limit: usize,
}

/// Whether upper and lower case are the same in the texts that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AsciiCase {
    Matters,
    Ignored,
}

/// How much of a piece is held back.
enum Hold {
    /// As much of its end as may be the beginning of a text.
    Beginnings,
    /// Always so many bytes: at least one less than the longest text has. Fewer after the end of a line, where no text goes over one:
    /// events that are sent line by line do not wait for the next.
    Always { bytes: usize, lines: bool },
}

/// Texts of one request that are replaced; more are no honest request, and values are larger than placeholders.
const MAX_PLACED: usize = 100;

/// What a stream has brought and what has not gone on yet, and how much was replaced in it.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: BytesMut,
    replaced: usize,
}

impl Replacements {
    /// Puts values in the place of placeholders, which are no secret.
    ///
    /// # Errors
    /// When the texts are too many to be looked for.
    pub(super) fn placing(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Option<Self>, BuildError> {
        Self::new(pairs, AsciiCase::Matters, MAX_PLACED)
    }

    /// Puts placeholders in the place of values, in upper and lower case alike.
    ///
    /// # Errors
    /// As [`Self::placing`].
    pub(super) fn masking(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Option<Self>, BuildError> {
        Self::new(pairs, AsciiCase::Ignored, usize::MAX)
    }

    fn new(
        pairs: Vec<(Vec<u8>, Vec<u8>)>,
        case: AsciiCase,
        limit: usize,
    ) -> Result<Option<Self>, BuildError> {
        let (texts, by): (Vec<_>, Vec<_>) = pairs.into_iter().filter(|(text, _)| !text.is_empty()).unzip();
        let Some(longest) = texts.iter().map(Vec::len).max() else { return Ok(None) };
        let hold = match case {
            AsciiCase::Matters => Hold::Beginnings,
            AsciiCase::Ignored => Hold::Always {
                // Rounded, since the exact number would tell how long a value is.
                bytes: longest.saturating_sub(1).next_multiple_of(64),
                lines: !texts.iter().any(|text| text.contains(&b'\n')),
            },
        };
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(case == AsciiCase::Ignored)
            .build(&texts)?;
        Ok(Some(Self { automaton, texts, by, hold, limit }))
    }

    /// Whether any of the texts is in these bytes.
    pub(super) fn occur_in(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    /// Replaces in bytes that are whole; `held` counts over all of a request.
    pub(super) fn apply(&self, held: &mut Held, bytes: &[u8]) -> Vec<u8> {
        let mut passed = self.push(held, bytes).to_vec();
        passed.extend_from_slice(&self.finish(held));
        passed
    }

    /// Takes the next piece of a stream; answers what can go on.
    pub(super) fn push(&self, held: &mut Held, piece: &[u8]) -> Bytes {
        held.bytes.extend_from_slice(piece);
        let length = held.bytes.len();
        let kept = match self.hold {
            Hold::Beginnings => self.open_end(&held.bytes),
            Hold::Always { bytes, lines } => {
                let end_of_line =
                    if lines { held.bytes.iter().rposition(|byte| *byte == b'\n') } else { None };
                bytes.min(end_of_line.map_or(length, |end| length - end - 1))
            }
        };
        self.pass(held, length.saturating_sub(kept))
    }

    /// What is left at the end of a stream.
    pub(super) fn finish(&self, held: &mut Held) -> Bytes {
        self.pass(held, held.bytes.len())
    }

    /// Lets everything go that begins before `end`. A text that begins there lies wholly in what is held, by any way to hold
    /// back: otherwise `end` would stand before it.
    fn pass(&self, held: &mut Held, end: usize) -> Bytes {
        let bytes = std::mem::take(&mut held.bytes);
        let mut passed = Vec::with_capacity(bytes.len());
        let mut position = 0;
        for found in self.automaton.find_iter(&bytes).take_while(|found| found.start() < end) {
            if held.replaced >= self.limit {
                break;
            }
            held.replaced += 1;
            passed.extend_from_slice(bytes.get(position..found.start()).unwrap_or_default());
            passed.extend_from_slice(self.by.get(found.pattern().as_usize()).map_or(&[], Vec::as_slice));
            position = found.end();
        }
        let rest = position.max(end);
        passed.extend_from_slice(bytes.get(position..rest).unwrap_or_default());
        held.bytes.extend_from_slice(bytes.get(rest..).unwrap_or_default());
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
        let replacements = Replacements::placing(pairs(&[("secret", "***")])).unwrap().unwrap();
        let mut held = Held::default();
        assert_eq!(replacements.push(&mut held, b"data: {\"token\": 1}\n\n"), "data: {\"token\": 1}\n\n");
        assert_eq!(replacements.push(&mut held, b"a se"), "a ");
        assert_eq!(replacements.push(&mut held, b"cret b"), "*** b");
        assert_eq!(replacements.push(&mut held, b"sesec"), "se");
        assert_eq!(replacements.finish(&mut held), "sec");
    }

    #[test]
    fn a_guess_of_a_part_of_a_value_is_passed_on_like_anything_else() {
        let replacements = Replacements::masking(pairs(&[("hunter2hunter2", "***")])).unwrap().unwrap();
        let passed = |guess: &str| replacements.push(&mut Held::default(), guess.as_bytes()).len();
        let wrong = passed("nothing of the kind, at all");
        for guess in
            ["nothing of the kind, hunter", "hunter2hunter, of the kind,", "of the kind, hunter2hunter."]
        {
            assert_eq!(passed(guess), wrong, "{guess}");
        }
        assert_eq!(in_pieces(&replacements, &[b"is it hunter2", b"hunter2?"]), b"is it ***?");
        // The end of a line lets it go, whatever is in it.
        let line = b"data: hunter2hunter\n\n";
        assert_eq!(replacements.push(&mut Held::default(), line), &line[..]);
    }

    #[test]
    fn a_request_cannot_be_made_huge_by_many_placeholders() {
        let replacements = Replacements::placing(pairs(&[("p", "a long value")])).unwrap().unwrap();
        let placed = replacements.apply(&mut Held::default(), &[b'p'; 1000]);
        assert_eq!(placed.len(), MAX_PLACED * "a long value".len() + 1000 - MAX_PLACED);
    }

    #[test]
    fn the_longer_of_two_texts_wins_and_case_does_not_hide_a_value() {
        let one = Replacements::placing(pairs(&[("abc", "1"), ("abcdef", "2")])).unwrap().unwrap();
        assert_eq!(in_pieces(&one, &[b"xabcd", b"efx", b"abcd"]), b"x2x1d");
        let other = Replacements::masking(pairs(&[("key", "-")])).unwrap().unwrap();
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
                let replacements = replacements.unwrap().unwrap();
                let whole = replacements.apply(&mut Held::default(), text.as_bytes());
                prop_assert_eq!(in_pieces(&replacements, &pieces), whole);
            }
        }
    }
}
