//! The engine that runs container agents: where it listens, what of its images may be used, and what a container may have.

use std::path::PathBuf;

use mentat_manifest::{ByteCount, MIN_CONTAINER_MEMORY, MilliCpus, escape_untrusted};
use mentat_runtime::security::policy::Rules;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::container_users::ContainerUsersConfig;
use super::warm_containers::WarmContainersConfig;

/// The engine that runs container agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSection {
    /// The engine's socket; empty for no containers.
    pub socket: PathBuf,
    /// Whether the image of an agent is executed whose module cannot run here.
    pub fallback: bool,
    /// Beginnings of the names of images that agents may have; empty for all that the engine has.
    pub images: Vec<String>,
    /// What happens where the engine has not the image.
    pub pull: PullPolicy,
    /// Milliseconds that a pull may take.
    pub pull_ms: u64,
    /// Milliseconds that the engine may take for a step of making a container, or of removing it.
    pub engine_ms: u64,
    /// Containers at one time.
    pub max_executions: u32,
    /// Memory of an agent whose manifest says nothing.
    pub memory: ByteCount,
    /// Processors of an agent whose manifest says nothing.
    pub cpus: MilliCpus,
    /// Processors that a manifest can ask for at most.
    pub max_cpus: MilliCpus,
    /// Processes and threads of one container.
    pub pids: u32,
    /// Files that one process of it may have open.
    pub open_files: u32,
    /// Bytes of `/tmp`.
    pub tmp: ByteCount,
    /// Whom programs run as that have a directory of the operator's, `USER:GROUP` in numbers; the group is that of all.
    pub user: String,
    /// Whom all others run as, each as somebody else.
    pub users: ContainerUsersConfig,
    /// Those that are kept for agents that read many inputs.
    pub warm: WarmContainersConfig,
}

/// What happens where the engine has not the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// The agent is refused.
    Never,
    /// The engine fetches it.
    Missing,
}

impl Default for ContainerSection {
    fn default() -> Self {
        Self {
            socket: PathBuf::new(),
            fallback: true,
            images: Vec::new(),
            pull: PullPolicy::Never,
            pull_ms: 600_000,
            engine_ms: 30_000,
            max_executions: 32,
            memory: Rules::default().container_memory,
            cpus: MilliCpus(1_000),
            max_cpus: MilliCpus(4_000),
            pids: 128,
            open_files: 1_024,
            tmp: ByteCount(64 << 20),
            user: "65534:65534".into(),
            users: ContainerUsersConfig::default(),
            warm: WarmContainersConfig::default(),
        }
    }
}

impl ContainerSection {
    /// Whether there is an engine.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.socket.as_os_str().is_empty()
    }

    /// The numbers of `user`: the user and the group; `None` where it is root or no number.
    #[must_use]
    pub fn user_and_group(&self) -> Option<(u32, u32)> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
        let (user, group) = self.user.split_once(':')?;
        Some((number(user)?, number(group)?))
    }

    /// Checks it, with the memory that agents have at most.
    ///
    /// # Errors
    /// For a user that is root or no number, users that are others' or too few, limits of nothing or of less than a container
    /// can be made with, and images from anywhere.
    pub(super) fn check(&self, ceiling: ByteCount) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError(text));
        let Some((user, _)) = self.user_and_group() else {
            let user = escape_untrusted(&self.user, 64);
            return wrong(format!(
                "`container.user` is `{user}`; it must be a user and a group as numbers, neither of them 0, such as \
                 `65534:65534`"
            ));
        };
        let containers = u64::from(self.max_executions) + u64::from(self.warm.max_containers);
        self.users.check(user, containers)?;
        if self.cpus > self.max_cpus {
            return wrong(format!(
                "`container.cpus` of {} is over `container.max_cpus` of {}",
                self.cpus, self.max_cpus
            ));
        }
        let memory = [("container.memory", self.memory), ("limits.ceiling.memory", ceiling)];
        if let Some((name, bytes)) = memory.into_iter().find(|(_, bytes)| *bytes < MIN_CONTAINER_MEMORY)
            && self.is_given()
        {
            return wrong(format!(
                "`{name}` of {bytes} is less than {MIN_CONTAINER_MEMORY}, without which no engine makes a container"
            ));
        }
        let limits = [
            ("max_executions", u64::from(self.max_executions)),
            ("pids", u64::from(self.pids)),
            ("open_files", u64::from(self.open_files)),
            ("engine_ms", self.engine_ms),
            // Without a size it would have no bound of its own.
            ("tmp", self.tmp.0),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, value)| *value == 0) {
            return wrong(format!("`container.{name}` must be at least 1"));
        }
        if self.pull == PullPolicy::Missing && self.images.is_empty() {
            return wrong(
                "`container.pull` fetches images, and `container.images` does not say which; list the registries that \
                 agents may come from, such as `harbor.lan/agents`"
                    .into(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_open_more_than_meant_is_refused() {
        let ceiling = ByteCount(1 << 30);
        let refused = |section: ContainerSection| section.check(ceiling).unwrap_err().to_string();
        let section = ContainerSection::default;
        for user in ["0:0", "1000:0", "0:1000", "nobody", "1000", "-1:5", ""] {
            assert!(
                refused(ContainerSection { user: user.into(), ..section() }).contains("`container.user`")
            );
        }
        let pulls = ContainerSection { pull: PullPolicy::Missing, ..section() };
        assert!(refused(pulls.clone()).contains("`container.images`"));
        ContainerSection { images: vec!["harbor.lan/agents".into()], ..pulls }.check(ceiling).unwrap();
        assert!(refused(ContainerSection { cpus: MilliCpus(5_000), ..section() }).contains("is over"));
        assert!(refused(ContainerSection { pids: 0, ..section() }).contains("`container.pids`"));
        assert!(refused(ContainerSection { tmp: ByteCount(0), ..section() }).contains("`container.tmp`"));
        let few = ContainerUsersConfig { count: 95, ..ContainerUsersConfig::default() };
        assert!(refused(ContainerSection { users: few, ..section() }).contains("`container.users.count`"));
        section().check(ceiling).unwrap();
    }

    #[test]
    fn an_engine_is_not_asked_for_less_memory_than_it_makes_a_container_with() {
        let given = ContainerSection { socket: "/run/x.sock".into(), ..ContainerSection::default() };
        let little = ContainerSection { memory: ByteCount(6_291_455), ..given.clone() };
        let refused = little.check(ByteCount(1 << 30)).unwrap_err().to_string();
        assert!(refused.contains("`container.memory` of 6291455 bytes is less than 6MB"), "{refused}");
        let refused = given.check(ByteCount(1 << 20)).unwrap_err().to_string();
        assert!(refused.contains("`limits.ceiling.memory` of 1MB is less than 6MB"), "{refused}");
        ContainerSection::default().check(ByteCount(1 << 20)).unwrap();
    }
}
