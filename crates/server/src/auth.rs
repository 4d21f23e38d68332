//! From a client's credential to the caller it stands for: an API key, or the certificate of its connection. Keys are
//! known by their SHA-256 alone and are never logged.

use std::sync::Arc;

use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{AuthConfig, ClientCertificate};
use crate::transport::Peer;

/// Tells whose a credential is.
#[derive(Debug)]
pub struct Authenticator {
    keys: Vec<([u8; 32], Caller)>,
    /// By a name in their certificates.
    clients: Vec<(String, Caller)>,
    /// Who calls where nobody is asked.
    anybody: Caller,
}

impl Authenticator {
    /// Accepts the configured keys, whose digests the configuration has checked, and certificates; everybody where
    /// there are neither.
    #[must_use]
    pub fn new(config: &AuthConfig) -> Self {
        let keys = config.api_keys.iter().filter_map(|key| {
            let mut digest = [0; 32];
            hex::decode_to_slice(&key.sha256, &mut digest).ok()?;
            Some((digest, caller(&key.tenant, &key.name)))
        });
        let by_name = |client: &ClientCertificate| (client.san.clone(), caller(&client.tenant, &client.name));
        let clients = config.clients.iter().map(by_name).collect();
        Self { keys: keys.collect(), clients, anybody: Caller::local() }
    }

    /// The caller behind an `Authorization` header, or behind the certificate of the connection where there is none.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where credentials are configured and this is none of them.
    pub(crate) fn authenticate(
        &self,
        authorization: Option<&str>,
        peer: Option<&Peer>,
    ) -> Result<Caller, Error> {
        if self.keys.is_empty() && self.clients.is_empty() {
            return Ok(self.anybody.clone());
        }
        let refused = |message: &str| Error::Unauthenticated { message: message.into() };
        match (authorization, peer) {
            (Some(authorization), _) => self.by_key(authorization),
            (None, Some(peer)) => self.by_certificate(peer),
            (None, None) if self.keys.is_empty() => Err(refused("this server wants a client certificate")),
            (None, None) => Err(refused("this server wants an API key; send `Authorization: Bearer KEY`")),
        }
    }

    fn by_certificate(&self, peer: &Peer) -> Result<Caller, Error> {
        let client = self.clients.iter().find(|(name, _)| peer.has_name(name));
        client.map(|(_, caller)| caller.clone()).ok_or_else(|| Error::Unauthenticated {
            message: "no subject alternative name of the client certificate is one of `auth.clients`".into(),
        })
    }

    fn by_key(&self, authorization: &str) -> Result<Caller, Error> {
        let refused = |message: &str| Error::Unauthenticated { message: message.into() };
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

fn caller(tenant: &str, name: &str) -> Caller {
    Caller { tenant: Arc::from(tenant), name: Arc::from(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn authenticator() -> Authenticator {
        let sha256 = hex::encode(Sha256::digest(b"right"));
        let key = ApiKey { name: "ci".into(), tenant: "acme".into(), sha256 };
        let client =
            ClientCertificate { name: "bus".into(), tenant: "fleet".into(), san: "bus.example".into() };
        Authenticator::new(&AuthConfig { api_keys: vec![key], clients: vec![client] })
    }

    #[test]
    fn a_known_key_stands_for_its_tenant() {
        let caller = authenticator().authenticate(Some("Bearer right"), None).unwrap();
        assert_eq!((&*caller.tenant, &*caller.name), ("acme", "ci"));
        assert_eq!(authenticator().authenticate(Some("bearer right"), None).unwrap(), caller);
    }

    #[test]
    fn everything_else_is_refused_without_echoing_it() {
        for header in
            [None, Some(""), Some("Bearer"), Some("Bearer wrong"), Some("Basic right"), Some("right")]
        {
            let error = authenticator().authenticate(header, None).unwrap_err();
            assert!(matches!(error, Error::Unauthenticated { .. }));
            assert!(!error.to_string().contains("wrong") && !error.to_string().contains("right"));
        }
    }

    #[test]
    fn a_known_certificate_stands_for_its_tenant() {
        let authenticate =
            |header, names: &[&str]| authenticator().authenticate(header, Some(&Peer::with_names(names)));
        let caller = authenticate(None, &["other.example", "BUS.example"]).unwrap();
        assert_eq!((&*caller.tenant, &*caller.name), ("fleet", "bus"));
        assert!(authenticate(None, &["other.example", "xbus.example"]).is_err());
        // A key counts for more, and a wrong one is not made good by a certificate.
        assert_eq!(&*authenticate(Some("Bearer right"), &["bus.example"]).unwrap().tenant, "acme");
        assert!(authenticate(Some("Bearer wrong"), &["bus.example"]).is_err());
    }

    #[test]
    fn without_credentials_everybody_is_the_local_caller() {
        let open = Authenticator::new(&AuthConfig::default());
        assert_eq!(open.authenticate(None, None).unwrap(), Caller::local());
    }
}
