"""What somebody else makes of the documents alone: certificates and signatures by `cryptography`, JSON by hand.

Reads what it is asked for as JSON on standard input, and writes JSON: the chain, the trusted root, and signatures.
"""

import base64
import datetime
import hashlib
import json
import sys

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def key(algorithm):
    return {
        "SHA256withRSA": lambda: rsa.generate_private_key(65537, 3072),
        "ECDSA-P256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ECDSA-P384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()


def hash_for(private):
    return None if isinstance(private, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def sign(private, algorithm, message):
    if algorithm == "SHA256withRSA":
        return private.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if algorithm == "Ed25519":
        return private.sign(message)
    return private.sign(message, ec.ECDSA(hashes.SHA384() if algorithm == "ECDSA-P384" else hashes.SHA256()))


def name(common):
    return x509.Name([
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Beispiel, GmbH"),
        x509.NameAttribute(NameOID.COMMON_NAME, common),
    ])


def certificate(common, public, issuer, issuer_key, years, path_length):
    authority = path_length is not ...
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common)).issuer_name(issuer).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(START).not_valid_after(START + datetime.timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(authority, path_length if authority else None), True)
        .add_extension(x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
    )
    if not authority:
        builder = (
            builder
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), True)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("dev@beispiel.de")]), False)
            .add_extension(x509.CertificatePolicies(
                [x509.PolicyInformation(ObjectIdentifier("1.3.6.1.4.1.55555.3"), None)]), False)
        )
    return builder.sign(issuer_key, hash_for(issuer_key))


def pem(thing):
    return thing.public_bytes(serialization.Encoding.PEM).decode()


def chain(algorithm):
    """A root for ten years, an intermediate for five, a signer for one."""
    keys = [key(algorithm) for _ in range(3)]
    root = certificate("Wurzel", keys[0].public_key(), name("Wurzel"), keys[0], 10, None)
    intermediate = certificate("Zwischen", keys[1].public_key(), root.subject, keys[0], 5, 0)
    signer = certificate("Entwickler", keys[2].public_key(), intermediate.subject, keys[1], 1, ...)
    return keys, root, intermediate, signer


def revocations(issuer, issuer_key, serials):
    builder = (
        x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        .last_update(START).next_update(START + datetime.timedelta(days=3650))
        .add_extension(x509.CRLNumber(7), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START)
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        builder = builder.add_revoked_certificate(entry.add_extension(reason, False).build())
    return pem(builder.sign(issuer_key, hash_for(issuer_key)))


def attestation(asked):
    document = dict(asked["document"])
    document["module_digest"] = "sha256:" + hashlib.sha256(base64.b64decode(asked["module"])).hexdigest()
    # RFC 8785, for documents whose keys are ASCII and whose numbers JSON writes as ECMAScript does.
    statement = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    algorithm = asked["algorithm"]
    keys, root, intermediate, signer = chain(algorithm)
    return {
        "statement": statement.decode(),
        "root": pem(root),
        "attestation": {
            "version": "1.0",
            "timestamp": "2026-06-01T12:00:00+00:00",
            "signer": {"subject": signer.subject.rfc4514_string(), "issuer": signer.issuer.rfc4514_string()},
            "algorithm": algorithm,
            "signature": base64.b64encode(sign(keys[2], algorithm, statement)).decode(),
            "certificate_chain": [pem(signer), pem(intermediate)],
        },
        "lists": [revocations(root, keys[0], []), revocations(intermediate, keys[1], [])],
        "revoking": revocations(intermediate, keys[1], [4711, signer.serial_number]),
    }


def envelope(private, algorithm, kind, payload):
    authenticated = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signature = base64.b64encode(sign(private, algorithm, authenticated)).decode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"keyid": "", "sig": signature}],
    }


def sigstore(asked):
    module = base64.b64decode(asked["module"])
    digest = hashlib.sha256(module)
    algorithm = asked["algorithm"]
    private = key(algorithm)

    def statement(hexadecimal):
        return json.dumps({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "other", "digest": {"sha256": "00" * 32}},
                        {"name": "agent.wasm", "digest": {"sha256": hexadecimal, "sha512": "00"}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {"buildDefinition": {"buildType": "https://example.com/build"}},
        }).encode()

    def simple(hexadecimal):
        return json.dumps({
            "critical": {"identity": {"docker-reference": "harbor.lan/agents/a"},
                         "image": {"docker-manifest-digest": "sha256:" + hexadecimal},
                         "type": "cosign container image signature"},
            "optional": None,
        }).encode()

    def signed(message):
        return base64.b64encode(sign(private, algorithm, message)).decode()

    def bundle(**content):
        return {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {"hint": "k"}, "tlogEntries": []}, **content}

    def message(digested):
        return {"messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(digested).decode()},
                "signature": signed(module)}

    own, other = digest.hexdigest(), "11" * 32
    in_toto, signing = "application/vnd.in-toto+json", "application/vnd.dev.cosign.simplesigning.v1+json"
    public = private.public_key()
    return {
        "key": public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode(),
        "statement": envelope(private, algorithm, in_toto, statement(own)),
        "statement_of_other": envelope(private, algorithm, in_toto, statement(other)),
        "statement_as_text": envelope(private, algorithm, "text/plain", statement(own)),
        "simple_envelope": envelope(private, algorithm, signing, simple(own)),
        "bundle_statement": bundle(dsseEnvelope=envelope(private, algorithm, in_toto, statement(own))),
        "bundle_bytes": bundle(messageSignature=message(digest.digest())),
        "bundle_lies": bundle(messageSignature=message(b"\x11" * 32)),
        "blob": {"base64Signature": signed(module), "cert": "", "rekorBundle": None},
        "simple_payload": simple(own).decode(),
        "simple_signature": signed(simple(own)),
        "simple_of_other": simple(other).decode(),
        "simple_of_other_signature": signed(simple(other)),
    }


def read(asked):
    """What a reader of YAML 1.1 makes of texts, as JSON where it can be; None of those that it refuses."""

    def one(text):
        try:
            return {"read": yaml.safe_load(text)}
        except (yaml.YAMLError, ValueError, TypeError):
            return None

    return json.loads(json.dumps([one(text) for text in asked["texts"]], default=repr))


asked = json.load(sys.stdin)
json.dump({"attestation": attestation, "sigstore": sigstore, "read": read}[asked["wanted"]](asked), sys.stdout)
