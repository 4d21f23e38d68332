//! `mentat keygen`: a private key, and a certificate request for it.

use std::process::ExitCode;

use mentat_attestation::signing::NewKey;
use mentat_attestation::signing::atomic::{self, Readers};

use crate::args::KeygenArguments;
use crate::output::{self, Failure};
use crate::passphrase;

pub(crate) fn run(arguments: &KeygenArguments) -> Result<ExitCode, Failure> {
    let invalid = |error: mentat_attestation::signing::KeyError| Failure::invalid(error.to_string());
    if let Some(path) = &arguments.csr
        && (*path == arguments.out || path.symlink_metadata().is_ok())
    {
        return Err(Failure::invalid(format!(
            "--csr: `{}` is there already, or is to be the key; name another file",
            path.display()
        )));
    }
    let key = NewKey::generate(arguments.algorithm.into()).map_err(invalid)?;
    // Before anything is written: whoever mistypes it begins again.
    let passphrase = passphrase::for_new_key(&arguments.encryption)?;
    let request = key.certificate_request().map_err(invalid)?;
    passphrase::write_key(&arguments.out, &key, passphrase.as_ref())?;
    output::write_notice(&format!(
        "the private key is in `{}`; keep it to yourself",
        arguments.out.display()
    ));
    if let Some(path) = &arguments.csr {
        atomic::replace(path, request.as_bytes(), Readers::Everybody)
            .map_err(|error| Failure::invalid(format!("`{}` cannot be written: {error}", path.display())))?;
        output::write_notice(&format!("the certificate request is in `{}`", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}
