//! Private keys as the `openssl` command writes them are read here, and those made here are read by it.

use std::time::Duration;

use mentat_attestation::Algorithm;
use mentat_attestation::signing::{
    KeyError, KeyFile, NewKey, PrivateKey, SignerCommand, SignerError, SignerInput,
};

use crate::authority::{ED25519, P256, P384, RSA_2048, Workshop};

const MESSAGE: &[u8] = b"what is to be signed";
const PASSPHRASE: &str = "corr\u{e9}ct horse";

impl Workshop {
    fn key_file(&self, name: &str) -> Result<KeyFile, KeyError> {
        KeyFile::parse(&std::fs::read_to_string(self.path(name)).unwrap())
    }

    fn key(&self, name: &str) -> PrivateKey {
        match self.key_file(name).unwrap() {
            KeyFile::Clear(key) => *key,
            KeyFile::Encrypted(key) => key.decrypt(PASSPHRASE).unwrap(),
        }
    }

    /// Whether `openssl` finds a signature to be that of a key in one of its files.
    fn verifies(&self, key: &str, algorithm: Algorithm, signature: &[u8]) {
        self.openssl([
            "pkey",
            "-in",
            key,
            "-passin",
            &format!("pass:{PASSPHRASE}"),
            "-pubout",
            "-out",
            "public",
        ]);
        std::fs::write(self.path("message"), MESSAGE).unwrap();
        std::fs::write(self.path("signature"), signature).unwrap();
        let files = ["-sigfile", "signature", "-in", "message"];
        let digest = if algorithm == Algorithm::EcdsaP384 { "-sha384" } else { "-sha256" };
        match algorithm {
            Algorithm::Ed25519 => self.openssl(
                [&["pkeyutl", "-verify", "-pubin", "-inkey", "public", "-rawin"], &files[..]].concat(),
            ),
            _ => self.openssl(["dgst", digest, "-verify", "public", "-signature", "signature", "message"]),
        };
    }
}

const KINDS: [(&[&str], Algorithm); 4] = [
    (P256, Algorithm::EcdsaP256),
    (P384, Algorithm::EcdsaP384),
    (ED25519, Algorithm::Ed25519),
    (RSA_2048, Algorithm::RsaSha256),
];

