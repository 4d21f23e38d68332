//! A registry as others run it: Debian's `docker-registry`, on a free port, with a storage of its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::encryption::Authority;

/// Who may use a registry with a password.
pub const LOGIN: &str = "user:open sesame";
/// The same as `htpasswd -B` writes it, with little work in it.
const HTPASSWD: &str = "user:$2b$04$7H9OkPTqTSpID5jpJ/Jxtu3mCI5B.auC1tZw3sG2XIPvl8EJ043pu\n";
const START: Duration = Duration::from_secs(60);

/// A registry; killed when dropped.
pub struct Docker {
    child: Child,
    /// `host:port`.
    pub address: String,
    folder: tempfile::TempDir,
}

impl Docker {
    /// One that lets everybody in, without encryption.
    pub fn start() -> Self {
        Self::with(None, false)
    }

    pub fn with(authority: Option<&Authority>, password: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join("storage");
        std::fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{ level: info, formatter: json }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n",
            storage.display()
        );
        if password {
            let file = folder.path().join("htpasswd");
            config += &format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", file.display());
        }
        config += "http:\n  addr: 127.0.0.1:0\n";
        if let Some(authority) = authority {
            let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
            config +=
                &format!("  tls: {{ certificate: {}, key: {} }}\n", certificate.display(), key.display());
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`docker-registry` is installed by `cargo xtask test`, or by `apt-get install docker-registry`");
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split([',', '"']).next().unwrap_or_default().to_owned();
                    let _ = sender.send(address);
                }
            }
        });
        let address = ready.recv_timeout(START).expect("the registry did not start");
        Self { child, address, folder }
    }

    /// A reference to a repository in it.
    pub fn name(&self, repository: &str) -> String {
        format!("oci://{}/{repository}", self.address)
    }

    /// Where it keeps a blob.
    pub fn blob(&self, content: &[u8]) -> PathBuf {
        let digest = hex::encode(Sha256::digest(content));
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&digest[..2]).join(&digest).join("data")
    }

    /// A file with a name and a password for it, as docker writes one.
    pub fn auth_file(&self, login: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{}.json", hex::encode(login)));
        let auths = serde_json::json!({ "auths": { &self.address: { "auth": STANDARD.encode(login) } } });
        std::fs::write(&file, auths.to_string()).unwrap();
        file
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
