//! Private keys as the user has them: read from their files, opened by a passphrase where they are encrypted, written for
//! their owner alone.
//!
//! Invariant: a passphrase comes from a file, the environment or a terminal, and never from the command line, which other
//! users can read; it is wiped when it was used.

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mentat_attestation::signing::atomic::{self, Readers};
use mentat_attestation::signing::authority::AuthorityError;
use mentat_attestation::signing::{KeyError, KeyFile, NewKey, PrivateKey};
use mentat_manifest::ByteCount;
use zeroize::Zeroizing;

use crate::args::{EncryptionArgument, PassphraseArgument};
use crate::environment;
use crate::files;
use crate::output::{self, Failure};

/// Bytes of a key's file at most, and of a passphrase's.
const MAX_KEY_FILE: ByteCount = ByteCount(64 << 10);

/// Reads a private key, and opens it where it is encrypted. That others can read it as well is told, and no more: where files have
/// no owners, as on some that are shared between machines, nothing could be done about it.
///
/// # Errors
/// When it is no key, or there is no passphrase that opens it.
pub(crate) fn read_key(path: &Path, argument: &PassphraseArgument) -> Result<PrivateKey, Failure> {
    let text = files::read_secret(path, "key", MAX_KEY_FILE)?;
    let file = KeyFile::parse(&text).map_err(|error| refused(path, &error))?;
    if path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o077 != 0) {
        output::write_notice(&format!(
            "the key `{}` can be read or changed by others than its owner; take that away with `chmod 600`",
            path.display()
        ));
    }
    open_key(file, path, argument)
}

/// Opens a private key that was read.
///
/// # Errors
/// As [`read_key`].
pub(crate) fn open_key(
    file: KeyFile,
    path: &Path,
    argument: &PassphraseArgument,
) -> Result<PrivateKey, Failure> {
    match file {
        KeyFile::Clear(key) => Ok(*key),
        KeyFile::Encrypted(key) => {
            let passphrase = match given(argument.passphrase_file.as_deref())? {
                Some(passphrase) => passphrase,
                None => ask(&format!("Passphrase of `{}`: ", path.display())).map_err(|_| {
                    Failure::invalid(format!(
                        "the key `{}` is encrypted; give its passphrase by `--passphrase-file`, in `MENTAT_KEY_PASSPHRASE`, or \
                         on a terminal",
                        path.display()
                    ))
                })?,
            };
            key.decrypt(&passphrase).map_err(|error| refused(path, &error))
        }
    }
}

/// The passphrase that a new key is to be encrypted by, where it is to be.
///
/// # Errors
/// When there is none, it is empty, or the two that were typed differ.
pub(crate) fn for_new_key(argument: &EncryptionArgument) -> Result<Option<Zeroizing<String>>, Failure> {
    if !argument.encrypt {
        return Ok(None);
    }
    let passphrase = match given(argument.passphrase_file.as_deref())? {
        Some(passphrase) => passphrase,
        None => {
            let asked = ask("Passphrase of the new key: ").and_then(|one| Ok((one, ask("Once more: ")?)));
            let (one, two) = asked.map_err(|_| {
                Failure::invalid(
                    "there is no passphrase for the new key; give one by `--passphrase-file`, in `MENTAT_KEY_PASSPHRASE`, or on a \
                     terminal",
                )
            })?;
            if one != two {
                return Err(Failure::invalid("the two passphrases differ; nothing was written"));
            }
            one
        }
    };
    if passphrase.is_empty() {
        return Err(Failure::invalid(
            "the passphrase is empty; a key without one is made without `--encrypt`",
        ));
    }
    Ok(Some(passphrase))
}

/// Writes a new key for its owner alone, and never over a file that is there.
///
/// # Errors
/// When the file is there, or cannot be written.
pub(crate) fn write_key(
    path: &Path,
    key: &NewKey,
    passphrase: Option<&Zeroizing<String>>,
) -> Result<(), Failure> {
    let pem = match passphrase {
        Some(passphrase) => key.to_encrypted_pem(passphrase),
        None => key.to_pem(),
    };
    let pem = pem.map_err(|error| Failure::invalid(error.to_string()))?;
    atomic::create(path, pem.as_bytes(), Readers::Owner).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::invalid(format!(
            "`{}` is there already; a key is not overwritten, name another file",
            path.display()
        )),
        _ => Failure::invalid(format!("`{}` cannot be written: {error}", path.display())),
    })
}

/// The passphrase in a file or in the environment.
fn given(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Failure> {
    let Some(file) = file else { return Ok(environment::key_passphrase()) };
    let text = files::read_secret(file, "passphrase file", MAX_KEY_FILE)?;
    Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
}

/// Asks on the terminal, whatever stdin and stdout are.
fn ask(prompt: &str) -> io::Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt).map(Zeroizing::new)
}

fn refused(path: &Path, error: &KeyError) -> Failure {
    Failure::invalid(format!("the key `{}` cannot be used: {error}", path.display()))
}

/// Why an authority did not do it: mostly what the user gave.
#[expect(clippy::needless_pass_by_value, reason = "to be passed to `map_err` as it is")]
pub(crate) fn authority_failed(error: AuthorityError) -> Failure {
    Failure::invalid(error.to_string())
}
