//! The walls of the house: which crate may use which, which words may stand in which room, and what a
//! room may see. The tables are the walls; a wall is moved by changing its row, and saying why in
//! `docs/decisions/`.

use super::lexer::{SourcePath, paths, tokens, without_tests};
use super::{Problem, Tree};

/// Which of our crates each of them may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("mentat-manifest", &[]),
    ("mentat-attestation", &["mentat-manifest"]),
    ("mentat-runtime", &["mentat-attestation", "mentat-manifest"]),
    ("mentat-proto", &[]),
    (
        "mentat-server",
        &["mentat-runtime", "mentat-proto", "mentat-attestation", "mentat-oci", "mentat-manifest"],
    ),
    (
        "mentat",
        &[
            "mentat-server",
            "mentat-runtime",
            "mentat-proto",
            "mentat-attestation",
            "mentat-oci",
            "mentat-manifest",
        ],
    ),
    ("mentat-fuzz", &["mentat-runtime", "mentat-attestation", "mentat-oci", "mentat-manifest"]),
    // Asks the service as its clients do.
    ("mentat-bench", &["mentat-runtime", "mentat-proto", "mentat-attestation", "mentat-manifest"]),
    // Developer tasks start at once because they compile no Wasmtime.
    ("xtask", &["mentat-manifest"]),
];

/// A path that may stand in some places only.
struct ForeignWord {
    path: &'static str,
    /// Where the wall stands: beginnings of paths of files.
    within: &'static [&'static str],
    /// The doors in it.
    except: &'static [&'static str],
    reason: &'static str,
}

const ENGINE: &[&str] = &["crates/runtime/src/runtime/", "crates/runtime/src/host/"];
const GRPC: &[&str] =
    &["crates/proto/", "crates/server/src/grpc/", "crates/server/src/app.rs", "crates/cli/src/client"];
const HTTP: &[&str] = &["crates/server/src/gateway/", "crates/server/src/app.rs"];
const TRANSPORT: &[&str] = &["crates/server/src/transport/"];
/// Where certificates are read: of clients, and of those who sign agents.
const CERTIFICATES: &[&str] = &["crates/server/src/transport/", "crates/attestation/"];
/// Where connections are served, and where a guest's and those to registries are made.
const CONNECTIONS: &[&str] = &[
    "crates/server/src/transport/",
    "crates/runtime/src/host/network",
    "crates/runtime/src/host/requests.rs",
    "crates/runtime/src/host/media/s3.rs",
    "crates/oci/src/connection.rs",
];
const HYPER_UTIL: &[&str] = &["crates/server/src/transport/", "crates/oci/src/connection.rs"];
const HOST: &[&str] = &["crates/runtime/src/host/"];
const ENGINE_REASON: &str = "Wasmtime is known in the rooms `runtime` and `host` alone";
const GRPC_REASON: &str = "the wire is known at its doors alone: `grpc` and the command line's client";
const TRANSPORT_REASON: &str = "connections and their encryption are known in the room `transport` alone";
const CERTIFICATES_REASON: &str =
    "certificates are read in the room `transport`, of clients, and in the crate of attestations alone";
const CONNECTIONS_REASON: &str = "connections are served in the room `transport`, made for guests in `network` and `requests`, which take a permission, for the store of media in `s3`, and to registries in `oci`";
const NAMES_REASON: &str = "names are looked up in `network` alone, which checks what they lead to";
const OUTSIDE_REASON: &str =
    "what a host function touches outside its own execution goes through the files that ask the gate for it";
const HTTP_REASON: &str = "HTTP is known in the room `gateway` alone";

/// What decides whether a signature holds.
const VERIFYING: &[&str] = &[
    "crates/attestation/src/algorithm.rs",
    "crates/attestation/src/canonical",
    "crates/attestation/src/certificate.rs",
    "crates/attestation/src/chain.rs",
    "crates/attestation/src/name.rs",
    "crates/attestation/src/public_key.rs",
    "crates/attestation/src/rejection.rs",
    "crates/attestation/src/sigstore.rs",
    "crates/attestation/src/statement.rs",
    "crates/attestation/src/trust.rs",
    "crates/attestation/src/verify.rs",
];
const SIGNING: &[&str] = &["crates/attestation/src/signing/"];
const SIGNING_REASON: &str = "verifying is pure; files and commands are for those who sign";

