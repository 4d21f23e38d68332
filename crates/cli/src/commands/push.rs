//! `mentat push`: an agent of this machine, as an artifact in an OCI registry.

use std::process::ExitCode;

use mentat_oci::{Artifact, Component, Reference, ReferenceError, Selector};
use mentat_runtime::{ImportKind, ModuleInfo};
use serde::Serialize;

use crate::args::PushArguments;
use crate::local;
use crate::output::{self, Failure};
use crate::registry;
use crate::source::AgentSource;

#[derive(Serialize)]
struct Report {
    /// With the digest.
    reference: String,
    digest: String,
    tag: String,
    agent: String,
    version: String,
    size_bytes: u64,
    /// Of those, what the registry did not have.
    sent_bytes: u64,
}

pub(crate) fn run(arguments: &PushArguments) -> Result<ExitCode, Failure> {
    let agent = AgentSource::open(&arguments.agent)?;
    // What could never be loaded is better told to who pushes it than to all who pull it.
    local::check(&agent)?;
    let info = ModuleInfo::read(&agent.module)?;
    let Some(file) = &agent.manifest else {
        return Err(Failure::invalid(format!(
            "`{}` is a module alone; an agent in a registry has a manifest",
            arguments.agent.display()
        )));
    };
    let (id, version) = (&file.manifest.id, &file.manifest.version);
    let (reference, tag) = tagged(&arguments.reference, &version.to_string())?;
    let component = info.component.then(|| interfaces(&info));
    let (module, path) = (agent.module.clone(), file.manifest.module_path());
    let artifact = Artifact::new((id, version), &file.text, module, path, component)
        .map_err(|error| Failure::invalid(error.to_string()))?;
    let pushed = registry::push(&reference, &artifact, &arguments.registry)?;
    let report = Report {
        reference: reference.at(pushed.digest).to_string(),
        digest: pushed.digest.to_string(),
        tag,
        agent: id.to_string(),
        version: version.to_string(),
        size_bytes: artifact.size(),
        sent_bytes: pushed.sent,
    };
    if arguments.json.json {
        output::write_json(&report)?;
    } else {
        output::write_stdout(format!("{}\n", report.reference).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The reference with a tag: its own, or the agent's version, in which a tag has no `+`.
fn tagged(reference: &Reference, version: &str) -> Result<(Reference, String), Failure> {
    match &reference.selector {
        Selector::Tag(tag) => Ok((reference.clone(), tag.clone())),
        Selector::Digest(_) => Err(Failure::invalid(format!(
            "`{reference}`: push to a tag, or to none; the digest is what comes of it"
        ))),
        Selector::Unsaid => {
            let tag = version.replace('+', "_");
            let tagged = format!("{reference}:{tag}").parse();
            let tagged = tagged.map_err(|error: ReferenceError| Failure::invalid(error.to_string()))?;
            Ok((tagged, tag))
        }
    }
}

/// The names of a component's interfaces, for those who look for one that fits.
fn interfaces(info: &ModuleInfo) -> Component {
    let imports = info.imports.iter().filter(|import| import.kind == ImportKind::Interface);
    Component {
        exports: info.exports.iter().map(|export| export.name.clone()).collect(),
        imports: imports.map(|import| import.name.clone()).collect(),
        target: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_version_unless_one_is_given() {
        let tag = |text: &str, version: &str| tagged(&text.parse().unwrap(), version).map(|(_, tag)| tag);
        assert_eq!(tag("oci://h/a", "1.0.0+build.7").unwrap(), "1.0.0_build.7");
        assert_eq!(tag("oci://h/a:latest", "1.0.0").unwrap(), "latest");
        let digest = format!("oci://h/a@sha256:{}", "0".repeat(64));
        assert!(tag(&digest, "1.0.0").unwrap_err().to_string().contains("push to a tag"));
        assert!(tag("oci://h/a", &"1".repeat(200)).is_err());
    }
}
