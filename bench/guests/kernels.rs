//! Two programs that only compute: SHA-256 (FIPS 180-4), which is bits of 32-bit words, and a product of matrices, which is
//! floating point in memory. A guest, and a module of the benchmark itself, so that both run the same source.

#![allow(
    clippy::indexing_slicing,
    clippy::many_single_char_names,
    reason = "written as the standard writes it; all sizes are constants"
)]

const ROUND_CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];
const START: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
const BLOCK_BYTES: usize = 64;
/// Bytes that are hashed at once, and how often: few enough that memory does not matter.
const HASHED_BYTES: usize = 16 << 10;
const HASHED_TIMES: u32 = 64;
/// Rows and columns of a matrix.
const SIDE: usize = 128;

/// What the program named so answers; nothing where there is none.
pub(crate) fn answer(program: &[u8]) -> Vec<u8> {
    match program {
        b"sha256" => hashes().to_vec(),
        b"product" => product().to_le_bytes().to_vec(),
        _ => Vec::new(),
    }
}

/// Each message has the digest of the one before it.
fn hashes() -> [u8; 32] {
    let (mut message, mut digest) = (vec![b'a'; HASHED_BYTES], [0; 32]);
    for _ in 0..HASHED_TIMES {
        message.splice(..digest.len(), digest);
        digest = sha256(&message);
    }
    digest
}

fn sha256(message: &[u8]) -> [u8; 32] {
    let mut state = START;
    let mut blocks = message.chunks_exact(BLOCK_BYTES);
    for block in &mut blocks {
        compress(&mut state, block);
    }
    let rest = blocks.remainder();
    let mut end = rest.to_vec();
    end.push(0x80);
    while end.len() % BLOCK_BYTES != BLOCK_BYTES - 8 {
        end.push(0);
    }
    end.extend((message.len() as u64 * 8).to_be_bytes());
    for block in end.chunks_exact(BLOCK_BYTES) {
        compress(&mut state, block);
    }
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn compress(state: &mut [u32; 8], block: &[u8]) {
    let mut words = [0u32; 64];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    for at in 16..64 {
        let (near, far) = (words[at - 2], words[at - 15]);
        let low = far.rotate_right(7) ^ far.rotate_right(18) ^ (far >> 3);
        let high = near.rotate_right(17) ^ near.rotate_right(19) ^ (near >> 10);
        words[at] = words[at - 16].wrapping_add(low).wrapping_add(words[at - 7]).wrapping_add(high);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for at in 0..64 {
        let sum = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let one = h
            .wrapping_add(sum)
            .wrapping_add(choice)
            .wrapping_add(ROUND_CONSTANTS[at])
            .wrapping_add(words[at]);
        let sum = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let two = sum.wrapping_add((a & b) ^ (a & c) ^ (b & c));
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(one), c, b, a, one.wrapping_add(two));
    }
    for (word, added) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(added);
    }
}

/// The sum of all elements of a product of two matrices.
fn product() -> f64 {
    let matrix = |step: u32| {
        let mut next = 1u32;
        let mut element = || {
            next = next.wrapping_mul(1_664_525).wrapping_add(step);
            f64::from(next >> 16)
        };
        (0..SIDE * SIDE).map(|_| element()).collect::<Vec<f64>>()
    };
    let (left, right) = (matrix(1_013_904_223), matrix(12_345));
    let mut product = vec![0.0; SIDE * SIDE];
    for row in 0..SIDE {
        for at in 0..SIDE {
            let factor = left[row * SIDE + at];
            let (sums, right) = (&mut product[row * SIDE..][..SIDE], &right[at * SIDE..][..SIDE]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += factor * right;
            }
        }
    }
    product.iter().sum()
}

/// The doors of the guest.
#[cfg(target_family = "wasm")]
mod doors {
    #[link(wasm_import_module = "mentat")]
    unsafe extern "C" {
        fn read_input(pointer: *mut u8, capacity: usize) -> i32;
        fn write_output(pointer: *const u8, length: usize) -> i32;
    }

    #[unsafe(no_mangle)]
    extern "C" fn process() -> i32 {
        let mut input = [0; 16];
        // SAFETY: the host writes at most `input.len()` bytes to a buffer of that length.
        let length = unsafe { read_input(input.as_mut_ptr(), input.len()) };
        let program = input.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
        let output = super::answer(program);
        // SAFETY: the host only reads the bytes, during the call.
        unsafe { write_output(output.as_ptr(), output.len()) };
        0
    }
}
