//! A folder of source: which languages it is in, and what its text and its lists of dependencies tell. It is read and never
//! executed, whatever stands in it.
//!
//! Invariant: links are not followed, and what is read is bounded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::finding::{Findings, Topic};
use super::signs::{DEPENDENCIES, Language, SIGNS};

/// Files that are looked at, bytes of each, and levels of folders.
const MAX_FILES: usize = 20_000;
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_DEPTH: usize = 32;
/// Folders of what others wrote or machines made.
const LEFT_OUT: &[&str] =
    &["node_modules", "target", "dist", "build", "vendor", "venv", "site-packages", "__pycache__"];
/// Of an address, what stands before its host.
const SCHEMES: &[(&str, &str)] = &[("https://", "https"), ("http://", "http")];

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Files of each language.
    pub(super) languages: BTreeMap<Language, u32>,
    /// Files that were looked at.
    pub(super) files: usize,
    /// Whether there are more.
    pub(super) is_cut: bool,
}

/// Looks through a folder.
///
/// # Errors
/// Where the folder itself cannot be read.
pub(super) fn look(folder: &Path, findings: &mut Findings) -> std::io::Result<Source> {
    let mut source = Source::default();
    let mut folders = vec![(folder.to_owned(), 0)];
    // The folder itself is asked for; what is below it and cannot be read is left out.
    fs::read_dir(folder)?;
    while let Some((path, depth)) = folders.pop() {
        let mut entries: Vec<_> = fs::read_dir(&path).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < MAX_DEPTH && !name.starts_with('.') && !LEFT_OUT.contains(&&*name) {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                if source.files >= MAX_FILES {
                    source.is_cut = true;
                    return Ok(source);
                }
                source.file(folder, &entry.path(), &name, findings);
            }
        }
    }
    Ok(source)
}

impl Source {
    fn file(&mut self, folder: &Path, path: &PathBuf, name: &str, findings: &mut Findings) {
        let extension =
            Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let language = Language::of(extension);
        let lists = listing(name);
        if language.is_none() && lists.is_none() {
            return;
        }
        self.files += 1;
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
        if read.is_err() {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let shown = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        if let Some(language) = lists {
            dependencies(language, &text, &shown, findings);
        }
        if let Some(language) = language {
            *self.languages.entry(language).or_default() += 1;
            if language == Language::Other {
                findings.add(Topic::Language, extension, &shown);
            }
            lines(language, &text, &shown, findings);
        }
    }
}

/// Whose dependencies a file lists.
fn listing(name: &str) -> Option<Language> {
    Some(match name {
        "Cargo.toml" => Language::Rust,
        "go.mod" => Language::Go,
        "package.json" => Language::JavaScript,
        "pyproject.toml" | "setup.py" | "setup.cfg" => Language::Python,
        name if name.starts_with("requirements") && name.ends_with(".txt") => Language::Python,
        _ => return None,
    })
}

/// A dependency stands at the beginning of its line or of a text in it, and something else behind it.
fn dependencies(language: Language, text: &str, shown: &str, findings: &mut Findings) {
    for (number, line) in (1..).zip(text.lines()) {
        let lower = line.to_ascii_lowercase();
        for dependency in DEPENDENCIES.iter().filter(|dependency| dependency.language == language) {
            let is_listed = lower.match_indices(dependency.name).any(|(at, name)| {
                let (before, behind) = (lower.get(..at).unwrap_or_default(), lower.get(at + name.len()..));
                let is_begin = before.trim().is_empty()
                    || before.ends_with(['"', '\''])
                    || before.trim() == "require"
                    || before.trim_end().ends_with('.') && before.trim_start().starts_with('[');
                let ends = |text: &str| {
                    text.is_empty() || text.starts_with(|next: char| " \t=<>~!;[]\"'(@/".contains(next))
                };
                is_begin && behind.is_some_and(ends)
            });
            if is_listed {
                findings.add(dependency.topic, dependency.name, &format!("{shown}:{number}"));
            }
        }
    }
}

fn lines(language: Language, text: &str, shown: &str, findings: &mut Findings) {
    for (number, line) in (1..).zip(text.lines()) {
        if language.is_comment(line.trim_start()) {
            continue;
        }
        let place = format!("{shown}:{number}");
        for sign in SIGNS.iter().filter(|sign| sign.language == language) {
            if has(line, sign.text) {
                findings.add(sign.topic, sign.text, &place);
            }
        }
        for before in language.reads_variables_by() {
            for (at, _) in line.match_indices(before) {
                let name: String = behind(line, at + before.len())
                    .chars()
                    .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
                    .collect();
                findings.wants(&format!("env:{name}"), &place);
            }
        }
        for (before, scheme) in SCHEMES {
            for (at, _) in line.match_indices(before) {
                let address = behind(line, at + before.len());
                let host: String = address
                    .chars()
                    .take_while(|character| character.is_ascii_alphanumeric() || ".-:".contains(*character))
                    .collect();
                let host = host.trim_end_matches(['.', ':', '-']);
                // A name without a dot is of the machine or of a network of its own, and is the operator's to say.
                if host.contains('.') {
                    findings.wants(&format!("network:{scheme}:{host}"), &place);
                }
            }
        }
    }
}

fn behind(line: &str, at: usize) -> &str {
    line.get(at..).unwrap_or_default()
}

/// Whether a text stands in a line, and not as the end of a longer word.
fn has(line: &str, text: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let begins_word = text.starts_with(is_word);
    line.match_indices(text).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !(begins_word && before.is_some_and(is_word))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::Verdict;
    use super::*;

    fn look_at(files: &[(&str, &str)]) -> (Source, Findings) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut findings = Findings::default();
        let source = look(folder.path(), &mut findings).unwrap();
        (source, findings)
    }

