//! The container of one execution in the engine's words: a sandbox, and what every container is kept from. Pure.
//!
//! Invariant: what is not given here, the engine would decide by its own defaults; so everything is said that opens or
//! bounds anything.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};
use mentat_manifest::{FileAccess, MilliCpus, is_at_or_below};

use super::engine::EngineKind;
use super::files::PlainFiles;
use super::sandbox::{Sandbox, Scratch};
use super::system_calls;
use crate::config::ContainerSection;

/// Processes of a container's user, who is that of several where those have directories of the operator's; those of one are
/// bounded by `container.pids`. The engine's own default can be more than it may give.
const MAX_USER_PROCESSES: i64 = 4_096;
/// Bytes of the memory that processes of one container share by name.
const SHARED_MEMORY_BYTES: i64 = 16 << 20;
/// Billionths of a processor in a thousandth.
const NANO_CPUS: i64 = 1_000_000;
/// Directories that engines make writable by themselves in a container that is otherwise read-only. Message queues are files
/// in memory that is nobody's limit.
const ENGINE_DIRECTORIES: [&str; 3] = ["/run", "/var/tmp", "/dev/mqueue"];
/// How those are mounted instead.
const NOTHING_WRITABLE: &str = "ro,nosuid,nodev,noexec,size=64k,mode=755";
const SCRATCH: &str = "/tmp";

/// What all containers of a server have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) section: &'a ContainerSection,
    pub(super) files: &'a PlainFiles,
    pub(super) kind: EngineKind,
}

