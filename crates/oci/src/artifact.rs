//! What an agent looks like in a registry: an artifact by the Wasm OCI artifact layout of CNCF's TAG Runtime
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>). Its one layer is the module, so that everything
//! that takes such artifacts takes this one; the agent's manifest, with the attestation in it, stands in the configuration,
//! under a member of our own that others pass over.
//!
//! Pure: bytes in, values out, and the other way round. Invariant: the digest of the image names all of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion, Digest, escape_untrusted};
use serde::{Deserialize, Serialize};

use crate::error::OciError;

/// Media type of an image's manifest (OCI image specification 1.1).
pub(crate) const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media types of what holds several images, each of which has to be named by itself.
const INDEX_TYPES: &[&str] =
    &["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const MODULE_TYPE: &str = "application/wasm";
const ARCHITECTURE: &str = "wasm";
/// What a layer is called as a file (OCI image specification, annotations).
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
/// Of the part of the configuration that is ours.
const AGENT_FORMAT: u32 = 1;
/// When every artifact was created: the same agent has the same digest, whoever pushes it and when.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Bytes of an image's manifest at most; those of artifacts have some hundreds.
pub const MAX_IMAGE_BYTES: u64 = 1 << 20;
/// Bytes of a configuration at most: the largest manifest of an agent, however much of it has to be escaped.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Characters of a registry's words that are shown.
const MAX_SHOWN: usize = 100;

/// Something in a registry, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What is said of an artifact: where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) config: Blob,
    pub(crate) module: Blob,
}

/// What an artifact's configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmConfig {
    /// The agent's manifest, where it is an agent and not a module alone.
    pub manifest: Option<String>,
}

/// What a component imports and exports, by the names of the interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// What it offers.
    pub exports: Vec<String>,
    /// What it needs.
    pub imports: Vec<String>,
    /// The world that it was made for; not known of any.
    pub target: Option<String>,
}

