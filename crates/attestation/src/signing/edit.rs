//! Writes an attestation into a manifest's text and leaves the rest of the text as it is: comments, order, spelling, line
//! breaks. Pure: text in, text out. Where things stand is told by the parser that reads manifests, and never guessed.
//!
//! Invariant: read again, the new text is the old manifest with this attestation and no other change, or it is not given out.

use granit_parser::{Event, Parser, Span, StructureStyle};
use mentat_manifest::{Attestation, Manifest, ManifestError};
use serde_json::{Map, Value};

use crate::ambiguity::{self, Ambiguity};
use crate::signing::text::{block, flow};
use crate::statement::ATTESTATION;

/// Why an attestation cannot be written into a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The text is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The key is written in a way that is not edited.
    #[error(
        "line {0}: the key `attestation` does not stand at the beginning of a line; write it as `attestation:` there, or take it out"
    )]
    Key(usize),
    /// Where the block is to go, it would change what stands before it.
    #[error(
        "an attestation cannot be added to this text without changing what it says; let it end with a line break, or write its last key in quotes"
    )]
    Changed,
    /// The text is one that is not signed.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguity),
}

/// The text of a manifest with `attestation` in it, in place of the one that it had.
///
/// # Errors
/// When the text is no manifest, or is written in a way that an edit would change.
pub fn with_attestation(text: &str, attestation: &Attestation) -> Result<String, EditError> {
    let (before, _) = apart(text)?;
    let root = Root::find(text).ok_or(EditError::Changed)?;
    let edited = match root.style {
        StructureStyle::Block => root.edit_block(text, attestation)?,
        StructureStyle::Flow => root.edit_flow(text, attestation),
    };
    let edited = edited.ok_or(EditError::Changed)?;
    let (after, written) = apart(&edited).map_err(|_| EditError::Changed)?;
    let meant = serde_json::to_value(attestation).ok();
    if after != before || written.is_none() || written != meant {
        return Err(EditError::Changed);
    }
    // Whoever verifies it holds the whole text to this.
    ambiguity::refuse(&edited)?;
    Ok(edited)
}

/// What the manifest says beside its attestation, and that.
fn apart(text: &str) -> Result<(Map<String, Value>, Option<Value>), ManifestError> {
    let mut document = Manifest::document(text)?;
    let attestation = document.remove(ATTESTATION);
    Ok((document, attestation))
}

/// Where the outermost mapping of a text and its keys stand, in bytes.
struct Root {
    style: StructureStyle,
    /// Of its first key: the column that all of them have in a block.
    first_key: usize,
    entries: Vec<Entry>,
    /// Of the `...` that ends the document.
    end_marker: Option<usize>,
}

struct Entry {
    is_attestation: bool,
    key: usize,
    key_line: usize,
    /// Of the value; after the blanks that follow it nothing of it comes.
    value: usize,
    end: usize,
}

