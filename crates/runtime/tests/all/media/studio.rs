//! A runtime with a media store, and guests that use it: what each test of media begins with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::{ByteCount, CapabilityKind, LimitsRequest};
use mentat_runtime::error::Reason;
use mentat_runtime::model::{Invocation, Outcome};
use mentat_runtime::{Loaded, MediaConfig, MediaPlace, NetworkConfig, Runtime};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::{Test, runtime_with_media};
use crate::world::World;

/// A runtime with a store of its own, and who asks.
pub struct Studio {
    pub runtime: Arc<Runtime>,
    pub world: World,
    /// The store, where it is a directory.
    pub folder: tempfile::TempDir,
    core: Loaded,
}

impl Studio {
    /// With a directory for each tenant; what is asked for must be among these capabilities.
    pub async fn open(capabilities: &[&str]) -> Self {
        Self::with(capabilities, |_| {}).await
    }

    pub async fn with(capabilities: &[&str], configure: impl FnOnce(&mut MediaConfig)) -> Self {
        Self::on(NetworkConfig::default(), capabilities, configure).await
    }

    /// On a network of its own.
    pub async fn on(
        network: NetworkConfig,
        capabilities: &[&str],
        configure: impl FnOnce(&mut MediaConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = MediaConfig {
            place: MediaPlace::Directory(folder.path().into()),
            timeout: Duration::from_secs(5),
            ..MediaConfig::default()
        };
        configure(&mut config);
        let runtime = Arc::new(runtime_with_media(config, network));
        let core = Test::wat(include_str!("media.wat")).load_in(&runtime).await.unwrap();
        let mut world = World::new(capabilities);
        world.limits(&LimitsRequest { memory_bytes: Some(ByteCount(64 << 20)), ..LimitsRequest::default() });
        Self { runtime, world, folder, core }
    }

    /// Puts an object into the store as its operator would.
    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Where an object of the usual tenant lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("objects/default").join(name)
    }

    /// Exit code and output of the guest of `media.wat`.
    pub async fn ask(&self, input: Vec<u8>) -> (i32, Bytes) {
        self.ask_as("default", input).await
    }

    pub async fn ask_as(&self, tenant: &str, input: Vec<u8>) -> (i32, Bytes) {
        let outcome = self.run_as(tenant, input).await;
        let answer = outcome.result.unwrap_or_else(|error| panic!("{error}"));
        (answer.exit_code, answer.output)
    }

    pub async fn run_as(&self, tenant: &str, input: Vec<u8>) -> Outcome {
        let grant = self.world.grant(tenant);
        self.runtime.execute(&self.core.module, &grant, Invocation::new(input)).await
    }

    /// Stores content; answers the reference.
    pub async fn store(&self, media_type: &str, content: &[u8]) -> String {
        let (code, output) = self.ask(upload(media_type, content)).await;
        let reference = String::from_utf8(output.to_vec()).unwrap();
        assert_eq!(code, 0, "{reference}");
        reference
    }

    /// The code of a failure, and its text.
    pub async fn refusal(&self, input: Vec<u8>) -> (i32, String) {
        let (code, output) = self.ask(input).await;
        (code, String::from_utf8_lossy(&output).into_owned())
    }

    /// How often objects were given and refused while this was done.
    pub async fn decisions(&self, input: Vec<u8>) -> (u64, u64) {
        let grant = self.world.grant("default");
        self.runtime.execute(&self.core.module, &grant, Invocation::new(input)).await;
        let media = grant.decisions().get(&CapabilityKind::Media).copied().unwrap_or_default();
        (media.granted, media.denied)
    }

    /// Exit code and output of `ask.wat`: a capability, and arguments line by line.
    pub async fn use_grant(&self, lines: &[&str]) -> (i32, String) {
        let loaded = Test::wat(include_str!("../ask.wat")).load_in(&self.runtime).await.unwrap();
        let outcome = self.world.run(&self.runtime, &loaded, lines.join("\n")).await;
        let answer = outcome.result.unwrap_or_else(|error| panic!("{error}"));
        (answer.exit_code, String::from_utf8_lossy(&answer.output).into_owned())
    }

    /// What the component of `component.wat` answers: its output, or the last line of its log.
    pub async fn ask_component(&self, op: u8, first: &str, rest: &[u8]) -> Result<Vec<u8>, String> {
        let loaded = Test::module(component()).load_in(&self.runtime).await.unwrap();
        let mut input = vec![op, u8::try_from(first.len()).unwrap()];
        input.extend(first.as_bytes());
        input.extend(rest);
        let outcome = self.world.run(&self.runtime, &loaded, input).await;
        let answer = outcome.result.unwrap_or_else(|error| panic!("{error}"));
        match answer.exit_code {
            0 => Ok(answer.output.to_vec()),
            _ => Err(outcome.logs.last().map(|line| line.message.clone()).unwrap_or_default()),
        }
    }

    /// The reason that an execution ended for.
    pub async fn reason(&self, input: Vec<u8>) -> Reason {
        self.run_as("default", input).await.result.unwrap_err().reason()
    }
}

/// Reads an object from an offset on, in pieces.
pub fn download(reference: &str, from: u32, piece: u32) -> Vec<u8> {
    input(b'd', from, piece, &[reference.as_bytes()])
}

/// Reads an object of any size in pieces of a megabyte, and counts.
pub fn count(reference: &str) -> Vec<u8> {
    input(b'c', 0, 1 << 20, &[reference.as_bytes()])
}

pub fn upload(media_type: &str, content: &[u8]) -> Vec<u8> {
    input(b'u', u32::try_from(media_type.len()).unwrap(), 0, &[media_type.as_bytes(), content])
}

/// Stores zeros.
pub fn upload_zeros(length: u32, media_type: &str) -> Vec<u8> {
    input(b'g', length, u32::try_from(media_type.len()).unwrap(), &[media_type.as_bytes()])
}

fn input(op: u8, a: u32, b: u32, rest: &[&[u8]]) -> Vec<u8> {
    [&[op][..], &a.to_le_bytes(), &b.to_le_bytes(), &rest.concat()].concat()
}

fn component() -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let (package, _) = resolve.push_dir(&wit).unwrap();
    let world = resolve.select_world(&[package], Some("agent")).unwrap();
    let mut module = wat::parse_str(include_str!("component.wat")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}
