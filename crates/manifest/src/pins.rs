//! What an agent reads and writes, as MentatLab's editor draws it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One input or output of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its name, different from the others on its side.
    pub name: String,
    /// What flows through it.
    #[serde(rename = "type")]
    pub kind: PinType,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it must be connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Anything the author likes to note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, serde_json::Value>>,
}

/// What flows through a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PinType {
    /// Text.
    String,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A JSON document.
    Json,
    /// Bytes.
    Binary,
    /// Sound.
    Audio,
    /// A picture.
    Image,
    /// Moving pictures.
    Video,
    /// Chunks over time.
    Stream,
}

/// The media that an agent takes and makes, where it has one input, and one output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaPins {
    /// Whether the input can be an object.
    pub input: bool,
    /// The media type of the output, where that can be one: what `metadata` of the pin says as `media_type`.
    pub output: Option<String>,
}

impl MediaPins {
    pub(crate) fn of(inputs: &[Pin], outputs: &[Pin]) -> Self {
        let single = |pins: &'_ [Pin]| match pins {
            [pin] if pin.kind.is_media() => Some(pin.clone()),
            _ => None,
        };
        let media_type = |pin: &Pin| {
            let said = pin.metadata.as_ref().and_then(|metadata| metadata.get("media_type"));
            said.and_then(serde_json::Value::as_str).unwrap_or("application/octet-stream").to_owned()
        };
        Self { input: single(inputs).is_some(), output: single(outputs).as_ref().map(media_type) }
    }
}

impl PinType {
    /// Whether what flows through it can be an object of a media store.
    #[must_use]
    pub fn is_media(self) -> bool {
        matches!(self, Self::Binary | Self::Audio | Self::Image | Self::Video)
    }

    /// The word in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Audio => "audio",
            Self::Image => "image",
            Self::Video => "video",
            Self::Stream => "stream",
        }
    }
}
