//! `mentat load`: an agent's manifest and module, from this machine or out of a registry, sent to a server; or the server told
//! where to take them from.

use std::process::ExitCode;

use bytes::Bytes;
use mentat_manifest::{RuntimeKind, escape_untrusted};

use crate::args::LoadArguments;
use crate::client::{Client, LoadedReport};
use crate::output::{self, Failure};
use crate::progress;
use crate::source::{self, AgentSource, Found, ManifestFile};

pub(crate) fn run(arguments: &LoadArguments) -> Result<ExitCode, Failure> {
    let reference = source::referred(&arguments.agent)?;
    let attestation = match &arguments.attestation {
        None => String::new(),
        Some(path) => source::read_attestation(path)?,
    };
    let replace = arguments.replace;
    let loaded = match reference {
        Some(reference) if arguments.by_server => {
            let reference = reference.to_string();
            sent(arguments, async |client| client.load_from(reference, attestation, replace).await)?
        }
        None if arguments.by_server => {
            return Err(Failure::invalid(format!(
                "--by-server: the server cannot read `{}`; name an agent in a registry, `oci://HOST/REPOSITORY@sha256:…`",
                arguments.agent.display()
            )));
        }
        Some(_) if arguments.module.is_some() => {
            return Err(Failure::invalid("--module: an agent in a registry has its module there".to_owned()));
        }
        Some(_) => {
            let agent = AgentSource::open_or_pull(&arguments.agent, &arguments.registry)?;
            let Some(manifest) = agent.manifest else {
                return Err(Failure::invalid(format!(
                    "`{}` is a module alone; push it with a manifest, by `mentat push`",
                    arguments.agent.display()
                )));
            };
            sent(arguments, async |client| client.load(&manifest, agent.module, attestation, replace).await)?
        }
        None => {
            let (manifest, module) = read(arguments)?;
            sent(arguments, async |client| client.load(&manifest, module, attestation, replace).await)?
        }
    };
    if arguments.json.json {
        output::write_json(&loaded)?;
    } else {
        let compiled = match (loaded.compile_us, loaded.code_origin) {
            (Some(took), _) => format!("compiled in {} ms", took.div_ceil(1000)),
            (None, "image") => "an image of the container engine".into(),
            (None, origin) => format!("code from {origin}"),
        };
        let image = loaded.image.as_ref().map(|image| format!(", or image {image}")).unwrap_or_default();
        let LoadedReport { agent, version, module, signature, .. } = &loaded;
        let line = format!("{agent} {version} {module} ({compiled}{image}) {}", signature.line());
        output::write_stdout(format!("{}\n", escape_untrusted(&line, 1024)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the paths name.
fn read(arguments: &LoadArguments) -> Result<(ManifestFile, Bytes), Failure> {
    let manifest = match source::find(&arguments.agent)? {
        Found::Manifest(path) => ManifestFile::read(path)?,
        Found::Module(path) => {
            return Err(Failure::invalid(format!(
                "`{}` is no manifest, whose name ends in `.yaml`; a module is loaded with one: `mentat load \
                 manifest.yaml --module FILE`",
                path.display()
            )));
        }
    };
    let module = match (&arguments.module, manifest.manifest.runtime_kind()) {
        (Some(path), _) => source::read_module(path)?,
        (None, RuntimeKind::Wasm) => source::read_module(&manifest.module_path()?)?,
        // The server's container engine has its image.
        (None, RuntimeKind::Container) => Bytes::new(),
    };
    Ok((manifest, module))
}

fn sent(
    arguments: &LoadArguments,
    load: impl AsyncFnOnce(&mut Client) -> Result<LoadedReport, Failure>,
) -> Result<LoadedReport, Failure> {
    super::threads()?.block_on(async {
        let mut client = Client::connect(&arguments.server).await?;
        progress::spoken_of("the server makes the agent ready", load(&mut client)).await
    })
}
