//! Reading what the user names: files and stdin, never more than a bound. Knows nothing of what is in
//! them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use mentat_manifest::ByteCount;

use crate::output::Failure;
use crate::values::Input;

/// Reads a file whole.
///
/// # Errors
/// When it cannot be read, or has more than `limit` bytes; the file is named, and `what` says what it
/// was to be.
pub(crate) fn read(path: &Path, what: &str, limit: ByteCount) -> Result<Bytes, Failure> {
    let failed = |error: io::Error| {
        Failure::invalid(format!("{what} `{}` cannot be read: {}", path.display(), reason(&error)))
    };
    let file = File::open(path).map_err(failed)?;
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
    fn an_input_that_nobody_gave_is_empty() {
        assert_eq!(read_input(None, ByteCount(0)).unwrap(), "");
    }
}
