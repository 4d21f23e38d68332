//! A smaller copy of an image in the media store: reads a request, stores the copy, answers its reference. Decoding and
//! encoding are in `thumbnail.rs`, the arithmetic in `scale.rs`.

#[cfg(target_family = "wasm")]
mod abi;
mod request;
mod scale;
mod thumbnail;

pub use request::{Format, Request};
pub use thumbnail::{MAX_FILE_BYTES, Thumbnail, thumbnail};

/// Bytes that are fetched from the media store at one time.
#[cfg(target_family = "wasm")]
const PIECE_BYTES: usize = 64 << 10;

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
#[cfg(target_family = "wasm")]
fn answer(input: &[u8]) -> Result<Vec<u8>, String> {
    let request = Request::parse(input)?;
    let object = abi::Object::open(&request.image)?;
    if object.size() > MAX_FILE_BYTES {
        return Err(format!("the image has {} bytes; at most {MAX_FILE_BYTES} are read", object.size()));
    }
    let thumbnail = thumbnail(std::io::BufReader::with_capacity(PIECE_BYTES, object), &request)?;
    let media_type = request.format.media_type();
    let reference = abi::store(&thumbnail.bytes, media_type)?;
    serde_json::to_vec(&serde_json::json!({
        "thumbnail": reference,
        "width": thumbnail.width,
        "height": thumbnail.height,
        "bytes": thumbnail.bytes.len(),
        "media_type": media_type,
    }))
    .map_err(|error| error.to_string())
}
