//! The walls of the house: which crate may use which, which words may stand in which room, and what a
//! room may see. The tables are the walls; a wall is moved by changing its row, and saying why in
//! `docs/decisions/`.

mod rooms;
mod words;

use self::rooms::{ROOMS, Room};
use self::words::FOREIGN_WORDS;
use super::lexer::{SourcePath, paths, tokens, without_tests};
use super::{Problem, Tree};

/// Which of our crates each of them may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("mentat-manifest", &[]),
    ("mentat-attestation", &["mentat-manifest"]),
    ("mentat-runtime", &["mentat-attestation", "mentat-manifest"]),
    ("mentat-proto", &[]),
    ("mentat-oci", &["mentat-manifest"]),
    (
        "mentat-server",
        &["mentat-runtime", "mentat-proto", "mentat-attestation", "mentat-oci", "mentat-manifest"],
    ),
    (
        "mentat",
        &[
            "mentat-server",
            "mentat-runtime",
            "mentat-proto",
            "mentat-attestation",
            "mentat-oci",
            "mentat-manifest",
        ],
    ),
    ("mentat-fuzz", &["mentat-runtime", "mentat-attestation", "mentat-oci", "mentat-manifest"]),
    // Asks the service as its clients do.
    ("mentat-bench", &["mentat-runtime", "mentat-proto", "mentat-attestation", "mentat-manifest"]),
    // Developer tasks start at once because they compile no Wasmtime.
    ("xtask", &["mentat-manifest"]),
];

/// The arrows between our crates, read from their manifests.
pub(super) fn crate_arrows(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        if path == "Cargo.toml"
            || !(path.starts_with("crates/")
                || ["xtask/", "fuzz/", "bench/"].iter().any(|folder| path.starts_with(folder)))
        {
            continue;
        }
        let mut section = "";
        let mut allowed = None;
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.starts_with('[') {
                section = text;
            } else if section == "[package]"
                && let Some(name) = text.strip_prefix("name = ")
            {
                let name = name.trim_matches('"');
                allowed = ARROWS.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed);
                if allowed.is_none() {
                    let advice = "a new crate needs a row in the tables of tidy, and a second reader";
                    problems.push(Problem::new(path, line, format!("crate `{name}` is unknown; {advice}")));
                }
            } else if section.contains("dependencies") && text.starts_with("mentat") {
                let used = text.split(['.', ' ', '=']).next().unwrap_or(text);
                if allowed.is_some_and(|allowed| !allowed.contains(&used)) {
                    problems.push(Problem::new(path, line, format!("must not depend on `{used}`")));
                }
            }
        }
    }
    problems
}

/// Words of other crates where they do not belong.
pub(super) fn foreign_words(tree: &Tree) -> Vec<Problem> {
    let begins = |path: &str, places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let mut problems = Vec::new();
    for (path, text) in sources(tree) {
        let tokens = tokens(text);
        for found in paths(without_tests(&tokens)) {
            for word in FOREIGN_WORDS {
                if begins(path, word.within)
                    && !begins(path, word.except)
                    && is_at_or_below(&found, word.path)
                {
                    let message =
                        format!("`{}` does not belong here: {}", found.segments.join("::"), word.reason);
                    problems.push(Problem::new(path, found.line, message));
                }
            }
        }
    }
    problems
}

/// Rooms that see more than they may.
pub(super) fn rooms(tree: &Tree) -> Vec<Problem> {
    let known = known_crates(tree);
    let mut problems = Vec::new();
    for room in ROOMS {
        for (path, text) in
            sources(tree).filter(|(path, _)| room.files.iter().any(|file| path.starts_with(file)))
        {
            let tokens = tokens(text);
            for found in paths(without_tests(&tokens)) {
                if !room.allows(&found, &known) {
                    let message =
                        format!("`{}` is not seen from here: {}", found.segments.join("::"), room.reason);
                    problems.push(Problem::new(path, found.line, message));
                }
            }
        }
    }
    problems
}

impl Room {
    fn allows(&self, path: &SourcePath<'_>, known: &[String]) -> bool {
        let (first, second) = (path.segments.first().copied().unwrap_or(""), path.segments.get(1).copied());
        let seen = || self.sees.iter().any(|seen| is_at_or_below(path, seen));
        match first {
            // A word alone, such as the `crate` of a visibility.
            _ if second.is_none() => true,
            "super" => second != Some("super"),
            "crate" => seen(),
            _ if first.starts_with("mentat_") => seen(),
            _ => match self.crates {
                Some(crates) => crates.contains(&first) || !known.iter().any(|known| known == first),
                None => true,
            },
        }
    }
}

