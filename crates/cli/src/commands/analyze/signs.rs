//! What in a text or a list of dependencies tells that a program cannot be a module as it is: the tables, by language. Words
//! that are found are no proof of anything; each is told with its place.

use super::finding::{Topic, Weight};

/// A language, known by its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Language {
    Rust,
    C,
    Go,
    Python,
    JavaScript,
    AssemblyScript,
    Other,
}

/// What executes a script, by its first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// Its program, without a folder.
    pub(super) name: String,
}

/// Something that is written in source.
pub(super) struct Sign {
    pub(super) language: Language,
    pub(super) text: &'static str,
    pub(super) topic: Topic,
}

/// A dependency by its name.
pub(super) struct Dependency {
    pub(super) language: Language,
    pub(super) name: &'static str,
    pub(super) topic: Topic,
}

impl Language {
    /// By the end of a file's name.
    pub(super) fn of(extension: &str) -> Option<Self> {
        Some(match extension {
            "rs" => Self::Rust,
            "c" | "h" | "cc" | "cpp" | "cxx" | "hpp" => Self::C,
            "go" => Self::Go,
            "py" | "pyw" => Self::Python,
            "js" | "mjs" | "cjs" | "ts" | "tsx" | "jsx" => Self::JavaScript,
            "as" => Self::AssemblyScript,
            "java" | "kt" | "scala" | "cs" | "rb" | "php" | "pl" | "ex" | "erl" | "hs" | "swift" => {
                Self::Other
            }
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::C => "C and C++",
            Self::Go => "Go",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript and TypeScript",
            Self::AssemblyScript => "AssemblyScript",
            Self::Other => "another language",
        }
    }

    /// How a program in it becomes a module.
    pub(super) fn way(self) -> &'static str {
        match self {
            Self::Rust => "compile it for `wasm32-wasip2`, or with the SDK; docs/write-an-agent/rust.md",
            Self::C => "compile it with `zig cc -target wasm32-wasi`; docs/write-an-agent/c.md",
            Self::Go => "compile it with `GOOS=wasip1 GOARCH=wasm`; docs/write-an-agent/go.md",
            Self::Python => "make a component of it by componentize-py; docs/write-an-agent/python.md",
            Self::JavaScript => "make a component of it by componentize-js; docs/write-an-agent/component.md",
            Self::AssemblyScript => "compile it by `asc`; docs/write-an-agent/assemblyscript.md",
            Self::Other => "no way is known here; a compiler to WASI for its language would be one",
        }
    }

    /// Whether a line is a comment alone.
    pub(super) fn is_comment(self, line: &str) -> bool {
        let begins: &[&str] = match self {
            Self::Python => &["#"],
            _ => &["//", "/*", "* "],
        };
        begins.iter().any(|begin| line.starts_with(begin))
    }

    /// What stands before the name of a variable of the environment.
    pub(super) fn reads_variables_by(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["env::var(\"", "env::var_os(\""],
            Self::C => &["getenv(\""],
            Self::Go => &["os.Getenv(\"", "os.LookupEnv(\""],
            Self::Python => {
                &["environ[\"", "environ['", "environ.get(\"", "environ.get('", "getenv(\"", "getenv('"]
            }
            Self::JavaScript => &["process.env.", "process.env[\"", "process.env['"],
            Self::AssemblyScript | Self::Other => &[],
        }
    }
}

impl Interpreter {
    /// By the beginning of a file: `#!`, a program and one argument, where the program may be `env` (env(1)).
    pub(super) fn of(begin: &[u8]) -> Option<Self> {
        let line = begin.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
        let mut name = words.next()?;
        if name == "env" {
            // Its options, and variables that it sets.
            name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        }
        Some(Self { name: name.to_owned() })
    }

