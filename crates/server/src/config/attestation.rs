//! Whose signatures count: the section of the configuration, and what is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDate, NaiveTime};
use mentat_attestation::{MissingCrl, Options, StaleCrl, is_written_name};
use mentat_manifest::{AgentId, AgentVersion, escape_untrusted};
use mentat_runtime::security::attestation::{AttestationMode, AttestationRules, MinimumVersion, TrustRule};
use mentat_runtime::security::principal::Trust;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The most that a signer's clock may be ahead: who is further off has no clock.
const MAX_CLOCK_SKEW_MS: u64 = 24 * 60 * 60 * 1_000;
/// Characters of an organisation; of longer names none is read.
const MAX_ORGANISATION_CHARS: usize = 256;
/// `anyPolicy` (RFC 5280, section 4.2.1.4), which says nothing of a signer.
const ANY_POLICY: &str = "2.5.29.32.0";

/// Whose signatures count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttestationSection {
    /// Whether agents must be signed.
    pub mode: AttestationMode,
    /// The same for single tenants.
    pub tenants: Vec<TenantMode>,
    /// From when on unsigned agents are refused; empty for from the start.
    pub enforce_from: String,
    /// Files and folders of root certificates.
    pub roots: Vec<PathBuf>,
    /// Files and folders of revocation lists.
    pub crls: Vec<PathBuf>,
    /// What becomes of certificates whose issuer's list is overdue.
    pub stale_crl: Doubt,
    /// What becomes of certificates whose issuer has no list here.
    pub missing_crl: Doubt,
    /// Milliseconds that a signer's clock may be ahead.
    pub clock_skew_ms: u64,
    /// Milliseconds between two looks at the files.
    pub reload_ms: u64,
    /// Who is trusted further than that.
    pub trust: Vec<TrustConfig>,
    /// Versions that agents must have at least.
    pub minimum_versions: Vec<MinimumVersionConfig>,
}

/// Whether a tenant's agents must be signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantMode {
    /// The tenant.
    pub tenant: String,
    /// Whether they must.
    pub mode: AttestationMode,
}

/// What is done where nobody can say for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doubt {
    /// It is refused.
    Refuse,
    /// It is taken for good.
    Accept,
}

/// How far signers are trusted that are all of what is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustConfig {
    /// How far.
    pub level: Trust,
    /// The certificate's email address, or `*@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The certificate's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The organisation in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// The object identifier of a certificate policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The fingerprint of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// A version that an agent must have at least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumVersionConfig {
    /// The agent.
    pub agent: AgentId,
    /// The version.
    pub version: AgentVersion,
    /// The tenants that this is for; everybody where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
}

impl Default for AttestationSection {
    fn default() -> Self {
        let Options { clock_skew, .. } = Options::default();
        Self {
            mode: AttestationMode::default(),
            tenants: Vec::new(),
            enforce_from: String::new(),
            roots: Vec::new(),
            crls: Vec::new(),
            stale_crl: Doubt::Refuse,
            missing_crl: Doubt::Accept,
            clock_skew_ms: super::sections::milliseconds(clock_skew),
            reload_ms: 1_000,
            trust: Vec::new(),
            minimum_versions: Vec::new(),
        }
    }
}

