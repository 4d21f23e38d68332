//! A manifest in plain words, as `mentat validate` prints it.

use std::fmt::Write;

use crate::limits::{Limits, Metering};
use crate::manifest::{Manifest, RuntimeKind};
use crate::pins::Pin;

impl Manifest {
    /// What the manifest says, with `budget` (the defaults filled in). Stable text for
    /// people; programs read the manifest itself.
    #[must_use]
    pub fn explain(&self, budget: &Limits) -> String {
        let mut text = format!("agent {} {}\n", self.id, self.version);
        let mut line = |label: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {label:<14}{value}");
        };
        if let Some(description) = &self.description {
            line("description", &crate::escape_untrusted(description, 200));
        }
        match self.runtime_kind() {
            RuntimeKind::Wasm => {
                line("runs as", &format!("WebAssembly module `{}`", self.module_path()));
                let metering = match budget.metering {
                    Metering::Fuel => format!("fuel: {} operations", budget.fuel),
                    Metering::Epoch => "wall clock only".into(),
                };
                line("metered by", &metering);
            }
            RuntimeKind::Container => {
                let image = self.image.as_deref().unwrap_or_default();
                line("runs as", &format!("container image `{}`", crate::escape_untrusted(image, 200)));
                if let Some(cpus) = self.cpus() {
                    line("processors", &format!("up to {cpus}"));
                }
            }
        }
        line("memory", &format!("up to {}", budget.memory_bytes));
        line("time", &format!("up to {} ms", budget.timeout.as_millis()));
        line("output", &format!("up to {}", budget.output_bytes));
        if let Some(places) = self.max_concurrent() {
            line("at once", &format!("up to {places} executions"));
        }
        for (label, pins) in [("reads", &self.inputs), ("writes", &self.outputs)] {
            if !pins.is_empty() {
                line(label, &pins.iter().map(pin).collect::<Vec<_>>().join(", "));
            }
        }
        for capability in self.capabilities() {
            line("asks for", &format!("{capability}: {}", capability.explain()));
        }
        if self.capabilities().is_empty() {
            line("asks for", "no powers beyond its input and output");
        }
        if let Some(attestation) = &self.attestation {
            let subject = crate::escape_untrusted(&attestation.signer.subject, 200);
            line("signed", &format!("by `{subject}`, as it says; whoever loads it verifies that"));
        }
        text
    }
}

fn pin(pin: &Pin) -> String {
    format!("{} ({})", crate::escape_untrusted(&pin.name, 64), pin.kind.as_str())
}
