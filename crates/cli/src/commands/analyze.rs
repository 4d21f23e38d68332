//! `mentat analyze`: whether a program could be a module, by its source or its image, and the part of the manifest that it would
//! have then.

mod finding;
mod image;
mod left_out;
mod part;
mod signs;
mod source;

use std::path::Path;
use std::process::ExitCode;

use mentat_manifest::escape_untrusted;
use mentat_runtime::security::policy::Rules;
use mentat_server::container::{Program, Survey};
use serde::Serialize;

use self::finding::{Finding, Findings, Scope, Verdict, Weight};
use self::left_out::{AllLeftOut, LeftOut};
use self::signs::Language;
use crate::args::AnalyzeArguments;
use crate::files;
use crate::output::{self, Failure};

/// Characters of what an image says that are shown.
const MAX_SHOWN_CHARS: usize = 200;

/// What is told.
#[derive(Serialize)]
struct Report<'a> {
    target: &'a str,
    /// Facts in the order in which they are told.
    facts: Vec<(&'static str, String)>,
    verdict: Verdict,
    findings: Vec<&'a Finding>,
    /// Each with where that is seen.
    capabilities: &'a std::collections::BTreeMap<String, String>,
    /// The part of the manifest.
    part: &'a str,
    /// What there is and was not looked at, or not all of it.
    left_out: Vec<&'a LeftOut>,
    /// What cannot be seen in this way.
    unseen: &'a [&'static str],
}

