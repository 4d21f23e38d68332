//! A guest that makes the calls it reads from its input, and tells what came of each: the error number, and whatever was
//! written where its answers go. One program of calls runs as a core module of either WASI 0.1, and as a component.

use std::fmt::Write;

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as ADAPTER;

/// Where answers are written.
pub const ANSWER: u64 = 1024;
/// Where the guest reads its input to.
const INPUT: u64 = 0x1_0000;
/// Numbers of one call in the input: which, how much of the answer to tell, and up to nine arguments.
const NUMBERS: usize = 11;

/// The calls there are, by the types of their arguments: `i` for 32 bits, `l` for 64.
const CALLS: &[(&str, &str)] = &[
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("environ_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("poll_oneoff", "iiii"),
    ("random_get", "ii"),
];

/// In which shape the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    Preview1,
    Preview0,
    Component,
}

/// A program of calls.
#[derive(Clone, Debug, Default)]
pub struct Program {
    calls: Vec<([u64; NUMBERS], String)>,
    data: Vec<u8>,
}

/// What came of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub call: String,
    pub errno: u32,
    pub answer: Vec<u8>,
}

/// The guest, in WebAssembly.
pub fn guest(shape: Shape) -> Vec<u8> {
    let module = if shape == Shape::Preview0 { "wasi_unstable" } else { "wasi_snapshot_preview1" };
    let mut imports = String::new();
    let mut cases = String::new();
    for (name, types) in CALLS {
        let kinds: Vec<&str> = types.chars().map(|kind| if kind == 'l' { "i64" } else { "i32" }).collect();
        writeln!(
            imports,
            "(import \"{module}\" \"{name}\" (func ${name} (param {}) (result i32)))",
            kinds.join(" ")
        )
        .unwrap();
        let arguments: Vec<String> = kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| format!("({kind}.load offset={} (local.get $at))", 8 * (index + 2)))
            .collect();
        writeln!(cases, "(local.set $errno (call ${name} {})) (br $done))", arguments.join(" ")).unwrap();
    }
    let labels: Vec<String> = (0..CALLS.len()).map(|index| format!("$call{index}")).collect();
    let opened: Vec<String> = labels.iter().rev().map(|label| format!("(block {label}")).collect();
    let text = format!(
        r#"(module
          {imports}
          (memory (export "memory") 320)
          (func (export "_start")
            (local $end i32) (local $at i32) (local $last i32) (local $errno i32)
            (local.set $end (i32.const {INPUT}))
            (loop $more
              (i32.store (i32.const 0) (local.get $end))
              (i32.store (i32.const 4) (i32.const 0x8000))
              (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
              (local.set $end (i32.add (local.get $end) (i32.load (i32.const 8))))
              (br_if $more (i32.load (i32.const 8))))
            (local.set $at (i32.const {first}))
            (local.set $last (i32.add (local.get $at) (i32.mul (i32.load (i32.const {INPUT})) (i32.const {bytes}))))
            (loop $next
              (if (i32.eq (local.get $at) (local.get $last)) (then (return)))
              (block $done
                {opened}
                (br_table {labels} (i32.load (local.get $at))))
                {cases}
              (i32.store (i32.const 1020) (local.get $errno))
              (i32.store (i32.const 0) (i32.const 1020))
              (i32.store (i32.const 4) (i32.add (i32.const 4) (i32.load offset=8 (local.get $at))))
              (loop $tell
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
                (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
                (br_if $tell (i32.load (i32.const 4))))
              (memory.fill (i32.const {ANSWER}) (i32.const 0) (i32.load offset=8 (local.get $at)))
              (local.set $at (i32.add (local.get $at) (i32.const {bytes})))
              (br $next))))"#,
        first = INPUT + 8,
        bytes = 8 * NUMBERS,
        opened = opened.join(" "),
        labels = labels.join(" "),
    );
    let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    if shape != Shape::Component {
        return module;
    }
    wit_component::ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .adapter("wasi_snapshot_preview1", ADAPTER)
        .unwrap()
        .encode()
        .unwrap()
}

impl Program {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Adds a call, of whose answer so many bytes are told.
    pub fn call(&mut self, name: &str, told: u64, arguments: &[u64]) -> &mut Self {
        let number = CALLS.iter().position(|(known, _)| *known == name).unwrap();
        assert_eq!(CALLS[number].1.len(), arguments.len(), "{name}");
        let mut numbers = [0; NUMBERS];
        numbers[0] = number as u64;
        numbers[1] = told;
        numbers[2..2 + arguments.len()].copy_from_slice(arguments);
        self.calls.push((numbers, format!("{name}{arguments:?}")));
        self
    }

    /// Says what the last call is about, for whoever reads of it.
    pub fn about(&mut self, text: &str) -> &mut Self {
        if let Some((_, call)) = self.calls.last_mut() {
            *call = format!("{call} {text}");
        }
        self
    }

