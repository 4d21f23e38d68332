//! Streams into and out of files, for components: Wasmtime's own, which count against the quota of the file's directory,
//! and against the number of files that may be open, for as long as they keep one open.

use bytes::Bytes;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::descriptors::Place;
use super::volumes::Quota;

/// A stream into a file.
pub(super) struct MeteredStream {
    pub(super) stream: DynOutputStream,
    pub(super) quota: Quota,
    pub(super) _place: Place,
}

/// A stream out of a file.
pub(super) struct HeldStream {
    pub(super) stream: DynInputStream,
    pub(super) _place: Place,
}

impl OutputStream for MeteredStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.quota.take(bytes.len() as u64).is_err() {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StreamError::LastOperationFailed(full.into()));
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for HeldStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.blocking_read(size).await
    }

    fn skip(&mut self, count: usize) -> StreamResult<usize> {
        self.stream.skip(count)
    }

    async fn blocking_skip(&mut self, count: usize) -> StreamResult<usize> {
        self.stream.blocking_skip(count).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for HeldStream {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for MeteredStream {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}
