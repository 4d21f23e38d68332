//! What denials teach: each names the capability and what is in its way, and the line or the option that it tells does
//! give the capability. The messages stand in `lessons.txt`.

use std::path::Path;

use mentat_manifest::{Capability, CapabilityKind, FileAccess, LimitsRequest, Manifest};
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::{Authority, Narrowing};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::denial::{Denial, DenialReason};
use mentat_runtime::security::offers::{Extension, Mount, Offers};
use mentat_runtime::security::policy::{Grant, OnViolation, Rules, UserPowers};
use mentat_runtime::security::secret::Secret;

use crate::harness;

/// Of every kind, with what is awkward to quote.
const ASKED: [&str; 15] = [
    "filesystem:read:/data/a \"b\" \\c",
    "filesystem:readwrite:/tmp",
    "filesystem:readwrite:/data",
    "filesystem:write:/it's out",
    "network:https:api.example.com",
    "network:https:*.example.com:8443",
    "network:*:example.com",
    "network:tcp:[2001:db8::/32]:5432",
    "env:KEY",
    "secret:TOKEN",
    "compute:memory=64MB,fuel=9",
    "media:read:pictures/*",
    "media:write:",
    "extension:acme.search",
    "network:udp:*:53",
];

const EVERYTHING: &str = "permit (principal, action, resource);";
const FORBIDDEN: &str = "@id(\"never\") forbid (principal, action, resource)";
const FAULTY: &str = "@id(\"broken\") forbid (principal, action, resource) when { principal.major + 9223372036854775807 > 0 };";

/// The grant of an agent whose manifest lists `lines`, as they stand in it.
fn grant(lines: &[String], policies: &str, left: Option<Vec<Capability>>) -> Grant {
    let list: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    let manifest = format!(
        "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\nwasm:\n  capabilities:\n    - \"env:UNUSED\"\n{list}"
    );
    let manifest = Manifest::parse(&manifest).unwrap_or_else(|error| panic!("{error}"));
    let source = PolicySource { name: "own.cedar".into(), text: policies.into() };
    let policies = Policies::parse(&[source]).unwrap_or_else(|error| panic!("{policies}: {error}"));
    let authority = Authority::new(Rules::default(), OnViolation::Deny, Offers::default(), policies, None);
    let narrowing = Narrowing { capabilities: left, ..Narrowing::default() };
    harness::grant(&authority, &manifest, &[narrowing], ExecutionId::new())
}

fn listed(capability: &Capability) -> Vec<String> {
    vec![format!("- {}", serde_json::to_string(&capability.to_string()).unwrap())]
}

fn user(powers: UserPowers) -> Grant {
    Rules::default().decide_for_user(None, &LimitsRequest::default(), powers).unwrap()
}

fn denial(grant: &Grant, capability: &Capability) -> Denial {
    match grant.decide(capability) {
        Ok(_) => panic!("{capability} was granted"),
        Err(denial) => denial,
    }
}

/// Every way in which a capability can be denied, and the denial.
fn denials(capability: &Capability) -> [Denial; 6] {
    let forbidden = format!("{EVERYTHING}\n{FORBIDDEN};");
    let grants = [
        grant(&[], EVERYTHING, None),
        grant(&listed(capability), EVERYTHING, Some(Vec::new())),
        grant(&listed(capability), &forbidden, None),
        grant(&listed(capability), "// none\n", None),
        grant(&listed(capability), FAULTY, None),
        user(UserPowers::default()),
    ];
    grants.map(|grant| denial(&grant, capability))
}

#[test]
fn the_messages_are_those_that_were_read_by_a_person() {
    let mut told = String::new();
    for kind in CapabilityKind::ALL {
        let asked = ASKED.iter().map(|text| text.parse::<Capability>().unwrap());
        let mut of_kind = asked.filter(|capability| capability.kind() == kind).peekable();
        assert!(of_kind.peek().is_some(), "the kind `{}` is not among what is asked", kind.as_str());
        for capability in of_kind {
            let others = [DenialReason::TooMany(10_000), DenialReason::Unrecorded]
                .map(|reason| Denial { capability: capability.clone(), reason });
            for denial in denials(&capability).into_iter().chain(others) {
                told.push_str(&format!("{:<16} {denial}\n", denial.reason.as_str()));
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/lessons.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(&path).unwrap(), "UPDATE_EXPECT=1 writes it anew");
}

#[test]
fn what_a_denial_tells_to_write_gives_the_capability() {
    for text in ASKED {
        let capability: Capability = text.parse().unwrap();
        let [not_listed, narrowed, forbidden, not_permitted, _, not_allowed] =
            denials(&capability).map(|denial| denial.to_string());

        let line = between(&not_listed, "add `", "` under `wasm.capabilities`");
        given(&grant(&[line.to_owned()], EVERYTHING, None), &capability, &not_listed);

        let left = between(&narrowed, "it is given by `", "` among the `capabilities`");
        given(
            &grant(&listed(&capability), EVERYTHING, Some(vec![left.parse().unwrap()])),
            &capability,
            &narrowed,
        );

        let clause = between(&forbidden, "excepts it there with `", "`");
        let policies = format!("{EVERYTHING}\n{FORBIDDEN} {clause};");
        given(&grant(&listed(&capability), &policies, None), &capability, &forbidden);

        let policy = between(&not_permitted, "this one would: ", "");
        given(&grant(&listed(&capability), policy, None), &capability, &not_permitted);

        let option = between(&not_allowed, "allow it with `", "`");
        given(&user(powers(option, &not_allowed)), &capability, &not_allowed);
    }
}

fn given(grant: &Grant, capability: &Capability, message: &str) {
    if let Err(denial) = grant.decide(capability) {
        panic!("what was told did not help: {message}: {denial}");
    }
}

/// What stands between two parts of a message; up to its end where the second is empty.
fn between<'a>(message: &'a str, before: &str, after: &str) -> &'a str {
    let rest = message.split_once(before).unwrap_or_else(|| panic!("no `{before}` in: {message}")).1;
    if after.is_empty() { rest } else { rest.split_once(after).unwrap().0 }
}

/// What `mentat run` makes of an option.
fn powers(option: &str, message: &str) -> UserPowers {
    let (name, value) = option.split_once(' ').unwrap();
    let value = value.trim_matches('\'').replace("'\\''", "'");
    let mut powers = UserPowers::default();
    match name {
        "--allow" => powers.allow.push(value.parse().unwrap()),
        "--env" => powers.env.push((value.trim_end_matches("=VALUE").into(), "VALUE".into())),
        "--secret" => {
            let secret = Secret::new("a value of its own", &["api.example.com".into()]).unwrap();
            powers.secrets.insert(value.trim_end_matches("=HOST").into(), secret);
        }
        "--extension" => {
            let extension = Extension::new("http://127.0.0.1:9000/").unwrap();
            powers.extensions.insert(value.trim_end_matches("=URL").into(), extension);
        }
        "--mount" => {
            let guest = value.strip_prefix("HOST:").unwrap();
            let (guest, access) = match guest.rsplit_once(':') {
                Some((guest, "rw")) => (guest, FileAccess::ReadWrite),
                Some((guest, "wo")) => (guest, FileAccess::Write),
                _ => (guest, FileAccess::Read),
            };
            powers.mounts.push(Mount::new("/srv", guest, access).unwrap());
        }
        other => panic!("`{other}` is no option: {message}"),
    }
    powers
}