const FOREIGN_WORDS: &[ForeignWord] = &[
    ForeignWord {
        path: "std::fs",
        within: &["crates/attestation/"],
        except: SIGNING,
        reason: SIGNING_REASON,
    },
    ForeignWord {
        path: "std::process",
        within: &["crates/attestation/"],
        except: SIGNING,
        reason: SIGNING_REASON,
    },
    ForeignWord {
        path: "std::thread",
        within: &["crates/attestation/"],
        except: SIGNING,
        reason: SIGNING_REASON,
    },
    ForeignWord { path: "wasmtime", within: &["crates/"], except: ENGINE, reason: ENGINE_REASON },
    ForeignWord { path: "wasmtime_wasi", within: &["crates/"], except: ENGINE, reason: ENGINE_REASON },
    ForeignWord { path: "wasmtime_wasi_http", within: &["crates/"], except: ENGINE, reason: ENGINE_REASON },
    ForeignWord { path: "mentat_proto", within: &["crates/"], except: GRPC, reason: GRPC_REASON },
    ForeignWord { path: "prost", within: &["crates/"], except: GRPC, reason: GRPC_REASON },
    ForeignWord { path: "tonic", within: &["crates/"], except: GRPC, reason: GRPC_REASON },
    ForeignWord { path: "tonic_health", within: &["crates/"], except: GRPC, reason: GRPC_REASON },
    ForeignWord { path: "tonic_reflection", within: &["crates/"], except: GRPC, reason: GRPC_REASON },
    ForeignWord { path: "tonic_types", within: &["crates/"], except: GRPC, reason: GRPC_REASON },
    ForeignWord { path: "axum", within: &["crates/"], except: HTTP, reason: HTTP_REASON },
    ForeignWord { path: "tower_http", within: &["crates/"], except: HTTP, reason: HTTP_REASON },
    ForeignWord { path: "utoipa", within: &["crates/"], except: HTTP, reason: HTTP_REASON },
    ForeignWord { path: "hyper", within: &["crates/"], except: CONNECTIONS, reason: CONNECTIONS_REASON },
    ForeignWord { path: "hyper_util", within: &["crates/"], except: HYPER_UTIL, reason: TRANSPORT_REASON },
    ForeignWord {
        path: "tokio_rustls",
        within: &["crates/"],
        except: CONNECTIONS,
        reason: CONNECTIONS_REASON,
    },
    ForeignWord {
        path: "hickory_resolver",
        within: &["crates/"],
        except: &["crates/runtime/src/host/network/"],
        reason: NAMES_REASON,
    },
    ForeignWord {
        path: "object_store",
        within: &["crates/"],
        except: &["crates/runtime/src/host/media/"],
        reason: "objects are reached through the store of media, which takes a permission for each",
    },
    ForeignWord {
        path: "bollard",
        within: &["crates/"],
        except: &["crates/server/src/container/"],
        reason: "the container engine is known in the room `container` alone",
    },
    ForeignWord {
        path: "mentat_oci",
        within: &["crates/server/"],
        except: &["crates/server/src/oci.rs", "crates/server/src/config"],
        reason: "registries are known in `oci` alone, which tells the dispatcher what came from there",
    },
    ForeignWord { path: "webpki", within: &["crates/"], except: CERTIFICATES, reason: CERTIFICATES_REASON },
    ForeignWord {
        path: "x509_parser",
        within: &["crates/"],
        except: CERTIFICATES,
        reason: CERTIFICATES_REASON,
    },
    ForeignWord {
        path: "std::env",
        within: &["crates/"],
        // The last of these is a test, with a switch of its own.
        except: &["crates/server/src/config", "crates/cli/src/environment.rs", "crates/cli/src/reference.rs"],
        reason: "what a process takes from its environment stands in `config` and `environment` alone",
    },
    ForeignWord {
        path: "std::fs",
        within: &["crates/runtime/src/host/"],
        except: &[],
        reason: "a guest reaches the host's files through its sandbox alone",
    },
    ForeignWord {
        path: "cap_std",
        within: HOST,
        except: &[
            "crates/runtime/src/host/descriptors.rs",
            "crates/runtime/src/host/files.rs",
            "crates/runtime/src/host/paths.rs",
            "crates/runtime/src/host/scratch.rs",
            "crates/runtime/src/host/volumes.rs",
        ],
        reason: OUTSIDE_REASON,
    },
    ForeignWord {
        path: "cap_std::ambient_authority",
        within: HOST,
        except: &["crates/runtime/src/host/scratch.rs", "crates/runtime/src/host/volumes.rs"],
        reason: "a directory is opened in `volumes`, which takes a `Permission` for it, and emptied in `scratch`",
    },
    ForeignWord {
        path: "std::net",
        within: HOST,
        // Addresses, which are asked about; connections are made elsewhere.
        except: &[
            "crates/runtime/src/host/network",
            "crates/runtime/src/host/outbound.rs",
            "crates/runtime/src/host/sockets.rs",
        ],
        reason: OUTSIDE_REASON,
    },
    ForeignWord { path: "tokio::net", within: HOST, except: CONNECTIONS, reason: OUTSIDE_REASON },
    ForeignWord {
        path: "std::os",
        within: HOST,
        except: &["crates/runtime/src/host/file_streams.rs", "crates/runtime/src/host/sandbox.rs"],
        reason: OUTSIDE_REASON,
    },
    ForeignWord {
        path: "rustix",
        within: HOST,
        except: &[
            // Of files that are open already.
            "crates/runtime/src/host/file_streams.rs",
            "crates/runtime/src/host/files.rs",
            "crates/runtime/src/host/paths.rs",
        ],
        reason: OUTSIDE_REASON,
    },
    ForeignWord { path: "tokio::fs", within: HOST, except: &[], reason: OUTSIDE_REASON },
    ForeignWord { path: "tokio::process", within: HOST, except: &[], reason: OUTSIDE_REASON },
    ForeignWord { path: "std::process", within: HOST, except: &[], reason: OUTSIDE_REASON },
    ForeignWord {
        path: "anyhow",
        within: &["crates/"],
        except: &["crates/cli/src/main.rs"],
        reason: "callers of a library must be able to tell its errors apart; use `thiserror`",
    },
];