    /// What it reads, whichever version it is; `None` where that is not looked at.
    pub(super) fn language(&self) -> Option<Language> {
        let name =
            self.name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
        Some(match name {
            "python" | "pypy" | "uv" => Python,
            "node" | "nodejs" | "deno" | "bun" | "ts-node" | "tsx" => JavaScript,
            "cargo" | "rust-script" => Rust,
            "ruby" | "perl" | "php" | "java" | "kotlin" | "scala" | "groovy" | "elixir" | "escript"
            | "runghc" | "runhaskell" | "swift" => Language::Other,
            _ => return None,
        })
    }
}

/// Whether files whose names end so are programs in a form that is not looked at.
pub(super) fn is_other_script(extension: &str) -> bool {
    matches!(
        extension,
        "sh" | "bash"
            | "zsh"
            | "fish"
            | "ps1"
            | "bat"
            | "cmd"
            | "lua"
            | "r"
            | "R"
            | "jl"
            | "tcl"
            | "awk"
            | "ipynb"
    )
}

impl Topic {
    /// How much it matters, and what to do about it.
    pub(super) fn advice(self) -> (Weight, &'static str) {
        match self {
            Self::Threads => (
                Weight::Change,
                "a module has one thread; do one thing after another, or let several executions share the work",
            ),
            Self::Processes => (
                Weight::Blocks,
                "a module starts no programs; call a library in their place, or make them agents of their own",
            ),
            Self::RawSockets => (Weight::Blocks, "a module has TCP and UDP, and nothing below"),
            Self::Listens => (
                Weight::Change,
                "an agent does not wait for connections: the server calls it, input in and output out",
            ),
            Self::Native => (
                Weight::Blocks,
                "it is machine code of this platform; look for one that is written in the language, or compile it too",
            ),
            Self::Libraries => (Weight::Blocks, "a module loads no libraries while it runs; link them in"),
            Self::Signals => {
                (Weight::Change, "a module gets no signals; what ends it is the server, by its limits")
            }
            Self::Memory => (Weight::Change, "a module does not map files and memory; read and allocate"),
            Self::Machine => {
                (Weight::Change, "it is for one processor; have another way where that is not there")
            }
            Self::System => {
                (Weight::Change, "these calls of the system are not in WASI; most have another form there")
            }
            Self::Gpu => (Weight::Blocks, "a module has no GPU; let an extension of the server do that part"),
            Self::Async => (
                Weight::Change,
                "its runtime starts threads and watches sockets; use one of WASI's, or ordinary calls",
            ),
            Self::Jumps => (Weight::Change, "a module cannot jump out of a function; hand errors back"),
            Self::Root => (Weight::Note, "a module has no user; nothing of that is left"),
            Self::Files => (Weight::Note, "as a capability, `filesystem:…`, where the operator mounts it"),
            Self::OwnFiles => (
                Weight::Note,
                "they are put into the module when it is made, or mounted by the operator and asked for as `filesystem:read:…`",
            ),
            Self::Network => (Weight::Note, "as a capability, `network:…`, where policy grants it"),
            Self::LocalSockets => {
                (Weight::Blocks, "a module does not reach services of the machine by their sockets")
            }
            Self::Language => (Weight::Blocks, "what it is written in is not compiled to WebAssembly here"),
            Self::MachineCode => (
                Weight::Note,
                "machine code does not become a module; what does is its source: analyse that as well",
            ),
        }
    }
}

use Language::{C, Go, JavaScript, Python, Rust};
use Topic::{
    Async, Gpu, Jumps, Libraries, Listens, Machine, Memory, Native, Processes, RawSockets, Signals, System,
    Threads,
};

const fn sign(language: Language, text: &'static str, topic: Topic) -> Sign {
    Sign { language, text, topic }
}

const fn needs(language: Language, name: &'static str, topic: Topic) -> Dependency {
    Dependency { language, name, topic }
}

