//! An agent into a registry: blobs first, each in one piece and only where the registry does not have it, then the image's
//! manifest under a tag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;
use mentat_manifest::Digest;

use crate::artifact::{Artifact, IMAGE_TYPE};
use crate::client::{Client, Progress};
use crate::connection::OnSent;
use crate::error::OciError;
use crate::pull::DIGEST_HEADER;
use crate::reference::{Reference, Selector};
use crate::session::{Ask, Scope, Session};

const BLOB_TYPE: &str = "application/octet-stream";

/// What was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// What names all of it.
    pub digest: Digest,
    /// Bytes that the registry did not have before.
    pub sent: u64,
}

pub(crate) async fn push(
    client: &Client,
    reference: &Reference,
    artifact: &Artifact,
    progress: &Progress,
) -> Result<Pushed, OciError> {
    let Selector::Tag(tag) = &reference.selector else {
        return Err(OciError::Invalid(format!(
            "`{reference}`: push to a tag; the digest is what comes of it"
        )));
    };
    let mut session = Session::new(client, reference, Scope::Push)?;
    let (mut done, mut sent) = (0, 0);
    for (what, blob) in [("the module", &artifact.module), ("the configuration", &artifact.config)] {
        let on_sent = counting(progress, done, blob.len() as u64, artifact.size());
        sent += upload(&mut session, what, blob, on_sent).await?;
        done += blob.len() as u64;
        progress(done, artifact.size());
    }
    let digest = artifact.digest();
    let url = session.url(&format!("manifests/{tag}"))?;
    let answer = session.ask(&Ask::put(artifact.image.clone(), IMAGE_TYPE), url).await?;
    if answer.status != StatusCode::CREATED {
        return Err(session.refusal(answer, &format!("pushing `{reference}`")).await);
    }
    if answer.header(DIGEST_HEADER).is_some_and(|said| said != digest.to_string()) {
        return Err(OciError::Untrusted(format!(
            "`{reference}`: the registry has taken something else than {digest}"
        )));
    }
    progress(artifact.size(), artifact.size());
    Ok(Pushed { digest, sent: sent + artifact.image.len() as u64 })
}

/// Tells of a blob that comes after `before` bytes of others. One that is sent a second time, because the first had to be
/// repeated with other credentials, does not count twice.
fn counting(progress: &Progress, before: u64, size: u64, total: u64) -> OnSent {
    let (progress, sent) = (Arc::clone(progress), AtomicU64::new(0));
    Arc::new(move |count| {
        let sent = sent.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        progress(before + sent.min(size), total);
    })
}

/// Sends a blob unless it is there; answers how many bytes were sent.
async fn upload(
    session: &mut Session<'_>,
    what: &str,
    blob: &Bytes,
    on_sent: OnSent,
) -> Result<u64, OciError> {
    let digest = Digest::of(blob);
    let url = session.url(&format!("blobs/{digest}"))?;
    let answer = session.ask(&Ask::head(), url).await?;
    match answer.status {
        StatusCode::OK => return Ok(0),
        StatusCode::NOT_FOUND => {}
        _ => return Err(session.refusal(answer, &format!("looking for {what}, {digest}")).await),
    }
    let asked = session.url("blobs/uploads/")?;
    let answer = session.ask(&Ask::post(), asked.clone()).await?;
    if answer.status != StatusCode::ACCEPTED {
        return Err(session.refusal(answer, &format!("pushing {what}")).await);
    }
    let mut url = session.upload_url(&answer, &asked)?;
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    let answer = session.ask(&Ask::put(blob.clone(), BLOB_TYPE).telling(on_sent), url).await?;
    if answer.status != StatusCode::CREATED {
        return Err(session.refusal(answer, &format!("pushing {what}, {digest}")).await);
    }
    Ok(blob.len() as u64)
}