    /// Puts bytes into the guest's memory; their address, which stands for itself until the program is whole, and how many
    /// they are.
    pub fn put(&mut self, bytes: &[u8]) -> (u64, u64) {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let place = self.data.len() as u64;
        self.data.extend(bytes);
        (place | RELATIVE, bytes.len() as u64)
    }

    /// A call with paths.
    pub fn path(&mut self, name: &str, told: u64, arguments: &[Argument<'_>]) -> &mut Self {
        let mut numbers = Vec::new();
        let mut about = String::new();
        for argument in arguments {
            match argument {
                Argument::Number(number) => numbers.push(*number),
                Argument::Path(path) => {
                    let (place, length) = self.put(path.as_bytes());
                    numbers.extend([place, length]);
                    write!(about, "`{}` ", path.escape_debug().take(60).collect::<String>()).unwrap();
                }
            }
        }
        self.call(name, told, &numbers).about(&about)
    }

    pub fn open(&mut self, path: &str, lookup: u64, flags: u64, rights: u64, status: u64) -> &mut Self {
        use Argument::{Number, Path};
        let numbers = [Number(flags), Number(rights), Number(rights), Number(status), Number(ANSWER)];
        let arguments = [&[Number(3), Number(lookup), Path(path)], &numbers[..]].concat();
        self.path("path_open", 4, &arguments)
    }

    /// Writes bytes, at a place or where the descriptor is.
    pub fn write(&mut self, descriptor: u64, bytes: &[u8], place: Option<u64>) -> &mut Self {
        let (start, length) = self.put(bytes);
        self.vector_call(descriptor, &[(start, length)], place, ("fd_write", "fd_pwrite"), 4)
    }

    /// Reads so many bytes, from a place or from where the descriptor is.
    pub fn read(&mut self, descriptor: u64, length: u64, place: Option<u64>) -> &mut Self {
        let halves = [(ANSWER + 8, length / 2), (ANSWER + 8 + length / 2, length - length / 2)];
        self.vector_call(descriptor, &halves, place, ("fd_read", "fd_pread"), 8 + length)
    }

    fn vector_call(
        &mut self,
        descriptor: u64,
        vector: &[(u64, u64)],
        place: Option<u64>,
        (here, there): (&str, &str),
        told: u64,
    ) -> &mut Self {
        let mut entries = Vec::new();
        for (start, length) in vector {
            for number in [start, length] {
                entries.extend(u32::try_from(*number & !RELATIVE).unwrap().to_le_bytes());
            }
        }
        // The entries hold addresses, which are known only where the data begins.
        let is_relative = vector.iter().any(|(start, _)| start & RELATIVE != 0);
        let (place_of_vector, _) = self.put(&entries);
        let place_of_vector = place_of_vector | if is_relative { VECTOR } else { 0 };
        let count = vector.len() as u64;
        match place {
            None => self.call(here, told, &[descriptor, place_of_vector, count, ANSWER]),
            Some(place) => self.call(there, told, &[descriptor, place_of_vector, count, place, ANSWER]),
        }
    }

    /// What the guest is given to read.
    pub fn input(&self) -> Vec<u8> {
        let start = INPUT + 8 + (8 * NUMBERS * self.calls.len()) as u64;
        let mut data = self.data.clone();
        let mut input = (self.calls.len() as u64).to_le_bytes().to_vec();
        for (numbers, _) in &self.calls {
            for number in numbers {
                // Only addresses have these bits and no more.
                let number = match number & !(u64::from(u32::MAX)) {
                    RELATIVE => start + (number & u64::from(u32::MAX)),
                    RELATIVE_VECTOR => {
                        let entry = usize::try_from(number & u64::from(u32::MAX)).unwrap();
                        let address = u32::from_le_bytes(data[entry..entry + 4].try_into().unwrap());
                        let address = address + u32::try_from(start).unwrap();
                        data[entry..entry + 4].copy_from_slice(&address.to_le_bytes());
                        start + entry as u64
                    }
                    _ => *number,
                };
                input.extend(number.to_le_bytes());
            }
        }
        input.extend(data);
        input
    }

    /// What the guest told of its calls.
    pub fn told(&self, output: &[u8]) -> Vec<Told> {
        let mut rest = output;
        let mut all = Vec::new();
        for (numbers, call) in &self.calls {
            let length = 4 + usize::try_from(numbers[1]).unwrap();
            assert!(rest.len() >= length, "nothing is told of {call}");
            let (told, after) = rest.split_at(length);
            let errno = u32::from_le_bytes(told[..4].try_into().unwrap());
            all.push(Told { call: call.clone(), errno, answer: told[4..].to_vec() });
            rest = after;
        }
        assert!(rest.is_empty(), "more was told than asked");
        all
    }
}

/// Marks an address as one in the program's data.
const RELATIVE: u64 = 0x5EED_0001 << 32;
/// Marks it as that of a list of buffers whose addresses are as well.
const VECTOR: u64 = 0x2 << 32;
const RELATIVE_VECTOR: u64 = RELATIVE | VECTOR;

/// What a call is made with.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    Number(u64),
    Path(&'a str),
}
