//! The operator's policies as files: the folder they lie in, and the watch over it. A set with a mistake in it never
//! comes into force; the one before stays, and the log says what is wrong.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mentat_runtime::error::Error;
use mentat_runtime::security::authority::Authority;
use mentat_runtime::security::cedar::{DEFAULT_POLICIES, Policies, PolicySource};
use tokio_util::sync::CancellationToken;

use crate::looks::Looks;

/// How the name of a file of policies ends.
const EXTENSION: &str = "cedar";
/// Bytes of all policies at most; the largest sets that people write by hand have some hundred kilobytes.
const MAX_POLICY_BYTES: u64 = 1 << 20;

/// Reads every `*.cedar` file of a folder in order of name; the default policies where the folder is not named.
///
/// # Errors
/// `INVALID_REQUEST` when the folder cannot be read, or holds no policies.
pub fn read(folder: &Path) -> Result<Vec<PolicySource>, Error> {
    if folder.as_os_str().is_empty() {
        return Ok(vec![PolicySource { name: "default".into(), text: DEFAULT_POLICIES.into() }]);
    }
    let wrong = |path: &Path, why: &dyn std::fmt::Display| Error::InvalidRequest {
        message: format!("policies `{}`: {why}", path.display()),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| wrong(folder, &error))? {
        let path = entry.map_err(|error| wrong(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let why = "there is no `*.cedar` file in it; without any policy everything is denied. `mentat policy show` \
                   prints those to begin with";
        return Err(wrong(folder, &why));
    }
    let mut sources = Vec::new();
    let mut left = MAX_POLICY_BYTES;
    for path in files {
        let text = read_at_most(&path, left).map_err(|error| wrong(&path, &error))?;
        let Some(text) = text else {
            return Err(wrong(folder, &format!("they have more than {MAX_POLICY_BYTES} bytes")));
        };
        left -= text.len() as u64;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sources.push(PolicySource { name, text });
    }
    Ok(sources)
}

/// A file's text; `None` where it has more bytes than it may.
fn read_at_most(path: &Path, bytes: u64) -> std::io::Result<Option<String>> {
    // Before it is opened, since opening a pipe waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(bytes + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= bytes).then_some(text))
}

/// Reads and checks a folder of policies.
///
/// # Errors
/// `INVALID_REQUEST` with everything that is wrong in it.
pub fn load(folder: &Path) -> Result<Policies, Error> {
    parse(&read(folder)?)
}

pub(crate) fn parse(sources: &[PolicySource]) -> Result<Policies, Error> {
    Policies::parse(sources)
        .map_err(|error| Error::InvalidRequest { message: format!("the policies are not in order: {error}") })
}

/// Puts the folder's policies in force whenever they change, until `closing`. `known` are those in force.
pub(crate) async fn watch(
    folder: Arc<Path>,
    known: Vec<PolicySource>,
    authority: Arc<Authority>,
    every: Duration,
    closing: CancellationToken,
) {
    let mut looks = Looks::new(known);
    let mut last_error = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = closing.cancelled() => return,
        }
        let place = Arc::clone(&folder);
        let look = tokio::task::spawn_blocking(move || {
            let found = read(&place)
                .and_then(|sources| looks.changed(sources).map(|sources| parse(sources)).transpose());
            (looks, found)
        });
        let Ok((after, found)) = look.await else { return };
        looks = after;
        match found {
            // As they were before: what was wrong in between is told again when it comes back.
            Ok(None) if looks.is_settled() => last_error.clear(),
            Ok(None) => {}
            Ok(Some(policies)) => {
                tracing::info!(policies = policies.len(), folder = %folder.display(), "policies reloaded");
                authority.replace(policies);
                last_error.clear();
            }
            Err(error) => {
                // Once for each mistake, not once for each look.
                let text = error.to_string();
                if text != last_error {
                    tracing::error!(error = %text, "policies not reloaded; those before stay in force");
                    last_error = text;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_order_of_name_and_mistakes_are_told_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains("no `*.cedar` file"));
        std::fs::write(folder.path().join("b.cedar"), "permit (principal, action, resource);").unwrap();
        std::fs::write(folder.path().join("a.cedar"), "// none\n").unwrap();
        std::fs::write(folder.path().join("README.md"), "not a policy").unwrap();
        let names: Vec<String> = read(folder.path()).unwrap().into_iter().map(|source| source.name).collect();
        assert_eq!(names, ["a.cedar", "b.cedar"]);
        assert_eq!(load(folder.path()).unwrap().len(), 1);
        std::fs::write(folder.path().join("a.cedar"), "\npermit (principal, action, resource)").unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("a.cedar:2:37"), "{error}");
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cedar");
        std::fs::create_dir(&path).unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains("not a file"));
        std::fs::remove_dir(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(MAX_POLICY_BYTES + 1).unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains("more than"));
    }
}