    fn topics(findings: &Findings) -> Vec<(Topic, Vec<&str>)> {
        let sorted = findings.sorted();
        sorted.iter().map(|found| (found.topic, found.places.iter().map(String::as_str).collect())).collect()
    }

    #[test]
    fn what_stands_against_it_is_told_with_its_place() {
        let (source, findings) = look_at(&[
            (
                "app/main.py",
                "import os\n# import subprocess\nimport threading\nKEY = os.environ[\"API_KEY\"]\n",
            ),
            ("app/calls.py", "import requests\nrequests.get('https://api.example.com/v1')\n"),
            ("requirements.txt", "requests\nnumpy>=1.26\nnumpydoc\n"),
            ("node_modules/x/index.js", "require('child_process')\n"),
        ]);
        assert_eq!(source.languages, BTreeMap::from([(Language::Python, 2)]));
        assert_eq!(
            topics(&findings),
            [(Topic::Native, vec!["requirements.txt:2"]), (Topic::Threads, vec!["app/main.py:3"])]
        );
        let wanted: Vec<(&str, &str)> = findings
            .capabilities
            .iter()
            .map(|(capability, place)| (capability.as_str(), place.as_str()))
            .collect();
        assert_eq!(
            wanted,
            [("env:API_KEY", "app/main.py:4"), ("network:https:api.example.com", "app/calls.py:2")]
        );
        assert_eq!(findings.verdict(), Verdict::No);
    }

    #[test]
    fn a_plain_program_has_nothing_against_it_and_words_inside_words_are_none() {
        let (_, findings) = look_at(&[(
            "main.c",
            "int my_fork(int x) { return x; }\nint main(void) { return my_fork(0); }\n",
        )]);
        assert_eq!((topics(&findings), findings.verdict()), (vec![], Verdict::Yes));
        let (_, findings) = look_at(&[("main.c", "int main(void) { return fork(); }\n")]);
        assert_eq!(findings.verdict(), Verdict::No);
    }

    #[test]
    fn every_language_has_its_dependencies_read() {
        for (name, text, topic) in [
            ("Cargo.toml", "[dependencies]\nrayon = \"1\"\n", Topic::Threads),
            ("Cargo.toml", "[dependencies.openssl]\nversion = \"1\"\n", Topic::Native),
            ("package.json", "{ \"dependencies\": {\n  \"sharp\": \"^0.33\" } }\n", Topic::Native),
            ("pyproject.toml", "dependencies = [\"Torch>=2\"]\n", Topic::Gpu),
            ("go.mod", "require (\n\tgithub.com/mattn/go-sqlite3 v1.14.0\n)\n", Topic::Native),
            ("go.mod", "require github.com/gin-gonic/gin v1.9.0\n", Topic::Listens),
        ] {
            let (_, findings) = look_at(&[(name, text)]);
            let found: Vec<Topic> = topics(&findings).into_iter().map(|(topic, _)| topic).collect();
            assert_eq!(found, [topic], "{text}");
        }
        let (_, findings) = look_at(&[("Cargo.toml", "[dependencies]\nrayon-like = \"1\"\nserde = \"1\"\n")]);
        assert!(topics(&findings).is_empty());
    }

    #[test]
    fn another_language_and_links_out_of_the_folder() {
        let (_, findings) = look_at(&[("Main.java", "class Main {}\n")]);
        assert_eq!(topics(&findings), [(Topic::Language, vec!["Main.java"])]);
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("a.py"), "import subprocess\n").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        let mut findings = Findings::default();
        assert_eq!(look(folder.path(), &mut findings).unwrap().files, 0);
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(text in "\\PC{0,200}", number in 0_usize..6) {
            let language = [Language::C, Language::Rust, Language::Go, Language::Python, Language::JavaScript][number % 5];
            let mut findings = Findings::default();
            lines(language, &text, "x", &mut findings);
            dependencies(language, &text, "x", &mut findings);
            for capability in findings.capabilities.keys() {
                prop_assert!(capability.parse::<mentat_manifest::Capability>().is_ok());
            }
        }
    }
}
