//! Signatures that are almost right, as project Wycheproof has them: each is made of a good one, for every algorithm.

use mentat_attestation::{Algorithm, KeyFault, Options, PublicKey, Rejection};
use mentat_manifest::{Attestation, ModuleDigest};

use crate::authority::{ED25519, MANIFEST, Order, P256, P384, RSA_2048, Usual, now};

/// A signer on one algorithm, and a good signature by them.
struct Signed {
    usual: Usual,
    algorithm: &'static str,
    good: Vec<u8>,
    block: Attestation,
}

impl Signed {
    fn by(key: &[&str], algorithm: &'static str) -> Self {
        let usual = Usual::of(&Order { key, ..Order::default() });
        let block = usual.workshop.attest(&usual.signer, algorithm, &[&usual.signer, &usual.intermediate]);
        let good = decode(&block.signature);
        usual.verify(&block).unwrap();
        Self { usual, algorithm, good, block }
    }

    /// Nothing but a mismatch is said of a signature that is bytes at all.
    fn refuses(&self, what: &str, signature: &[u8]) {
        let block = Attestation { signature: encode(signature), ..self.block.clone() };
        assert_eq!(self.usual.verify(&block), Err(Rejection::SignatureMismatch), "{} {what}", self.algorithm);
    }

    fn refuses_text(&self, what: &str, signature: impl Into<String>) {
        let block = Attestation { signature: signature.into(), ..self.block.clone() };
        assert_eq!(
            self.usual.verify(&block),
            Err(Rejection::SignatureMalformed),
            "{} {what}",
            self.algorithm
        );
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// A sequence of two numbers in DER, each given as its content.
fn pair(r: &[u8], s: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| [&[2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let both = [number(r), number(s)].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
}

/// The contents of the two numbers.
fn numbers(signature: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let r_end = 4 + usize::from(signature[3]);
    (signature[4..r_end].to_vec(), signature[r_end + 2..].to_vec())
}

/// `a - b` and `a + b` of unsigned numbers in big-endian bytes, as long as the longer one, with a zero before.
fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
    let length = a.len().max(b.len()) + 1;
    let at = |bytes: &[u8], place: usize| {
        bytes.len().checked_sub(place + 1).map_or(0, |index| u16::from(bytes[index]))
    };
    let (mut sum, mut carry) = (vec![0; length], 0);
    for place in 0..length {
        let digit = at(a, place) + at(b, place) + carry;
        sum[length - 1 - place] = digit.to_le_bytes()[0];
        carry = digit >> 8;
    }
    sum
}

fn subtract(a: &[u8], b: &[u8]) -> Vec<u8> {
    let length = a.len().max(b.len());
    let at = |bytes: &[u8], place: usize| {
        bytes.len().checked_sub(place + 1).map_or(0, |index| i16::from(bytes[index]))
    };
    let (mut difference, mut borrow) = (vec![0; length], 0);
    for place in 0..length {
        let digit = at(a, place) - at(b, place) - borrow;
        borrow = i16::from(digit < 0);
        difference[length - 1 - place] = digit.rem_euclid(256).to_le_bytes()[0];
    }
    difference
}

/// As DER has it: no zeroes before it but one that keeps it positive.
fn minimal(number: &[u8]) -> Vec<u8> {
    let stripped: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    let sign = stripped.first().is_none_or(|first| first & 0x80 != 0);
    [if sign { vec![0] } else { vec![] }, stripped].concat()
}

/// The orders of P-256 and P-384 (FIPS 186-4, appendix D).
const ORDER_256: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const ORDER_384: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

#[test]
fn ecdsa_is_refused_in_every_other_form() {
    for (key, algorithm, order) in [(P256, "ECDSA-P256", ORDER_256), (P384, "ECDSA-P384", ORDER_384)] {
        let signed = Signed::by(key, algorithm);
        let (r, s) = numbers(&signed.good);
        assert_eq!(pair(&r, &s), signed.good);
        let n = minimal(&hex::decode(order).unwrap());
        for (what, r, s) in [
            ("r = 0", &[0][..], s.as_slice()),
            ("s = 0", &r, &[0]),
            ("both 0", &[0], &[0]),
            ("r = 1, s = 1", &[1], &[1]),
            ("r = n", &n, &s),
            ("s = n", &r, &n),
            ("r + n", &minimal(&add(&r, &n)), &s),
            ("s + n", &r, &minimal(&add(&s, &n))),
            ("swapped", &s, &r),
            ("r and r", &r, &r),
            ("negative", &[&[0xff], r.as_slice()].concat(), &s),
            ("a zero before r", &[&[0], r.as_slice()].concat(), &s),
            ("a zero before s", &r, &[&[0], s.as_slice()].concat()),
            ("no r", &[], &s),
            ("no s", &r, &[]),
        ] {
            signed.refuses(what, &pair(r, s));
        }
        let good = signed.good.as_slice();
        let body = &good[2..];
        let length = good[1];
        signed.refuses("trailing byte", &[good, &[0]].concat());
        signed.refuses("trailing byte within", &[&[0x30, length + 1], body, &[0]].concat());
        signed.refuses("trailing null within", &[&[0x30, length + 2], body, &[5, 0]].concat());
        signed.refuses("long length (BER)", &[&[0x30, 0x81, length], body].concat());
        signed.refuses("longer length (BER)", &[&[0x30, 0x82, 0, length], body].concat());
        signed.refuses("indefinite length (BER)", &[&[0x30, 0x80], body, &[0, 0]].concat());
        signed.refuses("a set", &[&[0x31, length], body].concat());
        signed.refuses("nested", &[&[0x30, length + 2], good].concat());
        signed.refuses("a sequence of nothing", &[0x30, 0]);
        signed.refuses("a byte", &[0x30]);
        signed.refuses("bare numbers (IEEE P1363)", &[&r[r.len() - 32..], &s[s.len() - 32..]].concat());
        for end in [1, 2, 3, good.len() / 2, good.len() - 1] {
            signed.refuses("truncated", &good[..end]);
        }
        for place in 0..good.len() {
            let mut flipped = good.to_vec();
            flipped[place] ^= 1 << (place % 8);
            signed.refuses("a bit", &flipped);
        }
    }
}

#[test]
fn the_other_ecdsa_signature_of_the_same_statement_gains_nothing() {
    // (r, n - s) holds where (r, s) does, and OpenSSL makes either: so a signature is no name for anything. Whoever makes the
    // other one of it has the same signer sign the same statement, and nothing else.
    for (key, algorithm, order) in [(P256, "ECDSA-P256", ORDER_256), (P384, "ECDSA-P384", ORDER_384)] {
        let signed = Signed::by(key, algorithm);
        let (r, s) = numbers(&signed.good);
        let n = hex::decode(order).unwrap();
        let other = pair(&r, &minimal(&subtract(&n, &s)));
        assert_ne!(other, signed.good);
        let block = Attestation { signature: encode(&other), ..signed.block.clone() };
        let signer = signed.usual.verify(&block).unwrap();
        assert_eq!(Ok(&signer), signed.usual.verify(&signed.block).as_ref());
        // Nothing that is known of it is made of the signature's bytes.
        let known = format!("{signer:?}");
        for bytes in [&signed.good, &other] {
            assert!(!known.contains(&encode(bytes)) && !known.contains(&hex::encode(bytes)), "{known}");
        }
        let verifier = signed.usual.verifier(&[], Options::default());
        let swapped = ModuleDigest::of(b"another module");
        let refused = verifier.verify(MANIFEST, &block, &swapped, now());
        assert_eq!(refused, Err(Rejection::SignatureMismatch));
    }
}

/// Points of small order (<https://eprint.iacr.org/2020/1244>, table 1), for which a signature over anything can be made by
/// anybody: `R` is the neutral point and `s` is 0 for every message whose hash is a multiple of the order. The last two are
/// the first two, with 2^255 - 19 added to what they are written as.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn an_ed25519_key_that_anybody_could_sign_for_is_refused() {
    let usual = Usual::of(&Order { key: ED25519, ..Order::default() });
    let prefix = hex::decode("302a300506032b6570032100").unwrap();
    for (point, sign) in SMALL_ORDER.iter().flat_map(|point| [(point, 0), (point, 0x80)]) {
        let mut point = hex::decode(point).unwrap();
        point[31] |= sign;
        let key = [prefix.as_slice(), &point].concat();
        assert_eq!(PublicKey::read(&key), Err(KeyFault::Ed25519Point), "{}", hex::encode(&point));
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", encode(&key));
        assert_eq!(PublicKey::read(pem.as_bytes()), Err(KeyFault::Ed25519Point));
    }
    // The attack is real: what is asked for the signature alone finds it good.
    let mut forged = [0; 64];
    forged[0] = 1;
    let anyone = hex::decode(SMALL_ORDER[2]).unwrap();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, anyone);
    assert!((0..200_u8).any(|number| key.verify(&[number], &forged).is_ok()), "no message was forged");

    // In a certificate, which an authority has issued without looking.
    let workshop = &usual.workshop;
    let weak = [prefix.as_slice(), &hex::decode(SMALL_ORDER[1]).unwrap()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", encode(&weak));
    std::fs::write(workshop.path("weak.pub"), pem).unwrap();
    workshop.openssl([
        "x509",
        "-req",
        "-in",
        "signer.csr",
        "-force_pubkey",
        "weak.pub",
        "-CA",
        "intermediate.pem",
        "-CAkey",
        "intermediate.key",
        "-CAcreateserial",
        "-days",
        "3650",
        "-extfile",
        "signer.ext",
        "-out",
        "weak.pem",
    ]);
    let weak = workshop.holder("weak");
    let chain = vec![weak.pem(), usual.intermediate.pem()];
    let refused = usual.verify(&workshop.block(&weak, "Ed25519", &forged, chain)).unwrap_err();
    assert!(
        matches!(&refused, Rejection::Key(place, KeyFault::Ed25519Point) if place.number == 1),
        "{refused:?}"
    );
    // One byte more or less is no key, and a number beyond the field none either.
    for length in [31, 33] {
        let bytes = vec![9; length];
        let bits = u8::try_from(length + 1).unwrap();
        let key = [&[0x30, bits + 9][..], &prefix[2..9], &[3, bits, 0], &bytes].concat();
        assert_eq!(PublicKey::read(&key), Err(KeyFault::Ed25519Point), "{length}");
    }
}

#[test]
fn ed25519_is_refused_in_every_other_form() {
    let signed = Signed::by(ED25519, "Ed25519");
    let good = signed.good.as_slice();
    assert_eq!(good.len(), 64);
    let (point, scalar) = good.split_at(32);
    // L = 2^252 + 27742317777372353535851937790883648493, in the order of its bytes (RFC 8032, section 5.1).
    let order = hex::decode("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed").unwrap();
    let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
    let plus = |scalar: &[u8]| reversed(&add(&reversed(scalar), &order)[1..]);
    let s_plus_l = plus(scalar);
    assert_eq!(s_plus_l.len(), 32);
    signed.refuses("s + L", &[point, &s_plus_l].concat());
    signed.refuses("s + 2L", &[point, &plus(&s_plus_l)].concat());
    signed.refuses("s = L", &[point, &reversed(&order)].concat());
    signed.refuses("s = 0", &[point, &[0; 32]].concat());
    signed.refuses("all zero", &[0; 64]);
    let mut neutral = [0; 64];
    neutral[0] = 1;
    signed.refuses("the neutral point and 0", &neutral);
    signed.refuses("swapped", &[scalar, point].concat());
    signed.refuses("trailing byte", &[good, &[0]].concat());
    signed.refuses("in DER", &[&[4, 64], good].concat());
    for end in [1, 32, 63] {
        signed.refuses("truncated", &good[..end]);
    }
    for place in 0..good.len() {
        let mut flipped = good.to_vec();
        flipped[place] ^= 1 << (place % 8);
        signed.refuses("a bit", &flipped);
    }
}

#[test]
fn rsa_is_refused_with_any_other_padding() {
    let signed = Signed::by(RSA_2048, "SHA256withRSA");
    let workshop = &signed.usual.workshop;
    let good = signed.good.as_slice();
    assert_eq!(good.len(), 256);
    // What is inside, with the key's private part done over and over by `openssl`, without any padding of its own.
    std::fs::write(workshop.path("signature"), good).unwrap();
    let inside = workshop.openssl([
        "pkeyutl",
        "-verifyrecover",
        "-inkey",
        "signer.key",
        "-in",
        "signature",
        "-pkeyopt",
        "rsa_padding_mode:none",
    ]);
    assert!(inside.starts_with(&[0, 1, 0xff]) && inside.len() == 256);
    let hash = inside[256 - 32..].to_vec();
    let info = inside[256 - 51..].to_vec();
    let raw = |message: &[u8]| {
        std::fs::write(workshop.path("padded"), message).unwrap();
        workshop.openssl([
            "pkeyutl",
            "-decrypt",
            "-inkey",
            "signer.key",
            "-in",
            "padded",
            "-pkeyopt",
            "rsa_padding_mode:none",
        ])
    };
    assert_eq!(raw(&inside), good);
    let padded = |first: &[u8], fill: u8, last: &[u8]| {
        raw(&[first, &vec![fill; 256 - first.len() - last.len()], last].concat())
    };
    let after = |zero: u8| [&[zero], info.as_slice()].concat();
    signed.refuses("block type 2", &padded(&[0, 2], 0xff, &after(0)));
    signed.refuses("block type 0", &padded(&[0, 0], 0x00, &after(0)));
    signed.refuses("zeroes for padding", &padded(&[0, 1], 0x00, &after(0)));
    signed.refuses("no zero after the padding", &padded(&[0, 1], 0xff, &after(0xff)));
    // Bleichenbacher's of 2006: the hash is not at the end.
    for garbage in [1, 8, 100] {
        let last = [after(0), vec![0x5a; garbage]].concat();
        signed.refuses("garbage at the end", &padded(&[0, 1], 0xff, &last));
    }
    signed.refuses("short padding", &raw(&[&[0, 1, 0xff, 0xff, 0], info.as_slice(), &[0x5a; 200]].concat()));
    // The algorithm's parameters left out, doubled, or filled with something (BERserk).
    let without_null =
        [&hex::decode("302f300b06096086480165030402010420").unwrap(), hash.as_slice()].concat();
    signed.refuses("no parameters", &padded(&[0, 1], 0xff, &[&[0], without_null.as_slice()].concat()));
    let long = [&hex::decode("308131300d060960864801650304020105000420").unwrap()[..], &hash].concat();
    signed.refuses("a long length (BER)", &padded(&[0, 1], 0xff, &[&[0], long.as_slice()].concat()));
    let sha512 = [&hex::decode("3031300d060960864801650304020305000420").unwrap()[..], &hash].concat();
    signed.refuses("another hash's name", &padded(&[0, 1], 0xff, &[&[0], sha512.as_slice()].concat()));
    signed.refuses("a hash without a name", &padded(&[0, 1], 0xff, &[&[0], hash.as_slice()].concat()));
    // Other schemes by the same key.
    let statement = workshop.path("message");
    let statement = statement.to_str().unwrap();
    let pss = workshop.openssl([
        "dgst",
        "-sha256",
        "-sign",
        "signer.key",
        "-sigopt",
        "rsa_padding_mode:pss",
        statement,
    ]);
    signed.refuses("PSS", &pss);
    for digest in ["-sha1", "-sha512", "-md5"] {
        signed.refuses(digest, &workshop.openssl(["dgst", digest, "-sign", "signer.key", statement]));
    }
    // s + n is the same number to the power, and another signature, were it taken.
    let modulus =
        String::from_utf8(workshop.openssl(["rsa", "-in", "signer.key", "-noout", "-modulus"])).unwrap();
    let n = hex::decode(modulus.trim().strip_prefix("Modulus=").unwrap()).unwrap();
    let sum = add(good, &n);
    signed.refuses("s + n, in a byte more", &sum);
    if sum[0] == 0 {
        signed.refuses("s + n", &sum[1..]);
    }
    signed.refuses("n - s", &subtract(&n, good));
    signed.refuses("n", &n);
    signed.refuses("0", &[0; 256]);
    signed.refuses("1", &[vec![0; 255], vec![1]].concat());
    signed.refuses("all ones", &[0xff; 256]);
    signed.refuses("a zero before", &[&[0], good].concat());
    signed.refuses("trailing byte", &[good, &[0]].concat());
    signed.refuses("truncated", &good[..255]);
    for place in (0..256).step_by(17) {
        let mut flipped = good.to_vec();
        flipped[place] ^= 1;
        signed.refuses("a bit", &flipped);
    }
}

#[test]
fn a_signature_is_base64_by_the_letter() {
    let signed = Signed::by(ED25519, "Ed25519");
    let good = signed.block.signature.clone();
    signed.refuses_text("empty", "");
    signed.refuses_text("blank", " \n");
    signed.refuses_text("no padding", good.trim_end_matches('='));
    signed.refuses_text("more padding", format!("{good}="));
    signed.refuses_text("another alphabet", format!("{}-_==", &good[..good.len() - 4]));
    signed.refuses_text("hexadecimal", format!("0x{}", hex::encode(&signed.good)));
    signed.refuses_text("too long", "A".repeat(3000));
    signed.refuses_text("a megabyte", "A".repeat(1 << 20));
    // 64 bytes leave four bits over, which must be zero: or one signature would have sixteen texts.
    let (head, tail) = good.split_at(good.len() - 3);
    let other = match &tail[..1] {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        _ => "x",
    };
    signed.refuses_text("bits left over", format!("{head}{other}=="));
    let wrapped =
        Attestation { signature: format!("{}\n{}\n", &good[..40], &good[40..]), ..signed.block.clone() };
    signed.usual.verify(&wrapped).unwrap();
}

#[test]
fn the_algorithm_is_the_keys_and_none_that_is_weak() {
    let keys =
        [(P256, "ECDSA-P256"), (P384, "ECDSA-P384"), (ED25519, "Ed25519"), (RSA_2048, "SHA256withRSA")];
    for (key, own) in keys {
        let signed = Signed::by(key, own);
        for algorithm in Algorithm::ALL.map(Algorithm::name).into_iter().filter(|name| *name != own) {
            let block = Attestation { algorithm: algorithm.into(), ..signed.block.clone() };
            let refused = signed.usual.verify(&block).unwrap_err();
            assert!(
                matches!(refused, Rejection::AlgorithmMismatch { .. }),
                "{own} as {algorithm}: {refused:?}"
            );
        }
        for algorithm in [
            "",
            "none",
            "MD5withRSA",
            "SHA1withRSA",
            "SHA256WITHRSA",
            "ECDSA",
            "ECDSA-P521",
            "HMAC-SHA256",
            "RS256",
        ] {
            let block = Attestation { algorithm: algorithm.into(), ..signed.block.clone() };
            let refused = signed.usual.verify(&block).unwrap_err();
            assert_eq!(refused.code(), "algorithm_unknown", "{algorithm}");
            assert!(refused.to_string().contains("`SHA256withRSA`"), "{refused}");
        }
    }
}
