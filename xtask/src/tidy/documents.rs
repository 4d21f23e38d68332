//! Checks of the documentation against the tree: links lead somewhere, every page is in the index, a
//! program that is shown is the one that is tested, code that is named is there, and the command lines
//! have the verbs and options that the program has.

use std::collections::BTreeSet;

use super::lexer::tokens;
use super::{Problem, Tree, is_generated};

/// The page that is made from the command line itself, by which others are judged.
const COMMAND_PAGE: &str = "docs/cli.md";

/// One line of a page.
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// Whether it stands in a fenced block.
    fenced: bool,
}

/// Links to files and headings that are not there.
pub(super) fn links(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in pages(tree) {
        for line in lines(text).filter(|line| !line.fenced) {
            for target in targets(&without_code(line.text)) {
                if let Some(fault) = fault(tree, path, &target) {
                    problems.push(Problem::new(path, line.number, format!("link `{target}`: {fault}")));
                }
            }
        }
    }
    problems
}

/// Pages of `docs/` that its index does not lead to.
pub(super) fn index(tree: &Tree) -> Vec<Problem> {
    const INDEX: &str = "docs/README.md";
    let text = tree.get(INDEX).unwrap_or_default();
    let linked: BTreeSet<String> = lines(text)
        .flat_map(|line| targets(line.text))
        .map(|target| join(INDEX, target.split('#').next().unwrap_or(&target)))
        .collect();
    let pages = pages(tree).map(|(path, _)| path).filter(|path| path.starts_with("docs/") && *path != INDEX);
    pages
        .filter(|path| !linked.contains(*path))
        .map(|path| Problem::new(path, 0, format!("is not in {INDEX}")))
        .collect()
}

/// Blocks that show a file (` ```rust file=PATH `) and differ from it.
pub(super) fn embedded_files(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in pages(tree) {
        let mut shown: Option<(usize, &str, String)> = None;
        for line in lines(text) {
            if let Some((begin, file, body)) = &mut shown {
                if line.text.trim_start().starts_with("```") {
                    match tree.get(file) {
                        None => problems.push(Problem::new(path, *begin, format!("`{file}` is not there"))),
                        Some(text) if text.trim_end() == body.trim_end() => {}
                        Some(_) => problems.push(Problem::new(
                            path,
                            *begin,
                            format!("differs from `{file}`; copy it again"),
                        )),
                    }
                    shown = None;
                } else {
                    body.push_str(line.text);
                    body.push('\n');
                }
            } else if let Some((_, file)) =
                line.text.strip_prefix("```").and_then(|info| info.split_once("file="))
            {
                shown = Some((line.number, file.trim(), String::new()));
            }
        }
    }
    problems
}

/// Files and functions that ARCHITECTURE.md names and that are not there.
pub(super) fn architecture(tree: &Tree) -> Vec<Problem> {
    const PAGE: &str = "ARCHITECTURE.md";
    let Some(text) = tree.get(PAGE) else {
        return vec![Problem::new(PAGE, 0, "is not there")];
    };
    let known: BTreeSet<&str> =
        tree.rust().flat_map(|(_, text)| tokens(text)).map(|token| token.text).collect();
    let mut problems = Vec::new();
    for line in lines(text) {
        let names: Vec<&str> =
            if line.fenced { line.text.split_whitespace().collect() } else { code(line.text).collect() };
        for name in names {
            let name = name.trim_end_matches([',', ';', '.']);
            let is_file =
                [".rs", ".md", ".toml", ".proto", ".wit", ".yaml"].iter().any(|end| name.ends_with(end));
            if is_file && !name.contains(['*', '<', ' ']) && !names_a_file(tree, name) {
                problems.push(Problem::new(PAGE, line.number, format!("`{name}` is not there")));
            }
            let Some((first, _)) = name.split_once("::") else { continue };
            let item = name.split(['(', '<']).next().unwrap_or(name);
            let missing = item.split("::").find(|part| !known.contains(part) && !["std"].contains(part));
            if let Some(part) = missing.filter(|_| first.starts_with(|c: char| c.is_alphabetic())) {
                problems.push(Problem::new(
                    PAGE,
                    line.number,
                    format!("`{name}`: there is no `{part}` in the code"),
                ));
            }
        }
    }
    problems
}