impl Root {
    /// `None` where the outermost value is no mapping, or a key no scalar.
    fn find(text: &str) -> Option<Self> {
        let mut root = None;
        let mut styles = Vec::new();
        let mut at_key = true;
        let mut end_marker = None;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.ok()?;
            let (start, end) = (span.start.byte_offset()?, content_end(text, &span)?);
            let depth = styles.len();
            match event {
                Event::MappingStart(style, ..) | Event::SequenceStart(style, ..) => {
                    styles.push(style);
                    match (depth, &mut root) {
                        (0, None) if matches!(event, Event::MappingStart(..)) => {
                            root =
                                Some(Self { style, first_key: start, entries: Vec::new(), end_marker: None });
                        }
                        (1, Some(root)) if !at_key => root.value(start, end),
                        (0 | 1, _) => return None,
                        _ => {}
                    }
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    let style = styles.pop()?;
                    if style == StructureStyle::Flow
                        && depth > 1
                        && let Some(root) = &mut root
                    {
                        root.extend(end);
                    }
                    at_key |= depth == 2;
                }
                Event::Scalar(key, ..) if depth == 1 && at_key => {
                    let root = root.as_mut()?;
                    if root.entries.is_empty() {
                        root.first_key = start;
                    }
                    let is_attestation = key == ATTESTATION;
                    let key_line = span.start.line();
                    root.entries.push(Entry { is_attestation, key: start, key_line, value: end, end });
                    at_key = false;
                }
                Event::Scalar(..) => {
                    let root = root.as_mut()?;
                    if depth == 1 {
                        root.value(start, end);
                        at_key = true;
                    } else {
                        root.extend(end);
                    }
                }
                Event::DocumentEnd => {
                    end_marker = text.get(start..).filter(|rest| rest.starts_with("...")).map(|_| start);
                }
                _ => {}
            }
        }
        root.map(|root| Self { end_marker, ..root })
    }

    /// The value of the last key begins.
    fn value(&mut self, start: usize, end: usize) {
        if let Some(entry) = self.entries.last_mut() {
            // Of a value that is left out the parser tells the next token's place.
            if end >= start {
                entry.value = start;
            }
        }
        self.extend(end);
    }

    /// The value of the last key reaches to here.
    fn extend(&mut self, end: usize) {
        if let Some(entry) = self.entries.last_mut() {
            entry.end = entry.end.max(end);
        }
    }

    /// Whole lines are put in the place of whole lines.
    fn edit_block(&self, text: &str, attestation: &Attestation) -> Result<Option<String>, EditError> {
        let indent = line_start(text, self.first_key).and_then(|start| text.get(start..self.first_key));
        let Some(indent) = indent.filter(|indent| indent.trim().is_empty()) else { return Ok(None) };
        let line_break = line_break(text);
        let block = block(attestation, indent, line_break);
        let Some(entry) = self.entries.iter().find(|entry| entry.is_attestation) else {
            return Ok(text.split_at_checked(self.end_marker.unwrap_or(text.len())).map(
                |(before, after)| {
                    let ended = if before.ends_with('\n') { "" } else { line_break };
                    with_end(format!("{before}{ended}{block}{after}"), line_break)
                },
            ));
        };
        let start = line_start(text, entry.key).unwrap_or_default();
        if text.get(start..entry.key) != Some(indent) {
            return Err(EditError::Key(entry.key_line));
        }
        let mut end = line_end(text, entry.end);
        // Comments that were within the block go with it.
        while let Some(line) = text.get(end..).and_then(|rest| rest.split_inclusive('\n').next()) {
            let content = line.trim_start_matches(' ');
            if !(content.starts_with('#') && line.len() - content.len() > indent.len()) {
                break;
            }
            end += line.len();
        }
        let is_last = self.entries.last().is_some_and(|last| last.is_attestation);
        Ok(text.get(..start).zip(text.get(end..)).map(|(before, after)| {
            let edited = format!("{before}{block}{after}");
            if is_last { with_end(edited, line_break) } else { edited }
        }))
    }

    /// In braces the block is one line, which JSON reads as well.
    fn edit_flow(&self, text: &str, attestation: &Attestation) -> Option<String> {
        let flow = flow(attestation);
        if let Some(entry) = self.entries.iter().find(|entry| entry.is_attestation) {
            let (before, after) = (text.get(..entry.value)?, text.get(entry.end.max(entry.value)..)?);
            return Some(format!("{before}{flow}{after}"));
        }
        let last = self.entries.last()?;
        let (before, after) = text.split_at_checked(last.end)?;
        // On a line of its own where the keys before it are.
        let indent = line_start(text, last.key).and_then(|start| text.get(start..last.key));
        let separator = match indent {
            Some(indent) if indent.trim().is_empty() => format!(",{}{indent}", line_break(text)),
            _ => ", ".to_owned(),
        };
        Some(format!("{before}{separator}\"{ATTESTATION}\": {flow}{after}"))
    }
}

/// Where the content of a token ends; a block scalar's reaches over the blank lines after it.
fn content_end(text: &str, span: &Span) -> Option<usize> {
    let (start, end) = (span.start.byte_offset()?, span.end.byte_offset()?);
    Some(text.get(..end)?.trim_end().len().max(start.min(end)))
}

fn line_start(text: &str, at: usize) -> Option<usize> {
    // A byte order mark is no part of the first line.
    let first = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    Some(text.get(..at)?.rfind('\n').map_or(first, |line_break| line_break + 1))
}

/// After the line break.
fn line_end(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.find('\n').map_or(rest.len(), |line_break| line_break + 1)
}

/// A text whose last value is a block of lines, which for some readers ends with the text's last line: behind that, a comment
/// or a `...` can be it.
fn with_end(mut text: String, line_break: &str) -> String {
    if !text.ends_with('\n') {
        text.push_str(line_break);
    }
    text
}

