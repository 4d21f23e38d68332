//! Reading what the user names: files and stdin, never more than a bound. Knows nothing of what is in
//! them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use mentat_manifest::ByteCount;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use crate::output::Failure;
use crate::values::Input;

/// Reads a file whole that the user named; it may be a pipe, which is waited for.
///
/// # Errors
/// When it cannot be read, or has more than `limit` bytes; the file is named, and `what` says what it
/// was to be.
pub(crate) fn read(path: &Path, what: &str, limit: ByteCount) -> Result<Bytes, Failure> {
    read_opened(File::open(path), path, what, limit)
}

/// Reads a file whole that an agent brought along. A pipe in its place would keep us waiting for ever, so it is
/// refused as what it is.
///
/// # Errors
/// As [`read`], and when it is no ordinary file.
pub(crate) fn read_regular(path: &Path, what: &str, limit: ByteCount) -> Result<Bytes, Failure> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(io::Error::from);
    if let Ok(file) = &file
        && file.metadata().is_ok_and(|file| !file.is_file() && !file.is_dir())
    {
        return Err(Failure::invalid(format!("{what} `{}` is no ordinary file", path.display())));
    }
    read_opened(file, path, what, limit)
}

/// Reads a file that holds a secret, of which no copy is left behind.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub(crate) fn read_secret(path: &Path, what: &str, limit: ByteCount) -> Result<Zeroizing<String>, Failure> {
    let failed = |why: &str| Failure::invalid(format!("{what} `{}` cannot be read: {why}", path.display()));
    // Room for all of it at once, since what grows is moved and leaves what it was behind.
    let most = usize::try_from(limit.0).unwrap_or(usize::MAX).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let file = File::open(path).map_err(|error| failed(&reason(&error)))?;
    file.take(limit.0.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| failed(&reason(&error)))?;
    if bytes.len() == most {
        return Err(failed(&format!("it has more than {limit}, the limit")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed("it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_opened(file: io::Result<File>, path: &Path, what: &str, limit: ByteCount) -> Result<Bytes, Failure> {
    let failed = |error: io::Error| {
        Failure::invalid(format!("{what} `{}` cannot be read: {}", path.display(), reason(&error)))
    };
    let file = file.map_err(failed)?;
    let bytes = read_bounded(file, limit).map_err(failed)?;
    bytes.ok_or_else(|| {
        Failure::invalid(format!("{what} `{}` has more than {limit}, the limit", path.display()))
    })
}

/// Reads an execution's input from wherever the user said; empty where they said nothing.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_input(input: Option<&Input>, limit: ByteCount) -> Result<Bytes, Failure> {
    match input {
        None => Ok(Bytes::new()),
        Some(Input::Text(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Some(Input::File(path)) => read(path, "input file", limit),
        Some(Input::Stdin) => {
            let bytes = read_bounded(io::stdin().lock(), limit)
                .map_err(|error| Failure::system("reading the input from stdin", &error))?;
            bytes.ok_or_else(|| {
                Failure::invalid(format!("stdin has more than {limit}, the limit of an input"))
            })
        }
    }
}

/// Everything, or `None` when that is more than `limit`. Bounded while reading: the size that a file
/// system tells says nothing of a pipe or a device.
fn read_bounded(source: impl Read, limit: ByteCount) -> io::Result<Option<Bytes>> {
    let mut bytes = Vec::new();
    source.take(limit.0.saturating_add(1)).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit.0);
    Ok(fits.then(|| bytes.into()))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit_and_not_a_byte_more() {
        assert_eq!(read_bounded(&b"1234"[..], ByteCount(4)).unwrap().unwrap(), "1234");
        assert_eq!(read_bounded(&b"12345"[..], ByteCount(4)).unwrap(), None);
        assert_eq!(read_bounded(io::repeat(0), ByteCount(1 << 10)).unwrap(), None);
    }

    #[test]
    fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("agent.wasm");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
        let refused = read_regular(&pipe, "module", ByteCount(10)).unwrap_err();
        let body = serde_json::to_value(refused.body()).unwrap();
        assert!(body["message"].as_str().unwrap().ends_with("agent.wasm` is no ordinary file"), "{body}");
    }

    #[test]
    fn a_secret_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(*read_secret(&path, "key", ByteCount(4)).unwrap(), "1234");
        assert!(read_secret(&path, "key", ByteCount(3)).unwrap_err().to_string().contains("the limit"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read_secret(&path, "key", ByteCount(4)).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn an_input_that_nobody_gave_is_empty() {
        assert_eq!(read_input(None, ByteCount(0)).unwrap(), "");
    }
}
