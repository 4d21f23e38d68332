//! The directories of one execution: opened when they are first needed, by a permission and no other way. A guest path
//! lies in the operator's mount with the longest name, or in the scratch directory, which is the execution's own.
//!
//! Invariant: a directory below a mount is reached by way of the mount alone, so that a link inside it leads nowhere else.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use mentat_manifest::{Capability, FileAccess};
use tempfile::TempDir;

use crate::security::offers::{Mount, Offers, SCRATCH};
use crate::security::policy::{Permission, common_access};

/// The directories of one execution.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    /// Where scratch directories are made; the system's own place where `None`.
    scratch_in: Option<PathBuf>,
    scratch: Option<Arc<TempDir>>,
}

/// A place in a directory of the execution.
#[derive(Debug)]
pub(crate) struct Place {
    /// The guest path of the directory.
    pub(crate) guest: String,
    /// The directory.
    pub(crate) directory: Dir,
    /// What may be done there.
    pub(crate) access: FileAccess,
    /// The rest of the path that was asked for, below the directory; empty for the directory itself.
    pub(crate) below: PathBuf,
}

/// Why a place cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// The permission is for something else.
    #[error("`{0}` is no capability of files")]
    NoFiles(String),
    /// Nothing is mounted there.
    #[error(
        "nothing is mounted at `{0}`; the operator mounts a directory there with `[[sandbox.mounts]]`, a user of \
         `mentat run` with `--mount HOST:{0}`"
    )]
    NotMounted(String),
    /// The mount is not for this.
    #[error("the mount `{guest}` is {offered}; `{asked}` was asked for")]
    Access {
        /// The mount.
        guest: String,
        /// What it is for.
        offered: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// The host's directory cannot be opened. Where it lies is the operator's business.
    #[error("the directory of `{guest}` cannot be opened: {source}")]
    Broken {
        /// The mount.
        guest: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Volumes {
    pub(crate) fn new(scratch_in: Option<PathBuf>) -> Self {
        Self { scratch_in, scratch: None }
    }

    /// Opens the place that a permission is for.
    pub(crate) fn open(
        &mut self,
        permission: &Permission,
        offers: &Offers,
        tenant: &str,
    ) -> Result<Place, VolumeError> {
        let Capability::Filesystem { access, path } = permission.capability() else {
            return Err(VolumeError::NoFiles(permission.capability().to_string()));
        };
        let mount = offers.mount_of(path, tenant);
        let is_scratch =
            path == SCRATCH || path.strip_prefix(SCRATCH).is_some_and(|rest| rest.starts_with('/'));
        // An operator who mounts something at `/tmp` means it.
        if is_scratch && mount.is_none_or(|mount| mount.guest.len() < SCRATCH.len()) {
            let broken = |source| VolumeError::Broken { guest: SCRATCH.into(), source };
            let directory = self.scratch().map_err(broken)?;
            return Ok(Place {
                guest: SCRATCH.into(),
                directory,
                access: *access,
                below: relative(path, SCRATCH),
            });
        }
        let mount = mount.ok_or_else(|| VolumeError::NotMounted(path.clone()))?;
        Self::open_mount(mount, *access, path)
    }

    /// Opens the mounts that lie below the path of a permission, as far as it goes for them.
    pub(crate) fn open_below(
        permission: &Permission,
        offers: &Offers,
        tenant: &str,
    ) -> Vec<Result<Place, VolumeError>> {
        let Capability::Filesystem { access, path } = permission.capability() else { return Vec::new() };
        let below = offers.mounts_below(path, tenant);
        below.map(|mount| Self::open_mount(mount, *access, &mount.guest)).collect()
    }

    fn open_mount(mount: &Mount, access: FileAccess, path: &str) -> Result<Place, VolumeError> {
        let broken = |source| VolumeError::Broken { guest: mount.guest.clone(), source };
        let Some(access) = common_access(access, mount.access) else {
            return Err(VolumeError::Access {
                guest: mount.guest.clone(),
                offered: mount.access.as_str(),
                asked: access.as_str(),
            });
        };
        let directory = Dir::open_ambient_dir(&mount.host, ambient_authority()).map_err(broken)?;
        Ok(Place { guest: mount.guest.clone(), directory, access, below: relative(path, &mount.guest) })
    }

    /// The scratch directory, made now if there is none.
    fn scratch(&mut self) -> std::io::Result<Dir> {
        if self.scratch.is_none() {
            let mut builder = tempfile::Builder::new();
            builder.prefix("mentat-scratch-");
            let made = match &self.scratch_in {
                Some(place) => builder.tempdir_in(place)?,
                None => builder.tempdir()?,
            };
            self.scratch = Some(Arc::new(made));
        }
        let path = self.scratch.as_ref().map_or(Path::new(""), |scratch| scratch.path());
        Dir::open_ambient_dir(path, ambient_authority())
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        // Removing a full directory takes a while, which is nobody's to wait for.
        if let (Some(scratch), Ok(threads)) = (self.scratch.take(), tokio::runtime::Handle::try_current()) {
            threads.spawn_blocking(move || drop(scratch));
        }
    }
}

impl Place {
    /// The directory that was asked for, as WASI wants it: a path that leads to the open directory, whatever has become
    /// of its name, and the descriptor that keeps it open until then.
    pub(crate) fn into_path(self) -> std::io::Result<(PathBuf, OwnedFd)> {
        let directory = match self.below.as_os_str().is_empty() {
            true => self.directory,
            false => self.directory.open_dir(&self.below)?,
        };
        let directory = OwnedFd::from(directory.into_std_file());
        Ok((PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())), directory))
    }

    /// The guest path that was asked for.
    pub(crate) fn path(&self) -> String {
        match self.below.as_os_str().is_empty() {
            true => self.guest.clone(),
            false => format!("{}/{}", self.guest.trim_end_matches('/'), self.below.display()),
        }
    }
}

fn relative(path: &str, top: &str) -> PathBuf {
    path.strip_prefix(top).unwrap_or(path).trim_start_matches('/').into()
}
