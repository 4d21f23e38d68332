// What is UTF-8 and what is not (RFC 3629); the standard library's decoder accepts anything.

/** Where the first byte is that is no part of a character, or the length. */
export function invalidUtf8(buffer: ArrayBuffer): i32 {
  const bytes = Uint8Array.wrap(buffer);
  const length = bytes.length;
  let at = 0;
  while (at < length) {
    const first = bytes[at];
    if (first < 0x80) {
      at++;
      continue;
    }
    if (first < 0xc2 || first > 0xf4) return at;
    const more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    if (more > length - at - 1) return at;
    for (let i = 1; i <= more; i++) {
      if ((bytes[at + i] & 0xc0) != 0x80) return at;
    }
    const second = bytes[at + 1];
    const overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
    const surrogate = first == 0xed && second > 0x9f;
    const beyond = first == 0xf4 && second > 0x8f;
    if (overlong || surrogate || beyond) return at;
    at += more + 1;
  }
  return length;
}
