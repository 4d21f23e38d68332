//! The mentat ABI, as far as this agent needs it: the only file that knows of pointers.

use std::io::{self, Read};

/// How much a log line matters.
#[repr(i32)]
pub enum Level {
    Error = 0,
}

#[link(wasm_import_module = "mentat")]
unsafe extern "C" {
    fn read_input(pointer: *mut u8, capacity: usize) -> i32;
    fn write_output(pointer: *const u8, length: usize) -> i32;
    #[link_name = "log"]
    fn write_log(level: i32, pointer: *const u8, length: usize);
    fn last_error(pointer: *mut u8, capacity: usize) -> i32;
    fn result_read(offset: usize, pointer: *mut u8, capacity: usize) -> i32;
    fn download_media(reference: *const u8, length: usize) -> i32;
}

/// The whole input.
pub fn input() -> Vec<u8> {
    // SAFETY: the host writes at most as many bytes as it is told, to the buffer that it is told.
    whole(|pointer, capacity| unsafe { read_input(pointer, capacity) })
}

/// Sets the output.
pub fn output(bytes: &[u8]) {
    // SAFETY: the host only reads the bytes, during the call.
    unsafe { write_output(bytes.as_ptr(), bytes.len()) };
}

/// Writes a line to the execution's log.
pub fn log(level: Level, message: &str) {
    // SAFETY: the host only reads the bytes, during the call.
    unsafe { write_log(level as i32, message.as_ptr(), message.len()) };
}

/// An object of the media store, which the host hands out a piece at a time.
///
/// It is the host's current result, so it can be read until the next one is opened.
pub struct Object {
    size: usize,
    position: usize,
}

impl Object {
    /// Opens an object by its reference.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(reference: &str) -> Result<Self, String> {
        // SAFETY: the host only reads the bytes, during the call.
        let length = unsafe { download_media(reference.as_ptr(), reference.len()) };
        Ok(Self { size: answered(length)?, position: 0 })
    }
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size {
            return Ok(0);
        }
        // SAFETY: the host writes at most `buffer.len()` bytes to a buffer of that length.
        let read = unsafe { result_read(self.position, buffer.as_mut_ptr(), buffer.len()) };
        let read = answered(read).map_err(io::Error::other)?;
        self.position += read;
        Ok(read)
    }
}

/// A number that the host answered, or the text of the error that it stands for.
fn answered(answer: i32) -> Result<usize, String> {
    usize::try_from(answer).map_err(|_| {
        // SAFETY: the host writes at most as many bytes as it is told, to the buffer that it is told.
        let text = whole(|pointer, capacity| unsafe { last_error(pointer, capacity) });
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// All of what a call copies only if there is room for all of it.
fn whole(copy: impl Fn(*mut u8, usize) -> i32) -> Vec<u8> {
    let length = copy(std::ptr::null_mut(), 0);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    copy(bytes.as_mut_ptr(), bytes.len());
    bytes
}
