//! Signatures of the Sigstore world by a key that is given, offline: DSSE envelopes (secure-systems-lab/dsse, version 1), the
//! bundles of `cosign` (sigstore/protobuf-specs, version 0.3, and the older form of `cosign sign-blob`), and the payloads of
//! cosign's simple signing. Nothing of certificates, transparency logs and the network.
//!
//! Invariant: what is accepted was signed by the given key and is about these very bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use mentat_manifest::{ModuleDigest, escape_untrusted};
use serde::Deserialize;

use crate::public_key::PublicKey;

/// Bytes of a bundle or envelope.
const MAX_BUNDLE_BYTES: usize = 1 << 20;
/// Signatures of an envelope; each is tried.
const MAX_SIGNATURES: usize = 16;
/// Bytes of one signature.
const MAX_SIGNATURE_BYTES: usize = 1 << 10;
/// Things that a statement is about.
const MAX_SUBJECTS: usize = 1_000;

/// A bundle of version 0.3, as it is written now and as it was before.
const BUNDLES: [&str; 2] =
    ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3"];
const SHA_256: &str = "SHA2_256";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endorsement {
    /// The form in which the signature came.
    pub form: Form,
    /// What the statement says of the module, such as `https://slsa.dev/provenance/v1`; none where only the bytes are signed.
    pub predicate_type: Option<String>,
    /// `sha256:<hex>` of the key.
    pub key: String,
}

/// The form of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A DSSE envelope around a statement by in-toto.
    Statement,
    /// A DSSE envelope around a payload of simple signing, or that payload itself.
    SimpleSigning,
    /// A signature over the module's bytes.
    Bytes,
}

/// Why a bundle or an envelope is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigstoreError {
    /// Too many bytes.
    #[error("the bundle has more than {MAX_BUNDLE_BYTES} bytes")]
    TooLarge,
    /// None of the forms.
    #[error(
        "it is neither a DSSE envelope nor a bundle of `cosign` (version 0.3, or of `sign-blob --bundle`): {0}"
    )]
    Malformed(String),
    /// No signature of the key.
    #[error("no signature in it is by the given key")]
    NotSigned,
    /// A statement of a kind that says nothing of a module.
    #[error(
        "it is signed, but its payload is `{0}`; a statement by in-toto or a payload of simple signing is wanted"
    )]
    Payload(String),
    /// Signed, but about something else.
    #[error("it is signed, but about another module than `{0}`")]
    AnotherModule(ModuleDigest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: Option<MessageDigest>,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

/// As `cosign sign-blob --bundle` wrote it before there were bundles.
#[derive(Deserialize)]
struct BlobBundle {
    #[serde(rename = "base64Signature")]
    signature: String,
}

#[derive(Deserialize)]
struct InToto {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Which form the outermost object has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    media_type: Option<serde::de::IgnoredAny>,
    payload_type: Option<serde::de::IgnoredAny>,
}

/// Verifies a DSSE envelope or a bundle over a module by a public key.
///
/// # Errors
/// Bytes that are neither, signatures by other keys, and statements about other modules.
pub fn verify_bundle(bundle: &[u8], key: &PublicKey, module: &[u8]) -> Result<Endorsement, SigstoreError> {
    if bundle.len() > MAX_BUNDLE_BYTES {
        return Err(SigstoreError::TooLarge);
    }
    let outline: Outline = parse(bundle)?;
    if outline.payload_type.is_some() {
        return verify_envelope(&parse(bundle)?, key, &ModuleDigest::of(module));
    }
    if outline.media_type.is_none() {
        let blob: BlobBundle = parse(bundle)?;
        return verify_bytes(&blob.signature, key, module);
    }
    let bundle: Bundle = parse(bundle)?;
    if !BUNDLES.contains(&bundle.media_type.as_str()) {
        return Err(malformed(&format!("its media type is `{}`", bundle.media_type)));
    }
    match (bundle.dsse_envelope, bundle.message_signature) {
        (Some(envelope), None) => verify_envelope(&envelope, key, &ModuleDigest::of(module)),
        (None, Some(message)) => {
            let endorsement = verify_bytes(&message.signature, key, module)?;
            // What it says beside the signature must not mislead others who go by it.
            message.message_digest.map_or(Ok(()), |digest| check_digest(&digest, module))?;
            Ok(endorsement)
        }
        _ => Err(malformed("one of `dsseEnvelope` and `messageSignature` is wanted")),
    }
}

/// Verifies a payload of cosign's simple signing and its signature in base64, about an image or artifact of this digest.
///
/// # Errors
/// A signature by another key, and a payload that is of another kind or about something else.
pub fn verify_simple_signing(
    payload: &[u8],
    signature: &str,
    key: &PublicKey,
    digest: &ModuleDigest,
) -> Result<Endorsement, SigstoreError> {
    if payload.len() > MAX_BUNDLE_BYTES {
        return Err(SigstoreError::TooLarge);
    }
    key.verify(payload, &decode_signature(signature)?).map_err(|_| SigstoreError::NotSigned)?;
    check_simple_signing(payload, digest)?;
    Ok(endorsement(Form::SimpleSigning, None, key))
}

fn verify_bytes(signature: &str, key: &PublicKey, module: &[u8]) -> Result<Endorsement, SigstoreError> {
    key.verify(module, &decode_signature(signature)?).map_err(|_| SigstoreError::NotSigned)?;
    Ok(endorsement(Form::Bytes, None, key))
}

fn verify_envelope(
    envelope: &Envelope,
    key: &PublicKey,
    module: &ModuleDigest,
) -> Result<Endorsement, SigstoreError> {
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(malformed(&format!("it has more than {MAX_SIGNATURES} signatures")));
    }
    let payload = decode(&envelope.payload)?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    let mut is_signed = false;
    for signature in &envelope.signatures {
        is_signed |= key.verify(&signed, &decode_signature(&signature.sig)?).is_ok();
    }
    if !is_signed {
        return Err(SigstoreError::NotSigned);
    }
    match envelope.payload_type.as_str() {
        IN_TOTO => {
            let predicate = check_statement(&payload, module)?;
            Ok(endorsement(Form::Statement, Some(predicate), key))
        }
        SIMPLE_SIGNING => {
            check_simple_signing(&payload, module)?;
            Ok(endorsement(Form::SimpleSigning, None, key))
        }
        other => Err(SigstoreError::Payload(escape_untrusted(other, 100))),
    }
}

