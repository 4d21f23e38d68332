//! What a registry says, and what is said of one: references read as they are written, images and configurations are refused
//! or whole, challenges end.

use mentat_oci::{Allowed, Challenge, Image, MAX_CONFIG_BYTES, Reference, WasmConfig};

/// An image that is one, for configurations to be those of.
const IMAGE: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.wasm.config.v0+json","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3},"layers":[{"mediaType":"application/wasm","digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3}]}"#;
const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Reads the bytes as each of them.
pub fn run(bytes: &[u8]) {
    match Image::read(IMAGE_TYPE, bytes) {
        Ok(image) => {
            let again = Image::read(IMAGE_TYPE, bytes);
            assert_eq!(again.as_ref(), Ok(&image));
        }
        Err(error) => super::check_text(&error.to_string(), 4 << 10),
    }
    let image = Image::read(IMAGE_TYPE, IMAGE.as_bytes()).expect("the image above is one");
    match WasmConfig::read(bytes, &image) {
        Ok(config) => {
            let manifest = config.manifest.unwrap_or_default();
            assert!(manifest.len() as u64 <= MAX_CONFIG_BYTES.max(bytes.len() as u64));
        }
        Err(error) => super::check_text(&error.to_string(), 4 << 10),
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Reference>() {
        Ok(reference) => {
            let written = reference.to_string();
            assert_eq!(
                written.parse::<Reference>().ok(),
                Some(reference),
                "`{text}` was written as `{written}`"
            );
            assert!(written.is_ascii() && !written.contains(['%', '?', '#', '\\', ' ']), "{written}");
            let path = written.trim_start_matches("oci://");
            assert!(path.split('/').all(|part| part != ".." && part != "."), "{written}");
        }
        Err(error) => super::check_text(&error.to_string(), 4 << 10),
    }
    if let Err(error) = text.parse::<Allowed>() {
        super::check_text(&error.to_string(), 4 << 10);
    }
    if let Err(error) = Challenge::read(text) {
        super::check_text(&error, 4 << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_and_its_neighbours_hold() {
        let config = r#"{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip1","layerDigests":["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],"mentat":{"format":1,"manifest":"id: a.b"}}"#;
        let seeds = [
            IMAGE,
            config,
            "oci://harbor.lan:5000/agents/echo:1.0.0",
            "oci://[::1]:5000/a@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "harbor.lan/agents",
            r#"Bearer realm="https://auth.lan/token",service="s",scope="repository:a:pull""#,
            "Basic realm=x",
        ];
        assert!(
            WasmConfig::read(config.as_bytes(), &Image::read(IMAGE_TYPE, IMAGE.as_bytes()).unwrap()).is_ok()
        );
        for bytes in crate::variations(&seeds.map(|seed| seed.as_bytes().to_vec()), 500) {
            run(&bytes);
        }
    }
}
