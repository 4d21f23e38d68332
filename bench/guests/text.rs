//! An ordinary small agent in Rust with its standard library: reads its input into a vector, works on it as text, and
//! writes what comes of it. It grows its memory, as nearly all programs with an allocator do.

#[link(wasm_import_module = "mentat")]
unsafe extern "C" {
    fn read_input(pointer: *mut u8, capacity: usize) -> i32;
    fn write_output(pointer: *const u8, length: usize) -> i32;
}

#[unsafe(no_mangle)]
extern "C" fn process() -> i32 {
    // SAFETY: with no capacity the host writes nothing, and answers the input's length.
    let length = unsafe { read_input(std::ptr::null_mut(), 0) };
    let mut input = vec![0; usize::try_from(length).unwrap_or(0)];
    // SAFETY: the host writes at most `input.len()` bytes to a buffer of that length.
    unsafe { read_input(input.as_mut_ptr(), input.len()) };
    let text = String::from_utf8_lossy(&input);
    let output = format!("{} bytes: {}", text.len(), text.to_uppercase());
    // SAFETY: the host only reads the bytes, during the call.
    unsafe { write_output(output.as_ptr(), output.len()) };
    0
}
