//! Objects of the media store for callers: what agents are to be given, and what they made. Each goes by the authority, and on
//! record.

use bytes::Bytes;
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

    /// Makes an object of what came. Not to be given up once begun, for what is stored is on record.
    ///
    /// # Errors
    /// As [`Dispatcher::begin_object`].
    pub async fn finish_object(&self, caller: &Caller, object: NewObject) -> Result<StoredObject, Error> {
        let permission = self.authority.permit_owner(object.to_finish())?;
        let stored = object.finish(&permission).await?;
        self.record_media(caller, MediaAction::Stored, &stored.reference, stored.bytes);
        Ok(stored)
    }

    /// Looks at an object of the caller's tenant; `None` where there is none.
    ///
    /// # Errors
    /// As [`Dispatcher::begin_object`].
    pub async fn look_at_object(
        &self,
        caller: &Caller,
        reference: &str,
    ) -> Result<Option<StoredContent>, Error> {
        let media = self.runtime.media_of(&caller.tenant)?;
        let permission = self.authority.permit_owner(media.to_open(reference)?)?;
        media.open(&permission).await
    }

    /// Begins to read an object that was looked at; answers the first piece, of so many bytes at most.
    ///
    /// # Errors
    /// `OVERLOADED` for a store that does not answer, and for content that is damaged.
    pub async fn read_object(
        &self,
        caller: &Caller,
        content: &mut StoredContent,
        length: u64,
    ) -> Result<Bytes, Error> {
        let first = content.next(length).await?;
        self.record_media(caller, MediaAction::Read, content.reference(), content.bytes());
        Ok(first)
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
