//! What was found, where, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use mentat_manifest::{Capability, escape_untrusted};
use serde::Serialize;

/// Places that are told of each finding; how many there are is told of all.
const MAX_PLACES: usize = 5;
/// Characters of what was found that are shown.
const MAX_SHOWN_CHARS: usize = 160;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Topic {
    Threads,
    Processes,
    RawSockets,
    Listens,
    Native,
    Libraries,
    Signals,
    Memory,
    Machine,
    System,
    Gpu,
    Async,
    Jumps,
    Root,
    Files,
    OwnFiles,
    Network,
    LocalSockets,
    Language,
    MachineCode,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Weight {
    /// It cannot be in a module.
    Blocks,
    /// It has another form there.
    Change,
    /// To be known.
    Note,
}

/// Whether a program could be a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Nothing that was found stands against it.
    Yes,
    /// What was found has another form.
    WithChanges,
    /// Something stands against it.
    No,
    /// Nothing that was found stands against it, and what was not looked at may.
    Unknown,
}

/// How much was seen of what may matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    #[default]
    Whole,
    Part,
}

/// Something that was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) topic: Topic,
    pub(super) weight: Weight,
    /// What it was, as it stands there.
    pub(super) what: BTreeSet<String>,
    /// Some of the places: `file:line`, or where else.
    pub(super) places: Vec<String>,
    pub(super) count: u32,
    pub(super) advice: &'static str,
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    by_topic: BTreeMap<Topic, Finding>,
    /// The powers that it would need, each with where that is seen.
    pub(super) capabilities: BTreeMap<String, String>,
}

impl Topic {
    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Processes => "other programs",
            Self::RawSockets => "raw sockets",
            Self::Listens => "a server of its own",
            Self::Native => "native code",
            Self::Libraries => "libraries loaded while it runs",
            Self::Signals => "signals",
            Self::Memory => "mapped memory",
            Self::Machine => "one kind of processor",
            Self::System => "calls of one system",
            Self::Gpu => "a GPU",
            Self::Async => "an asynchronous runtime",
            Self::Jumps => "jumps out of functions",
            Self::Root => "a user",
            Self::Files => "files",
            Self::OwnFiles => "files of its image",
            Self::Network => "the network",
            Self::LocalSockets => "sockets of the machine",
            Self::Language => "the language",
            Self::MachineCode => "machine code",
        }
    }
}

impl Verdict {
    /// In words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Yes => "nothing that was seen stands against it",
            Self::WithChanges => "with changes",
            Self::No => "not as it is",
            Self::Unknown => "not known: nothing that was seen stands against it, and not all was seen",
        }
    }
}

impl Findings {
    /// Notes something.
    pub(super) fn add(&mut self, topic: Topic, what: &str, place: &str) {
        let (weight, advice) = topic.advice();
        let finding = self.by_topic.entry(topic).or_insert_with(|| Finding {
            topic,
            weight,
            what: BTreeSet::new(),
            places: Vec::new(),
            count: 0,
            advice,
        });
        finding.count = finding.count.saturating_add(1);
        if finding.what.len() < MAX_PLACES {
            finding.what.insert(escape_untrusted(what.trim(), MAX_SHOWN_CHARS));
        }
        let place = escape_untrusted(place, MAX_SHOWN_CHARS);
        if finding.places.len() < MAX_PLACES && !finding.places.contains(&place) {
            finding.places.push(place);
        }
    }

    /// Notes a power that the program would need, where it is one.
    pub(super) fn wants(&mut self, capability: &str, place: &str) {
        if let Ok(capability) = capability.parse::<Capability>() {
            let place = escape_untrusted(place, MAX_SHOWN_CHARS);
            self.capabilities.entry(capability.to_string()).or_insert(place);
        }
    }

    /// What matters most first.
    pub(super) fn sorted(&self) -> Vec<&Finding> {
        let mut findings: Vec<&Finding> = self.by_topic.values().collect();
        findings.sort_by_key(|finding| finding.weight);
        findings
    }

    /// What follows, where all was seen that may matter, or not.
    pub(super) fn verdict(&self, seen: Scope) -> Verdict {
        match self.by_topic.values().map(|finding| finding.weight).min() {
            Some(Weight::Blocks) => Verdict::No,
            _ if seen == Scope::Part => Verdict::Unknown,
            Some(Weight::Change) => Verdict::WithChanges,
            Some(Weight::Note) | None => Verdict::Yes,
        }
    }
}
