//! Checks of single files: their names, headers, length, and that nothing in them waits to be done.

use std::collections::BTreeSet;

use super::lexer::tokens;
use super::{Problem, Tree, is_generated};

/// Lines of a source file above which tidy remarks on it.
pub(super) const WANTED: usize = 500;
/// Lines of a source file above which tidy fails.
const REFUSED: usize = 600;

/// Names that say nothing, for files, folders, modules and as words of types.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "internal", "misc", "data"];

/// Marks of work that was left, spelled so that this file does not bear them.
const LEFT_MARKS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Kinds of file in which length, and marks of work, are looked for.
const SOURCE_ENDS: &[&str] = &[".rs", ".c", ".go", ".ts", ".py", ".sh", ".wat", ".wit", ".proto"];
const PROSE_ENDS: &[&str] = &[".md", ".toml", ".yaml", ".yml"];

/// Source files that are longer than they should be, but not yet too long, with their lines.
pub(super) fn long_files(tree: &Tree) -> Vec<(&str, usize)> {
    let lengths = written(tree).map(|(path, text)| (path, text.lines().count()));
    lengths.filter(|(_, lines)| (WANTED + 1..=REFUSED).contains(lines)).collect()
}

/// Source files that are too long.
pub(super) fn length(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in written(tree) {
        let lines = text.lines().count();
        if lines > REFUSED {
            problems.push(Problem::new(
                path,
                0,
                format!("{lines} lines, more than {REFUSED}; split it by its ideas"),
            ));
        }
    }
    problems
}

/// Rust files that do not begin by saying what they own.
pub(super) fn headers(tree: &Tree) -> Vec<Problem> {
    let silent = tree.rust().filter(|(_, text)| !text.starts_with("//! "));
    silent
        .map(|(path, _)| {
            let message =
                "begin with `//!`: what the file owns, what it must not know, the invariant it keeps";
            Problem::new(path, 1, message)
        })
        .collect()
}

/// Work that was left for later.
pub(super) fn unfinished(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in
        tree.0.iter().filter(|(path, _)| ends_with(path, SOURCE_ENDS) || ends_with(path, PROSE_ENDS))
    {
        for (line, text) in (1..).zip(text.lines()) {
            let mut words = text.split(|character: char| !character.is_alphanumeric() && character != '_');
            if let Some(mark) = words.find(|word| LEFT_MARKS.contains(word)) {
                problems.push(Problem::new(path, line, format!("`{mark}`: do it, or open an issue")));
            }
        }
    }
    problems
}

/// What others have named and we must write as they do: `http_body::Body::Data`.
const THEIR_NAMES: &[(&str, &str)] = &[("type", "Data")];

/// Files, folders, modules and types that are named for nothing.
pub(super) fn names(tree: &Tree) -> Vec<Problem> {
    let mut problems = BTreeSet::new();
    for path in tree.0.keys() {
        for part in path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if EMPTY_NAMES.contains(&stem) {
                problems.insert(Problem::new(
                    path,
                    0,
                    format!("`{part}` says nothing; name it for its one noun"),
                ));
            }
        }
    }
    for (path, text) in tree.rust() {
        for pair in tokens(text).windows(2) {
            let [keyword, name] = pair else { continue };
            if !["struct", "enum", "trait", "type", "mod"].contains(&keyword.text)
                || THEIR_NAMES.contains(&(keyword.text, name.text))
            {
                continue;
            }
            if let Some(word) = words(name.text).into_iter().find(|word| EMPTY_NAMES.contains(&word.as_str()))
            {
                let message = format!("`{}` has `{word}` in it, which says nothing", name.text);
                problems.insert(Problem::new(path, name.line, message));
            }
        }
    }
    problems.into_iter().collect()
}

