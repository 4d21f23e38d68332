//! What a decision of policy costs: a small set, a larger one and a large one, of policies as operators write them,
//! permitting and denying, for several kinds of capability. The floor is looking up a variable in a map.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, ensure};
use mentat_manifest::{Capability, Manifest, ModuleDigest, RuntimeKind};
use mentat_runtime::model::{Caller, ExecutionId};
use mentat_runtime::security::authority::{Applicant, Authority, LastCase};
use mentat_runtime::security::cedar::{DEFAULT_POLICIES, Policies, PolicySource};
use mentat_runtime::security::offers::Offers;
use mentat_runtime::security::policy::{OnViolation, Rules};
use mentat_runtime::security::principal::Trust;

use crate::figures::{Row, rows};
use crate::measure::{Plan, Subject};

/// What a decision may cost.
const LIMIT: Duration = Duration::from_micros(20);

const MANIFEST: &str = r#"
id: team.agent-0
version: 2.1.0
runtime: wasm
module: agent.wasm
wasm:
  capabilities: ["filesystem:readwrite:/", "network:*:*", "env:KEY_2", "env:OTHER"]
"#;

/// One question, and whether it is permitted.
struct Question {
    capability: &'static str,
    permitted: bool,
}

const fn permitted(capability: &'static str) -> Question {
    Question { capability, permitted: true }
}

const fn denied(capability: &'static str) -> Question {
    Question { capability, permitted: false }
}

const OF_THE_DEFAULT: &[Question] = &[
    permitted("filesystem:read:/tmp/a/b"),
    permitted("filesystem:readwrite:/tmp"),
    denied("network:https:api.example.com"),
    denied("env:OTHER"),
];
const OF_OUR_OWN: &[Question] = &[
    permitted("filesystem:read:/data/0/2026/report.csv"),
    denied("filesystem:read:/data/0/private/key.txt"),
    denied("filesystem:readwrite:/data/0/2026"),
    permitted("network:https:api.example-1.com"),
    denied("network:https:api.example.com"),
    permitted("env:KEY_2"),
    denied("env:OTHER"),
];

/// Policies as operators write them: for an agent, for a tenant, by trust, against a part, with conditions.
fn own(count: u32) -> String {
    let policy = |number: u32| match number % 5 {
        0 => format!(
            "permit (principal == Agent::\"team.agent-{number}\", action == Action::\"filesystem:read\", \
             resource in Path::\"/data/{number}\");"
        ),
        1 => format!(
            "permit (principal in Tenant::\"tenant-{number}\", action in Action::\"network\", \
             resource in Domain::\"example-{number}.com\") when {{ resource has port && resource.port == 443 }};"
        ),
        2 => format!(
            "permit (principal in Trust::\"signed\", action == Action::\"env:read\", \
             resource == Variable::\"KEY_{number}\") when {{ principal.major >= 2 }};"
        ),
        3 => format!(
            "forbid (principal, action in Action::\"filesystem\", resource in Path::\"/data/{}/private\") \
             unless {{ principal.tenant == \"owners\" }};",
            number - 3
        ),
        _ => format!(
            "permit (principal in Trust::\"verified\", action in [Action::\"media:read\", Action::\"network:https\"], \
             resource) when {{ context.time < datetime(\"20{:02}-01-01\") }};",
            30 + number % 60
        ),
    };
    (0..count).map(policy).collect::<Vec<_>>().join("\n")
}

fn authority(policies: &str) -> anyhow::Result<Authority> {
    let policies = Policies::parse(&[PolicySource { name: "bench".into(), text: policies.into() }])?;
    Ok(Authority::new(Rules::default(), OnViolation::Deny, Offers::default(), policies, None))
}

pub(crate) fn decisions(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (default, ten, hundred) = (authority(DEFAULT_POLICIES)?, authority(&own(10))?, authority(&own(100))?);
    let manifest = Manifest::parse(MANIFEST)?;
    let module = ModuleDigest::of(b"bench");
    let caller = Caller { name: "ci".into(), tenant: "tenant-1".into() };
    let applicant = Applicant {
        manifest: &manifest,
        module: &module,
        runtime: RuntimeKind::Wasm,
        in_place_of: None,
        trust: Trust::Signed,
        signer: Some(&"CN=Team".into()),
        caller: &caller,
        execution: ExecutionId::new(),
        narrowing: &[],
        last: &LastCase::default(),
    };
    let table: BTreeMap<String, u32> = (0..100).map(|number| (format!("KEY_{number}"), number)).collect();
    let mut subjects = vec![Subject::new("looking up a name among 100", |count| {
        for _ in 0..count {
            black_box(table.get(black_box("KEY_55")).context("a key")?);
        }
        Ok(())
    })];
    let sets = [
        ("default set", &default, OF_THE_DEFAULT),
        ("10 policies", &ten, OF_OUR_OWN),
        ("100 policies", &hundred, OF_OUR_OWN),
    ];
    for (set, authority, questions) in sets {
        for question in questions {
            let capability: Capability = question.capability.parse()?;
            let grant = authority.decide(&Applicant { last: &LastCase::default(), ..applicant })?;
            ensure!(
                grant.decide(&capability).is_ok() == question.permitted,
                "`{capability}` under {set} does not come out as it should"
            );
            let how = if question.permitted { "permit" } else { "deny" };
            let subject = Subject::new(format!("{set}: {how} {capability}"), move |count| {
                for _ in 0..count {
                    let _ = black_box(grant.decide(black_box(&capability)));
                }
                Ok(())
            });
            subjects.push(subject.at_most(LIMIT));
        }
        let capability: Capability = questions.first().context("a question")?.capability.parse()?;
        subjects.push(Subject::new(format!("{set}: a grant and its first decision"), move |count| {
            for _ in 0..count {
                let grant = authority.decide(&Applicant { last: &LastCase::default(), ..applicant })?;
                let _ = black_box(grant.decide(black_box(&capability)));
            }
            Ok(())
        }));
    }
    Ok(rows(&plan.measure(subjects)?))
}
