//! The verbs of keys, certificates and signatures: `keygen`, `sign`, `verify`, `pki`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use mentat_attestation::Algorithm;
use mentat_attestation::signing::SignerInput;
use mentat_attestation::signing::authority::RevocationReason;
use mentat_manifest::parse_duration;

use super::JsonArgument;

/// Make a private key to sign agents with
///
/// The key is PKCS #8 in PEM, as OpenSSL reads and writes it, readable to its owner alone. `--csr` writes a certificate
/// request as well, for `mentat pki issue --csr` or another authority. Keys of RSA are made by
/// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072`; a hardware token makes its own.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat keygen --out alice.key\n\
\x20 mentat keygen --algorithm ed25519 --encrypt --out alice.key --csr alice.csr")]
pub(crate) struct KeygenArguments {
    /// What the key is for
    #[arg(long, value_enum, default_value_t)]
    pub(crate) algorithm: KeyAlgorithm,
    /// Where the key goes; a file that is there is not overwritten
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Where a certificate request for the key goes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) csr: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) encryption: EncryptionArgument,
}

/// Sign an agent: write its attestation into its manifest
///
/// Signs the manifest and the digest of the module that it names, and writes the signature and the certificates into the
/// manifest as `attestation`, in place of one that is there. The rest of the manifest stays as it is, with comments and
/// order. Before anything is written, it is verified as a server would, but for the trust in the authority: a certificate
/// that is not the key's, that has ended, or that is not for signing code, is refused.
///
/// The key is a PEM file as OpenSSL writes it, encrypted or not: RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, Ed25519.
/// A key that cannot leave its token or service signs by `--signer-command`: a program that gets the bytes to sign on stdin
/// and writes the raw signature to stdout (ECDSA as ASN.1), and is told the algorithm in `MENTAT_SIGN_ALGORITHM`.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat sign agents/metrics --key alice@example.com.key --cert alice@example.com.crt\n\
\x20 mentat sign agents/metrics --cert alice.crt --chain ca.crt --signer-command ./sign-with-token.sh\n\
\x20 mentat sign agents/metrics --key alice.key --cert alice.crt --detached > attestation.yaml")]
pub(crate) struct SignArguments {
    /// Agent's folder, or its manifest
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    /// Private key, in PEM
    #[arg(long, value_name = "FILE", required_unless_present = "signer_command", conflicts_with = "signer_command",
        value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Certificate of the key, in PEM; those of the authorities that certify it may follow in the same file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) cert: PathBuf,
    /// Certificates of the authorities between it and the root, in PEM; the root itself is not needed
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) chain: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgument,
    /// Program, with its arguments, that signs in place of a key file; no shell reads it
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub(crate) signer_command: Option<String>,
    /// What the program gets on stdin
    #[arg(long, value_enum, default_value_t, requires = "signer_command")]
    pub(crate) signer_input: SignerInputArgument,
    /// How long the program may take
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration, requires = "signer_command")]
    pub(crate) signer_timeout: Duration,
    /// Print the attestation, to be handed over beside the manifest, and leave the manifest alone
    #[arg(long)]
    pub(crate) detached: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Check who signed an agent
///
/// Verifies the attestation in the manifest as a server does when it loads the agent: the certificates up to one of
/// `--roots`, then and now, what they may be used for, that none of them is revoked, and the signature over the manifest and
/// the module. What holds is printed, one thing a line; what does not hold is said with what to do, and the exit code is 4.
///
/// With `--bundle` it checks a bundle of Sigstore, or a DSSE envelope, about the module by a public key that is given, offline.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat verify agents/metrics --roots root_ca.crt\n\
\x20 mentat verify agents/metrics --roots root_ca.crt --crl authority/crl --json\n\
\x20 mentat verify agents/metrics --bundle agent.sigstore.json --public-key cosign.pub")]
pub(crate) struct VerifyArguments {
    /// Agent's folder, or its manifest; with `--bundle` a module as well
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    /// Certificates that are trusted to certify signers, in PEM
    #[arg(long, value_name = "FILE", required_unless_present = "bundle", conflicts_with = "bundle",
        value_hint = ValueHint::FilePath)]
    pub(crate) roots: Vec<PathBuf>,
    /// Revocation lists, in PEM or DER: a file, or a folder of them
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) crl: Vec<PathBuf>,
    /// Reject a certificate whose issuer's revocation list is missing; one that is out of date is never taken
    #[arg(long, requires = "crl")]
    pub(crate) require_crl: bool,
    /// Attestation that is not in the manifest, as `mentat sign --detached` prints it
    #[arg(long, value_name = "FILE", conflicts_with = "bundle", value_hint = ValueHint::FilePath)]
    pub(crate) attestation: Option<PathBuf>,
    /// Bundle of Sigstore, or DSSE envelope
    #[arg(long, value_name = "FILE", requires = "public_key", value_hint = ValueHint::FilePath)]
    pub(crate) bundle: Option<PathBuf>,
    /// Public key that must have signed the bundle, in PEM
    #[arg(long, value_name = "FILE", requires = "bundle", value_hint = ValueHint::FilePath)]
    pub(crate) public_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Run a certificate authority in a folder, for development and small teams
