//! The command line as a client of OCI registries: whom the user names may be asked, by what the user's own files know.

use std::sync::Arc;
use std::time::Duration;

use mentat_oci::{
    Admission, Artifact, Client, Credentials, OciError, Patience, Progress, Pulled, Pushed, Reference,
    Registry, Rules,
};
use mentat_runtime::CompileConfig;
use mentat_runtime::error::{Error, Reason};

use crate::args::RegistryArguments;
use crate::commands;
use crate::environment;
use crate::output::{self, Failure};
use crate::progress;

/// A user who does not want to wait presses Ctrl-C; a slow line takes its time.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(10),
    silence: Duration::from_secs(30),
    total: Duration::from_secs(60 * 60),
};

/// Pulls an agent; says what a tag means now.
///
/// # Errors
/// Those of the registry.
pub(crate) fn pull(reference: &Reference, arguments: &RegistryArguments) -> Result<Pulled, Failure> {
    let client = client(&reference.registry, arguments)?;
    let pulled = work("pulling", async |progress| client.pull(reference, &progress).await)?;
    if reference.digest().is_none() {
        output::write_notice(&format!("`{reference}` is {} now", pulled.digest));
    }
    Ok(pulled)
}

/// Pushes an agent.
///
/// # Errors
/// Those of the registry.
pub(crate) fn push(
    reference: &Reference,
    artifact: &Artifact,
    arguments: &RegistryArguments,
) -> Result<Pushed, Failure> {
    let client = client(&reference.registry, arguments)?;
    work("pushing", async |progress| client.push(reference, artifact, &progress).await)
}

fn client(registry: &Registry, arguments: &RegistryArguments) -> Result<Client, Failure> {
    let plain = if arguments.plain_http { vec![registry.clone()] } else { Vec::new() };
    let rules = Rules { admission: Admission::Any, plain, hosts: arguments.registry_hosts.clone() };
    let given = arguments.registry_auth.clone();
    let file = given.or_else(|| environment::docker_config().filter(|path| path.is_file()));
    let credentials = match file {
        Some(path) => Credentials::read(&path).map_err(|error| failure(&error))?,
        None => Credentials::default(),
    };
    let roots = arguments.registry_ca.as_deref();
    Client::new(rules, credentials, roots, PATIENCE, CompileConfig::default().max_module)
        .map_err(|error| failure(&error))
}

fn work<T>(
    message: &'static str,
    work: impl AsyncFnOnce(Progress) -> Result<T, OciError>,
) -> Result<T, Failure> {
    let bar = progress::transfer_bar(message);
    let told = bar.clone();
    let on_progress: Progress = Arc::new(move |done, total| {
        told.set_length(total);
        told.set_position(done);
    });
    commands::threads()?.block_on(async {
        tokio::select! {
            biased;
            () = commands::interrupted() => Err(Failure::from(Error::Cancelled)),
            done = progress::shown_by(&bar, work(on_progress)) => done.map_err(|error| failure(&error)),
        }
    })
}

fn failure(error: &OciError) -> Failure {
    let answered = |reason: Reason| Failure::answered(reason, error.to_string(), []);
    match error {
        OciError::Invalid(_) | OciError::Untrusted(_) | OciError::Local(_) => {
            answered(Reason::InvalidRequest)
        }
        OciError::Denied(_) => answered(Reason::PolicyDenied),
        OciError::NotFound(_) => answered(Reason::AgentNotFound),
        OciError::Unauthorized(_) => answered(Reason::Unauthenticated),
        OciError::Unavailable(_) => Failure::unavailable(error.to_string()),
    }
}
