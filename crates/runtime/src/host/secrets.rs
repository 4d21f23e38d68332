//! Secrets of one execution. The guest gets a placeholder, which means nothing anywhere else; on the way to a host that
//! the operator bound the secret to, the value takes its place, and on the way back the placeholder takes the value's.
//!
//! Invariant: no byte of a value reaches the guest, the log or another host, as far as it is written in one of the forms
//! that [`forms`] knows.

mod body;
mod forms;
mod replace;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue,
    IF_RANGE, RANGE,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use mentat_manifest::Capability;
use parking_lot::Mutex;

use self::body::Replaced;
use self::forms::forms;
use self::replace::Replacements;
use super::abi::AbiError;
use super::capabilities::CallError;
use super::gate::Gate;
use super::network::NetworkError;
use super::requests::{Content, Received};
use super::stdio::LogSink;
use crate::model::LogLevel;
use crate::security::policy::Permission;

/// What every placeholder begins with.
const PLACEHOLDER: &str = "mentat-secret-";
/// Random bytes of a placeholder, so that none can be guessed.
const PLACEHOLDER_BYTES: usize = 16;
/// Bytes of a request's body that is sent with its length though secrets are put into it: it is gathered for that.
const MAX_GATHERED_BYTES: u64 = 1 << 20;
/// Secrets that one execution can be given.
const MAX_SECRETS: usize = 100;

/// The secrets that an execution was given.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<Vec<Issued>>);

/// A placeholder, and what it stands for.
#[derive(Clone, Debug)]
struct Issued {
    /// A secret, or a variable that the operator has sealed.
    capability: Capability,
    placeholder: String,
}

