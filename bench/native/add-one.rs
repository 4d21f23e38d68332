//! What the tiny module does, as a program: reads its input, adds one to each byte, and writes that.

use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    std::io::stdout().write_all(&bytes)
}
