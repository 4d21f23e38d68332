//! Tells the compiler of the one condition that `cargo fuzz` sets.

fn main() {
    let mut said = std::io::stdout();
    // Without it, all that is lost is that the compiler knows the word.
    let _ = std::io::Write::write_all(&mut said, b"cargo::rustc-check-cfg=cfg(fuzzing)\n");
}