/// Command lines with a verb or an option that the program does not have.
pub(super) fn command_lines(tree: &Tree) -> Vec<Problem> {
    let reference = tree.get(COMMAND_PAGE).unwrap_or_default();
    let verbs = sections(reference);
    let tasks = super::super::task_names();
    let mut problems = Vec::new();
    for (path, text) in pages(tree).filter(|(path, _)| *path != COMMAND_PAGE) {
        for line in lines(text) {
            let commands: Vec<&str> = if line.fenced { vec![line.text] } else { code(line.text).collect() };
            for command in commands {
                if let Some(fault) = command_fault(command, &verbs, &tasks) {
                    problems.push(Problem::new(path, line.number, format!("`{}`: {fault}", command.trim())));
                }
            }
        }
    }
    problems
}

fn command_fault(command: &str, verbs: &[(String, String)], tasks: &[String]) -> Option<String> {
    let mut words = command.trim().trim_start_matches("$ ").split_whitespace();
    let program = words.next()?;
    if program == "cargo" {
        let task = words.next().filter(|word| *word == "xtask").and_then(|_| words.next())?;
        let is_task = task.starts_with(['-', '<', '…']) || tasks.iter().any(|known| known == task);
        return (!is_task).then(|| format!("there is no task `{task}`"));
    }
    if program.rsplit('/').next() != Some("mentat") {
        return None;
    }
    let verb = words.next().filter(|verb| verb.starts_with(|first: char| first.is_ascii_lowercase()))?;
    let section = |verb: &str| verbs.iter().find(|(known, _)| known == verb);
    let Some((mut verb, mut help)) = section(verb).map(|(verb, help)| (verb, help)) else {
        return Some(format!("there is no verb `{verb}` in {COMMAND_PAGE}"));
    };
    // Some verbs have verbs of their own.
    let mut words = words.peekable();
    while let Some((inner, text)) = words.peek().and_then(|word| section(&format!("{verb} {word}"))) {
        (verb, help) = (inner, text);
        words.next();
    }
    // What comes after `--` is the agent's, after `|` or `#` another program's or nobody's.
    let mine = words.take_while(|word| !["--", "|", "#", "&&", ">"].contains(word));
    let options = mine.filter(|word| word.starts_with("--"));
    for option in options {
        let name = option.split(['=', ',', '`']).next().unwrap_or(option);
        let has = help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == name);
        if !has {
            return Some(format!("`mentat {verb}` has no option `{name}` in {COMMAND_PAGE}"));
        }
    }
    None
}

/// The verbs of the command page with the text under each heading (`## mentat run`).
fn sections(page: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in lines(page) {
        let heading = line.text.trim_start_matches('#').trim().trim_matches('`');
        match heading.strip_prefix("mentat ") {
            Some(verb) if !line.fenced && line.text.starts_with('#') => {
                sections.push((verb.to_owned(), String::new()));
            }
            _ => {
                if let Some((_, text)) = sections.last_mut() {
                    text.push_str(line.text);
                    text.push('\n');
                }
            }
        }
    }
    sections
}

fn pages(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.ending(".md").filter(|(path, _)| !is_generated(path))
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut fenced = false;
    text.lines().enumerate().map(move |(index, text)| {
        let fence = text.trim_start().starts_with("```");
        fenced ^= fence;
        Line { number: index + 1, text, fenced: fenced && !fence }
    })
}

/// What stands between backticks.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("x")
}

/// Where the links of a line lead: `[text](target)`.
fn targets(line: &str) -> Vec<String> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split([')', ' ']).next()).map(str::to_owned).collect()
}