/// What the files of a room may see of the rest.
struct Room {
    /// Beginnings of the paths of its files.
    files: &'static [&'static str],
    /// Paths of ours that may be used there, and all below them.
    sees: &'static [&'static str],
    /// Crates of others; `None` where the words above are wall enough.
    crates: Option<&'static [&'static str]>,
    reason: &'static str,
}

const ROOMS: &[Room] = &[
    Room {
        files: &["crates/manifest/src/"],
        sees: &["crate"],
        crates: Some(&[
            "std",
            "hex",
            "idna",
            "schemars",
            "semver",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "serde_saphyr",
            "sha2",
            "strsim",
            "thiserror",
        ]),
        reason: "the manifest is pure: no I/O, nothing asynchronous",
    },
    Room {
        files: &[
            "crates/oci/src/artifact.rs",
            "crates/oci/src/challenge.rs",
            "crates/oci/src/digest.rs",
            "crates/oci/src/reference.rs",
            "crates/oci/src/rules.rs",
        ],
        sees: &["crate::digest", "crate::error", "crate::reference", "mentat_manifest"],
        crates: Some(&["std", "bytes", "hex", "serde", "serde_json", "sha2", "thiserror", "url"]),
        reason: "what is read of a registry, and what it may do, is decided on without speaking to it",
    },
    Room {
        files: VERIFYING,
        sees: &[
            "crate::algorithm",
            "crate::canonical",
            "crate::certificate",
            "crate::chain",
            "crate::name",
            "crate::public_key",
            "crate::rejection",
            "crate::statement",
            "crate::trust",
            "crate::verify",
            "mentat_manifest",
        ],
        crates: Some(&[
            "std",
            "base64",
            "chrono",
            "hex",
            "rustls_pki_types",
            "ryu_js",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "webpki",
            "x509_parser",
        ]),
        reason: "whether a signature holds is decided on bytes alone: no I/O, no clock, nothing asynchronous",
    },
    Room {
        files: &["crates/attestation/src/signing/"],
        sees: &["crate", "mentat_manifest"],
        crates: Some(&[
            "std",
            "base64",
            "chrono",
            "granit_parser",
            "hex",
            "pkcs8",
            "rcgen",
            "ring",
            "rustls_pki_types",
            "sec1",
            "serde",
            "serde_json",
            "shlex",
            "tempfile",
            "thiserror",
            "time",
            "x509_parser",
            "zeroize",
        ]),
        reason: "signing is for a command line: files and commands, but no network and nothing asynchronous",
    },
    Room {
        files: &["crates/runtime/src/model", "crates/runtime/src/error.rs"],
        // An invocation says where its events go.
        sees: &["crate::model", "crate::error", "crate::events::EventBuffer", "mentat_manifest"],
        crates: Some(&["std", "base64", "bytes", "serde", "serde_json", "thiserror", "tokio_util", "uuid"]),
        reason: "the nouns of an execution know neither the engine nor any transport",
    },
    Room {
        files: &["crates/runtime/src/events"],
        sees: &["crate::model", "crate::error", "crate::events", "mentat_manifest"],
        crates: Some(&["std", "bytes", "parking_lot", "slab", "thiserror", "tokio"]),
        reason: "events are kept and told without knowing who makes them, and by what they are read",
    },
    Room {
        files: &["crates/runtime/src/security/"],
        sees: &["crate::model", "crate::error", "crate::security", "mentat_attestation", "mentat_manifest"],
        crates: Some(&[
            "std",
            "aho_corasick",
            "base64",
            "cedar_policy",
            "chrono",
            "hmac",
            "miette",
            "parking_lot",
            "serde",
            "rand_core",
            "rustix",
            "serde_json",
            "sha2",
            "signed_note",
            "stacker",
            "tempfile",
            "thiserror",
            "tlog_tiles",
            // A receipt waits for the log, and an execution for its receipt.
            "tokio",
            "tracing",
        ]),
        reason: "who decides on powers sees neither the engine nor what uses them",
    },
    Room {
        files: &["crates/runtime/src/host/"],
        sees: &[
            "crate::host",
            "crate::model",
            "crate::error",
            "crate::events",
            "crate::security",
            "mentat_manifest",
            // The store's data holds the limiter and its share of all memory, and what is offered is told in the words of
            // `inspect`.
            "crate::runtime::inspect::Signature",
            "crate::runtime::limits::ExecutionLimiter",
            "crate::runtime::memory::MemoryBudget",
            "crate::runtime::memory::MemoryShare",
        ],
        crates: None,
        reason: "what a guest can call knows nothing of how it is run",
    },
    Room {
        files: &["crates/server/src/grpc/", "crates/server/src/gateway/"],
        sees: &[
            "crate::dispatch",
            "crate::config",
            "crate::door",
            "crate::gateway",
            "crate::grpc",
            "mentat_manifest",
            "mentat_proto",
            "mentat_runtime::error",
            "mentat_runtime::events",
            "mentat_runtime::model",
            // What the dispatcher takes and answers with, but nobody who does anything.
            "crate::executions::ExecutionRecord",
            "crate::executions::ExecutionStatus",
            "crate::registry::LoadedAgent",
            "crate::registry::OnConflict",
            "crate::store::StoredAgent",
            "mentat_runtime::CodeOrigin",
            "crate::telemetry::Levels",
            "crate::telemetry::StreamLevels",
            // Bodies, why they do not come, and who is at the other end.
            "crate::transport::BodyError",
            "crate::transport::Charge",
            "crate::transport::Peer",
            "crate::transport::RequestBody",
            "crate::transport::Traffic",
        ],
        crates: None,
        reason: "a door decodes, calls the dispatcher, and encodes",
    },
    Room {
        files: &["crates/server/src/container/"],
        sees: &[
            "crate::container",
            "crate::config::ContainerSection",
            "crate::config::PullPolicy",
            "crate::telemetry::ContainerLevels",
            "mentat_manifest",
            "mentat_runtime",
        ],
        crates: None,
        reason: "containers know the grant that they run under, and not who asked for it",
    },
    Room {
        files: &["crates/server/src/transport/"],
        sees: &[
            "crate::transport",
            "crate::config::TlsConfig",
            "mentat_manifest::ByteCount",
            "mentat_runtime::error",
        ],
        crates: None,
        reason: "connections know nothing of what is asked on them",
    },
];

