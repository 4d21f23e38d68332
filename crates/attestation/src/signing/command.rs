//! A command that signs in place of a key file: the way to a hardware token, a security module or a key service. It gets what
//! is to be signed on stdin and answers with the raw signature on stdout. Knows nothing of what it talks to.
//!
//! Invariant: no shell reads the command; what it writes is bounded and so is its time; what it starts ends with it, and what
//! gets away is not waited for.

use std::io::{self, Read, Write};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use ring::digest;

use crate::algorithm::Algorithm;
use crate::signing::group::CommandGroup;

/// Bytes of a signature at most: one of RSA with 8192 bits has 1024.
const MAX_SIGNATURE_BYTES: usize = 4096;
/// How often a command is asked whether it has ended.
const ENDED_POLL: Duration = Duration::from_millis(5);
/// How long its last words are waited for when it has ended: for as long as something of it holds its stdout.
const LAST_WORDS: Duration = Duration::from_millis(250);

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
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env("MENTAT_SIGN_ALGORITHM", algorithm.name())
            .env("MENTAT_SIGN_INPUT", named)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let group = CommandGroup::start(&mut command)
            .map_err(|source| SignerError::Start { program: self.program.clone(), source })?;
        self.converse(group, input)
    }

    /// Whatever comes of it, nothing of the group is left when this returns.
    fn converse(&self, mut group: CommandGroup, input: Vec<u8>) -> Result<Vec<u8>, SignerError> {
        let deadline = Instant::now() + self.timeout;
        // Threads of their own: who has left the group may hold its pipes for as long as it likes.
        if let Some(mut stdin) = group.child().stdin.take() {
            thread::spawn(move || {
                // A command that needs no more of it may close it; whether it signed, its answer tells.
                let _ = stdin.write_all(&input);
            });
        }
        let stdout = group.child().stdout.take();
        let pieces = pieces_of(stdout);
        let mut answer = Vec::new();
        while !group.has_ended().map_err(|source| self.pipe(source))? {
            if Instant::now() >= deadline {
                return Err(self.late());
            }
            if self.receive(&pieces, ENDED_POLL, &mut answer)? == Heard::All {
                thread::sleep(ENDED_POLL);
            }
        }
        let status = group.end().map_err(|source| self.pipe(source))?;
        let over = Instant::now() + LAST_WORDS;
        while self.receive(&pieces, over.saturating_duration_since(Instant::now()), &mut answer)?
            == Heard::More
        {}
        if !status.success() {
            return Err(SignerError::Status { program: self.program.clone(), status });
        }
        if answer.is_empty() {
            return Err(SignerError::Empty { program: self.program.clone() });
        }
        Ok(answer)
    }

    /// Adds the next piece to the answer, which is no longer than a signature.
    fn receive(
        &self,
        pieces: &Receiver<io::Result<Vec<u8>>>,
        patience: Duration,
        answer: &mut Vec<u8>,
    ) -> Result<Heard, SignerError> {
        match pieces.recv_timeout(patience) {
            Ok(piece) => {
                answer.extend(piece.map_err(|source| self.pipe(source))?);
                if answer.len() > MAX_SIGNATURE_BYTES {
                    return Err(SignerError::TooLong { program: self.program.clone() });
                }
                Ok(Heard::More)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Heard::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Heard::All),
        }
    }

    fn pipe(&self, source: io::Error) -> SignerError {
        SignerError::Pipe { program: self.program.clone(), source }
    }

    fn late(&self) -> SignerError {
        SignerError::Timeout { program: self.program.clone(), limit: self.timeout }
    }
}

/// What was heard of a command in a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    More,
    All,
}

/// What a command writes, piece by piece, until it closes its stdout or has written more than a signature.
fn pieces_of(stdout: Option<ChildStdout>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdout) = stdout {
        thread::spawn(move || {
            let mut left = MAX_SIGNATURE_BYTES + 1;
            let mut buffer = vec![0; left];
            while left > 0 {
                let piece = match stdout.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => Ok(buffer.get(..read.min(left)).unwrap_or_default().to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                left = piece.as_ref().map_or(0, |piece| left - piece.len());
                // Nobody listens any more when the time is over.
                if sender.send(piece).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

fn digest_of(algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignerError> {
    let hash = match algorithm {
        Algorithm::RsaSha256 | Algorithm::EcdsaP256 => &digest::SHA256,
        Algorithm::EcdsaP384 => &digest::SHA384,
        Algorithm::Ed25519 => return Err(SignerError::NoDigest),
    };
    Ok(digest::digest(hash, message).as_ref().to_vec())
}
