//! Who asks for powers, and how it came to the question: plain values, which policies are evaluated on and which the
//! audit log keeps, so that every decision can be made again from its record alone.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mentat_manifest::{AgentId, AgentVersion, ModuleDigest, RuntimeKind};
use serde::{Deserialize, Serialize};

use crate::model::ExecutionId;

/// The agent of an execution, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The manifest's id.
    pub agent: AgentId,
    /// The manifest's version.
    pub version: AgentVersion,
    /// Of the module that runs, or the image.
    pub module: ModuleDigest,
    /// The module in whose place an image runs: policies must permit to both what it is to have.
    pub in_place_of: Option<ModuleDigest>,
    /// What executes it.
    pub runtime: RuntimeKind,
    /// On whose behalf.
    pub tenant: Arc<str>,
    /// How far its signature is trusted.
    pub trust: Trust,
    /// Who signed it, where somebody did.
    pub signer: Option<Arc<str>>,
}

impl Principal {
    /// The agent as its module would run, where its image does in that one's place.
    #[must_use]
    pub fn replaced(&self) -> Option<Self> {
        let module = self.in_place_of?;
        Some(Self { module, runtime: RuntimeKind::Wasm, in_place_of: None, ..self.clone() })
    }
}

/// How far an agent's signature is trusted, from nothing to everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Nobody signed it, or nobody known.
    #[default]
    Untrusted,
    /// By somebody with a certificate of the operator's roots.
    Signed,
    /// By a known member of a community.
    Community,
    /// By somebody whom the operator vouches for.
    Verified,
}

/// How it came to the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// When it was asked.
    pub time: SystemTime,
    /// In which execution.
    pub execution: ExecutionId,
    /// The name of the credential that the execution was asked for with.
    pub caller: Arc<str>,
    /// The capabilities that the caller left to the execution, where it took some away.
    pub narrowing: Option<Arc<[String]>>,
}

impl Trust {
    /// Every level, the lowest first.
    pub const ALL: [Self; 4] = [Self::Untrusted, Self::Signed, Self::Community, Self::Verified];

    /// Its name in policies, records and replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Signed => "signed",
            Self::Community => "community",
            Self::Verified => "verified",
        }
    }
}

impl Trust {
    /// The level of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
