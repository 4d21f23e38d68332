//! What callers may do with what belongs to their tenant themselves, without an agent: policies speak of agents.

use mentat_manifest::{Capability, MediaAccess};
use serde::{Deserialize, Serialize};

use super::audit::{MediaPart, Record};
use super::authority::Authority;
use super::policy::Permission;
use crate::error::Error;

/// The key by which operators say what callers may do with objects.
const OWN_MEDIA: &str = "media.callers";

/// What callers may do with objects of their tenant themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnMedia {
    /// Store and read.
    #[default]
    ReadWrite,
    /// Read.
    ReadOnly,
    /// Nothing.
    None,
}

impl Authority {
    /// Whether callers may read or store objects of their tenant themselves. What agents may is for policies; what a tenant has
    /// is its own, as far as the operator lets it be reached.
    ///
    /// # Errors
    /// `POLICY_DENIED`.
    pub fn permit_owner(&self, capability: Capability) -> Result<Permission, Error> {
        let is_permitted = match self.rules.own_media {
            OwnMedia::ReadWrite => matches!(capability, Capability::Media { .. }),
            OwnMedia::ReadOnly => matches!(capability, Capability::Media { access: MediaAccess::Read, .. }),
            OwnMedia::None => false,
        };
        if is_permitted {
            return Ok(Permission { capability, policies: vec![OWN_MEDIA.to_owned()] });
        }
        Err(Error::PolicyDenied {
            message: format!("`{capability}` is not for callers here (`{OWN_MEDIA}`)"),
        })
    }

    /// Puts on record what a caller did with an object.
    pub fn record_media(&self, media: MediaPart) {
        if let Some(audit) = &self.audit {
            audit.record(Record::of_media(media));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::cedar::Policies;
    use crate::security::offers::Offers;
    use crate::security::policy::{OnViolation, Rules};

    #[test]
    fn callers_reach_objects_and_nothing_else_as_far_as_the_operator_says() {
        let asked = ["media:read:a.png", "media:write:sha256/", "filesystem:read:/data"];
        for (own_media, expected) in [
            (OwnMedia::ReadWrite, [true, true, false]),
            (OwnMedia::ReadOnly, [true, false, false]),
            (OwnMedia::None, [false; 3]),
        ] {
            let rules = Rules { own_media, ..Rules::default() };
            let (offers, policies) = (Offers::default(), Policies::parse(&[]).unwrap());
            let authority = Authority::new(rules, OnViolation::Deny, offers, policies, None);
            let permitted = asked.map(|text| authority.permit_owner(text.parse().unwrap()).is_ok());
            assert_eq!(permitted, expected, "{own_media:?}");
        }
    }
}
