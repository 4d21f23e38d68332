//! Redaction as a component: the generated bindings meet `redact.rs` here, and nowhere else.

mod patterns;
mod redact;

pub use redact::{Redacted, redact};

#[cfg(target_family = "wasm")]
mod component {
    use crate::redact;

    wit_bindgen::generate!({ path: "../../wit", world: "agent" });

    use mentat::agent::log::{Level, log};

    struct Agent;

    impl Guest for Agent {
        fn process(input: Vec<u8>) -> Result<Vec<u8>, String> {
            let text = std::str::from_utf8(&input).map_err(|error| {
                let at = error.valid_up_to();
                format!("the input is not UTF-8 text: byte {at} begins no character; convert it first")
            })?;
            let redacted = redact(text);
            log(Level::Info, &redacted.summary());
            Ok(redacted.text.into_bytes())
        }
    }

    export!(Agent);
}