///
/// `init` makes a root (10 years) and an authority below it (5 years, and `renew` for five more) that certifies developers (a
/// year each). Operators trust `certs/root_ca.crt` of the folder and read the revocation lists in its `crl`; nobody else needs the folder, and
/// `private` must stay where it is.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiVerb {
    Init(PkiInitArguments),
    Issue(PkiIssueArguments),
    Renew(PkiRenewArguments),
    Revoke(PkiRevokeArguments),
    Crl(PkiCrlArguments),
    List(PkiListArguments),
}

/// Make an authority: a root, and below it an authority that certifies developers
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pki init --organisation Example\n\
\x20 mentat pki init --authority /srv/ca --organisation Example --encrypt")]
pub(crate) struct PkiInitArguments {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgument,
    /// Stands in every certificate: the root is named `NAME Root CA`
    #[arg(long, value_name = "NAME", default_value = "Mentat")]
    pub(crate) organisation: String,
    /// Of both keys
    #[arg(long, value_enum, default_value_t)]
    pub(crate) algorithm: KeyAlgorithm,
    /// Days after which developers' revocation list is out of date
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    pub(crate) crl_days: u32,
    #[command(flatten)]
    pub(crate) encryption: EncryptionArgument,
}

/// Certify a developer, by email address
///
/// Makes a key for the developer, or takes the one that signed a certificate request (`--csr`), and writes a certificate for
/// it with that of the authority after it: what `mentat sign --cert` takes. Of a request the key alone is taken.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pki issue --email alice@example.com\n\
\x20 mentat pki issue --email alice@example.com --name 'Alice Example' --csr alice.csr --out alice.crt --days 90")]
pub(crate) struct PkiIssueArguments {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgument,
    /// Address by which the signer is known
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::EmailAddress)]
    pub(crate) email: String,
    /// Name in the certificate; the address where not given
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Certificate request (PKCS #10, in PEM) of a key that exists
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) csr: Option<PathBuf>,
    /// What a new key is for
    #[arg(long, value_enum, default_value_t, conflicts_with = "csr")]
    pub(crate) algorithm: KeyAlgorithm,
    /// Days that the certificate holds
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=1826))]
    pub(crate) days: u32,
    /// Certificate policy that it states, by which operators may tell trust
    #[arg(long = "policy", value_name = "OID")]
    pub(crate) policies: Vec<String>,
    /// Where the certificates go; `ADDRESS.crt` where not given
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// Where a new key goes; `ADDRESS.key` where not given
    #[arg(long, value_name = "FILE", conflicts_with = "csr", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Certify the intermediate authority anew, before its five years are over
