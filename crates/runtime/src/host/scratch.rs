//! What becomes of a scratch directory when its execution has ended: a guest may have made the tree in it deeper than the
//! stack and the descriptors of whoever removes it level by level.

use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

/// How the names of scratch directories begin.
pub(crate) const PREFIX: &str = "mentat-scratch-";

/// Removes all that is in a directory, whatever its depth: what lies in a directory of it is moved up before that directory
/// is removed, so that two are open at any time.
///
/// # Errors
/// What cannot be moved or removed.
pub(crate) fn empty(path: &Path) -> io::Result<()> {
    let top = Dir::open_ambient_dir(path, ambient_authority())?;
    let mut moved = 0_u64;
    loop {
        let mut is_flat = true;
        for entry in top.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            if !entry.file_type()?.is_dir() {
                top.remove_file(&name)?;
                continue;
            }
            is_flat = false;
            move_up(&top, &top.open_dir(&name)?, &mut moved)?;
            top.remove_dir(&name)?;
        }
        if is_flat {
            return Ok(());
        }
    }
}

/// Moves the directories of `from` to the top, and removes all else that is in it.
fn move_up(top: &Dir, from: &Dir, moved: &mut u64) -> io::Result<()> {
    for entry in from.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_dir() {
            from.remove_file(&name)?;
            continue;
        }
        loop {
            *moved = moved.saturating_add(1);
            match from.rename(&name, top, format!("{PREFIX}{moved}")) {
                Ok(()) => break,
                // The guest has taken the name before.
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_stack_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut deepest = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        for level in 0..20_000 {
            deepest.create_dir("d").unwrap();
            if level % 100 == 0 {
                deepest.write("file", "x").unwrap();
                deepest.create_dir("beside").unwrap();
                deepest.symlink("d/d", "link").unwrap();
                let _ = deepest.create_dir(format!("{PREFIX}{level}"));
            }
            deepest = deepest.open_dir("d").unwrap();
        }
        empty(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
