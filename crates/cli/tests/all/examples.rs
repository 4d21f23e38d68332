//! The example agents that work on media or tell as they go, in a server with a media store: objects in, objects and
//! numbers out, streams followed.

mod images;
mod sounds;
mod texts;

use std::path::{Path, PathBuf};

use mentat_proto::v1::ExecuteAgentRequest;
use serde_json::Value;

use crate::program::text;
use crate::server::{Server, execute};

/// A server whose policy permits media, with objects in its data directory.
struct Studio {
    server: Server,
    _policies: tempfile::TempDir,
}

impl Studio {
    /// Starts one and loads an example agent from its folder.
    async fn with(agent: &str, settings: &[&str]) -> Self {
        let policies = tempfile::tempdir().unwrap();
        let policy = "@id(\"media\") permit (principal, action in Action::\"media\", resource);";
        std::fs::write(policies.path().join("media.cedar"), policy).unwrap();
        let directory = format!("policy.dir={}", policies.path().display());
        let settings: Vec<&str> = settings.iter().copied().chain([directory.as_str()]).collect();
        let server = Server::with(&settings);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents").join(agent);
        let manifest = std::fs::read_to_string(folder.join("manifest.yaml")).unwrap();
        let module = std::fs::read(folder.join("agent.wasm")).expect("`cargo xtask agents` builds it");
        server.load_module(&manifest, &module).await.unwrap();
        Self { server, _policies: policies }
    }

    /// Where the object of a reference is.
    fn path(&self, reference: &str) -> PathBuf {
        let name = reference.strip_prefix("media://").unwrap();
        self.server.data().join("media/objects/default").join(name)
    }

    /// Puts an object into the store, as an operator does.
    fn put(&self, reference: &str, content: &[u8]) {
        let path = self.path(reference);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Executes the agent; its output and its peak of memory, or the last line of its log where it says no.
    async fn ask(&self, id: &str, input: impl Into<bytes::Bytes>) -> Result<(Value, u64), String> {
        let request = ExecuteAgentRequest { include_logs: true, ..execute(id, input) };
        let answer = self.server.client().await.execute_agent(request).await.unwrap().into_inner();
        match answer.exit_code {
            0 => {
                let peak = answer.metrics.unwrap().peak_memory_bytes;
                Ok((serde_json::from_slice(&answer.output).unwrap(), peak))
            }
            code => {
                assert_eq!((code, text(&answer.output).as_str()), (1, ""));
                Err(answer.logs.last().unwrap().message.clone())
            }
        }
    }
}
