//! Holds `docs/limits.md`, the one table of every timeout, limit and buffer size, against the code and
//! against the page of the configuration that the service's own tests keep true.

use super::{Problem, Tree};

const PAGE: &str = "docs/limits.md";
const CONFIGURATION: &str = "docs/configuration.md";

/// Where limits that cannot be set are looked for.
const CRATES: &[&str] = &[
    "crates/attestation/src/",
    "crates/manifest/src/",
    "crates/oci/src/",
    "crates/runtime/src/",
    "crates/server/src/",
];

/// Keys that are limits: sections, and single keys of others.
const KEYS: &[&str] = &[
    "limits.",
    "engine.",
    "pool.",
    "compile.",
    "executions.",
    "streams.",
    "warm.",
    "registry.",
    "container.",
    "policy.reload_",
    "attestation.clock_",
    "attestation.reload_",
    "audit.checkpoint_",
    "audit.retain_",
    "sandbox.",
    "network.",
    "media.object_",
    "media.bytes_",
    "media.retain_",
    "media.timeout_",
    "oci.concurrent",
    "oci.timeout_",
    "oci.idle_",
    "server.max_",
    "server.header_",
    "server.idle_",
    "server.guest_",
    "server.shutdown_",
];
/// Of those sections, what is a choice and no limit.
const CHOICES: &[&str] = &[
    "engine.allocator",
    "streams.back_pressure",
    "sandbox.mounts",
    "sandbox.env",
    "sandbox.secrets",
    "sandbox.extensions",
    "network.nameservers",
    "network.hosts",
    "network.reachable",
    "network.roots",
    "container.socket",
    "container.fallback",
    "container.images",
    "container.pull",
    "container.user",
];

/// Limits that the page leaves out, and rows that are no longer true.
pub(super) fn limits(tree: &Tree) -> Vec<Problem> {
    let Some(page) = tree.get(PAGE) else {
        return vec![Problem::new(PAGE, 0, "is not there")];
    };
    let configured = keys(tree.get(CONFIGURATION).unwrap_or_default());
    let constants: Vec<(String, bool)> = tree
        .rust()
        .filter(|(path, _)| CRATES.iter().any(|folder| path.starts_with(folder)))
        .flat_map(|(path, text)| text.lines().filter_map(|line| constant(path, line)).collect::<Vec<_>>())
        .collect();

    let mut problems = Vec::new();
    for (line, text) in (1..).zip(page.lines()) {
        let Some(first) = text.strip_prefix("| `").and_then(|rest| rest.split('`').next()) else { continue };
        let is_true = if first.contains("::") {
            constants.iter().any(|(constant, _)| constant == first)
        } else {
            configured.iter().any(|row| text.starts_with(row))
        };
        if !is_true {
            problems.push(Problem::new(
                PAGE,
                line,
                format!("`{first}` is not so, in the code or in {CONFIGURATION}"),
            ));
        }
    }
    let rows = constants.iter().filter(|(_, must)| *must).map(|(constant, _)| format!("| `{constant}` |"));
    for row in rows.chain(configured.iter().cloned()) {
        if !page.lines().any(|line| line.starts_with(&row)) {
            problems.push(Problem::new(PAGE, 0, format!("has no row that begins `{row}`")));
        }
    }
    problems
}

/// `file::NAME = VALUE`, as the page has it, and whether it must be there: all that is called a maximum.
fn constant(path: &str, line: &str) -> Option<(String, bool)> {
    let declaration = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    let (name, rest) = declaration.strip_prefix("const ")?.split_once(": ")?;
    let (_, value) = rest.split_once(" = ")?;
    let file = path.rsplit('/').next()?.trim_end_matches(".rs");
    Some((format!("{file}::{name} = {}", value.trim_end_matches(';')), name.starts_with("MAX_")))
}

/// The beginnings of the rows of the configuration page that are limits: key and default.
fn keys(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| {
        let key = line.strip_prefix("| `")?.split('`').next()?;
        let is_limit = KEYS.iter().any(|begin| key.starts_with(begin)) && !CHOICES.contains(&key);
        let end = line.match_indices(" | ").nth(1).filter(|_| is_limit)?.0;
        Some(format!("{} |", line.split_at_checked(end)?.0))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            (PAGE, page),
            (
                CONFIGURATION,
                "| `pool.queue_length` | `10` | `X` | y |\n| `log.level` | `\"info\"` | `X` | y |\n",
            ),
            ("crates/runtime/src/a.rs", "const MAX_LINES: u32 = 1 << 4;\nconst PERMIT: u8 = 2;\n"),
        ]);
        limits(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_that_has_every_limit_as_it_is_passes() {
        let page =
            "| `pool.queue_length` | `10` | z |\n| `a::MAX_LINES = 1 << 4` | z |\n| `a::PERMIT = 2` | z |\n";
        assert_eq!(check(page), Vec::<String>::new());
    }

    #[test]
    fn a_limit_that_is_left_out_is_found() {
        let problems = check("");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("a::MAX_LINES = 1 << 4") && problems[1].contains("pool.queue_length"));
    }

    #[test]
    fn a_row_with_another_value_is_found() {
        let page =
            "| `pool.queue_length` | `11` | z |\n| `a::MAX_LINES = 1 << 4` | z |\n| `a::PERMIT = 3` | z |\n";
        let problems = check(page);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            problems[0].starts_with("docs/limits.md:1: ") && problems[1].starts_with("docs/limits.md:3: ")
        );
    }
}
