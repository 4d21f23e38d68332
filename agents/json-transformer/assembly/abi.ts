// The mentat ABI, as far as this agent needs it: the only file that knows of pointers. The host
// copies during a call and keeps no pointer after it.

@external("mentat", "read_input")
declare function readInput(pointer: usize, capacity: usize): i32;

@external("mentat", "write_output")
declare function writeOutput(pointer: usize, length: usize): i32;

@external("mentat", "log")
declare function writeLog(level: i32, pointer: usize, length: usize): void;

/** The whole input. */
export function input(): ArrayBuffer {
  const buffer = new ArrayBuffer(readInput(0, 0));
  readInput(changetype<usize>(buffer), buffer.byteLength);
  return buffer;
}

/** Sets the output to the first `length` bytes of a buffer. */
export function output(buffer: ArrayBuffer, length: i32): void {
  writeOutput(changetype<usize>(buffer), length);
}

/** Writes a line of level error to the execution's log. */
export function logError(message: string): void {
  const buffer = String.UTF8.encode(message);
  writeLog(0, changetype<usize>(buffer), buffer.byteLength);
}
