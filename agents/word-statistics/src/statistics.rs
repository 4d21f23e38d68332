//! Counting. What a word or a character is follows Unicode (UAX 29), so that `naïve` is one word of
//! five characters however it is composed, and a family emoji is one character.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// How many of the most frequent words are listed.
const TOP_WORDS: usize = 10;

/// How fast an adult reads English silently (Brysbaert 2019, a mean over 190 studies).
const WORDS_PER_MINUTE: f64 = 238.0;

/// What there is to say about a text.
#[derive(Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Words, by Unicode's boundaries; punctuation is none.
    pub words: usize,
    /// Different words, upper and lower case being the same, and so are all ways to compose a letter.
    pub unique_words: usize,
    /// Lines; a line break at the very end starts no further one.
    pub lines: usize,
    /// Sentences, by Unicode's boundaries.
    pub sentences: usize,
    /// Characters as a reader sees them (grapheme clusters), spaces and line breaks included.
    pub characters: usize,
    /// Of these, how many are not white space.
    pub characters_without_spaces: usize,
    /// Size of the text in UTF-8.
    pub bytes: usize,
    /// Characters in a word, on average.
    pub average_word_length: f64,
    /// How long it takes to read, in seconds.
    pub reading_time_seconds: f64,
    /// The most frequent words, by falling count, then by the alphabet.
    pub top_words: Vec<WordCount>,
}

/// How often a word occurs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct WordCount {
    /// The word in lower case, its letters composed (NFC).
    pub word: String,
    /// Its occurrences.
    pub count: usize,
}

/// Takes the statistics of a text.
#[must_use]
pub fn statistics(text: &str) -> Statistics {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let (mut words, mut characters_in_words) = (0_usize, 0_usize);
    for word in text.unicode_words() {
        words += 1;
        characters_in_words += word.graphemes(true).count();
        *counts.entry(word.to_lowercase().nfc().collect()).or_default() += 1;
    }
    let (mut characters, mut characters_without_spaces) = (0, 0);
    for character in text.graphemes(true) {
        characters += 1;
        if !character.chars().all(char::is_whitespace) {
            characters_without_spaces += 1;
        }
    }
    Statistics {
        words,
        unique_words: counts.len(),
        lines: text.lines().count(),
        sentences: text.unicode_sentences().count(),
        characters,
        characters_without_spaces,
        bytes: text.len(),
        average_word_length: two_decimals(characters_in_words as f64 / words.max(1) as f64),
        reading_time_seconds: two_decimals(words as f64 * 60.0 / WORDS_PER_MINUTE),
        top_words: top(counts),
    }
}

fn top(counts: HashMap<String, usize>) -> Vec<WordCount> {
    let mut counts: Vec<WordCount> =
        counts.into_iter().map(|(word, count)| WordCount { word, count }).collect();
    counts.sort_unstable_by(|a, b| (Reverse(a.count), &a.word).cmp(&(Reverse(b.count), &b.word)));
    counts.truncate(TOP_WORDS);
    counts
}

fn two_decimals(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_has_nothing() {
        let empty = statistics("");
        assert_eq!((empty.words, empty.lines, empty.characters), (0, 0, 0));
        assert_eq!(empty.average_word_length, 0.0);
    }

    #[test]
    fn characters_are_what_a_reader_sees() {
        let text = "nai\u{308}ve 👨‍👩‍👧";
        let found = statistics(text);
        assert_eq!((found.words, found.characters, found.characters_without_spaces), (1, 7, 6));
        assert_eq!(found.average_word_length, 5.0);
    }

    #[test]
    fn a_word_is_the_same_however_its_letters_are_composed() {
        assert_eq!(statistics("na\u{ef}ve nai\u{308}ve").unique_words, 1);
    }

    #[test]
    fn top_words_ignore_case_and_break_ties_by_the_alphabet() {
        let found = statistics("Beta alpha BETA. Gamma");
        let top: Vec<(&str, usize)> =
            found.top_words.iter().map(|entry| (entry.word.as_str(), entry.count)).collect();
        assert_eq!(top, [("beta", 2), ("alpha", 1), ("gamma", 1)]);
        assert_eq!((found.words, found.unique_words, found.sentences), (4, 3, 2));
    }
}