/// What is looked for in source.
pub(super) const SIGNS: &[Sign] = &[
    sign(Rust, "thread::spawn", Threads),
    sign(Rust, "thread::scope", Threads),
    sign(Rust, "Command::new", Processes),
    sign(Rust, "fork()", Processes),
    sign(Rust, "TcpListener", Listens),
    sign(Rust, "UnixListener", Listens),
    sign(Rust, "UnixStream", System),
    sign(Rust, "SOCK_RAW", RawSockets),
    sign(Rust, "#[link(", Libraries),
    sign(Rust, "std::os::unix", System),
    sign(Rust, "arch::x86_64", Machine),
    sign(Rust, "asm!", Machine),
    sign(Rust, "tokio::main", Async),
    sign(C, "pthread_create", Threads),
    sign(C, "std::thread", Threads),
    sign(C, "std::async", Threads),
    sign(C, "fork(", Processes),
    sign(C, "vfork(", Processes),
    sign(C, "execv", Processes),
    sign(C, "execl", Processes),
    sign(C, "posix_spawn", Processes),
    sign(C, "popen(", Processes),
    sign(C, "system(", Processes),
    sign(C, "SOCK_RAW", RawSockets),
    sign(C, "AF_PACKET", RawSockets),
    sign(C, "listen(", Listens),
    sign(C, "dlopen(", Libraries),
    sign(C, "setjmp.h", Jumps),
    sign(C, "signal(", Signals),
    sign(C, "sigaction(", Signals),
    sign(C, "mmap(", Memory),
    sign(C, "shm_open(", Memory),
    sign(C, "ioctl(", System),
    sign(C, "epoll_create", System),
    sign(C, "getpwnam(", System),
    sign(C, "immintrin.h", Machine),
    sign(C, "__asm__", Machine),
    sign(C, "cuda_runtime.h", Gpu),
    sign(Go, "\"os/exec\"", Processes),
    sign(Go, "import \"C\"", Native),
    sign(Go, "\"plugin\"", Libraries),
    sign(Go, "net.Listen", Listens),
    sign(Go, "http.ListenAndServe", Listens),
    sign(Go, "\"os/signal\"", Signals),
    sign(Go, "syscall.Mmap", Memory),
    sign(Go, "\"golang.org/x/sys/unix\"", System),
    sign(Python, "import threading", Threads),
    sign(Python, "from threading", Threads),
    sign(Python, "concurrent.futures", Threads),
    sign(Python, "multiprocessing", Processes),
    sign(Python, "import subprocess", Processes),
    sign(Python, "from subprocess", Processes),
    sign(Python, "os.system(", Processes),
    sign(Python, "os.fork(", Processes),
    sign(Python, "os.exec", Processes),
    sign(Python, "SOCK_RAW", RawSockets),
    sign(Python, "AF_PACKET", RawSockets),
    sign(Python, "http.server", Listens),
    sign(Python, "socketserver", Listens),
    sign(Python, "import ctypes", Libraries),
    sign(Python, "from ctypes", Libraries),
    sign(Python, "import signal", Signals),
    sign(Python, "import mmap", Memory),
    sign(Python, "import fcntl", System),
    sign(JavaScript, "worker_threads", Threads),
    sign(JavaScript, "child_process", Processes),
    sign(JavaScript, "cluster.fork", Processes),
    sign(JavaScript, "createServer(", Listens),
    sign(JavaScript, ".node'", Native),
    sign(JavaScript, ".node\"", Native),
    sign(JavaScript, "process.on('SIG", Signals),
    sign(JavaScript, "process.on(\"SIG", Signals),
    sign(JavaScript, "dgram", System),
];

