//! Where a path leads inside a directory: links are followed by hand, so that it is known which place is meant before
//! anything is done there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Links that are followed on the way; Linux follows forty.
const MAX_LINKS: usize = 40;

/// Names that are looked at on the way, those that links bring included.
const MAX_NAMES: usize = 2048;

/// What is done with a link in the last place of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastLink {
    /// Its target is meant.
    Follow,
    /// It is meant itself.
    Keep,
}

impl LastLink {
    /// The same for a path as it was written: what ends in `/` or `/.` means the directory behind a link, as the system
    /// takes it, whatever the caller says of links.
    pub(crate) fn of(self, path: &str) -> Self {
        if path.ends_with('/') || path.ends_with("/.") { Self::Follow } else { self }
    }
}

/// The guest path of something below a guest directory.
pub(crate) fn join_guest(directory: &str, below: &Path) -> String {
    if below.as_os_str().is_empty() {
        return directory.to_owned();
    }
    format!("{}/{}", directory.trim_end_matches('/'), below.display())
}

/// The path below `directory` that `path` leads to, all links on the way followed, and the last as `last` says.
/// What is not there is taken by its name, so that it can be made.
///
/// # Errors
/// `PermissionDenied` for a path that leads out of the directory, `ELOOP` for too many links.
pub(crate) fn resolve(directory: &Dir, path: &Path, last: LastLink) -> io::Result<PathBuf> {
    let escapes = || io::Error::new(io::ErrorKind::PermissionDenied, "a path outside of what is mounted");
    let mut left: VecDeque<OsString> = VecDeque::new();
    push_front(&mut left, path).ok_or_else(escapes)?;
    let mut reached = PathBuf::new();
    let (mut links, mut names) = (0, 0);
    while let Some(name) = left.pop_front() {
        names += 1;
        if names > MAX_NAMES {
            return Err(Errno::LOOP.into());
        }
        if name == ".." {
            if !reached.pop() {
                return Err(escapes());
            }
            continue;
        }
        let next = reached.join(&name);
        match directory.symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() && (last == LastLink::Follow || !left.is_empty()) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = directory.read_link_contents(&next)?;
                push_front(&mut left, &target).ok_or_else(escapes)?;
            }
            Ok(_) => reached = next,
            // What comes behind a name that is not there is not there either; the operation will say so.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                reached = next;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(reached)
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Astray {
    /// It leads out.
    Outside,
    /// There are too many links on the way.
    Circles,
    /// A name is too long.
    TooLong,
    /// Something else is wrong with what is there.
    Broken,
}

impl Astray {
    /// What the error of [`resolve`] says.
    pub(crate) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::LOOP) => Self::Circles,
            Some(Errno::NAMETOOLONG) => Self::TooLong,
            // The host's own refusals have numbers.
            None if error.kind() == io::ErrorKind::PermissionDenied => Self::Outside,
            _ => Self::Broken,
        }
    }
}

/// Opens a directory by a path that has no links on it, one name after another, so that one which has become a link since
/// the path was resolved leads nowhere.
///
/// # Errors
/// When a name on the way is not there, or no directory.
pub(crate) fn open_direct(directory: &Dir, path: &Path) -> io::Result<Dir> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut reached = directory.try_clone()?;
    for name in path.components() {
        let Component::Normal(name) = name else { return Err(io::ErrorKind::InvalidInput.into()) };
        reached = rustix::fs::openat(&reached, name, flags, Mode::empty())?.into();
    }
    Ok(reached)
}

/// Puts the components of a relative path before those that are left; `None` for an absolute one.
fn push_front(left: &mut VecDeque<OsString>, path: &Path) -> Option<()> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_and_never_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), "x").unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
        link("b", "a/in");
        link("../../etc", "a/out");
        link("/etc", "a/absolute");
        link("loop", "a/loop");
        link("in/new", "a/dangling");
        let directory = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        let resolved = |path: &str| {
            resolve(&directory, Path::new(path), LastLink::Follow).map_err(|error| error.to_string())
        };
        assert_eq!(resolved("a/in/file"), Ok("a/b/file".into()));
        assert_eq!(resolved("a/in/../in/./file"), Ok("a/b/file".into()));
        assert_eq!(resolved("a/dangling"), Ok("a/b/new".into()));
        assert_eq!(resolved("new/file"), Ok("new/file".into()));
        assert_eq!(resolved(""), Ok("".into()));
        let kept = resolve(&directory, Path::new("a/../a/in"), LastLink::Keep).unwrap();
        assert_eq!(kept, Path::new("a/in"));
        for escape in ["a/out/passwd", "a/absolute/passwd", "..", "a/../../x", "/etc"] {
            assert!(resolved(escape).unwrap_err().contains("outside"), "{escape}");
        }
        assert!(resolved("a/loop").unwrap_err().contains("links"));
    }

    #[test]
    fn a_path_that_was_resolved_is_opened_without_links() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        let directory = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        assert!(open_direct(&directory, Path::new("a/b")).is_ok());
        assert!(open_direct(&directory, Path::new("")).is_ok());
        for indirect in ["link/b", "a/..", "/"] {
            assert!(open_direct(&directory, Path::new(indirect)).is_err(), "{indirect}");
        }
    }

    #[test]
    fn a_slash_at_the_end_asks_for_what_is_behind_a_link() {
        for (path, last) in [
            ("a", LastLink::Keep),
            ("a/", LastLink::Follow),
            ("a/.", LastLink::Follow),
            ("a//", LastLink::Follow),
            ("a.", LastLink::Keep),
        ] {
            assert_eq!(LastLink::Keep.of(path), last, "{path}");
        }
    }
}