impl AttestationSection {
    /// The operator's rules.
    ///
    /// # Errors
    /// For a date that is none, a tenant given twice, a rule that fits everybody or nobody, a demand that no agent could meet, and
    /// what is given and would do nothing.
    pub fn rules(&self) -> Result<AttestationRules, ConfigError> {
        let mut tenants = BTreeMap::new();
        for TenantMode { tenant, mode } in &self.tenants {
            if tenants.insert(tenant.clone(), *mode).is_some() {
                return Err(wrong("tenants", &format!("`{}` is given twice", escape_untrusted(tenant, 64))));
            }
        }
        let is_required = self
            .tenants
            .iter()
            .map(|one| one.mode)
            .chain([self.mode])
            .any(|mode| mode == AttestationMode::Required);
        let (enforce_from, trust) = (
            date(&self.enforce_from)?,
            self.trust.iter().map(TrustConfig::rule).collect::<Result<Vec<_>, _>>()?,
        );
        if self.clock_skew_ms > MAX_CLOCK_SKEW_MS {
            return Err(wrong(
                "clock_skew_ms",
                &format!(
                    "{} is more than a day ({MAX_CLOCK_SKEW_MS}), so that signatures of tomorrow would hold today; a minute is \
                     enough where clocks are set",
                    self.clock_skew_ms
                ),
            ));
        }
        if enforce_from.is_some() && !is_required {
            return Err(wrong(
                "enforce_from",
                "nothing is enforced from then on, since nobody's agents must be signed; set `attestation.mode = \
                 \"required\"`, or leave the date out",
            ));
        }
        if self.roots.is_empty() {
            const WHOSE: &str = "give the certificates of those who certify your signers";
            let why = if is_required {
                "agents must be signed (`attestation.mode`), so that none could be loaded"
            } else if !trust.is_empty() {
                "nobody can be trusted further without them (`attestation.trust`)"
            } else if !self.crls.is_empty() {
                "nothing is verified without them, so that nobody is refused for a revocation (`attestation.crls`)"
            } else {
                ""
            };
            if !why.is_empty() {
                return Err(wrong("roots", &format!("none are given, and {why}; {WHOSE}")));
            }
        }
        let minimum = |one: &MinimumVersionConfig| MinimumVersion {
            agent: one.agent.clone(),
            version: one.version.clone(),
            tenants: one.tenants.clone(),
        };
        Ok(AttestationRules {
            mode: self.mode,
            tenants,
            enforce_from,
            trust,
            minimum_versions: self.minimum_versions.iter().map(minimum).collect(),
        })
    }