///
/// Its key stays, and so does what it has issued. Developers get the new certificate with the next one of their own. It needs the
/// root's key, and ends no later than the root; when that is over, `mentat pki init` makes a new authority.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pki renew\n\
\x20 mentat pki renew --authority /srv/ca --passphrase-file /run/secrets/root")]
pub(crate) struct PkiRenewArguments {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgument,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Revoke a certificate, and publish the revocation list that says so
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pki revoke alice@example.com --reason key-compromise\n\
\x20 mentat pki revoke 5F0C9A7E44D1B2C38E90A1B2C3D4E5F6")]
pub(crate) struct PkiRevokeArguments {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgument,
    /// Serial number, or email address of which one certificate holds
    #[arg(value_name = "SERIAL|ADDRESS")]
    pub(crate) which: String,
    /// Why
    #[arg(long, value_enum, default_value_t)]
    pub(crate) reason: ReasonArgument,
    /// Days after which the list is out of date; 365 for the root's, and 30 for the authority's below it, where left out
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=365))]
    pub(crate) days: Option<u32>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Publish a new revocation list, before the last one is out of date
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pki crl\n\
\x20 mentat pki crl --root")]
pub(crate) struct PkiCrlArguments {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgument,
    /// The root's list, which is about the authority below it
    #[arg(long)]
    pub(crate) root: bool,
    /// Days after which it is out of date; 365 for the root's, and 30 for the other, where left out
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=365))]
    pub(crate) days: Option<u32>,
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgument,
}

/// List what an authority has issued, and what of it holds
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pki list\n\
\x20 mentat pki list --authority /srv/ca --json")]
pub(crate) struct PkiListArguments {
    #[command(flatten)]
    pub(crate) authority: AuthorityArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Which authority.
#[derive(Debug, Args)]
pub(crate) struct AuthorityArgument {
    /// Folder of the authority
    #[arg(long, value_name = "DIR", env = "MENTAT_AUTHORITY", hide_env_values = true, default_value = "authority",
        value_hint = ValueHint::DirPath)]
    pub(crate) authority: PathBuf,
}

/// What opens a key that is there.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgument {
    /// File whose first line is the passphrase of the key; it may also be given in `MENTAT_KEY_PASSPHRASE`, or is asked for
    /// on a terminal
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Whether a new key is encrypted, and by what.
#[derive(Debug, Args)]
pub(crate) struct EncryptionArgument {
    /// Encrypt the key by a passphrase: the one of `--passphrase-file`, of `MENTAT_KEY_PASSPHRASE`, or one that is asked for
    /// on a terminal
    #[arg(long)]
    pub(crate) encrypt: bool,
    /// File whose first line is the passphrase
    #[arg(long, value_name = "FILE", requires = "encrypt", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// What a new key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyAlgorithm {
    /// ECDSA on the curve P-256
    #[default]
    EcdsaP256,
    /// ECDSA on the curve P-384
    EcdsaP384,
    /// Ed25519
    Ed25519,
    /// RSA, of which `openssl` makes the keys
    #[value(hide = true)]
    Rsa,
}

/// What a signer command gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SignerInputArgument {
    /// All that is to be signed
    #[default]
    Message,
    /// Its digest: 32 bytes of SHA-256, or 48 of SHA-384 for P-384; not for Ed25519
    Digest,
}

/// Why a certificate no longer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasonArgument {
    /// Nobody says
    #[default]
    Unspecified,
    /// Somebody else has the key, or may have
    KeyCompromise,
    /// Its owner has left, or has another name
    AffiliationChanged,
    /// There is a newer one
    Superseded,
    /// It is no longer needed
    CessationOfOperation,
    /// Its owner may no longer sign
    PrivilegeWithdrawn,
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::EcdsaP256 => Self::EcdsaP256,
            KeyAlgorithm::EcdsaP384 => Self::EcdsaP384,
            KeyAlgorithm::Ed25519 => Self::Ed25519,
            KeyAlgorithm::Rsa => Self::RsaSha256,
        }
    }
}

impl From<SignerInputArgument> for SignerInput {
    fn from(input: SignerInputArgument) -> Self {
        match input {
            SignerInputArgument::Message => Self::Message,
            SignerInputArgument::Digest => Self::Digest,
        }
    }
}

impl From<ReasonArgument> for RevocationReason {
    fn from(reason: ReasonArgument) -> Self {
        match reason {
            ReasonArgument::Unspecified => Self::Unspecified,
            ReasonArgument::KeyCompromise => Self::KeyCompromise,
            ReasonArgument::AffiliationChanged => Self::AffiliationChanged,
            ReasonArgument::Superseded => Self::Superseded,
            ReasonArgument::CessationOfOperation => Self::CessationOfOperation,
            ReasonArgument::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
        }
    }
}