/// Example agents that lack what each of them has: a manifest, a page, a case to be tested by.
pub(super) fn agents(tree: &Tree) -> Vec<Problem> {
    let below: Vec<&str> = tree.0.keys().filter_map(|path| path.strip_prefix("agents/")).collect();
    let agents: BTreeSet<&str> =
        below.iter().filter_map(|path| path.split_once('/')).map(|(agent, _)| agent).collect();
    let mut problems = Vec::new();
    for agent in agents {
        let folder = format!("agents/{agent}");
        for file in ["manifest.yaml", "README.md"] {
            if tree.get(&format!("{folder}/{file}")).is_none() {
                problems.push(Problem::new(&folder, 0, format!("has no {file}")));
            }
        }
        let case = format!("{folder}/cases/");
        let has = |end: &str| tree.0.keys().any(|path| path.starts_with(&case) && path.ends_with(end));
        if !has("/input") || !has("/expect") {
            problems.push(Problem::new(
                &folder,
                0,
                "has no case: cases/<name>/input and cases/<name>/expect",
            ));
        }
    }
    problems
}

/// Source that people wrote.
fn written(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    let files = tree.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    files.filter(|(path, _)| ends_with(path, SOURCE_ENDS) && !is_generated(path))
}

fn ends_with(path: &str, ends: &[&str]) -> bool {
    ends.iter().any(|end| path.ends_with(end))
}

/// The words of a name in camel or snake case, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in name.chars() {
        if character == '_' || character.is_uppercase() {
            words.push(String::new());
        }
        if character != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.path.as_str()).collect()
    }

    #[test]
    fn a_file_is_remarked_on_before_it_is_refused() {
        let (wanted, long, refused) = ("x\n".repeat(500), "x\n".repeat(501), "x\n".repeat(601));
        let tree = Tree::of(&[
            ("a.rs", &wanted),
            ("b.go", &long),
            ("c.rs", &refused),
            ("gen/d.rs", &refused),
            ("e.md", &refused),
        ]);
        assert_eq!(long_files(&tree), [("b.go", 501)]);
        assert_eq!(paths(&length(&tree)), ["c.rs"]);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let tree = Tree::of(&[("a.rs", "//! Owns a.\n"), ("b.rs", "use x;\n//! Late.\n"), ("c.rs", "")]);
        assert_eq!(paths(&headers(&tree)), ["b.rs", "c.rs"]);
    }

    #[test]
    fn each_mark_of_unfinished_work_is_found_as_a_whole_word() {
        for mark in LEFT_MARKS {
            let marked = format!("a\n// {mark}: later\n");
            let tree = Tree::of(&[("a.rs", &marked), ("b.md", &marked), ("c.wasm", &marked)]);
            let found = unfinished(&tree);
            assert_eq!(paths(&found), ["a.rs", "b.md"], "{mark}");
            assert_eq!(found[0].line, 2);
        }
        let whole = format!("{}S and {}\n", LEFT_MARKS[0], LEFT_MARKS[0].to_lowercase());
        assert_eq!(unfinished(&Tree::of(&[("a.rs", &whole)])), []);
    }

    #[test]
    fn empty_names_are_found_in_paths_modules_and_types() {
        let tree = Tree::of(&[
            ("crates/x/src/util.rs", ""),
            ("crates/helpers/x.rs", ""),
            ("crates/x/src/metadata.rs", "struct Metadata; enum E { Internal }"),
            ("crates/x/src/y.rs", "struct FileManager;\nmod internal {}\n// struct Data"),
        ]);
        let found = names(&tree);
        assert_eq!(
            paths(&found),
            ["crates/helpers/x.rs", "crates/x/src/util.rs", "crates/x/src/y.rs", "crates/x/src/y.rs"]
        );
    }

    #[test]
    fn an_agent_without_page_or_case_is_found() {
        let tree = Tree::of(&[
            ("agents/.gitignore", ""),
            ("agents/good/manifest.yaml", ""),
            ("agents/good/README.md", ""),
            ("agents/good/cases/one/input", ""),
            ("agents/good/cases/one/expect", ""),
            ("agents/bad/manifest.yaml", ""),
        ]);
        assert_eq!(paths(&agents(&tree)), ["agents/bad", "agents/bad"]);
    }
}
