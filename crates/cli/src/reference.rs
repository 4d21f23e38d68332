//! Tests alone: that the page docs/cli.md says what the command line says. `UPDATE_EXPECT=1 cargo test
//! -p mentat` writes the page anew.

use clap::{Command, CommandFactory};

use crate::args::Arguments;

/// Columns of the page's code blocks.
const WIDTH: usize = 100;

fn section(command: &mut Command, name: &str) -> String {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!("## {name}\n```text\n{}\n```\n", help.join("\n").trim_end())
}

fn page() -> String {
    let mut root = Arguments::command().term_width(WIDTH);
    root.build();
    let mut page = String::from(
        "# The command line\n\nMade from the program's own help by `UPDATE_EXPECT=1 cargo test -p mentat`; a test \
         keeps it true.\n\n",
    );
    page.push_str(&section(&mut root, "mentat"));
    sections(&mut root, "mentat", &mut page);
    page
}

/// A section for each verb, and for the verbs of a verb after it.
fn sections(command: &mut Command, name: &str, page: &mut String) {
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for verb in names.iter().filter(|verb| *verb != "help") {
        let name = format!("{name} {verb}");
        let verb = command.find_subcommand_mut(verb).unwrap();
        page.push('\n');
        page.push_str(&section(verb, &name));
        sections(verb, &name, page);
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test's own switch, not a setting of the program")]
fn the_page_says_what_the_help_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let page = page();
    if std::env::var("UPDATE_EXPECT").is_ok() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/cli.md is out of date; run `UPDATE_EXPECT=1 cargo test -p mentat`");
}

#[test]
fn the_description_of_the_command_line_holds_together() {
    Arguments::command().debug_assert();
}

#[test]
fn every_verb_teaches_by_example() {
    fn check(command: &Command, name: &str) {
        for verb in command.get_subcommands() {
            let name = format!("{name} {}", verb.get_name());
            let help = verb.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(verb.has_subcommands() || help.contains(&format!("\n  {name}")), "{name}");
            check(verb, &name);
        }
    }
    check(&Arguments::command(), "mentat");
}
