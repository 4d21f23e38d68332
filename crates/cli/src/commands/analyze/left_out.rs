//! What of a folder was not looked at, or not all of it. It is told, since what stands against a module may be there.
//!
//! Invariant: nothing is left out but by being noted here.

use std::collections::BTreeMap;

use mentat_manifest::escape_untrusted;
use serde::Serialize;

/// Names that are told of each kind; how many there are is told of all.
const MAX_NAMES: usize = 5;
/// Characters of a name that are shown.
const MAX_SHOWN_CHARS: usize = 160;

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// What others wrote.
    Dependencies,
    /// What was made of source, perhaps of other source than is here.
    Made,
    /// Files of a language that is not looked at.
    OtherScripts,
    MachineCode,
    /// Larger than what is read of a file.
    TooLarge,
    /// Text in another encoding, or no text.
    NoText,
    TooDeep,
    TooMany,
    /// Links that lead out of the folder, or nowhere.
    LinksOut,
    Unreadable,
    /// Links to what is looked at where it lies.
    LinksWithin,
    /// What was made, and is there to be made again.
    Caches,
    History,
}

/// What was left out for one reason.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LeftOut {
    pub(super) why: Why,
    /// Whether what stands against a module may be there.
    pub(super) may_matter: bool,
    pub(super) count: usize,
    /// Some of their names, from the folder on.
    pub(super) names: Vec<String>,
}

/// All that was left out.
#[derive(Debug, Default)]
pub(super) struct AllLeftOut {
    by_reason: BTreeMap<Why, LeftOut>,
}

impl Why {
    /// In words.
    fn name(self) -> &'static str {
        match self {
            Self::Dependencies => "folders of dependencies",
            Self::Made => "folders of what is made of source",
            Self::OtherScripts => "scripts that are not read here",
            Self::MachineCode => "machine code",
            Self::TooLarge => "files of which the first MiB was looked at and no more",
            Self::NoText => "files that are no text in UTF-8",
            Self::TooDeep => "folders that lie too deep",
            Self::TooMany => "files and folders, after as many as are looked at",
            Self::LinksOut => "links that lead out of the folder, or nowhere",
            Self::Unreadable => "what could not be read",
            Self::LinksWithin => "links to what is looked at where it lies",
            Self::Caches => "caches",
            Self::History => "the history of the source",
        }
    }

    fn may_matter(self) -> bool {
        !matches!(self, Self::LinksWithin | Self::Caches | Self::History)
    }
}

impl LeftOut {
    /// One line.
    pub(super) fn text(&self) -> String {
        let more = self.count.saturating_sub(self.names.len());
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        format!("{}: {}{more}", self.why.name(), self.names.join(", "))
    }
}

impl AllLeftOut {
    /// Notes something by its name.
    pub(super) fn add(&mut self, why: Why, name: &str) {
        self.add_many(why, 1, name);
    }

    /// Notes so many, of which one has this name.
    pub(super) fn add_many(&mut self, why: Why, count: usize, name: &str) {
        let known = self.by_reason.entry(why).or_insert_with(|| LeftOut {
            why,
            may_matter: why.may_matter(),
            count: 0,
            names: Vec::new(),
        });
        known.count = known.count.saturating_add(count);
        if known.names.len() < MAX_NAMES {
            known.names.push(escape_untrusted(name, MAX_SHOWN_CHARS));
        }
    }

    /// What may matter first.
    pub(super) fn sorted(&self) -> Vec<&LeftOut> {
        self.by_reason.values().collect()
    }

    pub(super) fn may_matter(&self) -> bool {
        self.by_reason.values().any(|left_out| left_out.may_matter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_harmless_and_all_are_counted() {
        let mut all = AllLeftOut::default();
        all.add(Why::History, ".git");
        assert!(!all.may_matter());
        for number in 0..7 {
            all.add(Why::LinksOut, &format!("\u{1b}[31m{number}{}", "x".repeat(500)));
        }
        all.add_many(Why::TooMany, 1_000, "z");
        assert!(all.may_matter());
        let lines: Vec<String> = all.sorted().into_iter().map(LeftOut::text).collect();
        assert_eq!(lines[0], "files and folders, after as many as are looked at: z (and 999 more)");
        assert!(
            lines[1].starts_with("links that lead out of the folder, or nowhere: \\u{1b}[31m0xxx"),
            "{}",
            lines[1]
        );
        assert!(lines[1].ends_with(" (and 2 more)") && lines[1].len() < 1_200, "{}", lines[1]);
        assert_eq!(lines[2], "the history of the source: .git");
    }
}
