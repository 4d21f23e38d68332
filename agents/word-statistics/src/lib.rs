//! Statistics of a text: reads UTF-8, writes JSON. The arithmetic is in `statistics.rs`.

#[cfg(target_family = "wasm")]
mod abi;
mod statistics;

pub use statistics::{Statistics, WordCount, statistics};

/// Entry point of the mentat ABI: 0 is success.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
pub extern "C" fn process() -> i32 {
    match answer(&abi::input()) {
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

/// The output for an input, or why there is none.
///
/// # Errors
/// The input is not UTF-8, and where.
pub fn answer(input: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(input).map_err(|error| {
        format!(
            "the input is not UTF-8 text: byte {} begins no character; convert it first",
            error.valid_up_to()
        )
    })?;
    serde_json::to_vec(&statistics(text)).map_err(|error| error.to_string())
}
