//! Secrets of one execution. The guest gets a placeholder, which means nothing anywhere else; on the way to a host that
//! the operator bound the secret to, the value takes its place, and on the way back the placeholder takes the value's.
//!
//! Invariant: no byte of a value reaches the guest, the log or another host, as far as it is written in one of the forms
//! that [`forms()`] knows.

mod body;
mod forms;
mod replace;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue,
    IF_RANGE, RANGE, TRANSFER_ENCODING,
};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use mentat_manifest::Capability;
use parking_lot::Mutex;

use self::body::Replaced;
use self::forms::forms;
use self::replace::{Held, Replacements};
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
/// What stands in the place of a secret that the execution was not given.
const UNKNOWN: &str = "mentat-secret-masked";
/// Encodings of responses that are told by their names.
const CODINGS: [&str; 6] = ["gzip", "x-gzip", "br", "zstd", "deflate", "compress"];
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
    /// Placeholders by values: of the secrets that may go to this host. `None` where none may.
    place: Option<Arc<Replacements>>,
    /// Values by placeholders, in every form.
    masks: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the host is one that secrets may go to, so that it may know some of them.
    is_bound: bool,
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

    /// What a request to `target` needs of them; `None` where neither the execution nor the host has any. What a host was sent
    /// once it may say again to anybody: so its responses are masked for executions as well that have no secret.
    ///
    /// # Errors
    /// When the secrets are too many to be looked for.
    pub(crate) fn seal(
        &self,
        gate: &Gate,
        logs: &LogSink,
        target: &Capability,
        headers: &HeaderMap,
    ) -> Result<Option<Seal>, NetworkError> {
        let issued = self.0.lock().clone();
        let (mut place, mut masks, mut is_bound) = (Vec::new(), Vec::new(), false);
        for (capability, secret) in gate.grant().offers().all_sealed() {
            let known = issued.iter().find(|issued| issued.capability == capability);
            let may_go = secret.may_go_to(target);
            is_bound |= may_go;
            if known.is_none() && !may_go {
                continue;
            }
            let value = secret.reveal().as_bytes();
            let by = known.map_or(UNKNOWN, |issued| issued.placeholder.as_str()).as_bytes();
            masks.extend(forms(value).into_iter().map(|form| (form, by.to_vec())));
            if known.is_none() {
                continue;
            }
            if !may_go {
                if headers.values().any(|header| contains(header.as_bytes(), by)) {
                    let hosts = secret.hosts();
                    let message = format!(
                        "`{capability}` goes to {hosts} alone; the request to `{target}` has its placeholder"
                    );
                    logs.log(LogLevel::Warn, message.as_bytes());
                }
                continue;
            }
            // Asked for when it was given out; whether it still may be used is looked at, and no new use is claimed for a
            // request that may not have it in it.
            match gate.grant().explain(&capability) {
                Ok(()) => place.push((by.to_vec(), value.to_vec())),
                Err(denial) => logs.log(LogLevel::Warn, denial.to_string().as_bytes()),
            }
        }
        if masks.is_empty() {
            return Ok(None);
        }
        let place = Replacements::placing(place).map_err(|error| too_many(&error))?.map(Arc::new);
        Ok(Some(Seal { place, masks, is_bound }))
    }
}

impl Seal {
    /// Puts the secrets into a request, and asks for a response that can be masked.
    pub(crate) async fn place(
        &mut self,
        request: Request<Content>,
    ) -> Result<Request<Content>, NetworkError> {
        let (mut head, body) = request.into_parts();
        if self.is_bound {
            // What is compressed, or comes in parts of the guest's choice, cannot be masked.
            head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            for name in
                [RANGE, IF_RANGE, HeaderName::from_static("a-im"), HeaderName::from_static("request-range")]
            {
                head.headers.remove(name);
            }
        }
        let Some(place) = self.place.clone() else { return Ok(Request::from_parts(head, body)) };
        let mut held = Held::default();
        self.place_in_headers(&place, &mut held, &mut head.headers)?;
        if body.is_end_stream() {
            return Ok(Request::from_parts(head, body));
        }
        let length = head.headers.remove(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let body = match length {
            Some(length) if length <= MAX_GATHERED_BYTES => {
                let limit = usize::try_from(MAX_GATHERED_BYTES).unwrap_or(usize::MAX);
                let gathered = Limited::new(body, limit)
                    .collect()
                    .await
                    .map_err(|error| NetworkError::Malformed(format!("the body of the request: {error}")))?;
                let content = Bytes::from(place.apply(&mut held, &gathered.to_bytes()));
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
                Full::new(content).map_err(|never| match never {}).boxed_unsync()
            }
            // Of a length that is not known before: sent in chunks.
            _ => Replaced::new(body, place, held).boxed_unsync(),
        };
        Ok(Request::from_parts(head, body))
    }

    fn place_in_headers(
        &mut self,
        place: &Replacements,
        held: &mut Held,
        headers: &mut HeaderMap,
    ) -> Result<(), NetworkError> {
        for (name, value) in headers.iter_mut() {
            let placed = match credentials(name, value) {
                // Name and password in base64 (RFC 7617); the host may repeat that as a whole.
                Some(plain) if place.occur_in(&plain) => {
                    let encoded = STANDARD.encode(place.apply(held, &plain));
                    self.masks.push((encoded.clone().into_bytes(), STANDARD.encode(&plain).into_bytes()));
                    format!("Basic {encoded}").into_bytes()
                }
                _ if place.occur_in(value.as_bytes()) => place.apply(held, value.as_bytes()),
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
        let mask = Replacements::masking(self.masks).map_err(|error| too_many(&error))?;
        let Some(mask) = mask.map(Arc::new) else { return Ok(response) };
        let (mut head, body) = response.into_parts();
        if self.is_bound
            && let Some(why) = unmaskable(head.status, &head.headers)
        {
            return Err(NetworkError::Encoded(why));
        }
        mask_headers(&mask, &mut head.headers);
        if body.is_end_stream() {
            return Ok(Response::from_parts(head, body));
        }
        head.headers.remove(CONTENT_LENGTH);
        Ok(Response::from_parts(head, Replaced::new(body, mask, Held::default()).boxed_unsync()))
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
            let masked = HeaderValue::from_bytes(&mask.apply(&mut Held::default(), value.as_bytes()));
            *value = masked.unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}

/// The plain text of basic credentials.
fn credentials(name: &HeaderName, value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.to_str().ok().filter(|_| *name == AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())?
}

/// Why a response cannot be masked: it is a part of something, or its bytes are encoded. Never in the host's own words, which
/// may be the secret.
fn unmaskable(status: StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    if matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::IM_USED) {
        return Some("a part of a whole");
    }
    let coded = |name: HeaderName, plain: &str| {
        let all = headers.get_all(name).iter();
        let mut codings = all.flat_map(|value| value.to_str().unwrap_or("another").split(','));
        codings.find(|coding| !coding.trim().eq_ignore_ascii_case(plain)).map(|coding| {
            let coding = coding.trim();
            let known = CODINGS.iter().find(|known| known.eq_ignore_ascii_case(coding));
            known.copied().unwrap_or("an encoding that is not known")
        })
    };
    coded(CONTENT_ENCODING, "identity").or_else(|| coded(TRANSFER_ENCODING, "chunked"))
}

fn too_many(error: &aho_corasick::BuildError) -> NetworkError {
    NetworkError::Malformed(format!("the secrets of this service cannot be looked for: {error}"))
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text)
}
