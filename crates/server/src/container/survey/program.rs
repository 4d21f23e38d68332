//! The program of an image: where its file lies, by way of its links, and how that begins.

use bytes::Bytes;
use mentat_manifest::escape_untrusted;

use super::ImageFacts;
use crate::container::engine::{Engine, EngineError};

/// Bytes of a program that are read: its headers are at its beginning.
const MAX_PROGRAM_BYTES: usize = 64 << 10;
/// Links that are followed to a program.
const MAX_LINKS: usize = 8;
/// Folders that a program is looked for in.
const MAX_FOLDERS: usize = 32;
/// Characters of a path that are told.
const MAX_SHOWN_CHARS: usize = 200;
/// The first block of an archive, and where in it the kind of its entry and the target of a link stand.
const TAR_BLOCK: usize = 512;
const TAR_KIND: usize = 156;
const TAR_LINK: std::ops::Range<usize> = 157..257;

/// What an image's program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A file.
    File {
        /// Where it lies, behind all links.
        path: String,
        /// How it begins.
        begin: Bytes,
    },
    /// There is none; why, in words about the image.
    Missing(String),
    /// It is not found in this way, which proves nothing.
    Unclear,
}

/// Finds the program that an image calls so in a container of it.
pub(super) async fn find(engine: &Engine, container: &str, image: &ImageFacts, name: &str) -> Program {
    let mut found = Program::Missing(format!(
        "`{}` is in no folder of its `PATH`, or only as a link that leads nowhere",
        shown(name)
    ));
    for path in places(name, image) {
        match look(engine, container, &path).await {
            file @ Program::File { .. } => return file,
            Program::Missing(why) if name.contains('/') => found = Program::Missing(why),
            // Perhaps it is in the next folder.
            Program::Missing(_) => {}
            Program::Unclear => found = Program::Unclear,
        }
    }
    found
}

/// The beginning of a file in a container, by way of its links.
async fn look(engine: &Engine, container: &str, named: &str) -> Program {
    let mut path = named.to_owned();
    for _ in 0..MAX_LINKS {
        let archive = match engine.beginning(container, &path, TAR_BLOCK + MAX_PROGRAM_BYTES).await {
            Ok(archive) => archive,
            Err(EngineError::Refused { status: 404, .. }) => return missing(named, &path),
            Err(_) => return Program::Unclear,
        };
        match entry(&archive) {
            Some(Entry::File(content)) => {
                return Program::File { path, begin: Bytes::copy_from_slice(content) };
            }
            Some(Entry::Link(to)) => path = beside(&path, to),
            Some(Entry::Folder) => {
                return Program::Missing(format!("`{}` is a folder", shown(&path)));
            }
            None => return Program::Unclear,
        }
    }
    Program::Unclear
}

fn missing(named: &str, path: &str) -> Program {
    Program::Missing(if named == path {
        format!("`{}` is not in it, or is a link that leads nowhere", shown(named))
    } else {
        format!("`{}` is a link to `{}`, which is not in it", shown(named), shown(path))
    })
}

fn shown(text: &str) -> String {
    escape_untrusted(text, MAX_SHOWN_CHARS)
}

/// The first entry of an archive.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Folder,
}

fn entry(archive: &[u8]) -> Option<Entry<'_>> {
    let (head, content) = archive.split_at_checked(TAR_BLOCK)?;
    match head.get(TAR_KIND)? {
        b'0' | 0 => Some(Entry::File(content)),
        b'2' => {
            let link = head.get(TAR_LINK)?.split(|byte| *byte == 0).next()?;
            Some(Entry::Link(std::str::from_utf8(link).ok()?))
        }
        b'5' => Some(Entry::Folder),
        _ => None,
    }
}

/// Where a program can be that is called so.
fn places(name: &str, image: &ImageFacts) -> Vec<String> {
    if name.contains('/') {
        return vec![beside(&format!("{}/x", image.folder.trim_end_matches('/')), name)];
    }
    let path = image.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path.split(':').take(MAX_FOLDERS).map(|folder| format!("{folder}/{name}")).collect()
}

/// The path that a link at `path` leads to.
fn beside(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{link}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_the_kernel_would() {
        let image = |folder: &str, env: &[&str]| ImageFacts {
            folder: folder.into(),
            env: env.iter().map(|entry| (*entry).to_owned()).collect(),
            ..ImageFacts::default()
        };
        assert_eq!(places("/a/b", &image("/app", &[])), ["/a/b"]);
        assert_eq!(places("./b", &image("/app", &[])), ["/app/./b"]);
        assert_eq!(places("b", &image("/app", &["X=1", "PATH=/x:/y"])), ["/x/b", "/y/b"]);
        assert_eq!(beside("/usr/bin/x", "../lib/y"), "/usr/bin/../lib/y");
    }

    #[test]
    fn any_archive_is_read() {
        let archive = |kind: u8, link: &[u8]| {
            let mut archive = vec![0; TAR_BLOCK + 3];
            archive[TAR_KIND] = kind;
            archive[TAR_LINK.start..TAR_LINK.start + link.len()].copy_from_slice(link);
            archive
        };
        assert_eq!(entry(&archive(b'0', b"")), Some(Entry::File(&[0, 0, 0])));
        assert_eq!(entry(&archive(b'2', b"../x")), Some(Entry::Link("../x")));
        assert_eq!(entry(&archive(b'5', b"")), Some(Entry::Folder));
        assert_eq!(entry(&archive(b'2', b"\xff")), None);
        assert_eq!(entry(&archive(b'x', b"")), None);
        assert_eq!(entry(&[0; 100]), None);
    }
}
