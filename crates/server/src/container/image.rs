//! The image of an agent: whether agents may have it, whether the engine has it, and whether it asks for more than a
//! container is given.

use std::time::Duration;

use bollard::models::ImageInspect;
use mentat_manifest::{ModuleDigest, escape_untrusted};
use mentat_runtime::error::Error;

use super::engine::{Engine, EngineError};
use super::{Image, unavailable};
use crate::config::{ContainerSection, PullPolicy};

/// Finds an image by its name.
///
/// # Errors
/// `INVALID_REQUEST` where agents may not have it, it is not there and may not be fetched, names no program, or asks for volumes;
/// `UNAVAILABLE` where the engine does not answer.
pub(super) async fn find(engine: &Engine, section: &ContainerSection, name: &str) -> Result<Image, Error> {
    let wrong = |message: String| Error::InvalidRequest { message };
    if !section.images.is_empty() && !section.images.iter().any(|listed| begins_with(name, listed)) {
        return Err(wrong(format!(
            "image `{name}` is none that agents may have here; the operator lists them by `container.images`"
        )));
    }
    let look = async || {
        engine.image(name).await.map_err(|error| unavailable(engine, "looking for an image", &error))
    };
    let mut found = look().await?;
    if found.is_none() && section.pull == PullPolicy::Missing {
        tracing::info!(image = name, "fetching an image");
        match engine.pull(name, Duration::from_millis(section.pull_ms)).await {
            Ok(()) => found = look().await?,
            Err(EngineError::Refused { message, .. }) => {
                return Err(wrong(format!("image `{name}` cannot be fetched: {message}")));
            }
            Err(error) => return Err(unavailable(engine, "fetching an image", &error)),
        }
    }
    let Some(found) = found else {
        return Err(wrong(format!(
            "image `{name}` is not in the container engine; put it there (`podman pull`, `podman build`), or have the \
             operator set `container.pull`"
        )));
    };
    let id = check(name, &found).map_err(wrong)?;
    Ok(Image { name: name.into(), id })
}

/// The id of an image that a container can be made of.
fn check(name: &str, image: &ImageInspect) -> Result<ModuleDigest, String> {
    let volumes = image.config.as_ref().and_then(|config| config.volumes.as_ref());
    if let Some(volume) = volumes.and_then(|volumes| volumes.first()) {
        // The engine would make a directory for it on the machine's disk, without any bound.
        let volume = escape_untrusted(volume, 100);
        return Err(format!(
            "image `{name}` declares the volume `{volume}`, and a container has no disk of its own; build it without \
             `VOLUME`, and ask for a directory by `filesystem:`"
        ));
    }
    let is_empty = |words: Option<&Vec<String>>| words.is_none_or(Vec::is_empty);
    let config = image.config.as_ref();
    if is_empty(config.and_then(|config| config.entrypoint.as_ref()))
        && is_empty(config.and_then(|config| config.cmd.as_ref()))
    {
        return Err(format!(
            "image `{name}` says of no program that it is the one to run; build it with `ENTRYPOINT` or `CMD`"
        ));
    }
    let id = image.id.as_deref().unwrap_or_default();
    let with_kind = if id.starts_with("sha256:") { id.to_owned() } else { format!("sha256:{id}") };
    with_kind.parse().map_err(|_| {
        let id = escape_untrusted(id, 100);
        format!("image `{name}` has the id `{id}`, which is no SHA-256")
    })
}

/// Whether a name is the listed one, or one below it: `harbor.lan/agents` has `harbor.lan/agents/echo:1`, and not
/// `harbor.lan/agents-of-others`.
fn begins_with(name: &str, listed: &str) -> bool {
    let Some(rest) = name.strip_prefix(listed) else { return false };
    if listed.ends_with(['/', ':', '@']) {
        return true;
    }
    let host = listed.split(':').next().unwrap_or_default();
    if !listed.contains('/') && (host.contains('.') || host == "localhost") {
        // A registry has what lies in it. Engines take `localhost:5` for an image of their own registry.
        return rest.starts_with('/');
    }
    // Behind a single word, a colon can be that of a port, and the word a registry of that name.
    let is_port = rest.starts_with(':') && rest.contains('/') && !listed.contains('/');
    rest.is_empty() || (rest.starts_with(['/', ':', '@']) && !is_port)
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;

    use super::*;

    #[test]
    fn a_listed_name_has_what_lies_below_it_and_nothing_beside() {
        for (name, listed, has) in [
            ("harbor.lan/agents/echo:1", "harbor.lan/agents", true),
            ("harbor.lan/agents/echo:1", "harbor.lan/agents/", true),
            ("harbor.lan/agents-of-others/echo", "harbor.lan/agents", false),
            ("harbor.lan.evil.com/agents/echo", "harbor.lan", false),
            ("localhost/echo:1", "localhost/echo", true),
            ("localhost/echo@sha256:00", "localhost/echo", true),
            ("localhost/echo", "localhost/echo", true),
            ("echo", "localhost", false),
            ("localhost/echo", "localhost", true),
            ("localhost:5000/echo", "localhost", false),
            ("localhost:5000/echo", "localhost:5000", true),
            ("python:3.12", "python", true),
            ("python:3.12@sha256:00", "python:3.12", true),
            ("python:5000/echo", "python", false),
            // Engines take these for images of their own registry.
            ("localhost:5", "localhost", false),
            ("localhost", "localhost", false),
            ("harbor.lan:5000", "harbor.lan:5000", false),
            ("harbor.lan:5", "harbor.lan", false),
            ("harbor.lan@sha256:00", "harbor.lan", false),
            ("localhost:5000", "localhost:", true),
        ] {
            assert_eq!(begins_with(name, listed), has, "{name} {listed}");
        }
    }

    #[test]
    fn an_image_with_volumes_or_without_a_program_or_an_id_is_refused() {
        let id = format!("sha256:{}", "0a".repeat(32));
        let config = ImageConfig { cmd: Some(vec!["/agent".into()]), ..ImageConfig::default() };
        let plain = ImageInspect { id: Some(id.clone()), config: Some(config), ..ImageInspect::default() };
        assert_eq!(check("x", &plain).unwrap().to_string(), id);
        let bare = ImageInspect { id: Some("0a".repeat(32)), ..plain.clone() };
        assert_eq!(check("x", &bare).unwrap().to_string(), id);
        assert!(check("x", &ImageInspect { id: None, ..plain.clone() }).unwrap_err().contains("no SHA-256"));
        let mute = ImageConfig { entrypoint: Some(Vec::new()), ..ImageConfig::default() };
        for config in [None, Some(mute)] {
            let refused = check("x", &ImageInspect { config, ..plain.clone() }).unwrap_err();
            assert!(refused.contains("`ENTRYPOINT` or `CMD`"), "{refused}");
        }
        let config = ImageConfig { volumes: Some(vec!["/data".into()]), ..ImageConfig::default() };
        let with_volume = ImageInspect { config: Some(config), ..plain };
        assert!(check("x", &with_volume).unwrap_err().contains("declares the volume `/data`"));
    }
}
