//! An object as the standard input of a command: read a piece at a time, as the command asks for it.
//!
//! Invariant: a command comes to the end of its input only when all of the object was what it is called; else its input
//! fails.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::objects::OpenObject;

/// Bytes that are asked for at once; what is held is a piece of the object.
const ASKED_BYTES: u64 = 1 << 20;

/// The standard input; all that read it share it.
#[derive(Clone)]
pub(crate) struct ObjectStdin(Arc<Shared>);

struct Shared {
    /// Who waits for more has it. A wait that is given up changes nothing.
    object: tokio::sync::Mutex<OpenObject>,
    read: Mutex<Read>,
}

/// How far it was read.
#[derive(Default)]
struct Read {
    offset: u64,
    at_hand: Bytes,
    end: Option<End>,
}

enum End {
    Whole,
    Failed(String),
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The same, for those who poll.
struct Polled {
    stdin: ObjectStdin,
    wait: Mutex<Option<Wait>>,
}

impl ObjectStdin {
    pub(crate) fn new(object: OpenObject) -> Self {
        Self(Arc::new(Shared { object: tokio::sync::Mutex::new(object), read: Mutex::default() }))
    }

    /// Waits until something is at hand, or the end.
    async fn more(&self) {
        let mut object = self.0.object.lock().await;
        let offset = {
            let read = self.0.read.lock();
            if !read.at_hand.is_empty() || read.end.is_some() {
                return;
            }
            read.offset
        };
        let got = object.read(offset, ASKED_BYTES).await;
        let mut read = self.0.read.lock();
        match got {
            Ok(piece) if piece.is_empty() => read.end = Some(End::Whole),
            Ok(piece) => {
                read.offset = read.offset.saturating_add(piece.len() as u64);
                read.at_hand = piece;
            }
            Err(error) => read.end = Some(End::Failed(error.to_string())),
        }
    }

    /// What is at hand; nothing where that is nothing yet.
    fn take(&self, size: usize) -> StreamResult<Bytes> {
        let mut read = self.0.read.lock();
        let size = size.min(read.at_hand.len());
        let piece = read.at_hand.split_to(size);
        match &read.end {
            _ if !piece.is_empty() => Ok(piece),
            None => Ok(piece),
            Some(End::Whole) => Err(StreamError::Closed),
            Some(End::Failed(why)) => {
                Err(StreamError::LastOperationFailed(wasmtime::Error::msg(why.clone())))
            }
        }
    }
}

impl IsTerminal for ObjectStdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for ObjectStdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(Polled { stdin: self.clone(), wait: Mutex::default() })
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl InputStream for ObjectStdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.take(size)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for ObjectStdin {
    async fn ready(&mut self) {
        self.more().await;
    }
}

impl AsyncRead for Polled {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.stdin.take(buffer.remaining()) {
                Ok(piece) if piece.is_empty() && buffer.remaining() > 0 => {}
                Ok(piece) => {
                    buffer.put_slice(&piece);
                    return Poll::Ready(Ok(()));
                }
                Err(StreamError::Closed) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(io::Error::other(error.to_string()))),
            }
            let mut waiting = self.wait.lock();
            let stdin = self.stdin.clone();
            let wait = waiting.get_or_insert_with(|| Box::pin(async move { stdin.more().await }));
            std::task::ready!(wait.as_mut().poll(context));
            *waiting = None;
        }
    }
}
