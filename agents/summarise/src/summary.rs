//! Choosing sentences. The words of a text say what it is about by how often they occur; a sentence weighs what its words
//! do. Words and sentences are Unicode's (UAX 29), and the same text has the same summary on every machine.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use unicode_segmentation::UnicodeSegmentation;

/// Of so many sentences one is kept.
const ONE_OF: usize = 4;

/// Sentences that are kept at most.
const MOST: usize = 5;

/// What short sentences are held back by: so many words that weigh nothing are added to each.
const HOLDING_BACK: f64 = 4.0;

/// Words that occur in English whatever it is about.
const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by",
    "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i",
    "if", "in", "into", "is", "it", "its", "may", "more", "most", "no", "not", "of", "on", "one", "only",
    "or", "other", "our", "out", "she", "so", "some", "such", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "those", "to", "up", "was", "we", "were", "what", "when", "where",
    "which", "who", "will", "with", "would", "you", "your",
];

/// The sentences of a text that say most of what it is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// Those that are kept, in the order of the text, each on one line.
    pub sentences: Vec<String>,
    /// How many the text has.
    pub of: usize,
}

/// Summarises a text.
#[must_use]
pub fn summarise(text: &str) -> Summary {
    let sentences: Vec<String> = paragraphs(text)
        .iter()
        .flat_map(|paragraph| paragraph.unicode_sentences().map(|sentence| sentence.trim().to_owned()))
        .collect();
    let function_words: HashSet<&str> = FUNCTION_WORDS.iter().copied().collect();
    let words: Vec<Vec<String>> = sentences
        .iter()
        .map(|sentence| sentence.unicode_words().map(str::to_lowercase))
        .map(|words| words.filter(|word| !function_words.contains(word.as_str())).collect())
        .collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in words.iter().flatten() {
        *counts.entry(word).or_default() += 1;
    }
    let mut weights: Vec<(usize, f64)> =
        words.iter().map(|words| weight(words, &counts)).enumerate().collect();
    // Where two weigh the same, the one that comes first is kept.
    weights
        .sort_by(|(a, left), (b, right)| right.partial_cmp(left).unwrap_or(Ordering::Equal).then(a.cmp(b)));
    weights.truncate(sentences.len().div_ceil(ONE_OF).min(MOST));
    let kept: HashSet<usize> = weights.into_iter().map(|(at, _)| at).collect();
    let of = sentences.len();
    let sentences = sentences.into_iter().enumerate().filter(|(at, _)| kept.contains(at));
    Summary { sentences: sentences.map(|(_, sentence)| sentence).collect(), of }
}

/// What a sentence weighs: its words on average, each as often as the text has it; one that it has twice counts once.
fn weight(words: &[String], counts: &HashMap<&str, usize>) -> f64 {
    let distinct: HashSet<&str> = words.iter().map(String::as_str).collect();
    let sum: usize = distinct.iter().filter_map(|word| counts.get(word)).sum();
    sum as f64 / (distinct.len() as f64 + HOLDING_BACK)
}

/// The paragraphs of a text, each on one line: the end of a line ends no sentence, an empty line does.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines() {
        let words = line.split_whitespace();
        let mut is_empty = true;
        for word in words {
            is_empty = false;
            if let Some(last) = paragraphs.last_mut() {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
        }
        if is_empty {
            paragraphs.push(String::new());
        }
    }
    paragraphs
}

/// The parts that a sentence is told in: each a word or a sign, with the space before it.
pub fn tokens(sentence: &str) -> impl Iterator<Item = &str> {
    let mut begin = 0;
    sentence.split_word_bound_indices().filter_map(move |(at, part)| {
        if part.trim().is_empty() {
            return None;
        }
        let end = at + part.len();
        let token = sentence.get(begin..end);
        begin = end;
        token
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Vec<String> {
        summarise(text).sentences
    }

    #[test]
    fn the_sentence_with_the_most_frequent_words_is_kept() {
        let text = "The weather was fine. A lighthouse needs a keeper, and the keeper needs a lighthouse. \
                    Nobody came. The keeper of the lighthouse slept.";
        assert_eq!(kept(text), ["A lighthouse needs a keeper, and the keeper needs a lighthouse."]);
    }

    #[test]
    fn sentences_stay_in_the_order_of_the_text_and_are_at_most_five() {
        let text: String = (0..40).map(|number| format!("Sentence {number} is here. ")).collect();
        let summary = summarise(&text);
        assert_eq!((summary.sentences.len(), summary.of), (5, 40));
        assert_eq!(summary.sentences[0], "Sentence 0 is here.");
        assert_eq!(summary.sentences[4], "Sentence 4 is here.");
    }

    #[test]
    fn the_end_of_a_line_ends_no_sentence_and_an_empty_line_does() {
        assert_eq!(kept("One sentence\r\non two lines."), ["One sentence on two lines."]);
        assert_eq!(summarise("A heading\n\nA sentence.").of, 2);
    }

    #[test]
    fn a_text_without_words_has_no_sentence() {
        for text in ["", " \n\n", "... !"] {
            assert_eq!(summarise(text), Summary { sentences: Vec::new(), of: 0 }, "{text:?}");
        }
    }

    #[test]
    fn tokens_are_a_sentence_in_parts() {
        let sentence = "It wasn't 3.5 km, naïve «кот»!";
        let told: Vec<&str> = tokens(sentence).collect();
        assert_eq!(told, ["It", " wasn't", " 3.5", " km", ",", " naïve", " «", "кот", "»", "!"]);
        assert_eq!(told.concat(), sentence);
    }
}
