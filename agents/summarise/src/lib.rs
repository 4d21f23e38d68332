//! A summary that is told while it is made, as a component: the generated bindings meet `summary.rs` here, and nowhere else.

mod summary;

pub use summary::{Summary, summarise, tokens};

#[cfg(target_family = "wasm")]
mod component {
    use crate::{Summary, summarise, tokens};

    wit_bindgen::generate!({ path: "../../wit", world: "agent" });

    use mentat::agent::errors::Error;
    use mentat::agent::log::{Level, log};
    use mentat::agent::metrics;
    use mentat::agent::streams::{self, OutputStream};

    /// The stream that the summary is told on.
    const STREAM: &str = "summary";

    /// The metric that says how much of it has been told, from 0 to 1.
    const PROGRESS: &str = "progress";

    struct Agent;

    impl Guest for Agent {
        fn process(input: Vec<u8>) -> Result<Vec<u8>, String> {
            let text = std::str::from_utf8(&input).map_err(|error| {
                let at = error.valid_up_to();
                format!("the input is not UTF-8 text: byte {at} begins no character; convert it first")
            })?;
            let summary = summarise(text);
            if summary.sentences.is_empty() {
                return Err("the input has no sentence".into());
            }
            if let Err(error) = tell(&summary) {
                // Who waits for the output gets all of it, whether or not others could follow.
                log(Level::Warn, &format!("the summary is told no further: {}", error.message));
            }
            log(Level::Info, &format!("kept {} of {} sentences", summary.sentences.len(), summary.of));
            Ok((summary.sentences.join("\n") + "\n").into_bytes())
        }
    }

    /// Tells a summary token by token. A stream that is dropped before its end tells its readers that it was cut off.
    fn tell(summary: &Summary) -> Result<(), Error> {
        let stream = streams::start(STREAM)?;
        metrics::record(PROGRESS, 0.0)?;
        for (told, sentence) in (1_u32..).zip(&summary.sentences) {
            for token in tokens(sentence) {
                stream.write(token.as_bytes())?;
            }
            stream.write(b"\n")?;
            metrics::record(PROGRESS, f64::from(told) / summary.sentences.len() as f64)?;
        }
        OutputStream::end(stream)
    }

    export!(Agent);
}
