//! An agent out of a registry: the image's manifest, its configuration, its module, each bounded and compared with its
//! digest. Nothing is answered of what is not whole.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use mentat_manifest::Digest;

use crate::artifact::{Blob, IMAGE_TYPE, Image, MAX_IMAGE_BYTES, WasmConfig};
use crate::client::{Client, Progress};
use crate::connection::Size;
use crate::error::OciError;
use crate::reference::{Reference, Selector};
use crate::session::{Ask, Scope, Session};

/// How registries tell a digest beside what it is of.
pub(crate) const DIGEST_HEADER: &str = "docker-content-digest";

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What names all of it.
    pub digest: Digest,
    /// The agent's manifest; `None` for a module that somebody pushed without one.
    pub manifest: Option<String>,
    /// The module.
    pub module: Bytes,
}

pub(crate) async fn pull(
    client: &Client,
    reference: &Reference,
    progress: &Progress,
) -> Result<Pulled, OciError> {
    let mut session = Session::new(client, reference, Scope::Pull)?;
    let which = match &reference.selector {
        Selector::Tag(tag) => tag.clone(),
        Selector::Digest(digest) => digest.to_string(),
        Selector::Unsaid => {
            return Err(OciError::Invalid(format!(
                "`{reference}` does not say which: add `:TAG` or `@sha256:…`"
            )));
        }
    };
    let url = session.url(&format!("manifests/{which}"))?;
    let answer = session.ask(&Ask::get(Some(IMAGE_TYPE)), url).await?;
    if answer.status != StatusCode::OK {
        return Err(session.refusal(answer, &format!("pulling `{reference}`")).await);
    }
    let media_type = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
    let said = answer.header(DIGEST_HEADER).map(str::to_owned);
    let (bytes, digest) = answer.read("the image's manifest", Size::AtMost(MAX_IMAGE_BYTES), |_| ()).await?;
    if reference.digest().is_some_and(|wanted| wanted != digest) {
        return Err(OciError::Untrusted(format!(
            "`{reference}`: the registry answers with another one, {digest}"
        )));
    }
    if said.is_some_and(|said| said != digest.to_string()) {
        return Err(OciError::Untrusted(format!(
            "`{reference}`: the registry answers with {digest} and says another digest"
        )));
    }
    let image = Image::read(&media_type, &bytes)?;
    let limit = client.max_module;
    if image.module.size > limit.0 {
        let message =
            format!("`{reference}`: its module has {} bytes, the limit is {limit}", image.module.size);
        return Err(OciError::Untrusted(message));
    }
    let total = image.config.size.saturating_add(image.module.size);
    let mut done = 0;
    let mut on_read = |count: u64| {
        done += count;
        progress(done, total);
    };
    let config = fetch(&mut session, "the configuration", &image.config, &mut on_read).await?;
    let config = WasmConfig::read(&config, &image)?;
    let module = fetch(&mut session, "the module", &image.module, &mut on_read).await?;
    Ok(Pulled { digest, manifest: config.manifest, module })
}

async fn fetch(
    session: &mut Session<'_>,
    what: &str,
    blob: &Blob,
    on_read: impl FnMut(u64),
) -> Result<Bytes, OciError> {
    let url = session.url(&format!("blobs/{}", blob.digest))?;
    let answer = session.ask(&Ask::get(None), url).await?;
    if answer.status != StatusCode::OK {
        return Err(session.refusal(answer, &format!("pulling {what}, {}", blob.digest)).await);
    }
    let (bytes, digest) = answer.read(what, Size::Exactly(blob.size), on_read).await?;
    if digest != blob.digest {
        return Err(OciError::Untrusted(format!(
            "{what} is not what it was when it was pushed: its digest is {digest}, and was to be {}",
            blob.digest
        )));
    }
    Ok(bytes)
}