/// What is signed of an envelope (DSSE, protocol, version 1): its type is part of it, so that no payload passes for another.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn check_statement(payload: &[u8], module: &ModuleDigest) -> Result<String, SigstoreError> {
    let statement: InToto = parse(payload)?;
    if !statement.kind.starts_with("https://in-toto.io/Statement/v") || statement.subject.len() > MAX_SUBJECTS
    {
        return Err(SigstoreError::Payload(escape_untrusted(&statement.kind, 100)));
    }
    let hex = module.hex();
    let is_about = |subject: &Subject| subject.digest.get("sha256") == Some(&hex);
    if !statement.subject.iter().any(is_about) {
        return Err(SigstoreError::AnotherModule(*module));
    }
    Ok(escape_untrusted(&statement.predicate_type, 200))
}

fn check_simple_signing(payload: &[u8], digest: &ModuleDigest) -> Result<(), SigstoreError> {
    let signing: SimpleSigning = parse(payload)?;
    let kind = &signing.critical.kind;
    if kind != "cosign container image signature" && kind != "atomic container signature" {
        return Err(SigstoreError::Payload(escape_untrusted(kind, 100)));
    }
    if signing.critical.image.digest != digest.to_string() {
        return Err(SigstoreError::AnotherModule(*digest));
    }
    Ok(())
}

fn check_digest(digest: &MessageDigest, module: &[u8]) -> Result<(), SigstoreError> {
    let module = ModuleDigest::of(module);
    let said = decode(&digest.digest)?;
    if digest.algorithm != SHA_256 {
        return Err(malformed(&format!(
            "the algorithm of its `messageDigest` is `{}`; it must be `{SHA_256}`",
            digest.algorithm
        )));
    }
    if hex::encode(said) != module.hex() {
        return Err(SigstoreError::AnotherModule(module));
    }
    Ok(())
}

fn endorsement(form: Form, predicate_type: Option<String>, key: &PublicKey) -> Endorsement {
    Endorsement { form, predicate_type, key: key.fingerprint() }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SigstoreError> {
    serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))
}

fn decode(text: &str) -> Result<Vec<u8>, SigstoreError> {
    // DSSE lets signers choose between the two alphabets.
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    bytes.map_err(|_| malformed("its base64 cannot be read"))
}

fn decode_signature(text: &str) -> Result<Vec<u8>, SigstoreError> {
    let signature = decode(text.trim_ascii())?;
    if signature.is_empty() || signature.len() > MAX_SIGNATURE_BYTES {
        return Err(malformed("a signature in it has no length that a signature has"));
    }
    Ok(signature)
}

fn malformed(why: &str) -> SigstoreError {
    SigstoreError::Malformed(escape_untrusted(why, 200))
}
