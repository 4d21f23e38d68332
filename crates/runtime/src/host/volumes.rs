//! The directories of one execution: opened when they are first needed, by a permission and no other way. A guest path
//! lies in the operator's mount with the longest name, or in the scratch directory, which is the execution's own.
//!
//! Invariant: a directory below a mount is reached by way of the mount alone, so that a link inside it leads nowhere else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use mentat_manifest::{Capability, FileAccess, is_at_or_below};
use tempfile::TempDir;

use super::context::HostConfig;
use super::descriptors::Volume;
use super::gate::Gate;
use super::paths::{self, LastLink};
use super::quota::Quota;
use super::scratch;
use crate::security::denial::Denial;
use crate::security::offers::{Mount, Offers, SCRATCH};
use crate::security::policy::{Permission, common_access};

/// The directories of one execution.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    scratch: Option<Arc<TempDir>>,
    /// By guest path of the mount.
    quotas: BTreeMap<String, Quota>,
}

/// A place in a directory of the execution.
#[derive(Debug)]
pub(crate) struct Location {
    /// The guest path of the directory.
    pub(crate) guest: String,
    /// The directory.
    pub(crate) directory: Dir,
    /// What may be done there.
    pub(crate) access: FileAccess,
    /// The rest of the path that was asked for, below the directory; empty for the directory itself.
    pub(crate) below: PathBuf,
    /// What may be added there; `None` where nobody can write.
    pub(crate) quota: Option<Quota>,
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
    /// Opens the place that a permission is for. The host says where scratch directories are made, what may be added where
    /// nothing else is said, and what is known of directories that several share.
    pub(crate) fn open(
        &mut self,
        host: &HostConfig,
        permission: &Permission,
        offers: &Offers,
        tenant: &str,
    ) -> Result<Location, VolumeError> {
        let Capability::Filesystem { access, path } = permission.capability() else {
            return Err(VolumeError::NoFiles(permission.capability().to_string()));
        };
        let mount = offers.mount_of(path, tenant);
        // An operator who mounts something at `/tmp` means it.
        if is_at_or_below(path, SCRATCH) && mount.is_none_or(|mount| mount.guest.len() < SCRATCH.len()) {
            let broken = |source| VolumeError::Broken { guest: SCRATCH.into(), source };
            let directory = self.scratch(host).map_err(broken)?;
            return Ok(Location {
                guest: SCRATCH.into(),
                directory,
                access: *access,
                below: relative(path, SCRATCH),
                quota: Some(self.scratch_quota(host)),
            });
        }
        let mount = mount.ok_or_else(|| VolumeError::NotMounted(path.clone()))?;
        self.open_mount(host, mount, *access, path)
    }

    /// Opens the mounts that lie below the path of a permission, as far as it goes for them.
    pub(crate) fn open_below(
        &mut self,
        host: &HostConfig,
        permission: &Permission,
        offers: &Offers,
        tenant: &str,
    ) -> Vec<Result<Location, VolumeError>> {
        let Capability::Filesystem { access, path } = permission.capability() else { return Vec::new() };
        let below = offers.mounts_below(path, tenant);
        below.map(|mount| self.open_mount(host, mount, *access, &mount.guest)).collect()
    }

    fn open_mount(
        &mut self,
        host: &HostConfig,
        mount: &Mount,
        access: FileAccess,
        path: &str,
    ) -> Result<Location, VolumeError> {
        let broken = |source| VolumeError::Broken { guest: mount.guest.clone(), source };
        let Some(access) = common_access(access, mount.access) else {
            return Err(VolumeError::Access {
                guest: mount.guest.clone(),
                offered: mount.access.as_str(),
                asked: access.as_str(),
            });
        };
        let directory = Dir::open_ambient_dir(&mount.host, ambient_authority()).map_err(broken)?;
        let quota = (mount.access != FileAccess::Read).then(|| self.quota(host, mount));
        Ok(Location {
            guest: mount.guest.clone(),
            directory,
            access,
            below: relative(path, &mount.guest),
            quota,
        })
    }

    fn quota(&mut self, host: &HostConfig, mount: &Mount) -> Quota {
        let (limit, storage) = (mount.quota.unwrap_or(host.sandbox.quota), host.storage.clone());
        let quota = || Quota::new(&mount.guest, limit, storage.clone(), storage.turns(&mount.host));
        self.quotas.entry(mount.guest.clone()).or_insert_with(quota).clone()
    }

    fn scratch_quota(&mut self, host: &HostConfig) -> Quota {
        let (limit, storage) = (host.sandbox.quota, host.storage.clone());
        // Nobody else is there to wait for.
        let quota = || Quota::new(SCRATCH, limit, storage, Arc::default());
        self.quotas.entry(SCRATCH.to_owned()).or_insert_with(quota).clone()
    }

    /// The scratch directory, made now if there is none.
    fn scratch(&mut self, host: &HostConfig) -> std::io::Result<Dir> {
        if self.scratch.is_none() {
            let mut builder = tempfile::Builder::new();
            builder.prefix(scratch::PREFIX);
            let made = match &host.scratch {
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
        if let Some(scratch) = self.scratch.take()
            && let Ok(threads) = tokio::runtime::Handle::try_current()
        {
            threads.spawn_blocking(move || {
                if let Err(error) = scratch::empty(scratch.path()) {
                    tracing::warn!(%error, "a scratch directory cannot be emptied");
                }
            });
        }
    }
}

impl Location {
    /// The directory that was asked for, to be given to a guest whole, and the name that it is given by. Where a file was
    /// asked for, the directory it lies in, in which each thing must then be decided on by itself.
    ///
    /// Links on the way are followed first: a guest that can put a link in the place of a directory must not be given
    /// another directory under the name of the first. What counts is where it lies, and whether it may be opened there.
    ///
    /// # Errors
    /// When it is not there, or may not be opened where it lies.
    pub(crate) fn into_volume(self, gate: &Gate) -> std::io::Result<(String, Volume)> {
        let Self { guest, directory, access, below: mut asked, quota } = self;
        let mut direct = paths::resolve(&directory, &asked, LastLink::Follow)?;
        let is_file = directory.metadata(name_of(&direct))?.is_file();
        if is_file {
            asked.pop();
            direct = paths::resolve(&directory, &asked, LastLink::Follow)?;
        }
        let of = |path: String| Capability::Filesystem { access, path };
        let place = of(paths::join_guest(&guest, &direct));
        if !is_file && direct != asked {
            let denied = |denial: Denial| std::io::Error::other(denial.to_string());
            gate.decide(&place).map_err(denied)?;
        }
        let alike = !is_file && gate.grant().decides_alike_below(&place);
        let links = !is_file && gate.grant().decides_alike_below(&of(guest.clone()));
        let root = Arc::new(paths::open_direct(&directory, &direct)?);
        let name = paths::join_guest(&guest, &asked);
        let guest = paths::join_guest(&guest, &direct);
        Ok((name, Volume { guest, root, access, quota, alike, links }))
    }

    /// The guest path that was asked for.
    pub(crate) fn path(&self) -> String {
        paths::join_guest(&self.guest, &self.below)
    }

    /// What was asked for, as the directory knows it.
    pub(crate) fn name(&self) -> &Path {
        name_of(&self.below)
    }
}

/// A path below a directory, as the directory itself knows it.
pub(crate) fn name_of(below: &Path) -> &Path {
    if below.as_os_str().is_empty() { Path::new(".") } else { below }
}

fn relative(path: &str, top: &str) -> PathBuf {
    path.strip_prefix(top).unwrap_or(path).trim_start_matches('/').into()
}
