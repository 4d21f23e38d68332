//! A component that makes the calls of WASI 0.2 itself, as its input says, in the first directory that it has. Prints what
//! came of it: a number, or that of an error.
//!
//! `streams` opens a file, keeps a stream of it and lets go of the file, until the host refuses: each stream keeps its file
//! open. `listings` begins to list the directory over and over: the host holds the entries of each listing. `more` writes
//! more at once than any stream permits. `holes` writes far behind the end of a new file. `blind` opens a file to create
//! it, and neither to read nor to write it, and reads it.

use std::io::Read;

#[link(wasm_import_module = "wasi:filesystem/preopens@0.2.6")]
unsafe extern "C" {
    #[link_name = "get-directories"]
    fn get_directories(result: *mut [usize; 2]);
}

#[link(wasm_import_module = "wasi:filesystem/types@0.2.6")]
unsafe extern "C" {
    #[link_name = "[method]descriptor.open-at"]
    fn open_at(
        fd: i32,
        follow: i32,
        path: *const u8,
        length: usize,
        open: i32,
        flags: i32,
        result: *mut [i32; 2],
    );
    #[link_name = "[method]descriptor.read-via-stream"]
    fn read_via_stream(fd: i32, offset: i64, result: *mut [i32; 2]);
    #[link_name = "[method]descriptor.read-directory"]
    fn read_directory(fd: i32, result: *mut [i32; 2]);
    #[link_name = "[method]descriptor.write-via-stream"]
    fn write_via_stream(fd: i32, offset: i64, result: *mut [i32; 2]);
    #[link_name = "[resource-drop]descriptor"]
    fn drop_descriptor(fd: i32);
    #[link_name = "filesystem-error-code"]
    fn error_code(error: i32, result: *mut [u8; 2]);
}

#[link(wasm_import_module = "wasi:io/streams@0.2.6")]
unsafe extern "C" {
    #[link_name = "[method]output-stream.write"]
    fn write_at_once(stream: i32, bytes: *const u8, length: usize, result: *mut [i32; 3]);
    #[link_name = "[method]output-stream.blocking-write-and-flush"]
    fn write_and_flush(stream: i32, bytes: *const u8, length: usize, result: *mut [i32; 3]);
}

const CREATE: i32 = 1;
const READ: i32 = 1;
const WRITE: i32 = 2;

/// A resource, or an error.
fn answer(call: impl FnOnce(*mut [i32; 2])) -> Result<i32, i32> {
    let mut result = [0; 2];
    call(&raw mut result);
    if result[0] & 0xff == 0 { Ok(result[1]) } else { Err(result[1] & 0xff) }
}

fn open(directory: i32, name: &str, open: i32, flags: i32) -> Result<i32, i32> {
    answer(|result| unsafe { open_at(directory, 1, name.as_ptr(), name.len(), open, flags, result) })
}

fn keep_stream(directory: i32) -> Result<(), i32> {
    let file = open(directory, "hello.txt", 0, READ)?;
    answer(|result| unsafe { read_via_stream(file, 0, result) })?;
    unsafe { drop_descriptor(file) };
    Ok(())
}

/// Writes a byte to a stream; the error is that of the file.
fn write(stream: i32) -> Result<(), u8> {
    let (mut result, mut code) = ([0; 3], [0; 2]);
    unsafe { write_and_flush(stream, b"x".as_ptr(), 1, &raw mut result) };
    if result[0] & 0xff == 0 {
        return Ok(());
    }
    unsafe { error_code(result[2], &raw mut code) };
    Err(code[1])
}

fn main() {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    let mut list = [0; 2];
    unsafe { get_directories(&raw mut list) };
    let directory = unsafe { *(list[0] as *const i32) };
    match input.as_str() {
        "streams" => println!("{}", (0..1000).take_while(|_| keep_stream(directory).is_ok()).count()),
        "listings" => {
            let list = || answer(|result| unsafe { read_directory(directory, result) });
            println!("{}", (0..1000).take_while(|_| list().is_ok()).count());
        }
        "more" => {
            let file = open(directory, "new.txt", CREATE, WRITE).unwrap();
            let stream = answer(|result| unsafe { write_via_stream(file, 0, result) }).unwrap();
            let (bytes, mut result) = (vec![b'x'; (64 << 10) + 1], [0; 3]);
            unsafe { write_at_once(stream, bytes.as_ptr(), bytes.len(), &raw mut result) };
            println!("{result:?}");
        }
        "holes" => {
            let file = open(directory, "new.txt", CREATE, WRITE).unwrap();
            let stream = answer(|result| unsafe { write_via_stream(file, 1 << 40, result) }).unwrap();
            println!("{:?}", write(stream));
        }
        "blind" => {
            let read = open(directory, "hello.txt", CREATE, 0)
                .and_then(|file| answer(|result| unsafe { read_via_stream(file, 0, result) }));
            println!("{read:?}");
        }
        other => panic!("there is no {other}"),
    }
}
