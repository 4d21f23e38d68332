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

impl PinType {
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
