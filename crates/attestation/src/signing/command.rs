//! A command that signs in place of a key file: the way to a hardware token, a security module or a key service. It gets what
//! is to be signed on stdin and answers with the raw signature on stdout. Knows nothing of what it talks to.
//!
//! Invariant: no shell reads the command; what it writes is bounded and so is its time, and nothing that it leaves behind is
//! waited for.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use ring::digest;

use crate::algorithm::Algorithm;

/// Bytes of a signature at most: one of RSA with 8192 bits has 1024.
const MAX_SIGNATURE_BYTES: u64 = 4096;
/// How often a command is asked whether it has ended.
const ENDED_POLL: Duration = Duration::from_millis(5);

/// A command that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerCommand {
    program: String,
    arguments: Vec<String>,
    input: SignerInput,
    timeout: Duration,
}

/// What a signer command is given on stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignerInput {
    /// The whole message, which the command hashes itself.
    #[default]
    Message,
    /// The message's digest: SHA-384 for ECDSA on P-384, SHA-256 for RSA and ECDSA on P-256. Ed25519 has none.
    Digest,
}

/// Why a signer command gave no signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// Nothing to run, or quotes that do not end.
    #[error(
        "the signer command is empty, or a quote in it does not end; write the program and its arguments as `prog 'an argument'`"
    )]
    NoCommand,
    /// Ed25519 signs the message, not a digest of it.
    #[error("Ed25519 signs a message and not its digest; let the signer command take the message")]
    NoDigest,
    /// It cannot be started.
    #[error("the signer command `{program}` cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It said that it failed.
    #[error("the signer command `{program}` ended with {status}; what it had to say is above")]
    Status {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("the signer command `{program}` took more than {} seconds; allow it more by `--signer-timeout`", .limit.as_secs_f64())]
    Timeout {
        /// The program.
        program: String,
        /// What it had.
        limit: Duration,
    },
    /// It wrote more than a signature.
    #[error(
        "the signer command `{program}` wrote more than {MAX_SIGNATURE_BYTES} bytes; it must write the raw signature and nothing else"
    )]
    TooLong {
        /// The program.
        program: String,
    },
    /// It wrote nothing.
    #[error("the signer command `{program}` wrote nothing; it must write the raw signature to stdout")]
    Empty {
        /// The program.
        program: String,
    },
    /// Talking to it failed.
    #[error("the signer command `{program}` cannot be talked to: {source}")]
    Pipe {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

impl SignerCommand {
    /// A command out of one line, split into words at blanks, with quotes as in a shell; nothing else of a shell is known.
    ///
    /// # Errors
    /// When there is no word in it, or a quote does not end.
    pub fn parse(line: &str, input: SignerInput, timeout: Duration) -> Result<Self, SignerError> {
        let mut words = shlex::split(line).ok_or(SignerError::NoCommand)?.into_iter();
        let program = words.next().filter(|program| !program.is_empty()).ok_or(SignerError::NoCommand)?;
        Ok(Self { program, arguments: words.collect(), input, timeout })
    }

    /// Has the command sign `message`. It is told the algorithm in `MENTAT_SIGN_ALGORITHM`, and in `MENTAT_SIGN_INPUT`
    /// whether it gets the `message` or its `digest`. Its stderr is ours, and so is its terminal, for a PIN.
    ///
    /// # Errors
    /// When it cannot be run, fails, takes too long, or writes what is no signature.
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let (input, named) = match self.input {
            SignerInput::Message => (message.to_vec(), "message"),
            SignerInput::Digest => (digest_of(algorithm, message)?, "digest"),
        };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env("MENTAT_SIGN_ALGORITHM", algorithm.name())
            .env("MENTAT_SIGN_INPUT", named)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| SignerError::Start { program: self.program.clone(), source })?;
        let answer = self.converse(&mut child, input);
        // Ended or not: what has ended already is none the worse for it, and nothing of it is left.
        let _ = child.kill();
        let _ = child.wait();
        answer
    }

    fn converse(&self, child: &mut Child, input: Vec<u8>) -> Result<Vec<u8>, SignerError> {
        let pipe = |source| SignerError::Pipe { program: self.program.clone(), source };
        let deadline = Instant::now() + self.timeout;
        // Threads of their own, which are left to themselves when the time is over: a process that the command has
        // started may hold its pipes for as long as it likes.
        if let Some(mut stdin) = child.stdin.take() {
            thread::spawn(move || {
                // A command that needs no more of it may close it; whether it signed, its answer tells.
                let _ = stdin.write_all(&input);
            });
        }
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut answer = Vec::new();
                let read = stdout.take(MAX_SIGNATURE_BYTES + 1).read_to_end(&mut answer);
                // Nobody listens any more when the time is over.
                let _ = sender.send(read.map(|_| answer));
            });
        }
        let answer = self.receive(&receiver, deadline)?.map_err(pipe)?;
        if u64::try_from(answer.len()).is_ok_and(|length| length > MAX_SIGNATURE_BYTES) {
            return Err(SignerError::TooLong { program: self.program.clone() });
        }
        let status = loop {
            match child.try_wait().map_err(pipe)? {
                Some(status) => break status,
                None if Instant::now() >= deadline => return Err(self.late()),
                None => thread::sleep(ENDED_POLL),
            }
        };
        if !status.success() {
            return Err(SignerError::Status { program: self.program.clone(), status });
        }
        if answer.is_empty() {
            return Err(SignerError::Empty { program: self.program.clone() });
        }
        Ok(answer)
    }

    fn receive(
        &self,
        receiver: &Receiver<io::Result<Vec<u8>>>,
        deadline: Instant,
    ) -> Result<io::Result<Vec<u8>>, SignerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        receiver.recv_timeout(left).map_err(|_| self.late())
    }

    fn late(&self) -> SignerError {
        SignerError::Timeout { program: self.program.clone(), limit: self.timeout }
    }
}

fn digest_of(algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerError> {
    let hash = match algorithm {
        Algorithm::RsaSha256 | Algorithm::EcdsaP256 => &digest::SHA256,
        Algorithm::EcdsaP384 => &digest::SHA384,
        Algorithm::Ed25519 => return Err(SignerError::NoDigest),
    };
    Ok(digest::digest(hash, message).as_ref().to_vec())
}
