//! `mentat load`: an agent's manifest and module, sent to a server.

use std::process::ExitCode;

use bytes::Bytes;
use mentat_manifest::{RuntimeKind, escape_untrusted};

use crate::args::LoadArguments;
use crate::client::Client;
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
    let module = match (&arguments.module, manifest.manifest.runtime_kind()) {
        (Some(path), _) => source::read_module(path)?,
        (None, RuntimeKind::Wasm) => source::read_module(&manifest.module_path()?)?,
        // The server's container engine has its image.
        (None, RuntimeKind::Container) => Bytes::new(),
    };
    let loaded = super::threads()?.block_on(async {
        let mut client = Client::connect(&arguments.server).await?;
        let load = client.load(&manifest, module, arguments.replace);
        progress::spoken_of("the server makes the agent ready", load).await
    })?;
    if arguments.json.json {
        output::write_json(&loaded)?;
    } else {
        let compiled = match (loaded.compile_us, loaded.code_origin) {
            (Some(took), _) => format!("compiled in {} ms", took.div_ceil(1000)),
            (None, "image") => "an image of the container engine".into(),
            (None, origin) => format!("code from {origin}"),
        };
        let line = format!("{} {} {} ({compiled})", loaded.agent, loaded.version, loaded.module);
        output::write_stdout(format!("{}\n", escape_untrusted(&line, 1024)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
