//! The form in which `curl -F` and web pages load an agent: the manifest and the module as they lie on disk.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use mentat_manifest::escape_untrusted;
use mentat_runtime::error::Error;
use multer::Multipart;
use utoipa::ToSchema;

use super::bodies::agent_id;
use crate::dispatch::LoadRequest;
use crate::registry::OnConflict;

/// The media type of a form that carries files.
pub(super) const FORM: &str = "multipart/form-data";

/// Asks to load an agent, as a form: `curl -F manifest=@manifest.yaml -F module=@agent.wasm …`.
#[derive(Debug, Default, ToSchema)]
pub(super) struct LoadForm {
    /// The id that the caller expects; must be the manifest's where given.
    agent_id: Option<String>,
    /// The manifest's YAML text.
    #[schema(required, value_type = String)]
    manifest: Option<String>,
    /// The module's bytes; left out of a container agent's.
    #[schema(value_type = Option<String>, format = Binary)]
    module: Option<Bytes>,
    /// The attestation where it comes beside the manifest: the block as YAML or JSON.
    attestation: Option<String>,
    /// Whether to replace a loaded version whose content differs: `true` or `false`.
    #[schema(value_type = Option<bool>)]
    replace: Option<String>,
}

impl LoadForm {
    /// Reads a form; its fields may come in any order, each of them once.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for what is no form, and for fields that are unknown, given twice or no text.
    pub(super) async fn parse(content_type: &str, body: Bytes) -> Result<Self, Error> {
        let boundary = multer::parse_boundary(content_type).map_err(|error| malformed(&error))?;
        let mut parts = Multipart::new(stream::once(async { Ok::<_, Infallible>(body) }), boundary);
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(|error| malformed(&error))? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(|error| malformed(&error))?;
            match name.as_str() {
                "agent_id" => once(&name, &mut form.agent_id, text(&name, &bytes)?)?,
                "manifest" => once(&name, &mut form.manifest, text(&name, &bytes)?)?,
                "module" => once(&name, &mut form.module, bytes)?,
                "attestation" => once(&name, &mut form.attestation, text(&name, &bytes)?)?,
                "replace" => once(&name, &mut form.replace, text(&name, &bytes)?)?,
                _ => {
                    let name = escape_untrusted(&name, 100);
                    return Err(wrong(format!(
                        "the form's field `{name}` is unknown; known are manifest, module, attestation, agent_id, replace"
                    )));
                }
            }
        }
        Ok(form)
    }

    /// What the form asks for.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a field that is missing or makes no sense.
    pub(super) fn into_request(self) -> Result<LoadRequest, Error> {
        let missing = |name: &str| wrong(format!("the form has no field `{name}`"));
        let on_conflict = match self.replace.as_deref().map(str::trim) {
            None | Some("false") => OnConflict::Refuse,
            Some("true") => OnConflict::Replace,
            Some(_) => return Err(wrong("the form's field `replace` is neither `true` nor `false`".into())),
        };
        Ok(LoadRequest {
            agent_id: self.agent_id.as_deref().map(agent_id).transpose()?,
            manifest: self.manifest.ok_or_else(|| missing("manifest"))?,
            module: self.module.unwrap_or_default(),
            attestation: self.attestation,
            on_conflict,
        })
    }
}

fn once<T>(name: &str, field: &mut Option<T>, value: T) -> Result<(), Error> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong(format!("the form has its field `{name}` twice"))),
    }
}

fn text(name: &str, bytes: &Bytes) -> Result<String, Error> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|error| wrong(format!("the form's field `{name}` is not UTF-8: {error}")))
}

fn malformed(error: &multer::Error) -> Error {
    wrong(escape_untrusted(&format!("the body is no readable form: {error}"), 300))
}

fn wrong(message: String) -> Error {
    Error::InvalidRequest { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, content: &str) -> String {
        format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    async fn read(parts: &[String]) -> Result<LoadRequest, Error> {
        let body = format!("{}--B--\r\n", parts.concat());
        LoadForm::parse("multipart/form-data; boundary=B", body.into()).await?.into_request()
    }

    async fn refusal(parts: &[String]) -> String {
        read(parts).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn fields_come_in_any_order() {
        let parts = [part("module", "\0asm\r\n--A"), part("replace", "true"), part("manifest", "id: a.b")];
        let request = read(&parts).await.unwrap();
        assert_eq!((request.manifest.as_str(), &request.module[..]), ("id: a.b", &b"\0asm\r\n--A"[..]));
        assert!(matches!(request.on_conflict, OnConflict::Replace) && request.agent_id.is_none());
    }

    #[tokio::test]
    async fn what_is_missing_twice_or_unknown_is_named() {
        let manifest = || part("manifest", "id: a.b");
        let module = || part("module", "\0asm");
        assert_eq!(read(&[manifest()]).await.unwrap().module, "", "a container agent has none");
        assert!(refusal(&[module()]).await.contains("no field `manifest`"));
        assert!(refusal(&[manifest(), manifest()]).await.contains("`manifest` twice"));
        assert!(refusal(&[part("modul", "")]).await.contains("`modul` is unknown"));
        assert!(refusal(&[manifest(), module(), part("replace", "maybe")]).await.contains("neither `true`"));
    }

    #[tokio::test]
    async fn what_is_no_form_is_refused() {
        for (content_type, body) in [
            ("multipart/form-data", ""),
            ("multipart/form-data; boundary=B", ""),
            (
                "multipart/form-data; boundary=B",
                "--B\r\ncontent-disposition: form-data; name=\"manifest\"\r\n\r\nid",
            ),
            ("multipart/form-data; boundary=B", "no boundary anywhere"),
        ] {
            let error = match LoadForm::parse(content_type, body.into()).await {
                Ok(form) => form.into_request().unwrap_err(),
                Err(error) => error,
            };
            assert!(matches!(error, Error::InvalidRequest { .. }), "{error:?}");
        }
    }
}
