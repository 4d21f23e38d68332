//! A registry that lies: a small server of the test's own, which answers well but for what a test has it say.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::guests::{ECHO, assemble, manifest};

pub const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A server, what it was asked, and where it is.
pub struct Lying {
    pub port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

/// An answer: status line and headers without the length, and the body.
#[derive(Clone)]
pub struct Reply {
    head: String,
    body: Vec<u8>,
}

/// What an honest registry has: by path, the answer.
pub type Content = BTreeMap<String, Reply>;

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn reply(kind: &str, body: &[u8]) -> Reply {
    Reply { head: format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}"), body: body.to_vec() }
}

/// An agent as the layout has it, written by hand.
pub struct Agent {
    pub image: Value,
    config: Vec<u8>,
    pub module: Vec<u8>,
}

impl Agent {
    pub fn new() -> Self {
        Self::of(&manifest("a.echo", "1.0.0"), assemble(ECHO))
    }

    pub fn of(manifest: &str, module: Vec<u8>) -> Self {
        let config = json!({
            "created": "2026-01-01T00:00:00Z", "author": "somebody", "architecture": "wasm", "os": "wasip1",
            "layerDigests": [digest(&module)],
            "mentat": { "format": 1, "manifest": manifest },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let image = json!({
            "schemaVersion": 2, "mediaType": IMAGE_TYPE,
            "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(&config), "size": config.len() },
            "layers": [{ "mediaType": "application/wasm", "digest": digest(&module), "size": module.len() }],
        });
        Self { image, config, module }
    }

    pub fn image(&self) -> Vec<u8> {
        serde_json::to_vec(&self.image).unwrap()
    }

    pub fn module_path(&self) -> String {
        format!("/v2/a/blobs/{}", digest(&self.module))
    }

    pub fn content(&self) -> Content {
        let blob = |bytes: &[u8]| {
            (format!("/v2/a/blobs/{}", digest(bytes)), reply("application/octet-stream", bytes))
        };
        let image = reply(IMAGE_TYPE, &self.image());
        [
            ("/v2/a/manifests/1".to_owned(), image.clone()),
            (format!("/v2/a/manifests/{}", digest(&self.image())), image),
            blob(&self.config),
            blob(&self.module),
        ]
        .into()
    }
}

impl Lying {
    /// Answers each request by its path and its whole head.
    pub fn start(answer: impl Fn(&str, &str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let heads = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer, heads) = (stream.unwrap(), Arc::clone(&answer), Arc::clone(&heads));
                std::thread::spawn(move || {
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0)
                    {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    heads.lock().unwrap().push(head.clone());
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    answer(&path, &head, &mut stream);
                });
            }
        });
        Self { port, asked }
    }

    /// Answers as an honest one, but for the paths that have something else to say.
    pub fn but_for(
        agent: &Agent,
        path: &str,
        lie: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let (content, at) = (agent.content(), path.to_owned());
        Self::start(
            move |path, head, stream| {
                if path == at { lie(head, stream) } else { honest(&content, path, stream) }
            },
        )
    }

    pub fn name(&self, selector: &str) -> String {
        format!("oci://127.0.0.1:{}/a{selector}", self.port)
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

pub fn honest(content: &Content, path: &str, stream: &mut TcpStream) {
    let missing = Reply { head: "HTTP/1.1 404 Not Found".into(), body: Vec::new() };
    let Reply { head, body } = content.get(path).unwrap_or(&missing);
    let _ = stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    let _ = stream.write_all(body);
}

pub fn say(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
}
