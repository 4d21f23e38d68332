//! From a client's credential to the caller it stands for. Keys are known by their SHA-256 alone and are
//! never logged.

use std::sync::Arc;

use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::AuthConfig;

/// Tells whose a credential is.
#[derive(Debug)]
pub struct Authenticator {
    keys: Vec<([u8; 32], Caller)>,
}

impl Authenticator {
    /// Accepts the configured keys, whose digests the configuration has checked; everybody where there is none.
    #[must_use]
    pub fn new(config: &AuthConfig) -> Self {
        let keys = config.api_keys.iter().filter_map(|key| {
            let mut digest = [0; 32];
            hex::decode_to_slice(&key.sha256, &mut digest).ok()?;
            let caller =
                Caller { tenant: Arc::from(key.tenant.as_str()), name: Arc::from(key.name.as_str()) };
            Some((digest, caller))
        });
        Self { keys: keys.collect() }
    }

    /// The caller behind an `Authorization` header.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where keys are configured and this is none of them.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, Error> {
        if self.keys.is_empty() {
            return Ok(Caller::local());
        }
        let refused = |message: &str| Error::Unauthenticated { message: message.into() };
        let Some(authorization) = authorization else {
            return Err(refused("this server wants an API key; send `Authorization: Bearer KEY`"));
        };
        let scheme_and_key = authorization.split_once(' ');
        let Some((_, key)) = scheme_and_key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(refused("the `Authorization` header must be `Bearer KEY`"));
        };
        let digest: [u8; 32] = Sha256::digest(key.trim().as_bytes()).into();
        // Every key is compared, so that the time taken tells nothing of where a match is.
        let mut found = None;
        for (known, caller) in &self.keys {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(caller);
            }
        }
        found.cloned().ok_or_else(|| refused("the API key is not one of this server's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn authenticator() -> Authenticator {
        let sha256 = hex::encode(Sha256::digest(b"right"));
        let key = ApiKey { name: "ci".into(), tenant: "acme".into(), sha256 };
        Authenticator::new(&AuthConfig { api_keys: vec![key] })
    }

    #[test]
    fn a_known_key_stands_for_its_tenant() {
        let caller = authenticator().authenticate(Some("Bearer right")).unwrap();
        assert_eq!((&*caller.tenant, &*caller.name), ("acme", "ci"));
        assert_eq!(authenticator().authenticate(Some("bearer right")).unwrap(), caller);
    }

    #[test]
    fn everything_else_is_refused_without_echoing_it() {
        for header in
            [None, Some(""), Some("Bearer"), Some("Bearer wrong"), Some("Basic right"), Some("right")]
        {
            let error = authenticator().authenticate(header).unwrap_err();
            assert!(matches!(error, Error::Unauthenticated { .. }));
            assert!(!error.to_string().contains("wrong") && !error.to_string().contains("right"));
        }
    }

    #[test]
    fn without_keys_everybody_is_the_local_caller() {
        let open = Authenticator::new(&AuthConfig::default());
        assert_eq!(open.authenticate(None).unwrap(), Caller::local());
    }
}
