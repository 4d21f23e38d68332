//! `mentat verify-receipt`: what a receipt proves of an execution. Needs the server's public key, and no server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mentat_manifest::{ByteCount, escape_untrusted};
use mentat_runtime::error::Reason;
use mentat_runtime::security::audit::ContentPart;
use mentat_runtime::security::receipt::{Content, Fault, MAX_RECEIPT_BYTES, Predicate, Verified, verify};
use serde::Serialize;

use crate::args::VerifyReceiptArguments;
use crate::files;
use crate::output::{self, Failure};

/// Bytes of a public key at most; it has some eighty.
const MAX_KEY: ByteCount = ByteCount(4 << 10);
/// Bytes of a file that is held against a receipt, whatever its server allows for one; read into memory.
const MAX_CONTENT: ByteCount = ByteCount(2 << 30);
/// Characters of one text of a receipt that are shown at most.
const MAX_SHOWN_CHARS: usize = 1024;

#[derive(Serialize)]
struct Reply<'a> {
    valid: bool,
    key: &'a str,
    /// The files that were held against it.
    files: Vec<&'static str>,
    receipt: &'a Predicate,
}

pub(crate) fn run(arguments: &VerifyReceiptArguments) -> Result<ExitCode, Failure> {
    let key = files::read(&arguments.key, "public key", MAX_KEY)?;
    let receipt = files::read(&arguments.receipt, "receipt", ByteCount(MAX_RECEIPT_BYTES))?;
    let key = String::from_utf8_lossy(&key);
    let verified = verify(&receipt, &key).map_err(failed)?;
    let mut checked = Vec::new();
    for (which, path) in given(arguments) {
        check(&verified, which, path)?;
        checked.push((which, path));
    }
    if arguments.json.json {
        let files = checked.iter().map(|(which, _)| which.as_str()).collect();
        let reply = Reply { valid: true, key: verified.key(), files, receipt: verified.predicate() };
        output::write_json(&reply)?;
    } else {
        let mut text = lines(&verified);
        for (which, path) in checked {
            text.push(format!("file: `{}` is {}", path.display(), which.as_str()));
        }
        let shown = text.iter().map(|line| escape_untrusted(line, MAX_SHOWN_CHARS) + "\n");
        output::write_stdout(shown.collect::<String>().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn given(arguments: &VerifyReceiptArguments) -> impl Iterator<Item = (Content, &PathBuf)> {
    let all = [
        (Content::Input, &arguments.input),
        (Content::Output, &arguments.output),
        (Content::Module, &arguments.module),
        (Content::Manifest, &arguments.manifest),
    ];
    all.into_iter().filter_map(|(which, path)| Some((which, path.as_ref()?)))
}

fn check(verified: &Verified, which: Content, path: &Path) -> Result<(), Failure> {
    let bytes = files::read(path, which.as_str(), MAX_CONTENT)?;
    verified.check(which, &bytes).map_err(|fault| failed(fault).in_file(path))
}

/// What the receipt proves, one thing a line.
fn lines(verified: &Verified) -> Vec<String> {
    let said = verified.predicate();
    let bytes = |content: &ContentPart| format!("{}, {} bytes", content.digest, content.bytes);
    let exit = said.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
    let fuel = said.fuel.map_or_else(String::new, |fuel| format!("{fuel} fuel, "));
    let mut lines = vec![
        format!("signature: by the key `{}`", verified.key()),
        format!(
            "log: record {} of `{}`, in the tree of {} records that the same key has signed",
            said.log.index, said.log.origin, said.log.tree_size
        ),
        format!("execution: {}, {}{exit}", said.execution_id, said.result),
        format!("agent: {} {}, {}", said.agent.id, said.agent.version, signer(said)),
        module(said),
        format!("manifest: {}", said.agent.manifest),
        format!("caller: {} of the tenant {}", said.caller, said.tenant),
        format!("input: {}", bytes(&said.input)),
        format!("output: {}", said.output.as_ref().map_or_else(|| "none".to_owned(), bytes)),
        format!("time: {} to {}", said.started, said.finished),
        format!("cost: {fuel}{} bytes of memory, {} microseconds", said.memory_bytes, said.execution_time_us),
    ];
    for grant in &said.grants {
        lines.push(format!(
            "grant: {} by {}, {} times",
            grant.capability,
            grant.policies.join(", "),
            grant.count
        ));
    }
    if said.grants_left_out > 0 {
        lines.push(format!("grants: {} more, which the log lists", said.grants_left_out));
    }
    lines.push(format!("denials: {}", said.denials));
    lines
}

fn module(said: &Predicate) -> String {
    match &said.agent.in_place_of {
        Some(module) => format!("module: {}, an image in place of {module}", said.agent.module),
        None => format!("module: {}", said.agent.module),
    }
}

fn signer(said: &Predicate) -> String {
    match &said.agent.signer {
        Some(signer) => format!("{}, signed by {signer}", said.agent.trust),
        None => said.agent.trust.clone(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "to be passed to `map_err` as it is")]
fn failed(fault: Fault) -> Failure {
    if fault.is_rejection() {
        Failure::answered(Reason::AttestationRejected, fault.to_string(), [])
    } else {
        Failure::invalid(fault.to_string())
    }
}