#[test]
fn every_form_that_openssl_writes_signs_as_openssl_verifies() {
    let shop = Workshop::new();
    let pass = format!("pass:{PASSPHRASE}");
    for (kind, algorithm) in KINDS {
        shop.openssl([&["genpkey", "-out", "clear"], kind].concat());
        let mut files = vec!["clear"];
        let encrypt = |name: &'static str, how: &[&str]| {
            let own = ["pkcs8", "-topk8", "-in", "clear", "-out", name, "-passout", &pass];
            shop.openssl([&own, how].concat());
            name
        };
        files.push(encrypt("aes256", &["-v2", "aes-256-cbc"]));
        files.push(encrypt("aes128", &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-iter", "100000"]));
        files.push(encrypt("scrypt", &["-scrypt"]));
        if algorithm != Algorithm::Ed25519 {
            shop.openssl(["pkey", "-in", "clear", "-traditional", "-out", "traditional"]);
            files.push("traditional");
        }
        for file in files {
            let key = shop.key(file);
            assert_eq!(key.algorithm(), algorithm, "{file}");
            shop.verifies("clear", algorithm, &key.sign(MESSAGE).unwrap());
        }
    }
    // With a block of its parameters before it, and a certificate after it.
    shop.openssl(["ecparam", "-genkey", "-name", "prime256v1", "-out", "ecparam"]);
    let text = std::fs::read_to_string(shop.path("ecparam")).unwrap();
    assert!(text.contains("BEGIN EC PARAMETERS"));
    let text = format!("{text}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(matches!(KeyFile::parse(&text), Ok(KeyFile::Clear(_))));
    assert!(matches!(KeyFile::parse(&text.replace('\n', "\r\n")), Ok(KeyFile::Clear(_))));
}

#[test]
fn a_key_made_here_is_one_that_openssl_reads() {
    let shop = Workshop::new();
    for (_, algorithm) in KINDS {
        let Ok(key) = NewKey::generate(algorithm) else {
            assert_eq!(NewKey::generate(algorithm).unwrap_err(), KeyError::NotMadeHere);
            assert_eq!(algorithm, Algorithm::RsaSha256);
            continue;
        };
        std::fs::write(shop.path("clear"), key.to_pem().unwrap().as_bytes()).unwrap();
        std::fs::write(shop.path("encrypted"), key.to_encrypted_pem(PASSPHRASE).unwrap().as_bytes()).unwrap();
        for file in ["clear", "encrypted"] {
            shop.openssl(["pkey", "-in", file, "-passin", &format!("pass:{PASSPHRASE}"), "-noout", "-check"]);
            shop.verifies(file, algorithm, &shop.key(file).sign(MESSAGE).unwrap());
        }
        std::fs::write(shop.path("request"), key.certificate_request().unwrap()).unwrap();
        shop.openssl(["req", "-in", "request", "-noout", "-verify"]);
        let told = format!("{key:?} {:?} {:?}", shop.key("clear"), shop.key_file("encrypted"));
        assert!(told.len() < 200, "{told}");
    }
}

#[test]
fn a_wrong_passphrase_is_told_and_nothing_else() {
    let shop = Workshop::new();
    shop.openssl([&["genpkey", "-aes256", "-pass", "pass:one", "-out", "key"], P256].concat());
    let Ok(KeyFile::Encrypted(key)) = shop.key_file("key") else { panic!("it is encrypted") };
    for wrong in ["", "two", "one "] {
        assert_eq!(key.decrypt(wrong).unwrap_err(), KeyError::WrongPassphrase);
    }
    assert_eq!(key.decrypt("one").unwrap().algorithm(), Algorithm::EcdsaP256);
}

#[test]
fn keys_that_cannot_sign_here_are_refused_with_what_to_do() {
    let shop = Workshop::new();
    let rsa =
        |bits: &str| ["genpkey", "-algorithm", "RSA", "-pkeyopt", bits, "-out", "key"].map(str::to_owned);
    let refused = || shop.key_file("key").unwrap_err();
    shop.openssl(rsa("rsa_keygen_bits:1024"));
    assert_eq!(refused(), KeyError::RsaSize);
    for curve in ["P-521", "secp256k1"] {
        let curve = format!("ec_paramgen_curve:{curve}");
        shop.openssl(["genpkey", "-algorithm", "EC", "-pkeyopt", &curve, "-out", "key"]);
        assert_eq!(refused(), KeyError::UnsupportedAlgorithm);
    }
    shop.openssl(["genpkey", "-algorithm", "X25519", "-out", "key"]);
    assert_eq!(refused(), KeyError::UnsupportedAlgorithm);

    shop.openssl([&["genpkey", "-out", "own"], P256].concat());
    shop.openssl(["ec", "-in", "own", "-no_public", "-out", "key"]);
    assert_eq!(refused(), KeyError::NoPublicHalf);
    shop.openssl(["ec", "-in", "own", "-aes128", "-passout", "pass:x", "-out", "key"]);
    assert_eq!(refused(), KeyError::LegacyEncryption);
    shop.openssl([
        "pkcs8",
        "-topk8",
        "-in",
        "own",
        "-v1",
        "PBE-SHA1-3DES",
        "-passout",
        "pass:x",
        "-out",
        "key",
    ]);
    assert_eq!(refused(), KeyError::UnknownEncryption);
    for how in [["-v2", "des3", "-v2prf", "hmacWithSHA256"], ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"]]
    {
        let own = ["pkcs8", "-topk8", "-in", "own", "-passout", "pass:x", "-out", "key"];
        shop.openssl([&own[..], &how[..]].concat());
        let error = match shop.key_file("key") {
            Ok(KeyFile::Encrypted(key)) => key.decrypt("x").unwrap_err(),
            other => other.unwrap_err(),
        };
        assert_eq!(error, KeyError::UnknownEncryption, "{how:?}");
    }
    let own = std::fs::read_to_string(shop.path("own")).unwrap();
    assert_eq!(KeyFile::parse(&own.repeat(2)).unwrap_err(), KeyError::SeveralKeys);
    assert_eq!(KeyFile::parse("no key").unwrap_err(), KeyError::NoKey);
    assert_eq!(KeyFile::parse(&own.replace("PRIVATE", "PUBLIC")).unwrap_err(), KeyError::NoKey);
    let openssh = own.replace("PRIVATE", "OPENSSH PRIVATE");
    assert_eq!(KeyFile::parse(&openssh).unwrap_err(), KeyError::OpenSsh);
    for broken in [
        own.replacen('M', "!", 1),
        own.replace("PRIVATE", "EC PRIVATE"),
        own.replace("PRIVATE", "RSA PRIVATE"),
    ] {
        assert!(matches!(KeyFile::parse(&broken), Err(KeyError::Malformed(_))), "{broken}");
    }
    // A key whose halves are of two keys.
    let mut der = shop.openssl(["pkey", "-in", "own", "-outform", "DER"]);
    let secret = der.len() - 100;
    der[secret] ^= 1;
    std::fs::write(shop.path("mixed"), der).unwrap();
    let arguments = ["-in", "mixed", "-inform", "DER", "-out", "key"];
    shop.openssl([&["pkcs8", "-topk8", "-nocrypt"], &arguments[..]].concat());
    assert!(matches!(refused(), KeyError::Rejected(_)));
}

#[test]
fn a_command_signs_in_place_of_a_key_and_is_told_what() {
    let shop = Workshop::new();
    let script = shop.path("signer.sh");
    let text = "#!/bin/sh\nkey=$1\ncat > input\ncase $MENTAT_SIGN_ALGORITHM/$MENTAT_SIGN_INPUT in\n\
        Ed25519/message) exec openssl pkeyutl -sign -inkey \"$key\" -rawin -in input ;;\n\
        ECDSA-P384/message) exec openssl dgst -sha384 -sign \"$key\" input ;;\n\
        */message) exec openssl dgst -sha256 -sign \"$key\" input ;;\n\
        ECDSA-P384/digest) exec openssl pkeyutl -sign -inkey \"$key\" -in input -pkeyopt digest:sha384 ;;\n\
        */digest) exec openssl pkeyutl -sign -inkey \"$key\" -in input -pkeyopt digest:sha256 ;;\nesac\n";
    std::fs::write(&script, text).unwrap();
    for (kind, algorithm) in KINDS {
        shop.openssl([&["genpkey", "-out", "the key"], kind].concat());
        for input in [SignerInput::Message, SignerInput::Digest] {
            let folder = shop.path("");
            let line = format!("sh -c 'cd {0} && sh signer.sh \"$0\"' 'the key'", folder.display());
            let command = SignerCommand::parse(&line, input, Duration::from_secs(20)).unwrap();
            match command.sign(algorithm, MESSAGE) {
                Ok(signature) => shop.verifies("the key", algorithm, &signature),
                Err(error) => {
                    assert!(matches!(error, SignerError::NoDigest), "{error}");
                    assert_eq!((algorithm, input), (Algorithm::Ed25519, SignerInput::Digest));
                }
            }
        }
    }
}

#[test]
fn a_command_that_hangs_floods_fails_or_says_nothing_gives_no_signature() {
    let run = |line: &str| {
        let started = std::time::Instant::now();
        let command = SignerCommand::parse(line, SignerInput::Message, Duration::from_millis(700)).unwrap();
        // More than a pipe holds, for those who do not read it.
        let error = command.sign(Algorithm::EcdsaP256, &vec![7; 1 << 20]).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "{line}: {:?}", started.elapsed());
        error
    };
    for hanging in ["sleep 60", "sh -c 'exec >&-; exec sleep 60'", "sh -c 'cat; exec sleep 60'"] {
        let error = run(hanging);
        let is_told = matches!(error, SignerError::Timeout { .. } | SignerError::TooLong { .. });
        assert!(is_told, "{hanging}: {error}");
    }
    // What it leaves behind is ended with it.
    assert!(matches!(run("sh -c 'sleep 60 2>&- & exit 0'"), SignerError::Empty { .. }));
    assert!(matches!(run("yes"), SignerError::TooLong { .. }));
    assert!(matches!(run("cat"), SignerError::TooLong { .. }));
    assert!(matches!(run("sh -c 'echo signature; exit 3'"), SignerError::Status { .. }));
    assert!(run("sh -c 'exit 3'").to_string().contains("exit status: 3"));
    assert!(matches!(run("true"), SignerError::Empty { .. }));
    assert!(run("/nowhere/signer").to_string().contains("`/nowhere/signer` cannot be started"));
    for line in ["", "  ", "'unclosed", "''"] {
        let parsed = SignerCommand::parse(line, SignerInput::Message, Duration::from_secs(1));
        assert!(matches!(parsed, Err(SignerError::NoCommand)), "{line}");
    }
}

/// Whether a process runs, which one that has ended and was not waited for does not.
fn runs(process: &str) -> bool {
    let told = std::fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    told.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn what_a_command_has_started_ends_with_it_whether_it_is_late_or_done() {
    let shop = Workshop::new();
    for (number, (ending, is_late)) in
        (0..).zip([("wait", true), ("echo signature", false), ("kill -9 $$", false)])
    {
        let file = shop.path(&format!("children{number}"));
        // A child, and a child's child.
        let line = format!(
            "sh -c 'sleep 60 2>&- & echo $! >> {0}; sh -c \"sleep 60 & echo \\$! >> {0}\"; {ending}'",
            file.display()
        );
        let started = std::time::Instant::now();
        let command = SignerCommand::parse(&line, SignerInput::Message, Duration::from_secs(2)).unwrap();
        let signed = command.sign(Algorithm::EcdsaP256, MESSAGE);
        assert!(started.elapsed() < Duration::from_secs(4), "{ending}: {:?}", started.elapsed());
        assert_eq!(matches!(signed, Err(SignerError::Timeout { .. })), is_late, "{ending}: {signed:?}");
        assert_eq!(signed.is_ok(), ending.starts_with("echo"), "{ending}: {signed:?}");
        let children = std::fs::read_to_string(&file).unwrap();
        assert_eq!(children.lines().count(), 2, "{children}");
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while children.lines().any(runs) {
            assert!(std::time::Instant::now() < deadline, "{ending}: something is left of {children}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_daemon_that_a_command_has_started_holds_nobody_up() {
    let shop = Workshop::new();
    let file = shop.path("daemon");
    // It has left the group, and holds the command's stdout.
    let line = format!("sh -c 'setsid sleep 60 & echo $! > {}; sleep 0.3; printf signature'", file.display());
    let started = std::time::Instant::now();
    let command = SignerCommand::parse(&line, SignerInput::Message, Duration::from_secs(30)).unwrap();
    assert_eq!(command.sign(Algorithm::EcdsaP256, MESSAGE).unwrap(), b"signature");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let daemon = std::fs::read_to_string(file).unwrap();
    assert!(runs(&daemon));
    std::process::Command::new("kill").arg(daemon.trim()).status().unwrap();
}