/// What is looked for in `Cargo.toml`, `go.mod`, `requirements.txt`, `pyproject.toml` and `package.json`.
pub(super) const DEPENDENCIES: &[Dependency] = &[
    needs(Rust, "rayon", Threads),
    needs(Rust, "crossbeam", Threads),
    needs(Rust, "openssl-sys", Native),
    needs(Rust, "openssl", Native),
    needs(Rust, "rdkafka", Native),
    needs(Rust, "rocksdb", Native),
    needs(Rust, "pyo3", Native),
    needs(Rust, "libloading", Libraries),
    needs(Rust, "nix", System),
    needs(Rust, "socket2", System),
    needs(Rust, "memmap2", Memory),
    needs(Rust, "tokio", Async),
    needs(Rust, "async-std", Async),
    needs(Rust, "axum", Listens),
    needs(Rust, "actix-web", Listens),
    needs(Rust, "cudarc", Gpu),
    needs(Go, "github.com/mattn/go-sqlite3", Native),
    needs(Go, "github.com/confluentinc/confluent-kafka-go", Native),
    needs(Go, "github.com/gin-gonic/gin", Listens),
    needs(Go, "github.com/labstack/echo", Listens),
    needs(Go, "github.com/google/gopacket", RawSockets),
    needs(Python, "numpy", Native),
    needs(Python, "pandas", Native),
    needs(Python, "scipy", Native),
    needs(Python, "scikit-learn", Native),
    needs(Python, "polars", Native),
    needs(Python, "pyarrow", Native),
    needs(Python, "opencv-python", Native),
    needs(Python, "pillow", Native),
    needs(Python, "lxml", Native),
    needs(Python, "cryptography", Native),
    needs(Python, "grpcio", Native),
    needs(Python, "psycopg2", Native),
    needs(Python, "psycopg2-binary", Native),
    needs(Python, "orjson", Native),
    needs(Python, "uvloop", Native),
    needs(Python, "cffi", Native),
    needs(Python, "cython", Native),
    needs(Python, "torch", Gpu),
    needs(Python, "tensorflow", Gpu),
    needs(Python, "jax", Gpu),
    needs(Python, "gunicorn", Listens),
    needs(Python, "uvicorn", Listens),
    needs(Python, "flask", Listens),
    needs(Python, "fastapi", Listens),
    needs(Python, "django", Listens),
    needs(Python, "celery", Processes),
    needs(Python, "scapy", RawSockets),
    needs(JavaScript, "sharp", Native),
    needs(JavaScript, "bcrypt", Native),
    needs(JavaScript, "canvas", Native),
    needs(JavaScript, "sqlite3", Native),
    needs(JavaScript, "better-sqlite3", Native),
    needs(JavaScript, "node-gyp", Native),
    needs(JavaScript, "node-addon-api", Native),
    needs(JavaScript, "ffi-napi", Libraries),
    needs(JavaScript, "puppeteer", Processes),
    needs(JavaScript, "playwright", Processes),
    needs(JavaScript, "execa", Processes),
    needs(JavaScript, "express", Listens),
    needs(JavaScript, "fastify", Listens),
    needs(JavaScript, "koa", Listens),
    needs(JavaScript, "@tensorflow/tfjs-node-gpu", Gpu),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_in_the_language_of_what_executes_it() {
        for (begin, name, language) in [
            ("#!/usr/bin/env python3\nimport os", "python3", Some(Python)),
            ("#!/usr/bin/python3.12", "python3.12", Some(Python)),
            ("#! /opt/node18/bin/node --x\r\n", "node", Some(JavaScript)),
            ("#!/usr/bin/env -S A=b deno run\n", "deno", Some(JavaScript)),
            ("#!/usr/bin/env ruby\n", "ruby", Some(Language::Other)),
            ("#!/bin/bash -e\n", "bash", None),
        ] {
            let found = Interpreter::of(begin.as_bytes()).unwrap();
            assert_eq!((found.name.as_str(), found.language()), (name, language), "{begin}");
        }
        for begin in ["", "#!", "#!\npython", "#!/usr/bin/env\n", "#!/usr/bin/env -S\n", "# python"] {
            assert_eq!(Interpreter::of(begin.as_bytes()), None, "{begin}");
        }
    }
}
