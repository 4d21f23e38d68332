//! `mentat list`: the agents of a server.

use std::process::ExitCode;

use mentat_manifest::escape_untrusted;
use serde::Serialize;

use crate::args::ListArguments;
use crate::client::{AgentReport, Client};
use crate::output::{self, Failure};

/// Characters of what a line says of the signature.
const MAX_SIGNATURE_CHARS: usize = 200;
/// Characters of what is said of it in a line of its own: why an agent may not run, or what its operator should know.
const MAX_MESSAGE_CHARS: usize = 500;

#[derive(Serialize)]
struct Reply {
    agents: Vec<AgentReport>,
}

pub(crate) fn run(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let agents =
        super::threads()?.block_on(async { Client::connect(&arguments.server).await?.list().await })?;
    if arguments.json.json {
        output::write_json(&Reply { agents })?;
    } else {
        output::write_stdout(table(&agents).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(agents: &[AgentReport]) -> String {
    let shown = |text: &str| escape_untrusted(text, 128);
    let width = |column: fn(&AgentReport) -> &str| {
        agents.iter().map(|agent| shown(column(agent)).chars().count()).max().unwrap_or(0)
    };
    let (id_width, version_width) = (width(|agent| &agent.agent), width(|agent| &agent.version));
    let mut text = String::new();
    for agent in agents {
        text.push_str(&format!(
            "{} {:<id_width$} {:<version_width$} {} {}\n",
            if agent.active { "*" } else { " " },
            shown(&agent.agent),
            shown(&agent.version),
            shown(&agent.module),
            escape_untrusted(&agent.signature.line(), MAX_SIGNATURE_CHARS),
        ));
        if let Some(message) = &agent.signature.message {
            text.push_str(&format!("    {}\n", escape_untrusted(message, MAX_MESSAGE_CHARS)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::signature::{SignatureReport, SignerReport};

    #[test]
    fn columns_stand_under_each_other_and_the_active_version_is_marked() {
        let agent = |id: &str, version: &str, active| AgentReport {
            agent: id.into(),
            version: version.into(),
            active,
            module: "sha256:00".into(),
            image: None,
            loaded_at_ms: 0,
            signature: SignatureReport { trust: "signed".into(), ..SignatureReport::default() },
        };
        let mut agents = [agent("a.long", "1.0.0", true), agent("b", "1.0.0-rc.1", false)];
        agents[0].signature.signer = Some(SignerReport { name: "dev@b".into(), ..SignerReport::default() });
        agents[1].signature.refused = Some("certificate_revoked".into());
        agents[1].signature.message = Some("certificate 1 (`CN=dev`) was revoked\n; sign again".into());
        assert_eq!(
            table(&agents),
            "* a.long 1.0.0      sha256:00 signed dev@b\n  b      1.0.0-rc.1 sha256:00 refused: certificate_revoked\n    certificate 1 \
             (`CN=dev`) was revoked\\u{a}; sign again\n"
        );
    }
}
