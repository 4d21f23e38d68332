//! A folder of source: which languages it is in, and what its text and its lists of dependencies tell. It is read and never
//! executed, whatever stands in it.
//!
//! Invariant: links are not followed, what is read is bounded, and what is not read is told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::finding::{Findings, Topic};
use super::left_out::{AllLeftOut, Why};
use super::signs::{DEPENDENCIES, Interpreter, Language, SIGNS, is_other_script};

/// Files that are looked at, bytes of each, and levels of folders.
const MAX_FILES: usize = 20_000;
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_DEPTH: usize = 32;
/// Files and folders of any kind that are gone through.
const MAX_ENTRIES: usize = 200_000;
/// Bytes of a file by which it is seen what it is, where its name does not tell.
const MAX_BEGIN_BYTES: u64 = 256;
/// Folders of what others wrote.
const DEPENDENCY_FOLDERS: &[&str] =
    &["node_modules", "vendor", "venv", ".venv", ".tox", ".nox", ".eggs", "site-packages"];
/// What the folder of a Python with packages of its own has in it, whatever it is called.
const ENVIRONMENT_FILE: &str = "pyvenv.cfg";
/// Folders of what machines made of source.
const MADE_FOLDERS: &[&str] = &["target", "dist", "build"];
/// The file by which a folder says that all in it is there to be made again (bford.info/cachedir), and how that begins.
const CACHE_FILE: &str = "CACHEDIR.TAG";
const CACHE_BEGIN: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// Folders of what Python compiled.
const CACHE_FOLDERS: &[&str] = &["__pycache__"];
/// Folders in which versions of source are kept.
const HISTORY_FOLDERS: &[&str] = &[".git", ".hg", ".svn", ".bzr", ".jj"];
/// How machine code begins: of Linux, of Windows, and of libraries.
const MACHINE_CODE: &[&[u8]] = &[b"\x7fELF", b"MZ", b"!<arch>\n"];
/// Of an address, what stands before its host.
const SCHEMES: &[(&str, &str)] = &[("https://", "https"), ("http://", "http")];

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Files of each language.
    pub(super) languages: BTreeMap<Language, u32>,
    /// Files that were looked at.
    pub(super) files: usize,
    pub(super) left_out: AllLeftOut,
}

/// Looks through a folder.
///
/// # Errors
/// Where the folder itself cannot be read.
pub(super) fn look(folder: &Path, findings: &mut Findings) -> std::io::Result<Source> {
    let mut source = Source::default();
    // The folder itself is asked for; what is below it and cannot be read is left out.
    fs::read_dir(folder)?;
    let walk = Walk { folder, whole: fs::canonicalize(folder)? };
    let mut folders = vec![(folder.to_owned(), 0)];
    let mut entries = 0_usize;
    while let Some((path, depth)) = folders.pop() {
        let mut listed = source.list(&walk, &path, MAX_ENTRIES - entries);
        listed.sort_by_key(fs::DirEntry::file_name);
        entries += listed.len();
        let mut rest = listed.into_iter();
        while let Some(entry) = rest.next() {
            if source.files >= MAX_FILES || entries >= MAX_ENTRIES {
                let more = rest.len() + folders.len() + 1;
                source.left_out.add_many(Why::TooMany, more, &walk.shown(&entry.path()));
                return Ok(source);
            }
            source.entry(&walk, &entry, depth, &mut folders, findings);
        }
    }
    Ok(source)
}

/// The folder that is looked through, as it is called, and where it lies.
struct Walk<'a> {
    folder: &'a Path,
    whole: PathBuf,
}

impl Walk<'_> {
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.folder).unwrap_or(path).display().to_string()
    }
}

/// A folder that is left out, and why.
fn left_out(path: &Path, name: &str) -> Option<Why> {
    if DEPENDENCY_FOLDERS.contains(&name) || path.join(ENVIRONMENT_FILE).exists() {
        return Some(Why::Dependencies);
    }
    if MADE_FOLDERS.contains(&name) {
        let file = path.join(CACHE_FILE);
        // Neither a link nor a pipe, at which one could wait for ever.
        let is_file = fs::symlink_metadata(&file).is_ok_and(|found| found.is_file());
        let tag = if is_file { begin_of(&file).unwrap_or_default() } else { Vec::new() };
        return Some(if tag.starts_with(CACHE_BEGIN) { Why::Caches } else { Why::Made });
    }
    let is_cache = CACHE_FOLDERS.contains(&name);
    let why = if is_cache { Why::Caches } else { Why::History };
    (is_cache || HISTORY_FOLDERS.contains(&name)).then_some(why)
}

