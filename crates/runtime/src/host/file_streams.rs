//! Streams of components into and out of files. What is written counts against the quota of the directory; either keeps
//! the file open when its descriptor is closed already.

use std::io;
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use wasmtime_wasi::filesystem::File;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::descriptors::Kept;
use super::quota::{Facts, FileId, Quota, Turn};

/// Bytes of one write at most, as in Wasmtime's own streams.
const WRITE_PERMIT_BYTES: usize = 64 << 10;

/// A stream out of a file.
pub(crate) struct Reading {
    pub(crate) stream: Box<dyn InputStream>,
    pub(crate) _kept: Kept,
}

/// A stream into a file.
pub(crate) struct Writing {
    file: File,
    place: Place,
    quota: Quota,
    state: State,
    _kept: Kept,
}

/// Where the next bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// To this offset.
    At(u64),
    /// To the end, wherever that is.
    End,
}

enum State {
    Ready,
    /// It goes on by itself: a guest that does not wait for it must not keep others waiting for the turn that it has. It
    /// waits for its turn before it takes a thread: threads that wait for those who need one would wait for ever.
    Waiting(AbortOnDropJoinHandle<io::Result<u64>>),
    Broken(io::Error),
    Closed,
}

impl Writing {
    pub(crate) fn new(file: File, place: Place, quota: Quota, kept: Kept) -> Self {
        Self { file, place, quota, state: State::Ready, _kept: kept }
    }

    /// The state, where nothing is being written and nothing has gone wrong.
    fn check(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Ready => {
                self.state = State::Ready;
                Ok(())
            }
            State::Waiting(task) => {
                self.state = State::Waiting(task);
                Ok(())
            }
            State::Broken(error) => Err(StreamError::LastOperationFailed(error.into())),
            State::Closed => Err(StreamError::Closed),
        }
    }
}

/// Writes all of it, and answers how much that is.
fn write(file: &File, place: Place, turn: &Turn, bytes: &[u8]) -> io::Result<u64> {
    let before = facts(file)?;
    let length = bytes.len() as u64;
    let start = match place {
        Place::At(offset) => offset,
        Place::End => before.size,
    };
    let taken = before.growth(start, length);
    turn.grow(before.id, taken).map_err(|_| io::Error::from(rustix::io::Errno::NOSPC))?;
    let written = write_all(file, place, bytes);
    let now = facts(file).map_or(before.size.saturating_add(taken), |now| now.size);
    turn.shrink(before.id, taken.saturating_sub(now.saturating_sub(before.size)));
    written.map(|()| length)
}

fn write_all(file: &File, place: Place, mut bytes: &[u8]) -> io::Result<()> {
    let mut place = place;
    while !bytes.is_empty() {
        let written = match &mut place {
            Place::At(offset) => {
                let written = rustix::io::pwrite(&*file.file, bytes, *offset)?;
                *offset = offset.saturating_add(written as u64);
                written
            }
            Place::End => {
                rustix::io::pwritev2(&*file.file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?
            }
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn facts(file: &File) -> io::Result<Facts> {
    let found = file.file.metadata()?;
    Ok(Facts { id: FileId::of(found.dev(), found.ino()), size: found.len(), names: found.nlink() })
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.state {
            State::Ready => {}
            State::Closed => return Err(StreamError::Closed),
            State::Waiting(_) | State::Broken(_) => {
                return Err(StreamError::trap("write not permitted: check_write not called first"));
            }
        }
        if bytes.len() > WRITE_PERMIT_BYTES {
            return Err(StreamError::trap("write not permitted: more bytes than check_write permitted"));
        }
        let (file, place, quota) = (self.file.clone(), self.place, self.quota.clone());
        self.state = State::Waiting(spawn(async move {
            let turn = quota.turn().await;
            let writing = tokio::task::spawn_blocking(move || write(&file, place, &turn, &bytes));
            writing.await.map_err(io::Error::other)?
        }));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(if matches!(self.state, State::Ready) { WRITE_PERMIT_BYTES } else { 0 })
    }

    async fn cancel(&mut self) {
        // What was handed over is written, and waited for, so that a guest cannot heap up any number of writes.
        if let State::Waiting(task) = std::mem::replace(&mut self.state, State::Closed) {
            // There is nobody left to tell.
            let _ = task.await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writing {
    async fn ready(&mut self) {
        let State::Waiting(task) = &mut self.state else { return };
        self.state = match task.await {
            Ok(written) => {
                if let Place::At(offset) = &mut self.place {
                    *offset = offset.saturating_add(written);
                }
                State::Ready
            }
            Err(error) => State::Broken(error),
        };
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Reading {
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
impl Pollable for Reading {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mentat_manifest::ByteCount;
    use wasmtime_wasi::FsPerms;
    use wasmtime_wasi::filesystem::OpenMode;

    use super::*;
    use crate::host::quota::Storage;

    #[tokio::test]
    async fn a_write_that_its_guest_does_not_wait_for_keeps_nobody_else_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::default();
        let turns = storage.turns(folder.path());
        let quota = Quota::new("/data", ByteCount(100), storage, turns);
        let file = File::new(tempfile::tempfile().unwrap(), FsPerms::ReadWrite, OpenMode::WRITE, false);
        let mut stream = Writing::new(file.clone(), Place::At(0), quota.clone(), Kept::default());
        let turn = quota.turn().await;
        stream.write("hello".into()).unwrap();
        // So long that it waits for its turn, and then no more.
        let waited = tokio::time::timeout(Duration::from_millis(50), stream.ready()).await;
        assert!(waited.is_err());
        drop(turn);
        let next = tokio::time::timeout(Duration::from_secs(10), quota.turn()).await;
        assert!(next.is_ok());
        assert_eq!(file.file.metadata().unwrap().len(), 5);
    }
}