/// What was looked at.
#[derive(Default)]
struct Looked {
    facts: Vec<(&'static str, String)>,
    unseen: Vec<&'static str>,
    left_out: AllLeftOut,
    scope: Scope,
    findings: Findings,
}

pub(crate) fn run(arguments: &AnalyzeArguments) -> Result<ExitCode, Failure> {
    let folder = Path::new(&arguments.target);
    let looked = if folder.is_dir() {
        if arguments.record {
            return Err(Failure::invalid(
                "--record: source is not executed; name an image that is made of it, or run a module by `mentat run`".to_owned(),
            ));
        }
        look_at_source(folder)?
    } else if folder.exists() {
        return Err(Failure::invalid(format!(
            "`{}` is no folder of source; `mentat inspect` reads modules",
            folder.display()
        )));
    } else {
        super::threads()?.block_on(look_at_image(arguments))?
    };
    let Looked { facts, unseen, left_out, scope, findings } = looked;
    let part = part::text(&findings);
    let report = Report {
        target: &arguments.target,
        facts,
        verdict: findings.verdict(scope),
        findings: findings.sorted(),
        capabilities: &findings.capabilities,
        part: &part,
        left_out: left_out.sorted(),
        unseen: &unseen,
    };
    if let Some(path) = &arguments.write {
        part::write(path, &part)?;
    }
    if arguments.json.json {
        output::write_json(&report)?;
    } else {
        output::write_stdout(report.text().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn look_at_source(folder: &Path) -> Result<Looked, Failure> {
    let mut looked = Looked::default();
    let source = source::look(folder, &mut looked.findings)
        .map_err(|error| Failure::invalid(format!("`{}` cannot be read: {error}", folder.display())))?;
    if source.languages.is_empty() {
        let mut message = format!("`{}` holds no source in a language that is known here", folder.display());
        for left_out in source.left_out.sorted() {
            message.push_str(&format!("; not looked at were {}", left_out.text()));
        }
        return Err(Failure::invalid(message));
    }
    let mut languages: Vec<(&Language, &u32)> = source.languages.iter().collect();
    languages.sort_by_key(|(_, files)| std::cmp::Reverse(**files));
    for (language, files) in languages {
        looked.facts.push(("written in", format!("{} ({files} files)", language.name())));
        looked.facts.push(("the way", language.way().to_owned()));
    }
    if source.left_out.may_matter() {
        looked.scope = Scope::Part;
    }
    looked.left_out = source.left_out;
    looked.unseen.extend([
        "which files it opens, and which hosts it makes up; a recorded run of its image tells (`--record`)",
        "what its dependencies do, but for those that are known by name",
    ]);
    Ok(looked)
}

async fn look_at_image(arguments: &AnalyzeArguments) -> Result<Looked, Failure> {
    let input = files::read_input(arguments.input.input.as_ref(), Rules::default().max_input)?;
    let survey = Survey::new(arguments.socket.clone());
    let mut looked = Looked::default();
    let image = survey.image(&arguments.target).await?;
    let program = survey.program(&image).await?;
    let kind = image::look(&image, &program, &mut looked.findings);
    let program = match program {
        Program::File { path, .. } => format!("{path}: {}", kind.text()),
        Program::Missing(why) if arguments.record => {
            let image = escape_untrusted(&arguments.target, MAX_SHOWN_CHARS);
            return Err(Failure::invalid(format!(
                "--record: image `{image}` has no program to execute: {why}"
            )));
        }
        Program::Missing(why) => format!("none: {why}"),
        Program::Unclear => "was not found".to_owned(),
    };
    looked.facts.extend([
        ("image", image.id.clone()),
        ("platform", format!("{}/{}", image.os, image.architecture)),
        ("size", image.size.to_string()),
        ("command", image.command.join(" ")),
        ("program", program),
    ]);
    let names: Vec<&str> = image.env.iter().filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
    looked.facts.push(("variables", names.join(" ")));
    if arguments.record {
        let recording = tokio::select! {
            recording = survey.record(&image, input, arguments.timeout) => recording?,
            () = super::interrupted() => return Err(mentat_runtime::error::Error::Cancelled.into()),
        };
        let ended = match recording.exit_code {
            Some(code) => format!("exit code {code}"),
            None => "was ended".into(),
        };
        let (took, bytes) = (recording.took.as_millis(), recording.output.len());
        looked.facts.push(("recorded run", format!("{took} ms, {ended}, {bytes} bytes of output")));
        image::follow(&recording, &mut looked.findings);
        if recording.exit_code != Some(0) {
            looked.scope = Scope::Part;
            looked.unseen.push("what it does where it works: this run did not come to a good end");
        }
        if recording.seen.is_cut {
            looked.scope = Scope::Part;
            looked.unseen.push("it asked for more than is kept");
        }
        looked.unseen.extend([
            "what it does on other inputs, and behind a connection or a file that it was not given",
            "names of hosts, which are not looked up without a network, and variables, which are read without asking",
        ]);
    } else {
        looked.scope = Scope::Part;
        looked.unseen.push("what the program does; a recorded run tells (`--record`)");
    }
    Ok(looked)
}

impl Report<'_> {
    fn text(&self) -> String {
        let shown = |text: &str| escape_untrusted(text, MAX_SHOWN_CHARS);
        let mut text = format!("{}\n", shown(self.target));
        for (name, value) in self.facts.iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!("  {name:<14}{}\n", shown(value)));
        }
        text.push_str(&format!("could it be a module: {}\n", self.verdict.text()));
        for (weight, title) in [
            (Weight::Blocks, "stands against it"),
            (Weight::Change, "has another form in a module"),
            (Weight::Note, "to be known"),
        ] {
            let findings: Vec<_> = self.findings.iter().filter(|finding| finding.weight == weight).collect();
            if findings.is_empty() {
                continue;
            }
            text.push_str(&format!("{title}:\n"));
            for Finding { topic, what, places, count, advice, .. } in findings {
                let what: Vec<&str> = what.iter().map(String::as_str).collect();
                let more = usize::try_from(*count).unwrap_or(usize::MAX).saturating_sub(places.len());
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                text.push_str(&format!("  {}: {}\n", topic.name(), what.join(", ")));
                text.push_str(&format!("    at {}{more}\n    {advice}\n", places.join(", ")));
            }
        }
        text.push_str("not seen:\n");
        for left_out in &self.left_out {
            text.push_str(&format!("  {}\n", left_out.text()));
        }
        for unseen in self.unseen {
            text.push_str(&format!("  {unseen}\n"));
        }
        text.push_str("its part of the manifest, by what was seen:\n");
        for line in self.part.lines() {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }
}