/// As the first line ends.
fn line_break(text: &str) -> &'static str {
    match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::text::detached;
    use crate::signing::text::tests::{PEM, attestation};

    fn signed(text: &str) -> String {
        with_attestation(text, &attestation("AAAA")).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    /// The lines of a text that are not of the block.
    fn rest(text: &str) -> String {
        let block = detached(&attestation("AAAA")).replace("\r\n", "\n");
        let text = text.replace("\r\n", "\n");
        assert_eq!(text.matches(&block).count(), 1, "{text}");
        text.replace(&block, "")
    }

    #[test]
    fn a_block_is_added_at_the_end_and_nothing_else_changes() {
        for text in [
            "id: a.b\nversion: 1.0.0\n",
            "# first\nid: a.b # who\n\nversion: \"1.0.0\"\ndescription: |\n  two\n\n  lines\n# last\n",
            "%YAML 1.2\n---\nversion: 1.0.0\nid: 'a.b'\n",
            "\u{feff}id: a.b\nversion: 1.0.0\n",
            "id: a.b\nversion: 1.0.0\ndescription: |+\n  kept\n\n\n",
        ] {
            assert_eq!(rest(&signed(text)), text);
        }
        let crlf = "id: a.b\r\nversion: 1.0.0\r\n";
        let edited = signed(crlf);
        assert!(edited.starts_with(crlf) && edited.matches('\n').count() == edited.matches("\r\n").count());
        for text in ["id: a.b\nversion: 1.0.0", "id: a.b\ndescription: |\n  no end", "id: a.b # no end"] {
            assert_eq!(rest(&signed(text)), format!("{text}\n"));
        }
        for bare in [
            "id: a.b\nversion: 1.0.0\n...",
            "id: a.b\nattestation: ~\nversion: 1.0.0\n...",
            "id: a.b\n... # after",
            "id: a.b\nattestation: ~\n# after",
        ] {
            let once = signed(bare);
            assert!(ambiguity::refuse(&once).is_ok(), "{once}");
            assert_eq!(with_attestation(&once, &attestation("AAAA")).unwrap(), once);
        }
        let ended = signed("---\nid: a.b\nversion: 1.0.0\n...\n# after\n");
        assert!(ended.ends_with("-----END CERTIFICATE-----\n...\n# after\n"), "{ended}");
    }

    #[test]
    fn a_block_takes_the_place_of_the_one_that_is_there() {
        let (before, after) = ("# top\nid: a.b # who\n", "\n# about the version\nversion: 1.0.0 # now\n");
        for old in [
            detached(&attestation("BBBB")),
            "attestation: {version: 1, timestamp: t, signer: {subject: s, issuer: i}, algorithm: a, signature: x}\n".into(),
            "\"attestation\":   # old\n  version: 1\n  # inside\n  timestamp: t\n  signer: { subject: s, issuer: i }\n  algorithm: a\n  signature: >\n    x\n    y\n  # still inside\n".into(),
            "attestation: {\n  version: 1, timestamp: t,\n  signer: {subject: s, issuer: i}, algorithm: a,\n  signature: x\n}\n".into(),
        ] {
            let text = format!("{before}{old}{after}");
            assert_eq!(rest(&signed(&text)), format!("{before}{after}"), "{text}");
            let last = format!("{before}version: 1.0.0\n{}", old.trim_end());
            assert_eq!(rest(&signed(&last)), format!("{before}version: 1.0.0\n"), "{last}");
        }
        let twice = with_attestation(&signed("id: a.b\nversion: 1.0.0\n"), &attestation("CCCC")).unwrap();
        assert_eq!(twice.matches("attestation:").count(), 1);
        assert!(twice.contains("CCCC") && !twice.contains("AAAA\""));
        let null = "id: a.b\nattestation:\nversion: 1.0.0\n";
        assert_eq!(rest(&signed(null)), "id: a.b\nversion: 1.0.0\n");
    }

    #[test]
    fn an_indented_manifest_gets_an_indented_block() {
        let text = "  id: a.b\n  version: 1.0.0\n";
        let edited = signed(text);
        assert!(
            edited.starts_with(text) && edited.contains("\n  attestation:\n    version: \"1.0\"\n"),
            "{edited}"
        );
        let again = with_attestation(&edited, &attestation("CCCC")).unwrap();
        assert_eq!(again.matches("attestation:").count(), 1);
    }

    #[test]
    fn a_manifest_in_braces_stays_in_braces_and_json_stays_json() {
        let json = "{\n  \"id\": \"a.b\",\n  \"version\": \"1.0.0\"\n}\n";
        let edited = signed(json);
        assert!(edited.starts_with("{\n  \"id\": \"a.b\",\n  \"version\": \"1.0.0\",\n  \"attestation\": {"));
        let read: Value = serde_json::from_str(&edited).unwrap();
        assert_eq!(read["attestation"]["certificate_chain"][0], PEM);
        let again = with_attestation(&edited, &attestation("CCCC")).unwrap();
        assert_eq!(again.replace("CCCC", "AAAA"), edited);
        for text in [
            "{id: a.b, version: 1.0.0}",
            "{id: a.b, version: 1.0.0,}",
            "--- {id: a.b, # who\n version: '1' }".replace("'1'", "1.0.0").as_str(),
            "{id: a.b, version: 1.0.0 # now\n}\n",
            "{attestation: ~, id: a.b, version: 1.0.0}",
        ] {
            let edited = signed(text);
            assert_eq!(edited.matches("attestation").count(), 1, "{edited}");
        }
    }

    #[test]
    fn what_an_edit_would_change_is_refused() {
        let refused = |text: &str| with_attestation(text, &attestation("AAAA")).unwrap_err();
        assert_eq!(refused("id: a.b\n? attestation\n: ~\nversion: 1.0.0\n"), EditError::Key(2));
        assert!(matches!(refused("- a\n"), EditError::Manifest(_)));
        assert!(matches!(refused("id: a.b\nx-a: yes\n"), EditError::Ambiguous(_)));
        assert!(matches!(refused("id: a.b\nid: c.d\nversion: 1.0.0\n"), EditError::Manifest(_)));
    }

    /// What people write between the keys of a manifest, and keys in every spelling.
    const PIECES: &[&str] = &[
        "id: a.b\n",
        "\"id\": 'a.b' # who\n",
        "version: 1.0.0\n",
        "runtime: wasm   # why\n",
        "# a comment\n",
        "  # an indented comment\n",
        "\n",
        "   \n",
        "description: |\n  one\n\n  two\n",
        "description: |+\n  kept\n\n",
        "description: >-\n    folded\n    text\n",
        "description: plain\n  text goes on\n",
        "description: \"in\n  quotes\"\n",
        "wasm: { fuel: 1, # in braces\n  timeout_ms: 5 }\n",
        "wasm:\n  fuel: 1\n  # about capabilities\n  capabilities:\n  - env:A\n",
        "x-list:\n- one\n- two\n",
        "x-null:\n",
        "x-text: 'attestation: {}'\n",
        "metadata:\n  attestation:\n    inner: 1\n",
        "attestation: ~\n",
        "attestation:\n",
        "attestation: # of old\n  version: 1\n  # in it\n  signature: |\n    x\n\n",
        "attestation: {\n  version: 1 }  # was\n",
        "'attestation': [1,\n 2]\n",
    ];

    fn parsed(text: &str) -> bool {
        Manifest::document(text).is_ok()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_manifest_that_people_write_is_signed_and_signed_again(
            chosen in proptest::collection::vec(0..PIECES.len(), 1..9),
            crlf in proptest::bool::ANY,
            cut in proptest::bool::ANY,
        ) {
            let mut text: String = chosen.iter().map(|index| PIECES[*index]).collect();
            if cut {
                text.truncate(text.trim_end_matches('\n').len());
            }
            if crlf {
                text = text.replace('\n', "\r\n");
            }
            if parsed(&text) && ambiguity::refuse(&text).is_ok() {
                let once = signed(&text);
                let block = |text: &str| text.replace("\r\n", "\n").replace(&detached(&attestation("AAAA")), "");
                // Every line stands that was not of the old block.
                let old = ["indented", "version: 1\n", "version: 1 }", "in it", "x\n", "signature:", " 2]", "attestation"];
                for line in text.lines().filter(|line| !old.iter().any(|old| format!("{line}\n").contains(old))) {
                    assert!(block(&once).contains(line), "{line:?}: {once}");
                }
                let twice = with_attestation(&once, &attestation("AAAA")).unwrap();
                assert_eq!(once, twice);
            }
        }

        #[test]
        fn any_text_is_signed_as_it_is_or_not_at_all(text in "[-a{}\\[\\]:,?|>#'\"!&*% \n\r\u{feff}]{0,40}") {
            if let Ok(once) = with_attestation(&text, &attestation("AAAA")) {
                with_attestation(&once, &attestation("BBBB")).unwrap();
                ambiguity::refuse(&once).unwrap();
            }
        }
    }
}
