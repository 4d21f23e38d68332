//! Opens a file by a name that somebody else puts another thing in the place of, over and over: the first argument of its
//! input is what it does, the second how often. Prints how often it read what, and never anything of what it read.

use std::collections::BTreeMap;
use std::io::Read;

fn main() {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    let words: Vec<&str> = input.split_whitespace().collect();
    let rounds: u32 = words[1].parse().unwrap();
    let mut seen = BTreeMap::<String, u32>::new();
    for round in 0..rounds {
        let found = match words[0] {
            "read" => std::fs::read_to_string(words[2]),
            "write" => std::fs::write(words[2], "written by the guest").map(|()| "written".into()),
            "list" => std::fs::read_dir(words[2]).map(|entries| {
                let mut names: Vec<_> =
                    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
                names.sort();
                names.join(",")
            }),
            "remove" => std::fs::remove_file(words[2]).map(|()| "removed".into()),
            // The attacker's own side: a name that is a file and a link by turns.
            "swap" => swap(words[2], words[3], round).map(|()| "swapped".into()),
            other => panic!("there is no {other}"),
        };
        *seen.entry(found.unwrap_or_else(|error| format!("{:?}", error.kind()))).or_default() += 1;
    }
    for (what, count) in seen {
        println!("{count} {what}");
    }
}

fn swap(name: &str, target: &str, round: u32) -> std::io::Result<()> {
    let new = format!("{name}.new");
    let _ = std::fs::remove_file(&new);
    if round % 2 == 0 {
        std::fs::write(&new, "harmless")?;
    } else {
        link(target, &new)?;
    }
    std::fs::rename(&new, name)
}

fn link(target: &str, name: &str) -> std::io::Result<()> {
    unsafe extern "C" {
        fn symlink(target: *const std::ffi::c_char, name: *const std::ffi::c_char) -> i32;
    }
    let (target, name) = (std::ffi::CString::new(target)?, std::ffi::CString::new(name)?);
    if unsafe { symlink(target.as_ptr(), name.as_ptr()) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