/// The container for a sandbox: an image by its id, and the labels that it is known by. It runs as `container.user`, unless
/// who has it made knows somebody better.
pub(super) fn container(
    image: String,
    sandbox: &Sandbox,
    cpus: MilliCpus,
    surroundings: Surroundings<'_>,
    labels: HashMap<String, String>,
) -> ContainerCreateBody {
    let section = surroundings.section;
    let host = host(sandbox, cpus, surroundings);
    ContainerCreateBody {
        image: Some(image),
        hostname: Some("agent".into()),
        user: Some(section.user.clone()),
        env: Some(sandbox.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        network_disabled: Some(true),
        stop_timeout: Some(0),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

fn host(sandbox: &Sandbox, cpus: MilliCpus, surroundings: Surroundings<'_>) -> HostConfig {
    let section = surroundings.section;
    let memory = i64::try_from(sandbox.limits.memory_bytes.0).unwrap_or(i64::MAX);
    let limit = |name: &str, value: i64| ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(value),
        hard: Some(value),
    };
    HostConfig {
        network_mode: Some("none".into()),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(security(surroundings)),
        memory: Some(memory),
        // No more with swap than without.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(cpus.0).saturating_mul(NANO_CPUS)),
        pids_limit: Some(i64::from(section.pids)),
        ulimits: Some(vec![
            limit("nofile", i64::from(section.open_files)),
            limit("nproc", MAX_USER_PROCESSES),
            limit("core", 0),
        ]),
        // Memory by name is a place for files as well: `/dev/shm`.
        ipc_mode: Some(match sandbox.scratch {
            Scratch::None => "none".into(),
            Scratch::Writable => "private".into(),
        }),
        shm_size: (sandbox.scratch == Scratch::Writable).then(|| SHARED_MEMORY_BYTES.min(memory)),
        tmpfs: Some(directories(sandbox, surroundings)),
        mounts: Some(mounts(sandbox, surroundings.files)),
        // What it writes is read as it is written; the engine keeps no copy on disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        auto_remove: Some(false),
        ..HostConfig::default()
    }
}

fn security(surroundings: Surroundings<'_>) -> Vec<String> {
    let profile = match (surroundings.kind, surroundings.files.profile()) {
        // Podman takes it by its name, Docker by what is in it.
        (EngineKind::Podman, Some(path)) => Some(path.to_string_lossy().into_owned()),
        (EngineKind::Docker, Some(_)) => Some(system_calls::profile().to_string()),
        (_, None) => None,
    };
    let profile = profile.map(|profile| format!("seccomp={profile}"));
    std::iter::once("no-new-privileges".to_owned()).chain(profile).collect()
}

fn directories(sandbox: &Sandbox, surroundings: Surroundings<'_>) -> HashMap<String, String> {
    // Podman copies what the image has there, which may be more than there is room for.
    let empty = match surroundings.kind {
        EngineKind::Podman => ",notmpcopyup",
        EngineKind::Docker => "",
    };
    let nothing =
        ENGINE_DIRECTORIES.map(|directory| (directory.to_owned(), format!("{NOTHING_WRITABLE}{empty}")));
    let mut directories = HashMap::from(nothing);
    let scratch = match sandbox.scratch {
        Scratch::None => format!("{NOTHING_WRITABLE}{empty}"),
        Scratch::Writable => {
            format!("rw,nosuid,nodev,noexec,size={},mode=1777{empty}", surroundings.section.tmp.0)
        }
    };
    directories.insert(SCRATCH.into(), scratch);
    // What the operator mounts there is meant.
    directories.retain(|directory, _| !sandbox.mounts.contains_key(directory));
    directories
}

/// What is mounted: the operator's directories, and our files in place of the engine's where those leave room for them.
fn mounts(sandbox: &Sandbox, files: &PlainFiles) -> Vec<Mount> {
    let directories = sandbox.mounts.iter().map(|(guest, bind)| mount(guest, &bind.host, bind.access));
    let is_free = |guest: &str| !sandbox.mounts.keys().any(|mounted| is_at_or_below(guest, mounted));
    let files = files.iter().filter(|(guest, _)| is_free(guest));
    directories.chain(files.map(|(guest, host)| mount(guest, host, FileAccess::Read))).collect()
}

fn mount(guest: &str, host: &Path, access: FileAccess) -> Mount {
    Mount {
        target: Some(guest.into()),
        source: Some(host.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(access == FileAccess::Read),
        bind_options: Some(MountBindOptions {
            // What is mounted later on either side is not seen on the other.
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mentat_manifest::{ByteCount, Limits};

    use super::super::sandbox::Bind;
    use super::*;

    fn made(scratch: Scratch, kind: EngineKind) -> ContainerCreateBody {
        let bind = |access| Bind { host: "/srv/x".into(), access };
        let sandbox = Sandbox {
            limits: Limits { memory_bytes: ByteCount(64 << 20), ..Limits::DEFAULT },
            env: BTreeMap::from([("A".into(), "b=c".into())]),
            mounts: BTreeMap::from([
                ("/in".into(), bind(FileAccess::Read)),
                ("/work".into(), bind(FileAccess::ReadWrite)),
            ]),
            scratch,
            network: Vec::new(),
        };
        let (section, files) = (ContainerSection::default(), PlainFiles::default());
        let surroundings = Surroundings { section: &section, files: &files, kind };
        container("sha256:1".into(), &sandbox, MilliCpus(250), surroundings, HashMap::new())
    }

    #[test]
    fn everything_that_bounds_a_container_is_said() {
        let made = made(Scratch::None, EngineKind::Docker);
        let host = made.host_config.unwrap();
        assert_eq!((made.user.as_deref(), host.network_mode.as_deref()), (Some("65534:65534"), Some("none")));
        assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((host.nano_cpus, host.pids_limit), (Some(250_000_000), Some(128)));
        assert!(host.cap_add.is_none() && host.devices.is_none() && host.binds.is_none());
        let modes: Vec<Option<bool>> = host.mounts.unwrap().iter().map(|mount| mount.read_only).collect();
        assert_eq!(modes, [Some(true), Some(false)]);
        assert_eq!(made.env.unwrap(), ["A=b=c"]);
    }

    #[test]
    fn nothing_can_be_written_but_a_scratch_directory_that_was_granted() {
        let host = made(Scratch::None, EngineKind::Podman).host_config.unwrap();
        assert_eq!((host.ipc_mode.as_deref(), host.shm_size), (Some("none"), None));
        let none = host.tmpfs.unwrap();
        assert!(none.values().all(|how| how.starts_with("ro,") && how.ends_with(",notmpcopyup")), "{none:?}");
        assert_eq!(none.len(), 4);
        let host = made(Scratch::Writable, EngineKind::Docker).host_config.unwrap();
        assert_eq!((host.ipc_mode.as_deref(), host.shm_size), (Some("private"), Some(16 << 20)));
        let some = host.tmpfs.unwrap();
        assert!(some.values().all(|how| !how.contains("notmpcopyup")), "Docker knows it not: {some:?}");
        assert!(some[SCRATCH].starts_with("rw,nosuid,nodev,noexec,size=67108864"), "{some:?}");
        assert!(some["/run"].starts_with("ro,"));
    }
}