/// The arrows between our crates, read from their manifests.
pub(super) fn crate_arrows(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending("Cargo.toml") {
        if path == "Cargo.toml"
            || !(path.starts_with("crates/")
                || ["xtask/", "fuzz/", "bench/"].iter().any(|folder| path.starts_with(folder)))
        {
            continue;
        }
        let mut section = "";
        let mut allowed = None;
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.starts_with('[') {
                section = text;
            } else if section == "[package]"
                && let Some(name) = text.strip_prefix("name = ")
            {
                let name = name.trim_matches('"');
                allowed = ARROWS.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed);
                if allowed.is_none() {
                    let advice = "a new crate needs a row in the tables of tidy, and a second reader";
                    problems.push(Problem::new(path, line, format!("crate `{name}` is unknown; {advice}")));
                }
            } else if section.contains("dependencies") && text.starts_with("mentat") {
                let used = text.split(['.', ' ', '=']).next().unwrap_or(text);
                if allowed.is_some_and(|allowed| !allowed.contains(&used)) {
                    problems.push(Problem::new(path, line, format!("must not depend on `{used}`")));
                }
            }
        }
    }
    problems
}

/// Words of other crates where they do not belong.
pub(super) fn foreign_words(tree: &Tree) -> Vec<Problem> {
    let begins = |path: &str, places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let mut problems = Vec::new();
    for (path, text) in sources(tree) {
        let tokens = tokens(text);
        for found in paths(without_tests(&tokens)) {
            for word in FOREIGN_WORDS {
                if begins(path, word.within)
                    && !begins(path, word.except)
                    && is_at_or_below(&found, word.path)
                {
                    let message =
                        format!("`{}` does not belong here: {}", found.segments.join("::"), word.reason);
                    problems.push(Problem::new(path, found.line, message));
                }
            }
        }
    }
    problems
}

