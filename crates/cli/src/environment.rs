//! What the command line takes from the process around it: its own program, the cache directory, the
//! API key, a passphrase, the wish for colours. The only file here that reads the environment.

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The program that compiles modules: this one.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn this_program() -> io::Result<PathBuf> {
    // This link leads to the file that is running even after an upgrade has put another one in its
    // place; a compiler of another version would make code that this process refuses.
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { env::current_exe() }
}

/// Where compiled code is kept for a user who names no place; `None` without a home.
pub(crate) fn default_cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("mentat"))
}

/// Where docker keeps names and passwords for registries, and other programs look for them as well.
pub(crate) fn docker_config() -> Option<PathBuf> {
    let named = env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    Some(named.or_else(home)?.join("config.json"))
}

/// The API key in `MENTAT_API_KEY`. Not an option with a value: other users could read it in the list
/// of processes.
pub(crate) fn api_key() -> Option<String> {
    env::var_os("MENTAT_API_KEY")?.into_string().ok().filter(|key| !key.is_empty())
}

/// The passphrase of a private key in `MENTAT_KEY_PASSPHRASE`, for the same reason.
pub(crate) fn key_passphrase() -> Option<Zeroizing<String>> {
    env::var_os("MENTAT_KEY_PASSPHRASE")?.into_string().ok().map(Zeroizing::new)
}

/// The value of a secret, from the variable of its name: never an option, for the same reason.
pub(crate) fn secret(name: &str) -> Option<String> {
    env::var_os(name)?.into_string().ok()
}

/// Whether stderr is a terminal, so that progress makes sense there.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether stderr takes colours: a terminal whose user has not said `NO_COLOR` (<https://no-color.org>).
pub(crate) fn stderr_takes_colours() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stderr_is_terminal() && !refused && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}