fn fault(tree: &Tree, page: &str, target: &str) -> Option<String> {
    let elsewhere = ["http://", "https://", "mailto:"];
    if elsewhere.iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { page.to_owned() } else { join(page, file) };
    if !tree.contains(&path) {
        return Some(format!("`{path}` is not there"));
    }
    let text = tree.get(&path).filter(|_| path.ends_with(".md"))?;
    let has = anchor.is_empty() || headings(text).any(|heading| heading == anchor);
    (!has).then(|| format!("`{path}` has no heading `#{anchor}`"))
}

/// The anchors of a page's headings, as Git hosts make them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let headings = lines(text).filter(|line| !line.fenced && line.text.starts_with('#'));
    headings.map(|line| {
        let words = line.text.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The path that a link of `page` means.
fn join(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether some file has this path, or ends with it.
fn names_a_file(tree: &Tree, name: &str) -> bool {
    let end = format!("/{name}");
    tree.contains(name) || tree.0.keys().any(|path| path.ends_with(&end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(problems: &[Problem]) -> Vec<usize> {
        problems.iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn links_to_files_and_headings_must_lead_somewhere() {
        let page = "[a](other.md) [b](other.md#the-two-words)\n[c](gone.md)\n[d](other.md#gone)\n[e](../README.md)\n\
                    [f](https://example.com/x) `[g](gone.md)`\n```\n[h](gone.md)\n```\n[i](#top)\n# Top\n";
        let tree =
            Tree::of(&[("docs/a.md", page), ("docs/other.md", "## The `two` words!\n"), ("README.md", "")]);
        assert_eq!(lines_of(&links(&tree)), [2, 3]);
    }

    #[test]
    fn a_page_that_the_index_forgets_is_found() {
        let tree = Tree::of(&[
            ("docs/README.md", "[a](a.md#x)\n[b](b/c.md)"),
            ("docs/a.md", ""),
            ("docs/b/c.md", ""),
            ("docs/d.md", ""),
        ]);
        let problems = index(&tree);
        assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), ["docs/d.md"]);
    }

    #[test]
    fn a_shown_program_must_be_the_file() {
        let page =
            "```rust file=a.rs\nfn a() {}\n```\n```rust file=b.rs\nfn a() {}\n```\n```rust file=c.rs\n```\n";
        let tree = Tree::of(&[("p.md", page), ("a.rs", "fn a() {}\n"), ("b.rs", "fn b() {}\n")]);
        assert_eq!(lines_of(&embedded_files(&tree)), [4, 7]);
    }

    #[test]
    fn architecture_names_only_what_is_there() {
        let page = "`x/src/dispatch.rs` and `src/gone.rs`\n`Dispatcher::execute` but not `Dispatcher::fly(…)`\n```\ndispatch.rs  gone.rs\n```\n";
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", page),
            ("crates/x/src/dispatch.rs", "impl Dispatcher { fn execute() {} /* fly */ }"),
        ]);
        assert_eq!(lines_of(&architecture(&tree)), [1, 2, 4]);
    }

    #[test]
    fn a_command_line_needs_a_verb_and_options_that_exist() {
        let reference = "# Commands\n## `mentat run`\n`--input TEXT`, `--json`\n## mentat list\n## mentat policy\n## mentat policy check\n--json\n";
        let page = "`mentat run x --input y -- --own`\n`mentat fly`\n```\n$ mentat run x --inputs y\ntarget/debug/mentat list --json\n\
                    cargo xtask tidy\ncargo xtask fly\n```\nmentat is `mentat` and `mentat …`\n`mentat policy check --json`\n\
                    `mentat policy --json`\n";
        let tree = Tree::of(&[(COMMAND_PAGE, reference), ("README.md", page)]);
        assert_eq!(lines_of(&command_lines(&tree)), [2, 4, 5, 7, 11]);
    }
}
