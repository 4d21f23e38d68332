//! The mentat ABI, as far as this agent needs it: the only file that knows of pointers.

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
}

/// The whole input.
pub fn input() -> Vec<u8> {
    // SAFETY: with no capacity the host writes nothing, and answers the input's length.
    let length = unsafe { read_input(std::ptr::null_mut(), 0) };
    let mut input = vec![0; usize::try_from(length).unwrap_or(0)];
    // SAFETY: the host writes at most `input.len()` bytes to a buffer of that length.
    unsafe { read_input(input.as_mut_ptr(), input.len()) };
    input
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
