//! Statistics of a sound: reads a WAV file, which is the input or which the input refers to, and writes JSON. The arithmetic
//! is in `statistics.rs`.

#[cfg(target_family = "wasm")]
mod abi;
mod statistics;

use std::io::Read;

use serde::Deserialize;

pub use statistics::{Channel, Statistics, statistics};

/// Bytes that are fetched from the media store at one time.
const PIECE_BYTES: usize = 64 << 10;

/// An input that is no sound but says where it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    audio: String,
}

/// Entry point of the mentat ABI: 0 is success.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
pub extern "C" fn process() -> i32 {
    match answer(&abi::input(), abi::Object::open) {
        Ok(json) => {
            abi::output(&json);
            0
        }
        Err(message) => {
            abi::log(abi::Level::Error, &message);
            1
        }
    }
}

/// The output for an input, or why there is none; `open` opens an object of the media store.
///
/// # Errors
/// The input is neither a WAV file nor a reference to one; the object cannot be had; the file is damaged.
pub fn answer<T: Read>(
    input: &[u8],
    open: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Vec<u8>, String> {
    let found = if input.starts_with(b"RIFF") {
        statistics(input)?
    } else {
        let request: Request = serde_json::from_slice(input)
            .map_err(|error| format!("the input is neither a WAV file nor a request for one: {error}"))?;
        // A long recording has no room in memory, and passes through it a piece at a time.
        statistics(std::io::BufReader::with_capacity(PIECE_BYTES, open(&request.audio)?))?
    };
    serde_json::to_vec(&found).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_is_no_sound_refers_to_one() {
        let open = |reference: &str| match reference {
            "media://a.wav" => Ok(&b"RIFX"[..]),
            other => Err(format!("there is no object `{other}`")),
        };
        let refused = |input: &str| answer(input.as_bytes(), open).unwrap_err();
        assert_eq!(refused(r#"{"audio": "media://b.wav"}"#), "there is no object `media://b.wav`");
        assert!(
            refused(r#"{"audio": "media://a.wav"}"#)
                .starts_with("the sound is no WAV file that is understood")
        );
        assert!(refused(r#"{"sound": "media://a.wav"}"#).contains("unknown field `sound`, expected `audio`"));
        assert!(refused("ID3").starts_with("the input is neither a WAV file nor a request"));
    }
}