/// What is put into one request and taken out of its response.
pub(crate) struct Seal {
    /// Placeholders by values: of the secrets that may go to this host.
    place: Option<Arc<Replacements>>,
    /// Values by placeholders, in every form: of all secrets of the execution.
    masks: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Secrets {
    /// The placeholder of a secret, the same each time.
    ///
    /// # Errors
    /// When the execution has too many, or the host has no randomness.
    pub(crate) fn issue(&self, permission: &Permission) -> Result<String, CallError> {
        let mut issued = self.0.lock();
        let capability = permission.capability();
        if let Some(known) = issued.iter().find(|known| known.capability == *capability) {
            return Ok(known.placeholder.clone());
        }
        if issued.len() >= MAX_SECRETS {
            let message = format!("an execution may use {MAX_SECRETS} secrets");
            return Err(CallError::new(AbiError::Exhausted, message));
        }
        let mut bytes = [0; PLACEHOLDER_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| {
            tracing::error!(%error, "no randomness for a placeholder");
            CallError::new(AbiError::Unavailable, "the host has no randomness")
        })?;
        let random: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let placeholder = format!("{PLACEHOLDER}{random}");
        issued.push(Issued { capability: capability.clone(), placeholder: placeholder.clone() });
        Ok(placeholder)
    }

    /// What a request to `target` needs of them; `None` for an execution that was given none.
    pub(crate) fn seal(
        &self,
        gate: &Gate,
        logs: &LogSink,
        target: &Capability,
        headers: &HeaderMap,
    ) -> Option<Seal> {
        let issued = self.0.lock().clone();
        if issued.is_empty() {
            return None;
        }
        let (mut place, mut masks) = (Vec::new(), Vec::new());
        for Issued { capability, placeholder } in issued {
            let Some(secret) = gate.grant().offers().sealed(&capability) else { continue };
            let (value, by) = (secret.reveal().as_bytes(), placeholder.as_bytes());
            masks.extend(forms(value).into_iter().map(|form| (form, by.to_vec())));
            if !secret.may_go_to(target) {
                if headers.values().any(|header| contains(header.as_bytes(), by)) {
                    let hosts = secret.hosts();
                    let message = format!(
                        "`{capability}` goes to {hosts} alone; the request to `{target}` has its placeholder"
                    );
                    logs.log(LogLevel::Warn, message.as_bytes());
                }
                continue;
            }
            match gate.decide(&capability) {
                Ok(_) => place.push((by.to_vec(), value.to_vec())),
                Err(denial) => logs.log(LogLevel::Warn, denial.to_string().as_bytes()),
            }
        }
        Some(Seal { place: Replacements::placing(place).map(Arc::new), masks })
    }
}

impl Seal {
    /// Puts the secrets into a request.
    pub(crate) async fn place(
        &mut self,
        request: Request<Content>,
    ) -> Result<Request<Content>, NetworkError> {
        let Some(place) = self.place.clone() else { return Ok(request) };
        let (mut head, body) = request.into_parts();
        self.place_in_headers(&place, &mut head.headers)?;
        // What is compressed, or comes in parts of the guest's choice, cannot be masked.
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        head.headers.remove(RANGE);
        head.headers.remove(IF_RANGE);
        let length = head.headers.remove(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let body = match length {
            Some(length) if length <= MAX_GATHERED_BYTES => {
                let limit = usize::try_from(MAX_GATHERED_BYTES).unwrap_or(usize::MAX);
                let gathered = Limited::new(body, limit)
                    .collect()
                    .await
                    .map_err(|error| NetworkError::Malformed(format!("the body of the request: {error}")))?;
                let content = Bytes::from(place.apply(&gathered.to_bytes()));
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
                Full::new(content).map_err(|never| match never {}).boxed_unsync()
            }
            // Of a length that is not known before: sent in chunks.
            _ => Replaced::new(body, place).boxed_unsync(),
        };
        Ok(Request::from_parts(head, body))
    }

    fn place_in_headers(
        &mut self,
        place: &Replacements,
        headers: &mut HeaderMap,
    ) -> Result<(), NetworkError> {
        for (name, value) in headers.iter_mut() {
            let placed = match credentials(name, value) {
                // Name and password in base64 (RFC 7617); the host may repeat that as a whole.
                Some(plain) if place.occur_in(&plain) => {
                    let encoded = STANDARD.encode(place.apply(&plain));
                    self.masks.push((encoded.clone().into_bytes(), STANDARD.encode(&plain).into_bytes()));
                    format!("Basic {encoded}").into_bytes()
                }
                _ if place.occur_in(value.as_bytes()) => place.apply(value.as_bytes()),
                _ => continue,
            };
            *value = HeaderValue::from_bytes(&placed)
                .map_err(|_| NetworkError::UnfitSecret(name.as_str().to_owned()))?;
            value.set_sensitive(true);
        }
        Ok(())
    }

    /// Takes the secrets out of a response.
    pub(crate) fn mask(self, response: Response<Received>) -> Result<Response<Received>, NetworkError> {
        let is_bound = self.place.is_some();
        let Some(mask) = Replacements::masking(self.masks).map(Arc::new) else {
            return Ok(response);
        };
        let (mut head, body) = response.into_parts();
        if is_bound && let Some(encoding) = encoding(&head.headers) {
            return Err(NetworkError::Encoded(encoding));
        }
        mask_headers(&mask, &mut head.headers);
        head.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(head, Replaced::new(body, mask).boxed_unsync()))
    }
}

/// Takes secrets out of headers; one whose name holds a secret goes.
fn mask_headers(mask: &Replacements, headers: &mut HeaderMap) {
    let telling: Vec<HeaderName> =
        headers.keys().filter(|name| mask.occur_in(name.as_str().as_bytes())).cloned().collect();
    for name in telling {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        if mask.occur_in(value.as_bytes()) {
            let masked = HeaderValue::from_bytes(&mask.apply(value.as_bytes()));
            *value = masked.unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}

/// The plain text of basic credentials.
fn credentials(name: &HeaderName, value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.to_str().ok().filter(|_| *name == AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())?
}

/// The first encoding of a response that changes its bytes.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(CONTENT_ENCODING).iter();
    let mut names = all.flat_map(|value| value.to_str().unwrap_or("unknown").split(','));
    names.find(|name| !name.trim().eq_ignore_ascii_case("identity")).map(NetworkError::said)
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text)
}