/// An agent as it goes into a registry.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub(crate) image: Bytes,
    pub(crate) config: Bytes,
    pub(crate) module: Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageText {
    schema_version: u32,
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigText {
    #[serde(default)]
    created: String,
    architecture: String,
    os: String,
    layer_digests: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    component: Option<Component>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mentat: Option<AgentText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentText {
    /// Of this object.
    format: u32,
    /// The manifest's YAML text, byte for byte.
    manifest: String,
}

impl Image {
    /// Reads what a registry says of an artifact; `media_type` is what it calls that.
    ///
    /// # Errors
    /// For what is no artifact of WebAssembly with one layer.
    pub fn read(media_type: &str, bytes: &[u8]) -> Result<Self, OciError> {
        let bare = media_type.split(';').next().unwrap_or_default().trim();
        if INDEX_TYPES.iter().any(|index| bare.eq_ignore_ascii_case(index)) {
            return Err(untrusted("it is an index of several images; name one of them by its digest"));
        }
        if !bare.eq_ignore_ascii_case(IMAGE_TYPE) {
            return Err(untrusted(&format!("its media type is `{}`, not `{IMAGE_TYPE}`", shown(media_type))));
        }
        let text: ImageText = read(bytes, "manifest of the image")?;
        if text.schema_version != 2 || text.media_type.as_deref().is_some_and(|said| said != IMAGE_TYPE) {
            return Err(untrusted("its manifest is of another kind than it is said to be"));
        }
        let config = text.config.blob(CONFIG_TYPE, "configuration")?;
        let [layer] = text.layers.as_slice() else {
            let message = format!("it has {} layers; an artifact of WebAssembly has one", text.layers.len());
            return Err(untrusted(&message));
        };
        let module = layer.blob(MODULE_TYPE, "layer")?;
        if config.size > MAX_CONFIG_BYTES {
            return Err(untrusted(&format!(
                "its configuration has {} bytes, more than {MAX_CONFIG_BYTES}",
                config.size
            )));
        }
        Ok(Self { config, module })
    }
}

impl WasmConfig {
    /// Reads the configuration of an artifact.
    ///
    /// # Errors
    /// For what is none, or that of another artifact.
    pub fn read(bytes: &[u8], image: &Image) -> Result<Self, OciError> {
        let text: ConfigText = read(bytes, "configuration")?;
        if text.architecture != ARCHITECTURE {
            return Err(untrusted(&format!(
                "its architecture is `{}`, not `{ARCHITECTURE}`",
                shown(&text.architecture)
            )));
        }
        let same =
            matches!(text.layer_digests.as_slice(), [layer] if *layer == image.module.digest.to_string());
        if !same {
            return Err(untrusted("its configuration lists other layers than its manifest"));
        }
        match text.mentat {
            Some(agent) if agent.format != AGENT_FORMAT => Err(untrusted(&format!(
                "its `mentat` object is of format {}; this version reads {AGENT_FORMAT}",
                agent.format
            ))),
            agent => Ok(Self { manifest: agent.map(|agent| agent.manifest) }),
        }
    }
}

impl Artifact {
    /// Puts an agent together: its manifest's text, its module, the path of that beside the manifest, and its interfaces
    /// where it is a component. The same agent always makes the same artifact.
    ///
    /// # Errors
    /// For a manifest that is larger than any that is read again.
    pub fn new(
        (id, version): (&AgentId, &AgentVersion),
        manifest: &str,
        module: Bytes,
        module_path: &str,
        component: Option<Component>,
    ) -> Result<Self, OciError> {
        let layer = Descriptor::of(MODULE_TYPE, &module, &[(TITLE, module_path)]);
        let config = write(&ConfigText {
            created: CREATED.to_owned(),
            architecture: ARCHITECTURE.to_owned(),
            // Of plain modules as well: the layout has no name for what needs less.
            os: if component.is_some() { "wasip2" } else { "wasip1" }.to_owned(),
            layer_digests: vec![layer.digest.clone()],
            component,
            mentat: Some(AgentText { format: AGENT_FORMAT, manifest: manifest.to_owned() }),
        })?;
        if config.len() as u64 > MAX_CONFIG_BYTES {
            let message =
                format!("the configuration has {} bytes, more than {MAX_CONFIG_BYTES}", config.len());
            return Err(OciError::Invalid(message));
        }
        let (id, version) = (id.to_string(), version.to_string());
        let annotation = |name: &str, value: String| (name.to_owned(), value);
        let image = write(&ImageText {
            schema_version: 2,
            media_type: Some(IMAGE_TYPE.to_owned()),
            config: Descriptor::of(CONFIG_TYPE, &config, &[]),
            layers: vec![layer],
            annotations: [annotation(TITLE, id), annotation(VERSION, version)].into(),
        })?;
        Ok(Self { image, config, module })
    }

    /// The digest that names all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.image)
    }

    /// Bytes of all of it.
    #[must_use]
    pub fn size(&self) -> u64 {
        (self.image.len() as u64) + (self.config.len() as u64) + (self.module.len() as u64)
    }
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8], annotations: &[(&str, &str)]) -> Self {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes).to_string(),
            size: bytes.len() as u64,
            annotations: annotations.collect(),
        }
    }

    fn blob(&self, media_type: &str, what: &str) -> Result<Blob, OciError> {
        if self.media_type != media_type {
            let said = shown(&self.media_type);
            return Err(untrusted(&format!("its {what} is of media type `{said}`, not `{media_type}`")));
        }
        let digest = self.digest.parse().map_err(|error| untrusted(&format!("its {what}: {error}")))?;
        Ok(Blob { digest, size: self.size })
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, OciError> {
    serde_json::from_slice(bytes)
        .map_err(|error| untrusted(&format!("its {what} cannot be read: {}", shown(&error.to_string()))))
}

fn write<T: Serialize>(value: &T) -> Result<Bytes, OciError> {
    let written = serde_json::to_vec(value);
    written.map(Bytes::from).map_err(|error| OciError::Local(format!("writing the artifact: {error}")))
}

fn untrusted(what: &str) -> OciError {
    OciError::Untrusted(format!("what the registry has is no agent: {what}"))
}

fn shown(text: &str) -> String {
    escape_untrusted(text, MAX_SHOWN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const MANIFEST: &str = "id: a.b\nversion: 1.0.0+x\nruntime: wasm\n# \u{1f980} \"quoted\"\n";

    fn artifact(component: Option<Component>) -> Artifact {
        let (id, version) = ("a.b".parse().unwrap(), "1.0.0+x".parse().unwrap());
        Artifact::new((&id, &version), MANIFEST, Bytes::from_static(b"\0asm"), "out/agent.wasm", component)
            .unwrap()
    }

    fn image_of(artifact: &Artifact, change: impl FnOnce(&mut Value)) -> Result<Image, OciError> {
        let mut image: Value = serde_json::from_slice(&artifact.image).unwrap();
        change(&mut image);
        Image::read(IMAGE_TYPE, &serde_json::to_vec(&image).unwrap())
    }

    fn config_of(artifact: &Artifact, change: impl FnOnce(&mut Value)) -> Result<WasmConfig, OciError> {
        let mut config: Value = serde_json::from_slice(&artifact.config).unwrap();
        change(&mut config);
        let image = Image::read(IMAGE_TYPE, &artifact.image).unwrap();
        WasmConfig::read(&serde_json::to_vec(&config).unwrap(), &image)
    }

    #[test]
    fn an_artifact_is_what_the_layout_says() {
        let component = Component { imports: vec!["wasi:cli/run@0.2.6".into()], ..Component::default() };
        let artifact = artifact(Some(component));
        let image: Value = serde_json::from_slice(&artifact.image).unwrap();
        assert_eq!(image["schemaVersion"], 2);
        assert_eq!(image["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        assert_eq!(image["layers"].as_array().unwrap().len(), 1);
        assert_eq!(image["layers"][0]["mediaType"], "application/wasm");
        assert_eq!(image["layers"][0]["annotations"], json!({ TITLE: "out/agent.wasm" }));
        assert_eq!(image["annotations"], json!({ TITLE: "a.b", VERSION: "1.0.0+x" }));
        let config: Value = serde_json::from_slice(&artifact.config).unwrap();
        assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
        assert_eq!(config["layerDigests"], json!([Digest::of(b"\0asm").to_string()]));
        let component = json!({ "exports": [], "imports": ["wasi:cli/run@0.2.6"], "target": null });
        assert_eq!(config["component"], component);
    }

    #[test]
    fn what_is_written_is_read_again_and_is_the_same_each_time() {
        let artifact = artifact(None);
        let image = Image::read("application/vnd.oci.image.manifest.v1+json; charset=utf-8", &artifact.image)
            .unwrap();
        assert_eq!(image.module, Blob { digest: Digest::of(b"\0asm"), size: 4 });
        let config = WasmConfig::read(&artifact.config, &image).unwrap();
        assert_eq!(config.manifest.as_deref(), Some(MANIFEST));
        assert_eq!(artifact.digest(), self::artifact(None).digest());
    }

    #[test]
    fn what_others_have_pushed_is_a_module_alone() {
        let config = config_of(&artifact(None), |config| {
            config.as_object_mut().unwrap().remove("mentat");
            config["author"] = json!("somebody");
        });
        assert_eq!(config.unwrap().manifest, None);
    }

    #[test]
    fn what_is_no_such_artifact_is_refused() {
        let artifact = artifact(None);
        let says = |result: Result<Image, OciError>| result.unwrap_err().to_string();
        for index in INDEX_TYPES {
            assert!(says(Image::read(index, &artifact.image)).contains("name one of them by its digest"));
        }
        assert!(says(Image::read("text/html\u{1b}", b"{}")).contains("its media type is `text/html\\u{1b}`"));
        assert!(says(Image::read(IMAGE_TYPE, b"{")).contains("cannot be read"));
        assert!(
            says(image_of(&artifact, |image| image["schemaVersion"] = json!(1))).contains("another kind")
        );
        assert!(says(image_of(&artifact, |image| image["mediaType"] = json!("x"))).contains("another kind"));
        assert!(says(image_of(&artifact, |image| image["layers"] = json!([]))).contains("has 0 layers"));
        let twice =
            image_of(&artifact, |image| image["layers"] = json!([image["layers"][0], image["layers"][0]]));
        assert!(says(twice).contains("has 2 layers"));
        for media_type in ["application/vnd.oci.image.layer.v1.tar+gzip", "Application/Wasm"] {
            let other = image_of(&artifact, |image| image["layers"][0]["mediaType"] = json!(media_type));
            assert!(says(other).contains("its layer is of media type"));
        }
        let container = image_of(&artifact, |image| {
            image["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        });
        assert!(says(container).contains("its configuration is of media type"));
        for digest in ["sha512:00", "sha256:../../x"] {
            let other = image_of(&artifact, |image| image["layers"][0]["digest"] = json!(digest));
            assert!(says(other).contains("is no digest"));
        }
        for size in [json!(-1), json!(1.5), json!("1"), json!(1e30)] {
            assert!(
                says(image_of(&artifact, |image| image["layers"][0]["size"] = size))
                    .contains("cannot be read")
            );
        }
        let large = image_of(&artifact, |image| image["config"]["size"] = json!(MAX_CONFIG_BYTES + 1));
        assert!(says(large).contains("more than"));
    }

    #[test]
    fn a_configuration_must_be_that_of_the_artifact() {
        let artifact = artifact(None);
        for (says, change) in [
            (
                "architecture is `amd64`",
                Box::new(|config: &mut Value| config["architecture"] = json!("amd64"))
                    as Box<dyn FnOnce(&mut Value)>,
            ),
            ("other layers", Box::new(|config: &mut Value| config["layerDigests"] = json!([]))),
            (
                "other layers",
                Box::new(|config: &mut Value| config["layerDigests"] = json!([Digest::of(b"x").to_string()])),
            ),
            ("format 2", Box::new(|config: &mut Value| config["mentat"]["format"] = json!(2))),
            ("cannot be read", Box::new(|config: &mut Value| config["mentat"]["manifets"] = json!(""))),
        ] {
            let error = config_of(&artifact, change).unwrap_err().to_string();
            assert!(error.contains(says), "{says} is not in {error}");
        }
    }

    #[test]
    fn a_member_that_stands_there_twice_is_refused() {
        let artifact = artifact(None);
        let text = String::from_utf8(artifact.image.to_vec()).unwrap();
        let twice = text.replacen("\"layers\":", "\"layers\":[],\"layers\":", 1);
        assert!(
            Image::read(IMAGE_TYPE, twice.as_bytes()).unwrap_err().to_string().contains("duplicate field")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = Image::read(IMAGE_TYPE, &bytes);
            let artifact = artifact(None);
            let image = Image::read(IMAGE_TYPE, &artifact.image).unwrap();
            for part in [&artifact.image, &artifact.config] {
                let mut changed = part.to_vec();
                let at = cut.index(changed.len());
                changed[at] = byte;
                let _ = Image::read(IMAGE_TYPE, &changed);
                let _ = WasmConfig::read(&changed, &image);
                let _ = Image::read(IMAGE_TYPE, &changed[..at]);
            }
        }
    }
}
