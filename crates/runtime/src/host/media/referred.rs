//! Inputs and outputs by reference: where a caller gives the reference of an object as the input of an agent that takes
//! one, the agent is given the object; and what it makes of it is stored, and its reference is the output.

use std::sync::Arc;

use mentat_manifest::{Capability, MediaAccess, MediaPins};

use super::error::MediaError;
use super::names::{MEDIA, S3};
use super::{MediaStore, OpenObject, open_object, store_content};
use crate::host::capabilities::CallError;
use crate::security::policy::{Grant, Permission};

/// Whether an input is a reference to an object that the agent is to be given: its manifest has one input, of media, and
/// asks to read objects. To all others it is the text that it is.
pub(crate) fn refers(grant: &Grant, input: &[u8]) -> bool {
    [MEDIA, S3].iter().any(|scheme| input.starts_with(scheme.as_bytes()))
        && grant.media_pins().is_some_and(|MediaPins { input, .. }| *input)
}

/// Opens the object that an input refers to.
pub(crate) async fn open_input(
    store: Option<&Arc<MediaStore>>,
    grant: &Grant,
    input: &[u8],
) -> Result<OpenObject, CallError> {
    let store = store.ok_or(MediaError::NoStore)?;
    open_object(store, grant.tenant(), input.trim_ascii_end(), |asked| decide(grant, asked)).await
}

/// Stores an output, where the manifest has one and it is of media; answers the reference.
pub(crate) async fn store_output(
    store: Option<&Arc<MediaStore>>,
    grant: &Grant,
    output: &[u8],
) -> Result<Option<String>, CallError> {
    let Some(media_type) = grant.media_pins().and_then(|pins| pins.output.as_deref()) else {
        return Ok(None);
    };
    let store = store.ok_or(MediaError::NoStore)?;
    let stored =
        store_content(store, grant.tenant(), output, media_type.as_bytes(), |asked| decide(grant, asked))
            .await;
    stored.map(Some)
}

fn decide(grant: &Grant, asked: &Capability) -> Result<Permission, CallError> {
    grant.decide(asked).map_err(CallError::from)
}

impl Grant {
    /// The media that flow through the agent's pins, where it asks to read any.
    fn media_pins(&self) -> Option<&MediaPins> {
        let listed = self.listed()?;
        let reads = |capability: &Capability| {
            matches!(capability, Capability::Media { access: MediaAccess::Read, .. })
        };
        listed.capabilities.iter().any(reads).then_some(&listed.media)
    }
}