fn begin_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BEGIN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Source {
    /// What a folder holds, at most so many.
    fn list(&mut self, walk: &Walk<'_>, path: &Path, at_most: usize) -> Vec<fs::DirEntry> {
        let Ok(entries) = fs::read_dir(path) else {
            self.left_out.add(Why::Unreadable, &walk.shown(path));
            return Vec::new();
        };
        let mut listed = Vec::new();
        for entry in entries.take(at_most) {
            match entry {
                Ok(entry) => listed.push(entry),
                Err(_) => self.left_out.add(Why::Unreadable, &walk.shown(path)),
            }
        }
        listed
    }

    fn entry(
        &mut self,
        walk: &Walk<'_>,
        entry: &fs::DirEntry,
        depth: usize,
        folders: &mut Vec<(PathBuf, usize)>,
        findings: &mut Findings,
    ) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Ok(kind) = entry.file_type() else {
            return self.left_out.add(Why::Unreadable, &walk.shown(&path));
        };
        if kind.is_symlink() {
            let is_within = fs::canonicalize(&path).is_ok_and(|target| target.starts_with(&walk.whole));
            let why = if is_within { Why::LinksWithin } else { Why::LinksOut };
            self.left_out.add(why, &walk.shown(&path));
        } else if kind.is_dir() {
            match left_out(&path, &name) {
                Some(why) => self.left_out.add(why, &walk.shown(&path)),
                None if depth >= MAX_DEPTH => self.left_out.add(Why::TooDeep, &walk.shown(&path)),
                None => folders.push((path, depth + 1)),
            }
        } else if kind.is_file() {
            self.file(walk, &path, &name, findings);
        }
    }

    fn file(&mut self, walk: &Walk<'_>, path: &Path, name: &str, findings: &mut Findings) {
        let shown = walk.shown(path);
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        let extension = extension.unwrap_or_default();
        let (mut language, lists) = (Language::of(extension), listing(name));
        let mut told_by = extension.to_owned();
        if language.is_none() && lists.is_none() {
            let Ok(begin) = begin_of(path) else {
                return self.left_out.add(Why::Unreadable, &shown);
            };
            match Interpreter::of(&begin) {
                Some(interpreter) => {
                    language = interpreter.language();
                    told_by = interpreter.name;
                    if language.is_none() {
                        return self.left_out.add(Why::OtherScripts, &shown);
                    }
                }
                None if is_other_script(extension) => return self.left_out.add(Why::OtherScripts, &shown),
                None => {
                    if MACHINE_CODE.iter().any(|code| begin.starts_with(code)) {
                        self.left_out.add(Why::MachineCode, &shown);
                    }
                    return;
                }
            }
        }
        self.files += 1;
        let Some(text) = self.read(path, &shown) else { return };
        if let Some(language) = lists {
            dependencies(language, &text, &shown, findings);
        }
        if let Some(language) = language {
            *self.languages.entry(language).or_default() += 1;
            if language == Language::Other {
                findings.add(Topic::Language, &told_by, &shown);
            }
            lines(language, &text, &shown, findings);
        }
    }

    /// The text of a file, or its beginning.
    fn read(&mut self, path: &Path, shown: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        if read.is_err() {
            self.left_out.add(Why::Unreadable, shown);
            return None;
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
            self.left_out.add(Why::TooLarge, shown);
            bytes.pop();
        }
        // No word is found in text of two bytes a character.
        if bytes.contains(&0) {
            self.left_out.add(Why::NoText, shown);
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
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

    use super::super::finding::{Scope, Verdict};
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
        assert_eq!(findings.verdict(Scope::Whole), Verdict::No);
    }

    #[test]
    fn a_plain_program_has_nothing_against_it_and_words_inside_words_are_none() {
        let (_, findings) = look_at(&[(
            "main.c",
            "int my_fork(int x) { return x; }\nint main(void) { return my_fork(0); }\n",
        )]);
        assert_eq!((topics(&findings), findings.verdict(Scope::Whole)), (vec![], Verdict::Yes));
        let (_, findings) = look_at(&[("main.c", "int main(void) { return fork(); }\n")]);
        assert_eq!(findings.verdict(Scope::Whole), Verdict::No);
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

    /// What was left out: why, how many, and the names.
    fn told(source: &Source) -> Vec<(Why, usize, Vec<&str>)> {
        let sorted = source.left_out.sorted().into_iter();
        sorted.map(|left| (left.why, left.count, left.names.iter().map(String::as_str).collect())).collect()
    }

    #[test]
    fn another_language_is_told() {
        let (_, findings) = look_at(&[("Main.java", "class Main {}\n")]);
        assert_eq!(topics(&findings), [(Topic::Language, vec!["Main.java"])]);
    }

    #[test]
    fn scripts_are_known_by_what_executes_them() {
        let (source, findings) = look_at(&[
            ("bin/agent", "#!/usr/bin/env python3\nimport subprocess\n"),
            ("bin/split", "#!/usr/bin/env -S python3.12 -u\nimport threading\n"),
            ("bin/tool", "#! /usr/local/bin/node --harmony\nrequire('child_process')\n"),
            ("bin/old.cgi", "#!/usr/bin/perl -w\nprint;\n"),
            ("bin/run", "#!/bin/sh\nexec ./agent\n"),
            ("make.sh", "cc main.c\n"),
            ("notes.ipynb", "{}"),
            ("README", "no script\n"),
        ]);
        assert_eq!(
            source.languages,
            BTreeMap::from([(Language::Python, 2), (Language::JavaScript, 1), (Language::Other, 1)])
        );
        assert_eq!(
            topics(&findings),
            [
                (Topic::Processes, vec!["bin/agent:2", "bin/tool:2"]),
                (Topic::Language, vec!["bin/old.cgi"]),
                (Topic::Threads, vec!["bin/split:2"]),
            ]
        );
        assert_eq!(told(&source), [(Why::OtherScripts, 3, vec!["make.sh", "notes.ipynb", "bin/run"])]);
    }

    #[test]
    fn folders_that_are_left_out_are_told_and_others_are_not_left_out_for_their_names() {
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
        let (source, findings) = look_at(&[
            ("main.py", "pass\n"),
            ("node_modules/x/index.js", "require('child_process')\n"),
            ("own/pyvenv.cfg", "home = /usr\n"),
            ("own/lib/x.py", "import subprocess\n"),
            ("target/CACHEDIR.TAG", tag),
            ("dist/x.py", "import subprocess\n"),
            ("a/__pycache__/x.py", "import subprocess\n"),
            (".git/hooks/x.py", "import subprocess\n"),
            (".github/x.py", "import threading\n"),
        ]);
        assert_eq!(topics(&findings), [(Topic::Threads, vec![".github/x.py:1"])]);
        assert_eq!(
            told(&source),
            [
                (Why::Dependencies, 2, vec!["node_modules", "own"]),
                (Why::Made, 1, vec!["dist"]),
                (Why::Caches, 2, vec!["target", "a/__pycache__"]),
                (Why::History, 1, vec![".git"]),
            ]
        );
        assert!(source.left_out.may_matter());
        let (source, _) = look_at(&[("main.py", "pass\n"), (".git/x", ""), ("__pycache__/x.pyc", "")]);
        assert!(!source.left_out.may_matter());
    }

    #[test]
    fn what_is_read_in_part_or_not_at_all_is_told() {
        let long = format!("{}import subprocess\n", "pass\n".repeat(1 << 18));
        let whole = format!("#{}\n", "x".repeat((1 << 20) - 2));
        let deep = format!("{}x.py", "d/".repeat(MAX_DEPTH + 1));
        let wide = "import subprocess\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let (source, findings) = look_at(&[
            ("long.py", &long),
            ("whole.py", &whole),
            (&deep, "import subprocess\n"),
            (&format!("{}y.py", "e/".repeat(MAX_DEPTH)), "import threading\n"),
            ("wide.py", std::str::from_utf8(&wide).unwrap()),
            ("lib.so.1", "\x7fELF"),
        ]);
        assert_eq!(findings.sorted().iter().map(|found| found.topic).collect::<Vec<_>>(), [Topic::Threads]);
        let too_deep = format!("d{}", "/d".repeat(MAX_DEPTH));
        assert_eq!(
            told(&source),
            [
                (Why::MachineCode, 1, vec!["lib.so.1"]),
                (Why::TooLarge, 1, vec!["long.py"]),
                (Why::NoText, 1, vec!["wide.py"]),
                (Why::TooDeep, 1, vec![too_deep.as_str()]),
            ]
        );
    }

    #[test]
    fn links_are_not_followed_and_those_that_lead_out_matter() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("a.py"), "import subprocess\n").unwrap();
        fs::write(folder.path().join("main.py"), "pass\n").unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
        link(Path::new("main.py"), "again.py");
        let mut findings = Findings::default();
        let source = look(folder.path(), &mut findings).unwrap();
        assert_eq!(told(&source), [(Why::LinksWithin, 1, vec!["again.py"])]);
        assert!(!source.left_out.may_matter());
        link(outside.path(), "out");
        link(&outside.path().join("a.py"), "out.py");
        link(Path::new("nowhere"), "gone");
        let source = look(folder.path(), &mut findings).unwrap();
        assert_eq!(
            told(&source),
            [(Why::LinksOut, 3, vec!["gone", "out", "out.py"]), (Why::LinksWithin, 1, vec!["again.py"])]
        );
        assert_eq!((source.files, topics(&findings).len()), (1, 0));
        assert!(source.left_out.may_matter());
    }

    #[test]
    fn what_is_more_than_is_looked_at_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_FILES + 3 {
            fs::write(folder.path().join(format!("{number:05}.py")), "").unwrap();
        }
        let source = look(folder.path(), &mut Findings::default()).unwrap();
        assert_eq!(source.files, MAX_FILES);
        assert_eq!(told(&source), [(Why::TooMany, 3, vec!["20000.py"])]);
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
