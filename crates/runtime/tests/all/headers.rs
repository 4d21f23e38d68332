//! The first lines of a guest's file: what must come of it, and what it runs under. The formats are told in
//! `tests/guests/README.md` and `tests/hostile/README.md`.

use std::time::Duration;

use mentat_manifest::{ByteCount, Fuel, LimitsRequest, Metering};
use mentat_runtime::model::Outcome;

use crate::harness::messages;

/// What a guest's first lines say.
#[derive(Default)]
pub struct Headers {
    expect: String,
    says: Vec<String>,
    logs: Vec<String>,
    output: Option<Vec<u8>>,
    pub input: Vec<u8>,
    pub limits: LimitsRequest,
    within: Option<Duration>,
    /// The lines that are about what the guest runs under, key and value.
    pub others: Vec<(String, String)>,
}

impl Headers {
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().map_while(|line| line.strip_prefix(";;")) {
            let Some((key, value)) = line.trim().split_once(':') else { continue };
            let value = value.trim();
            match key {
                "expect" => found.expect = value.split_whitespace().collect::<Vec<_>>().join(" "),
                "says" => found.says.push(value.to_owned()),
                "logs" => found.logs.push(value.to_owned()),
                "output" => found.output = Some(unescape(value)),
                "input" => found.input = unescape(value),
                "within_ms" => found.within = Some(Duration::from_millis(value.parse().unwrap())),
                "limits" => value.split_whitespace().for_each(|limit| found.limit(limit)),
                // A colon in what the file says of the attack makes no header.
                _ if key.contains(|letter: char| !letter.is_ascii_lowercase() && letter != '_') => {}
                _ => found.others.push((key.to_owned(), value.to_owned())),
            }
        }
        assert!(!found.expect.is_empty(), "the guest has no `expect` line");
        found
    }

    fn limit(&mut self, limit: &str) {
        let (key, value) = limit.split_once('=').unwrap();
        let bytes = || Some(value.parse::<ByteCount>().unwrap());
        let limits = &mut self.limits;
        match key {
            "timeout_ms" => limits.timeout = Some(Duration::from_millis(value.parse().unwrap())),
            "memory" => limits.memory_bytes = bytes(),
            "fuel" => limits.fuel = Some(Fuel(value.parse().unwrap())),
            "output" => limits.output_bytes = bytes(),
            "log" => limits.log_bytes = bytes(),
            "metering" => {
                limits.metering = Some(if value == "epoch" { Metering::Epoch } else { Metering::Fuel });
            }
            other => panic!("unknown limit {other}"),
        }
    }

    /// What is wrong with how an execution ended, if anything.
    pub fn complaint(&self, outcome: &Outcome, took: Duration) -> Option<String> {
        let got = match &outcome.result {
            Ok(answer) if answer.exit_code == 0 => "ok".to_owned(),
            Ok(answer) => format!("exit {}", answer.exit_code),
            Err(error) => error.reason().to_string(),
        };
        let said = match &outcome.result {
            Ok(_) => String::new(),
            Err(error) => format!("{error} {:?}", error.details()),
        };
        let logged = messages(&outcome.logs).join("\n");
        if got != self.expect {
            return Some(format!("expected {}, got {got}: {said} {logged}", self.expect));
        }
        if let Some(missing) = self.says.iter().find(|text| !said.contains(text.as_str())) {
            return Some(format!("`{missing}` is not in: {said}"));
        }
        if let Some(missing) = self.logs.iter().find(|text| !logged.contains(text.as_str())) {
            return Some(format!("`{missing}` is not logged: {logged}"));
        }
        if let (Some(output), Ok(answer)) = (&self.output, &outcome.result)
            && answer.output != *output
        {
            return Some(format!("output is {:?}", String::from_utf8_lossy(&answer.output)));
        }
        // Generous, since the machine may be busy: ten times what the file says.
        if let Some(within) = self.within
            && took > within * 10
        {
            return Some(format!("took {took:?}"));
        }
        None
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let text: String =
        serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| panic!("bad string: {text}"));
    text.into_bytes()
}
