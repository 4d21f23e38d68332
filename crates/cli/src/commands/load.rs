//! `mentat load`: an agent's manifest and module, sent to a server.

use std::process::ExitCode;

use mentat_manifest::escape_untrusted;

use crate::args::LoadArguments;
use crate::client::{Client, LoadedReport};
use crate::output::{self, Failure};
use crate::progress;
use crate::source::{self, Found, ManifestFile};

pub(crate) fn run(arguments: &LoadArguments) -> Result<ExitCode, Failure> {
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
    let module_path = manifest.module_path()?;
    let module = source::read_module(arguments.module.as_ref().unwrap_or(&module_path))?;
    let attestation = match &arguments.attestation {
        None => String::new(),
        Some(path) => source::read_attestation(path)?,
    };
    let loaded = super::threads()?.block_on(async {
        let mut client = Client::connect(&arguments.server).await?;
        let load = client.load(&manifest, module, attestation, arguments.replace);
        progress::spoken_of("the server makes the agent ready", load).await
    })?;
    if arguments.json.json {
        output::write_json(&loaded)?;
    } else {
        let compiled = match loaded.compile_us {
            Some(took) => format!("compiled in {} ms", took.div_ceil(1000)),
            None => format!("code from {}", loaded.code_origin),
        };
        let LoadedReport { agent, version, module, signature, .. } = &loaded;
        let line = format!("{agent} {version} {module} ({compiled}) {}", signature.line());
        output::write_stdout(format!("{}\n", escape_untrusted(&line, 1024)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
