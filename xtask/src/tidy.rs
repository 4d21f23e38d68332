//! `cargo xtask tidy`: what no compiler checks. Reads every file that git knows of, once, and holds it
//! against the tables of `walls`, `sources`, `documents` and `limits`; each table row has its reason in it.
//!
//! Invariant: a check is a pure function of the [`Tree`], so that a test can show it a violation.

mod documents;
mod lexer;
mod limits;
mod sources;
mod walls;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::process::{run, workspace};

/// Bytes of a file that is read at most; larger ones are known by their path alone.
const MAX_READ_BYTES: u64 = 1 << 20;

/// The files of the project: path from the root, with `/`, and text. Empty text for what is no text.
#[derive(Debug, Default)]
struct Tree(BTreeMap<String, String>);

/// Something that must be mended.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: String,
    /// Counted from 1; 0 for the file as a whole.
    line: usize,
    message: String,
}

/// A check: all that is wrong with the tree in one respect.
type Check = fn(&Tree) -> Vec<Problem>;

const CHECKS: &[(&str, Check)] = &[
    ("crate arrows", walls::crate_arrows),
    ("walls between crates' words", walls::foreign_words),
    ("walls between rooms", walls::rooms),
    ("names", sources::names),
    ("headers", sources::headers),
    ("file length", sources::length),
    ("unfinished work", sources::unfinished),
    ("agents", sources::agents),
    ("links", documents::links),
    ("index of docs", documents::index),
    ("embedded programs", documents::embedded_files),
    ("code that ARCHITECTURE.md names", documents::architecture),
    ("command lines", documents::command_lines),
    ("table of limits", limits::limits),
];

/// Runs every check and prints what is wrong.
///
/// # Errors
/// Something is wrong, or git cannot list the files.
pub(crate) fn tidy() -> anyhow::Result<()> {
    let tree = Tree::read(workspace())?;
    for (path, lines) in sources::long_files(&tree) {
        println!("{path}: {lines} lines; above {} a second idea wants a file of its own", sources::WANTED);
    }
    let mut found = 0;
    for (name, check) in CHECKS {
        let mut problems = check(&tree);
        problems.sort();
        found += problems.len();
        for problem in problems {
            println!("{name}: {problem}");
        }
    }
    if found > 0 {
        bail!("{found} things are out of order");
    }
    println!("{} files, {} checks: in order", tree.0.len(), CHECKS.len());
    Ok(())
}

impl Tree {
    /// What git tracks, and what it would if it were added.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
        let listing = run(&mut git).context("tidy asks git for the files of the project")?;
        let listing = String::from_utf8(listing).context("a file has a name that is not UTF-8")?;
        let mut files = BTreeMap::new();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            let file = root.join(path);
            // Deleted, but not yet from the index; or a link to somewhere else.
            let Ok(metadata) = file.symlink_metadata() else { continue };
            let readable = metadata.is_file() && metadata.len() <= MAX_READ_BYTES;
            let bytes = if readable { std::fs::read(&file)? } else { Vec::new() };
            files.insert(path.to_owned(), String::from_utf8(bytes).unwrap_or_default());
        }
        Ok(Self(files))
    }

    /// A tree for tests.
    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Whether the path is a file or a folder of the project.
    fn contains(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.0.contains_key(path)
            || self.0.range(folder.clone()..).next().is_some_and(|(file, _)| file.starts_with(&folder))
    }

    /// Files whose names end like this.
    fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Rust written by hand.
    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending(".rs").filter(|(path, _)| !is_generated(path))
    }
}

/// Whether a program wrote the file; those are checked for drift instead.
fn is_generated(path: &str) -> bool {
    path.split('/').any(|folder| folder == "gen")
}

impl Problem {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.path, self.message),
            line => write!(formatter, "{}:{line}: {}", self.path, self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_knows_files_and_folders_but_no_prefixes_of_names() {
        let tree = Tree::of(&[("docs/abi.md", "x"), ("docs-old/a.md", "")]);
        assert!(tree.contains("docs/abi.md") && tree.contains("docs") && tree.contains("docs/"));
        assert!(!tree.contains("doc") && !tree.contains("docs/ab"));
    }

    #[test]
    fn this_file_is_in_the_tree_that_git_lists() {
        let tree = Tree::read(workspace()).unwrap();
        assert!(tree.get("xtask/src/tidy.rs").unwrap().contains("fn this_file_is_in_the_tree"));
    }
}