/// Rooms that see more than they may.
pub(super) fn rooms(tree: &Tree) -> Vec<Problem> {
    let known = known_crates(tree);
    let mut problems = Vec::new();
    for room in ROOMS {
        for (path, text) in
            sources(tree).filter(|(path, _)| room.files.iter().any(|file| path.starts_with(file)))
        {
            let tokens = tokens(text);
            for found in paths(without_tests(&tokens)) {
                if !room.allows(&found, &known) {
                    let message =
                        format!("`{}` is not seen from here: {}", found.segments.join("::"), room.reason);
                    problems.push(Problem::new(path, found.line, message));
                }
            }
        }
    }
    problems
}

impl Room {
    fn allows(&self, path: &SourcePath<'_>, known: &[String]) -> bool {
        let (first, second) = (path.segments.first().copied().unwrap_or(""), path.segments.get(1).copied());
        let seen = || self.sees.iter().any(|seen| is_at_or_below(path, seen));
        match first {
            // A word alone, such as the `crate` of a visibility.
            _ if second.is_none() => true,
            "super" => second != Some("super"),
            "crate" => seen(),
            _ if first.starts_with("mentat_") => seen(),
            _ => match self.crates {
                Some(crates) => crates.contains(&first) || !known.iter().any(|known| known == first),
                None => true,
            },
        }
    }
}

/// Rust of the crates that ship; their integration tests see what they like.
fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.rust().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"))
}