/// Rust of the crates that ship; their integration tests see what they like.
fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.rust().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"))
}

/// The crates that the workspace depends on, as Rust names them.
fn known_crates(tree: &Tree) -> Vec<String> {
    let workspace = tree.get("Cargo.toml").unwrap_or_default();
    let section = workspace.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let names = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" ="));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

fn is_at_or_below(path: &SourcePath<'_>, above: &str) -> bool {
    let above: Vec<&str> = above.split("::").collect();
    path.segments.starts_with(&above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_that_points_the_wrong_way_is_found() {
        let tree = Tree::of(&[
            (
                "crates/manifest/Cargo.toml",
                "[package]\nname = \"mentat-manifest\"\n[dev-dependencies]\nmentat-runtime.workspace = true\n",
            ),
            (
                "crates/runtime/Cargo.toml",
                "[package]\nname = \"mentat-runtime\"\n[dependencies]\nmentat-manifest = { path = \"x\" }\n",
            ),
            ("crates/new/Cargo.toml", "[package]\nname = \"mentat-new\"\n"),
        ]);
        let problems = messages(&crate_arrows(&tree));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("crates/manifest/Cargo.toml:4: must not depend on `mentat-runtime`"));
        assert!(problems[1].contains("`mentat-new` is unknown"));
    }

    #[test]
    fn every_foreign_word_is_found_outside_its_rooms_and_not_inside() {
        for word in FOREIGN_WORDS {
            let text = format!("//! {0}\nuse {0}::x;\nfn f() {{ {0}::y() }}\n", word.path);
            let outside = format!("{}x/src/elsewhere.rs", word.within[0]);
            let problems = foreign_words(&Tree::of(&[(&outside, &text)]));
            // A longer path may be a word of its own as well.
            let mut lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
            lines.dedup();
            assert_eq!(lines, [2, 3], "{}", word.path);
            for inside in word.except.iter().filter(|inside| inside.ends_with('/')) {
                let inside = format!("{inside}src/x.rs");
                assert_eq!(foreign_words(&Tree::of(&[(&inside, &text)])), [], "{}", word.path);
            }
        }
    }

    #[test]
    fn a_word_in_braces_or_after_a_test_function_is_found_and_one_in_a_test_module_is_not() {
        let path = "crates/server/src/registry.rs";
        let grouped = Tree::of(&[(path, "use std::{fs, env};")]);
        assert_eq!(foreign_words(&grouped).len(), 1);
        let tested = Tree::of(&[(path, "fn a() {}\n#[cfg(test)]\nmod tests { use std::env; }")]);
        assert_eq!(foreign_words(&tested), []);
    }

    #[test]
    fn every_room_refuses_what_it_does_not_see() {
        for room in ROOMS {
            let file = room.files[0].trim_end_matches(".rs").trim_end_matches('/');
            let path =
                if room.files[0].ends_with('/') { format!("{file}/x.rs") } else { format!("{file}.rs") };
            let text = "use mentat_server::app;\nuse super::super::x;\n";
            let tree = Tree::of(&[(&path, text)]);
            assert_eq!(rooms(&tree).len(), 2, "{path}");
        }
    }

    #[test]
    fn a_pure_room_refuses_crates_that_are_not_listed_and_takes_what_is_its_own() {
        let workspace = "[workspace.dependencies]\ntokio = \"1\"\nserde = \"1\"\n[profile.dev]\n";
        let text = "use crate::limits::Limits;\nuse serde::Serialize;\nuse tokio::fs;\nfn f() { limits::g(); tokio::spawn(x) }";
        let tree = Tree::of(&[("Cargo.toml", workspace), ("crates/manifest/src/x.rs", text)]);
        let problems = messages(&rooms(&tree));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("x.rs:3: `tokio::fs`") && problems[1].contains("`tokio::spawn`"));
    }

    #[test]
    fn the_host_sees_a_few_words_of_the_runtime_and_no_other() {
        let text = "use crate::runtime::limits::ExecutionLimiter;\nuse crate::runtime::engine::Engine;\n";
        let problems = rooms(&Tree::of(&[("crates/runtime/src/host/x.rs", text)]));
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2]);
    }
}