    /// That each tenant that is named has credentials by which somebody is of it: `tenants` are all that have. A misspelt one
    /// would leave the tenant that is meant to the rules for everybody.
    ///
    /// # Errors
    /// For one that nobody is of.
    pub(super) fn check_tenants(&self, tenants: &BTreeSet<String>) -> Result<(), ConfigError> {
        let modes = self.tenants.iter().map(|one| ("tenants", &one.tenant));
        let minimums = self.minimum_versions.iter().flat_map(|one| &one.tenants);
        for (key, tenant) in modes.chain(minimums.map(|tenant| ("minimum_versions", tenant))) {
            if !tenants.contains(tenant) {
                let known: Vec<String> =
                    tenants.iter().map(|tenant| format!("`{}`", escape_untrusted(tenant, 64))).collect();
                return Err(wrong(
                    key,
                    &format!(
                        "nobody is of the tenant `{}`; by the credentials under `auth` there are {}",
                        escape_untrusted(tenant, 64),
                        escape_untrusted(&known.join(", "), 500)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// How strictly signatures are verified.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            clock_skew: Duration::from_millis(self.clock_skew_ms),
            stale_crl: match self.stale_crl {
                Doubt::Refuse => StaleCrl::Refuse,
                Doubt::Accept => StaleCrl::Accept,
            },
            missing_crl: match self.missing_crl {
                Doubt::Refuse => MissingCrl::Refuse,
                Doubt::Accept => MissingCrl::Accept,
            },
        }
    }
}

impl TrustConfig {
    fn rule(&self) -> Result<TrustRule, ConfigError> {
        let Self { level, email, subject, organisation, policy, root } = self;
        if *level <= Trust::Signed {
            return Err(wrong(
                "trust",
                &format!(
                    "a rule for `{level}` does nothing: whoever has a valid certificate is `signed`; the levels are \
                          `community` and `verified`"
                ),
            ));
        }
        if [email, subject, organisation, policy, root].iter().all(|condition| condition.is_none()) {
            return Err(wrong(
                "trust",
                &format!(
                    "the rule for `{level}` fits everybody; give it an `email`, `subject`, `organisation`, `policy` or \
                          `root`"
                ),
            ));
        }
        let fits = |what: &str, value: &Option<String>, is: fn(&str) -> bool, such: &str| match value {
            Some(value) if !is(value) => {
                Err(wrong("trust", &format!("`{}` is no {what}; write {such}", escape_untrusted(value, 100))))
            }
            _ => Ok(()),
        };
        fits("email address", email, is_email, "`dev@example.com`, or `*@example.com` for all of a domain")?;
        fits(
            "subject as certificates are compared by",
            subject,
            is_written_name,
            "all of it as `mentat verify` prints it, such as `CN=dev,O=Example`",
        )?;
        fits(
            "organisation",
            organisation,
            is_organisation,
            "it as the certificates have it, such as `Example`",
        )?;
        fits("object identifier of a policy", policy, is_policy, "one such as `1.3.6.1.4.1.55555.1`")?;
        fits("fingerprint", root, is_fingerprint, "`sha256:` and 64 digits, as `mentat verify` prints")?;
        Ok(TrustRule {
            level: *level,
            email: email.clone(),
            subject: subject.clone(),
            organisation: organisation.clone(),
            policy: policy.clone(),
            root: root.clone(),
        })
    }
}

/// An address that a certificate can have, or `*@` and its domain.
fn is_email(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_local = |local: &str| {
        local == "*"
            || (!local.is_empty()
                && local.bytes().all(|byte| byte.is_ascii_graphic() && !b"*@".contains(&byte)))
    };
    text.rsplit_once('@').is_some_and(|(local, domain)| is_local(local) && domain.split('.').all(is_label))
}

/// One that a certificate can have: names that cannot be shown are taken from none.
fn is_organisation(text: &str) -> bool {
    !text.trim().is_empty() && escape_untrusted(text, MAX_ORGANISATION_CHARS) == text
}

/// An object identifier (ITU-T X.660) that is a policy: what stands for any policy is none.
fn is_policy(text: &str) -> bool {
    let is_number = |arc: &&str| {
        !arc.is_empty()
            && arc.bytes().all(|byte| byte.is_ascii_digit())
            && (*arc == "0" || !arc.starts_with('0'))
    };
    let arcs: Vec<&str> = text.split('.').collect();
    let begins = match arcs.as_slice() {
        ["0" | "1", second, ..] => second.parse::<u8>().is_ok_and(|second| second < 40),
        ["2", _, ..] => true,
        _ => false,
    };
    begins && arcs.iter().all(is_number) && text != ANY_POLICY
}

fn is_fingerprint(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(digit))
}

/// A time, or the beginning of a day in UTC.
fn date(text: &str) -> Result<Option<SystemTime>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let time = DateTime::parse_from_rfc3339(text).ok().map(SystemTime::from);
    let day = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc().into());
    let wanted = || {
        let shown = escape_untrusted(text, 64);
        wrong("enforce_from", &format!("`{shown}` is no date such as `2026-07-01` or `2026-07-01T12:00:00Z`"))
    };
    time.or_else(day).map(Some).ok_or_else(wanted)
}

fn wrong(key: &str, what: &str) -> ConfigError {
    ConfigError(format!("`attestation.{key}`: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<AttestationRules, String> {
        let section: AttestationSection = toml::from_str(text).map_err(|error| error.to_string())?;
        section.rules().map_err(|error| error.to_string())
    }

    #[test]
    fn a_date_is_a_day_or_a_moment() {
        let required = "mode = \"required\"\nroots = [\"/r\"]\n";
        let from = |text: &str| {
            rules(&format!("{required}enforce_from = \"{text}\"")).unwrap().enforce_from.unwrap()
        };
        assert_eq!(from("2026-07-01"), from("2026-07-01T02:00:00+02:00"));
        assert!(from("2026-07-01T00:00:01Z") > from("2026-07-01"));
        assert_eq!(rules("").unwrap().enforce_from, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("mode = \"required\"", "so that none could be loaded"),
            ("tenants = [{ tenant = \"t\", mode = \"required\" }]", "so that none could be loaded"),
            (
                "tenants = [{ tenant = \"t\", mode = \"off\" }, { tenant = \"t\", mode = \"off\" }]",
                "`t` is given twice",
            ),
            ("enforce_from = \"soon\"", "`soon` is no date"),
            ("trust = [{ level = \"verified\" }]", "fits everybody"),
            ("trust = [{ level = \"signed\", email = \"a@b\" }]", "does nothing"),
            ("trust = [{ level = \"best\", email = \"a@b\" }]", "unknown variant"),
            ("trust = [{ level = \"verified\", email = \"example.com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"*@*\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"*@*.example.com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"dev*@example.com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \" dev@example.com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"d\u{e9}v@example.com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"dev@example..com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"@example.com\" }]", "no email address"),
            ("trust = [{ level = \"verified\", email = \"\" }]", "no email address"),
            ("trust = [{ level = \"verified\", organisation = \"\" }]", "no organisation"),
            ("trust = [{ level = \"verified\", organisation = \"  \" }]", "no organisation"),
            ("trust = [{ level = \"verified\", organisation = \"a\\nb\" }]", "no organisation"),
            ("trust = [{ level = \"verified\", subject = \" \" }]", "no subject as certificates"),
            ("trust = [{ level = \"verified\", subject = \"dev\" }]", "such as `CN=dev,O=Example`"),
            (
                "trust = [{ level = \"verified\", subject = \"CN = dev, O = Example\" }]",
                "as `mentat verify` prints",
            ),
            ("trust = [{ level = \"verified\", policy = \"1.x\" }]", "no object identifier"),
            ("trust = [{ level = \"verified\", policy = \"9.9\" }]", "no object identifier"),
            ("trust = [{ level = \"verified\", policy = \"1.40.1\" }]", "no object identifier"),
            ("trust = [{ level = \"verified\", policy = \"1.3.06\" }]", "no object identifier"),
            ("trust = [{ level = \"verified\", policy = \"2.5.29.32.0\" }]", "no object identifier"),
            ("trust = [{ level = \"verified\", email = \"a@b\" }]", "nobody can be trusted further"),
            ("crls = [\"/c\"]", "nothing is verified without them"),
            ("roots = [\"/r\"]\nenforce_from = \"2026-07-01\"", "nothing is enforced from then on"),
            ("clock_skew_ms = 86400001", "`attestation.clock_skew_ms`: 86400001 is more than a day"),
            ("clock_skew_ms = 9223372036854775807", "is more than a day"),
            ("trust = [{ level = \"verified\", root = \"sha256:AB\" }]", "no fingerprint"),
            ("minimum_versions = [{ agent = \"a\", version = \"1\" }]", "version"),
            ("mode = \"maybe\"", "unknown variant"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(says), "{says} is not in {error}");
        }
    }

    #[test]
    fn a_tenant_that_nobody_is_of_is_named() {
        let check = |text: &str| {
            let section: AttestationSection = toml::from_str(text).unwrap();
            section
                .check_tenants(&["default".to_owned(), "ci".to_owned()].into())
                .map_err(|error| error.to_string())
        };
        check("tenants = [{ tenant = \"ci\", mode = \"off\" }]").unwrap();
        check("minimum_versions = [{ agent = \"a\", version = \"1.0.0\", tenants = [\"ci\", \"default\"] }]")
            .unwrap();
        let told = check("tenants = [{ tenant = \"cl\", mode = \"required\" }]").unwrap_err();
        assert!(
            told.contains("`attestation.tenants`: nobody is of the tenant `cl`") && told.contains("`ci`"),
            "{told}"
        );
        let told = check("minimum_versions = [{ agent = \"a\", version = \"1.0.0\", tenants = [\"\"] }]")
            .unwrap_err();
        assert!(told.contains("`attestation.minimum_versions`"), "{told}");
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        let read = rules(
            "mode = \"required\"\nroots = [\"/r\"]\ntenants = [{ tenant = \"ci\", mode = \"off\" }]\n\
             trust = [{ level = \"verified\", email = \"*@example.com\", organisation = \"Example\", subject = \
             \"CN=dev,O=Example\", policy = \"2.999.1\" }]\n\
             minimum_versions = [{ agent = \"a.b\", version = \"1.2.0\", tenants = [\"ci\"] }]\n",
        )
        .unwrap();
        assert_eq!((read.mode, read.tenants["ci"]), (AttestationMode::Required, AttestationMode::Off));
        assert_eq!(
            (read.trust[0].level, read.trust[0].subject.as_deref()),
            (Trust::Verified, Some("CN=dev,O=Example"))
        );
        assert_eq!(read.minimum_versions[0].version.to_string(), "1.2.0");
    }
}
