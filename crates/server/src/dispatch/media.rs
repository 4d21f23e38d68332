//! Objects of the media store for callers: what agents are to be given, and what they made. Each goes by the authority, and on
//! record.

use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use mentat_runtime::security::audit::{MediaAction, MediaPart};
use mentat_runtime::{NewObject, TenantMedia};
pub use mentat_runtime::{StoredContent, StoredObject};

use super::Dispatcher;

impl Dispatcher {
    /// Begins to store an object of the caller's tenant.
    ///
    /// # Errors
    /// `POLICY_DENIED` where the operator keeps callers from it; `INVALID_REQUEST`; `OVERLOADED`.
    pub async fn begin_object(&self, caller: &Caller, media_type: &str) -> Result<NewObject, Error> {
        let permission = self.authority.permit_owner(TenantMedia::to_begin())?;
        self.runtime.media_of(&caller.tenant)?.begin(&permission, media_type).await
    }

    /// Makes an object of what came.
    ///
    /// # Errors
    /// As [`Dispatcher::begin_object`].
    pub async fn finish_object(&self, caller: &Caller, object: NewObject) -> Result<StoredObject, Error> {
        let permission = self.authority.permit_owner(object.to_finish())?;
        let stored = object.finish(&permission).await?;
        self.record_media(caller, MediaAction::Stored, &stored.reference, stored.bytes);
        Ok(stored)
    }

    /// Opens an object of the caller's tenant; `None` where there is none.
    ///
    /// # Errors
    /// As [`Dispatcher::begin_object`].
    pub async fn open_object(
        &self,
        caller: &Caller,
        reference: &str,
    ) -> Result<Option<StoredContent>, Error> {
        let media = self.runtime.media_of(&caller.tenant)?;
        let permission = self.authority.permit_owner(media.to_open(reference)?)?;
        let opened = media.open(&permission).await?;
        if let Some(content) = &opened {
            self.record_media(caller, MediaAction::Read, content.reference(), content.bytes());
        }
        Ok(opened)
    }

    fn record_media(&self, caller: &Caller, action: MediaAction, reference: &str, bytes: u64) {
        self.authority.record_media(MediaPart {
            action,
            reference: reference.to_owned(),
            bytes,
            tenant: caller.tenant.to_string(),
            caller: caller.name.to_string(),
        });
    }
}
