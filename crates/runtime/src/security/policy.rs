//! The one authority: manifest, caller and operator's rules in, a [`Grant`] or a refusal out. Pure.
//!
//! Invariant: only this module makes a `Grant`, and an instance can only be made from one.

use std::path::PathBuf;

use mentat_manifest::{ByteCount, Limits, LimitsRequest, Manifest};

use crate::error::Error;

/// What the operator allows every agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The budget of an agent whose manifest names none.
    pub defaults: Limits,
    /// The budget that no manifest can exceed.
    pub ceiling: Limits,
    /// Bytes of an execution's input at most.
    pub max_input: ByteCount,
}

/// What a user on the command line gives a WASI command, beyond what its manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPowers {
    /// Directories the guest may open.
    pub mounts: Vec<Mount>,
    /// Environment variables the guest sees.
    pub env: Vec<(String, String)>,
    /// Arguments after the program's name.
    pub args: Vec<String>,
}

/// A host directory as a guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it lies on the host.
    pub host: PathBuf,
    /// Where the guest finds it: an absolute path.
    pub guest: String,
    /// What the guest may do there.
    pub access: MountAccess,
}

/// What a guest may do in a mounted directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountAccess {
    /// Look, but not change.
    ReadOnly,
    /// Look and change.
    ReadWrite,
}

/// The powers and the budget of one execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    limits: Limits,
    powers: UserPowers,
}

impl Default for Rules {
    fn default() -> Self {
        Self { defaults: Limits::DEFAULT, ceiling: Limits::CEILING, max_input: ByteCount(256 << 20) }
    }
}

impl Grant {
    /// The budget of the execution.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the sandbox is made from.
    #[must_use]
    pub fn powers(&self) -> &UserPowers {
        &self.powers
    }
}

impl Rules {
    /// The budget of an agent by its manifest; its executions can only be narrower.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the manifest asks for more than the operator's ceiling.
    pub fn budget(&self, manifest: Option<&Manifest>) -> Result<Limits, Error> {
        let request = manifest.map(Manifest::limits_request).unwrap_or_default();
        Limits::resolve(&self.defaults, &request, &self.ceiling)
            .map_err(|error| Error::InvalidRequest { message: error.to_string() })
    }

    /// Decides on an execution of an agent in the service: the manifest's budget, narrowed by
    /// everything in `narrowing`, and no powers beyond clocks, randomness and its own input and output.
    ///
    /// # Errors
    /// As [`Rules::budget`].
    pub fn decide(&self, manifest: &Manifest, narrowing: &[LimitsRequest]) -> Result<Grant, Error> {
        let budget = self.budget(Some(manifest))?;
        let limits = narrowing.iter().fold(budget, |limits, request| limits.narrow(request));
        Ok(Grant { limits, powers: UserPowers::default() })
    }

    /// Decides on an execution that a user starts on their own machine: they are the operator, so
    /// they may raise the budget up to the ceiling and give what powers they like.
    ///
    /// # Errors
    /// As [`Rules::budget`], and when the user's own limits exceed the ceiling.
    pub fn decide_for_user(
        &self,
        manifest: Option<&Manifest>,
        limits: &LimitsRequest,
        powers: UserPowers,
    ) -> Result<Grant, Error> {
        let budget = self.budget(manifest)?;
        let limits = Limits::resolve(&budget, limits, &self.ceiling)
            .map_err(|error| Error::InvalidRequest { message: error.to_string() })?;
        Ok(Grant { limits, powers })
    }
}

#[cfg(test)]
mod tests {
    use mentat_manifest::Fuel;

    use super::*;

    fn fuel(fuel: u64) -> LimitsRequest {
        LimitsRequest { fuel: Some(Fuel(fuel)), ..LimitsRequest::default() }
    }

    fn manifest() -> Manifest {
        Manifest::parse("id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\nwasm: { fuel: 5000 }\n")
            .unwrap()
    }

    #[test]
    fn a_caller_can_only_take_away() {
        let rules = Rules::default();
        let lower = rules.decide(&manifest(), &[fuel(100)]).unwrap();
        assert_eq!(lower.limits().fuel, Fuel(100));
        let higher = rules.decide(&manifest(), &[fuel(1_000_000)]).unwrap();
        assert_eq!(higher.limits().fuel, Fuel(5000));
    }

    #[test]
    fn a_user_may_raise_the_budget_up_to_the_ceiling() {
        let rules = Rules::default();
        let raised =
            rules.decide_for_user(Some(&manifest()), &fuel(1_000_000), UserPowers::default()).unwrap();
        assert_eq!(raised.limits().fuel, Fuel(1_000_000));
        let over = rules.decide_for_user(None, &fuel(u64::MAX), UserPowers::default());
        assert!(matches!(over, Err(Error::InvalidRequest { .. })));
    }

    #[test]
    fn a_service_gives_no_powers_of_its_own() {
        let grant = Rules::default().decide(&manifest(), &[]).unwrap();
        assert_eq!(grant.powers(), &UserPowers::default());
    }
}
