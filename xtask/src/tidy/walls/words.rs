//! Which words of other crates may stand where.

/// A path that may stand in some places only.
pub(super) struct ForeignWord {
    pub(super) path: &'static str,
    /// Where the wall stands: beginnings of paths of files.
    pub(super) within: &'static [&'static str],
    /// The doors in it.
    pub(super) except: &'static [&'static str],
    pub(super) reason: &'static str,
}

const ENGINE: &[&str] = &["crates/runtime/src/runtime/", "crates/runtime/src/host/"];
const GRPC: &[&str] =
    &["crates/proto/", "crates/server/src/grpc/", "crates/server/src/app.rs", "crates/cli/src/client"];
const HTTP: &[&str] = &["crates/server/src/gateway/", "crates/server/src/app.rs"];
/// Where certificates are read: of clients, and of those who sign agents.
const CERTIFICATES: &[&str] = &["crates/server/src/transport/", "crates/attestation/"];
/// Where connections are served, and where a guest's and those to registries are made.
const CONNECTIONS: &[&str] = &[
    "crates/server/src/transport/",
    "crates/runtime/src/host/egress",
    "crates/runtime/src/host/network",
    "crates/runtime/src/host/requests.rs",
    "crates/runtime/src/host/media/s3.rs",
    "crates/oci/src/connection.rs",
];
const HYPER_UTIL: &[&str] =
    &["crates/server/src/transport/", "crates/runtime/src/host/egress.rs", "crates/oci/src/connection.rs"];
const HOST: &[&str] = &["crates/runtime/src/host/"];
const ENGINE_REASON: &str = "Wasmtime is known in the rooms `runtime` and `host` alone";
const GRPC_REASON: &str = "the wire is known at its doors alone: `grpc` and the command line's client";
const TRANSPORT_REASON: &str = "connections and their encryption are known in the room `transport` alone";
const CERTIFICATES_REASON: &str =
    "certificates are read in the room `transport`, of clients, and in the crate of attestations alone";
const CONNECTIONS_REASON: &str = "connections are served in the room `transport`, made for guests in `network`, `requests` and `egress`, which take a permission, for the store of media in `s3`, and to registries in `oci`";
const NAMES_REASON: &str = "names are looked up in `network` alone, which checks what they lead to";
const OUTSIDE_REASON: &str =
    "what a host function touches outside its own execution goes through the files that ask the gate for it";
const HTTP_REASON: &str = "HTTP is known in the room `gateway` alone";

/// What decides whether a signature holds.
pub(super) const VERIFYING: &[&str] = &[
    "crates/attestation/src/algorithm.rs",
    "crates/attestation/src/ambiguity.rs",
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

pub(super) const FOREIGN_WORDS: &[ForeignWord] = &[
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