/// The crates that the workspace depends on, as Rust names them.
fn known_crates(tree: &Tree) -> Vec<String> {
    let workspace = tree.get("Cargo.toml").unwrap_or_default();
    let section = workspace.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let names = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" ="));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

fn is_at_or_below(path: &SourcePath<'_>, above: &str) -> bool {
    let above: Vec<&str> = above.split("::").collect();
    path.segments.starts_with(&above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(problems: &[Problem]) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_that_points_the_wrong_way_is_found() {
        let tree = Tree::of(&[
            (
                "crates/manifest/Cargo.toml",
                "[package]\nname = \"mentat-manifest\"\n[dev-dependencies]\nmentat-runtime.workspace = true\n",
            ),
            (
                "crates/runtime/Cargo.toml",
                "[package]\nname = \"mentat-runtime\"\n[dependencies]\nmentat-manifest = { path = \"x\" }\n",
            ),
            ("crates/new/Cargo.toml", "[package]\nname = \"mentat-new\"\n"),
        ]);
        let problems = messages(&crate_arrows(&tree));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("crates/manifest/Cargo.toml:4: must not depend on `mentat-runtime`"));
        assert!(problems[1].contains("`mentat-new` is unknown"));
    }

    #[test]
    fn every_foreign_word_is_found_outside_its_rooms_and_not_inside() {
        for word in FOREIGN_WORDS {
            let text = format!("//! {0}\nuse {0}::x;\nfn f() {{ {0}::y() }}\n", word.path);
            let outside = format!("{}x/src/elsewhere.rs", word.within[0]);
            let problems = foreign_words(&Tree::of(&[(&outside, &text)]));
            // A longer path may be a word of its own as well.
            let mut lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
            lines.dedup();
            assert_eq!(lines, [2, 3], "{}", word.path);
            for inside in word.except.iter().filter(|inside| inside.ends_with('/')) {
                let inside = format!("{inside}src/x.rs");
                assert_eq!(foreign_words(&Tree::of(&[(&inside, &text)])), [], "{}", word.path);
            }
        }
    }

    #[test]
    fn a_word_in_braces_or_after_a_test_function_is_found_and_one_in_a_test_module_is_not() {
        let path = "crates/server/src/registry.rs";
        let grouped = Tree::of(&[(path, "use std::{fs, env};")]);
        assert_eq!(foreign_words(&grouped).len(), 1);
        let tested = Tree::of(&[(path, "fn a() {}\n#[cfg(test)]\nmod tests { use std::env; }")]);
        assert_eq!(foreign_words(&tested), []);
    }

    #[test]
    fn every_room_refuses_what_it_does_not_see() {
        for room in ROOMS {
            let file = room.files[0].trim_end_matches(".rs").trim_end_matches('/');
            let path =
                if room.files[0].ends_with('/') { format!("{file}/x.rs") } else { format!("{file}.rs") };
            let text = "use mentat_server::app;\nuse super::super::x;\n";
            let tree = Tree::of(&[(&path, text)]);
            assert_eq!(rooms(&tree).len(), 2, "{path}");
        }
    }

    #[test]
    fn a_pure_room_refuses_crates_that_are_not_listed_and_takes_what_is_its_own() {
        let workspace = "[workspace.dependencies]\ntokio = \"1\"\nserde = \"1\"\n[profile.dev]\n";
        let text = "use crate::limits::Limits;\nuse serde::Serialize;\nuse tokio::fs;\nfn f() { limits::g(); tokio::spawn(x) }";
        let tree = Tree::of(&[("Cargo.toml", workspace), ("crates/manifest/src/x.rs", text)]);
        let problems = messages(&rooms(&tree));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("x.rs:3: `tokio::fs`") && problems[1].contains("`tokio::spawn`"));
    }

    #[test]
    fn the_host_sees_a_few_words_of_the_runtime_and_no_other() {
        let text = "use crate::runtime::limits::ExecutionLimiter;\nuse crate::runtime::engine::Engine;\n";
        let problems = rooms(&Tree::of(&[("crates/runtime/src/host/x.rs", text)]));
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2]);
    }
}
