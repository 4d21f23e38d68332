//! The container of one execution in the engine's words: a sandbox, and what every container is kept from. Pure.
//!
//! Invariant: what is not given here, the engine would decide by its own defaults; so everything is said that opens or
//! bounds anything.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};
use mentat_manifest::{FileAccess, MilliCpus};

use super::sandbox::{Sandbox, Scratch};
use crate::config::ContainerSection;

/// Processes of a container's user in all containers together; those of one are bounded by `container.pids`. The engine's
/// own default can be more than it may give.
const MAX_USER_PROCESSES: i64 = 4_096;
/// Bytes of the memory that processes of one container share by name.
const SHARED_MEMORY_BYTES: i64 = 16 << 20;
/// Billionths of a processor in a thousandth.
const NANO_CPUS: i64 = 1_000_000;
/// Directories that engines make writable by themselves in a container that is otherwise read-only.
const ENGINE_DIRECTORIES: [&str; 2] = ["/run", "/var/tmp"];
/// How those are mounted instead.
const NOTHING_WRITABLE: &str = "ro,nosuid,nodev,noexec,size=64k,mode=755";
const SCRATCH: &str = "/tmp";

/// The container for a sandbox: an image by its id, and the labels that it is known by.
pub(super) fn container(
    image: String,
    sandbox: &Sandbox,
    cpus: MilliCpus,
    section: &ContainerSection,
    labels: HashMap<String, String>,
) -> ContainerCreateBody {
    let host = host(sandbox, cpus, section);
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
        // Its image may ask for programs that look after it; nobody looks at what they say.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        stop_timeout: Some(0),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

fn host(sandbox: &Sandbox, cpus: MilliCpus, section: &ContainerSection) -> HostConfig {
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
        // With the engine's own list of system calls, which is what holds where nothing is said.
        security_opt: Some(vec!["no-new-privileges".into()]),
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
        shm_size: Some(SHARED_MEMORY_BYTES.min(memory)),
        tmpfs: Some(directories(sandbox, section)),
        mounts: Some(sandbox.mounts.iter().map(|(guest, bind)| mount(guest, bind)).collect()),
        // What it writes is read as it is written; the engine keeps no copy on disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        auto_remove: Some(false),
        ..HostConfig::default()
    }
}

fn directories(sandbox: &Sandbox, section: &ContainerSection) -> HashMap<String, String> {
    let nothing = ENGINE_DIRECTORIES.map(|directory| (directory.to_owned(), NOTHING_WRITABLE.to_owned()));
    let mut directories = HashMap::from(nothing);
    let scratch = match sandbox.scratch {
        Scratch::None => NOTHING_WRITABLE.to_owned(),
        Scratch::Writable => format!("rw,nosuid,nodev,noexec,size={},mode=1777", section.tmp.0),
    };
    directories.insert(SCRATCH.into(), scratch);
    // What the operator mounts there is meant.
    directories.retain(|directory, _| !sandbox.mounts.contains_key(directory));
    directories
}

fn mount(guest: &str, bind: &super::sandbox::Bind) -> Mount {
    Mount {
        target: Some(guest.into()),
        source: Some(bind.host.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(bind.access == FileAccess::Read),
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

    fn made(scratch: Scratch) -> ContainerCreateBody {
        let bind = |access| Bind { host: "/srv/x".into(), access };
        let sandbox = Sandbox {
            limits: Limits { memory_bytes: ByteCount(64 << 20), ..Limits::DEFAULT },
            env: BTreeMap::from([("A".into(), "b=c".into())]),
            mounts: BTreeMap::from([
                ("/in".into(), bind(FileAccess::Read)),
                ("/work".into(), bind(FileAccess::ReadWrite)),
            ]),
            scratch,
        };
        let section = ContainerSection::default();
        container("sha256:1".into(), &sandbox, MilliCpus(250), &section, HashMap::new())
    }

    #[test]
    fn everything_that_bounds_a_container_is_said() {
        let made = made(Scratch::None);
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
        let none = made(Scratch::None).host_config.unwrap().tmpfs.unwrap();
        assert!(none.values().all(|how| how.starts_with("ro,")), "{none:?}");
        assert_eq!(none.len(), 3);
        let some = made(Scratch::Writable).host_config.unwrap().tmpfs.unwrap();
        assert!(some[SCRATCH].starts_with("rw,nosuid,nodev,noexec,size=67108864"), "{some:?}");
        assert!(some["/run"].starts_with("ro,"));
    }
}
