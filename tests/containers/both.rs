//! A program for both runtimes: reads a line after another, and answers each in upper case.

use std::io::{self, Write};

fn main() {
    for line in io::stdin().lines() {
        println!("{}", line.expect("text").to_uppercase());
        io::stdout().flush().expect("stdout");
    }
}
