//! Which user numbers containers get that nobody else has.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The highest number that engines run a program as.
const LAST_USER: u32 = 2_147_483_647;
/// Numbers below are those of the system's own services, on every machine.
const FIRST_USER: u32 = 1_000;

/// The user numbers that containers get, one each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerUsersConfig {
    /// The first of them.
    pub first: u32,
    /// How many they are.
    pub count: u32,
}

impl Default for ContainerUsersConfig {
    /// Above what directories of accounts give out (FreeIPA and SSSD end at 2 000 200 000, ranges of rootless engines and of
    /// systemd at 1 879 048 191), and within what engines take. So many that two servers hardly meet in them.
    fn default() -> Self {
        Self { first: 2_100_000_000, count: 40_000_000 }
    }
}

impl ContainerUsersConfig {
    /// Whether they are enough for so many containers, each with one that is being removed, and are nobody's else; `user` is whom
    /// those run as that have a directory of the operator's.
    ///
    /// # Errors
    /// Where they are not.
    pub(super) fn check(&self, user: u32, containers: u64) -> Result<(), ConfigError> {
        let Self { first, count } = *self;
        let wrong = |text: String| Err(ConfigError(text));
        if first < FIRST_USER {
            return wrong(format!(
                "`container.users.first` is {first}; numbers below {FIRST_USER} are those of the system's services"
            ));
        }
        let end = u64::from(first).saturating_add(u64::from(count));
        if end > u64::from(LAST_USER) + 1 {
            return wrong(format!(
                "`container.users` ends at {}, and engines take no user above {LAST_USER}; begin lower, or have fewer",
                end.saturating_sub(1)
            ));
        }
        let needed = containers.saturating_mul(2);
        if u64::from(count) < needed {
            return wrong(format!(
                "`container.users.count` of {count} is less than {needed}, two for each of `container.max_executions` and \
                 `container.warm.max_containers`: one that is being removed has its own still"
            ));
        }
        if (u64::from(first)..end).contains(&u64::from(user)) {
            return wrong(format!(
                "`container.user` of {user} is one of `container.users`, and has to be a user of its own"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_enough_and_nobodys_else() {
        ContainerUsersConfig::default().check(65_534, 48).unwrap();
        let check = |first, count, user| ContainerUsersConfig { first, count }.check(user, 48);
        let refused = |first, count, user| check(first, count, user).unwrap_err().to_string();
        assert!(refused(999, 100, 65_534).contains("the system's services"));
        check(1_000, 100, 65_534).unwrap();
        assert!(refused(2_147_483_552, 97, 65_534).contains("ends at 2147483648"));
        check(2_147_483_552, 96, 65_534).unwrap();
        assert!(refused(u32::MAX, u32::MAX, 65_534).contains("ends at"));
        assert!(refused(70_000, 95, 65_534).contains("is less than 96, two for each"));
        assert!(refused(70_000, 100, 70_099).contains("a user of its own"));
        check(70_000, 100, 70_100).unwrap();
    }
}
