//! Objects that are being read: in parts as the guest asks for them, a piece at a time in memory. Of an object that is
//! called by its digest the last part is handed out when the whole has been found to be what it is called.
//!
//! Invariant: at most one piece is held; nothing is handed out that completes content which was not checked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mentat_manifest::ByteCount;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta};
use sha2::{Digest as _, Sha256};

use super::error::MediaError;
use super::names::{Digest, MediaType, ObjectName};
use super::store::MediaStore;
use crate::host::capabilities::CallError;

/// Bytes that are fetched at once, and held until the guest has read them.
const PIECE_BYTES: u64 = 512 << 10;

/// An object that is being read.
pub(crate) struct OpenObject {
    store: Arc<MediaStore>,
    reference: String,
    path: Path,
    meta: ObjectMeta,
    media_type: MediaType,
    check: Check,
    /// Bytes that came from the store and are not charged for.
    fetched: u64,
    /// Where the piece that is held begins, and the piece.
    held: (u64, Bytes),
}

/// What is known of the content.
enum Check {
    /// It has no digest, or is what its digest says.
    Good,
    /// It was looked at so far.
    Looking { digest: Digest, hash: Box<Sha256>, looked: u64 },
    /// It is not what its digest says.
    Damaged,
}

impl OpenObject {
    pub(super) fn new(
        store: Arc<MediaStore>,
        name: &ObjectName,
        path: Path,
        meta: ObjectMeta,
        media_type: MediaType,
    ) -> Self {
        let check = match name.digest() {
            Some(digest) => Check::Looking { digest, hash: Box::default(), looked: 0 },
            None => Check::Good,
        };
        let held = (0, Bytes::new());
        Self { store, reference: name.reference(), path, meta, media_type, check, fetched: 0, held }
    }

    /// Its bytes.
    pub(crate) fn size(&self) -> u64 {
        self.meta.size
    }

    pub(crate) fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }

    /// When it was stored, in milliseconds since 1970.
    pub(crate) fn modified_ms(&self) -> i64 {
        self.meta.last_modified.timestamp_millis()
    }

    /// Bytes that came from the store since this was last asked.
    pub(super) fn take_fetched(&mut self) -> u64 {
        std::mem::take(&mut self.fetched)
    }

    /// The next bytes from an offset on, so many at most; fewer than are there, and none at the end alone.
    pub(super) async fn read(&mut self, offset: u64, length: u64) -> Result<Bytes, MediaError> {
        let left = self.size().saturating_sub(offset);
        if left == 0 || length == 0 {
            // Even nothing is not what its digest says.
            if offset >= self.size() {
                self.look_to_the_end().await?;
            }
            return Ok(Bytes::new());
        }
        if self.at_hand(offset).is_empty() {
            if let Check::Looking { looked, .. } = self.check
                && offset > looked
            {
                // What is skipped is looked at now, since it will not come by.
                self.look_to_the_end().await?;
            }
            let piece = self.fetch(offset).await?;
            self.held = (offset, piece);
        }
        let at_hand = self.at_hand(offset);
        Ok(at_hand.slice(..at_hand.len().min(usize::try_from(length).unwrap_or(usize::MAX))))
    }

    /// Fills memory from an offset on, as far as that goes; answers how many bytes those were.
    pub(super) async fn fill(&mut self, offset: u64, target: &mut [u8]) -> Result<usize, MediaError> {
        let mut filled = 0;
        loop {
            let left = target.get_mut(filled..).unwrap_or_default();
            let piece = self.read(offset.saturating_add(filled as u64), left.len() as u64).await?;
            let Some(left) = left.get_mut(..piece.len()).filter(|left| !left.is_empty()) else {
                return Ok(filled);
            };
            left.copy_from_slice(&piece);
            filled += piece.len();
        }
    }

    /// All of it.
    pub(super) async fn gather(&mut self, limit: ByteCount) -> Result<Vec<u8>, MediaError> {
        if self.size() > limit.0 {
            let advice = "; `open` reads it in parts";
            return Err(MediaError::TooLarge { what: "object", limit, advice });
        }
        let size = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let mut whole = Vec::with_capacity(size);
        loop {
            let piece = self.read(whole.len() as u64, PIECE_BYTES).await?;
            if piece.is_empty() {
                return Ok(whole);
            }
            whole.extend_from_slice(&piece);
        }
    }

    /// All of it, for those who know no more of media than that something can be wrong.
    pub(crate) async fn whole(mut self, limit: ByteCount) -> Result<Bytes, CallError> {
        Ok(self.gather(limit).await?.into())
    }

    /// What is held from an offset on.
    fn at_hand(&self, offset: u64) -> Bytes {
        let (begin, piece) = &self.held;
        let skipped = offset.checked_sub(*begin).and_then(|skipped| usize::try_from(skipped).ok());
        match skipped {
            Some(skipped) if skipped < piece.len() => piece.slice(skipped..),
            _ => Bytes::new(),
        }
    }

    async fn look_to_the_end(&mut self) -> Result<(), MediaError> {
        while let Check::Looking { looked, .. } = self.check {
            if looked == self.size() {
                self.look(&Bytes::new())?;
            } else {
                self.fetch(looked).await?;
            }
        }
        match self.check {
            Check::Damaged => Err(MediaError::Damaged(self.reference.clone())),
            Check::Good | Check::Looking { .. } => Ok(()),
        }
    }

    /// The piece at an offset, looked at where it is the next one to be.
    async fn fetch(&mut self, offset: u64) -> Result<Bytes, MediaError> {
        if matches!(self.check, Check::Damaged) {
            return Err(MediaError::Damaged(self.reference.clone()));
        }
        // A piece that was handed out before ends where it is known, so that it cannot hold the last part.
        let end = match self.check {
            Check::Looking { looked, .. } if offset < looked => looked,
            _ => self.size(),
        };
        let end = end.min(offset.saturating_add(PIECE_BYTES));
        let asked = GetOptions::new().with_range(Some(offset..end)).with_if_match(self.meta.e_tag.clone());
        let getting = async { self.store.objects.get_opts(&self.path, asked).await?.bytes().await };
        let piece = self.store.timed(&self.reference, getting).await?;
        if piece.len() as u64 != end - offset {
            return Err(MediaError::Changed(self.reference.clone()));
        }
        self.fetched = self.fetched.saturating_add(piece.len() as u64);
        self.store.counts.read_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if matches!(self.check, Check::Looking { looked, .. } if looked == offset) {
            self.look(&piece)?;
        }
        Ok(piece)
    }

    /// Looks at the next piece; at the last one, decides.
    fn look(&mut self, piece: &[u8]) -> Result<(), MediaError> {
        let Check::Looking { digest, hash, looked } = &mut self.check else { return Ok(()) };
        hash.update(piece);
        *looked += piece.len() as u64;
        if *looked < self.meta.size {
            return Ok(());
        }
        if std::mem::take(hash).finalize()[..] == *digest {
            self.check = Check::Good;
            return Ok(());
        }
        let reference = &self.reference;
        self.store.tell(|| tracing::warn!(%reference, "an object is not what its digest says"));
        self.store.counts.damaged.fetch_add(1, Ordering::Relaxed);
        self.check = Check::Damaged;
        self.held = (0, Bytes::new());
        Err(MediaError::Damaged(self.reference.clone()))
    }
}

impl fmt::Debug for OpenObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenObject").field("reference", &self.reference).finish_non_exhaustive()
    }
}
