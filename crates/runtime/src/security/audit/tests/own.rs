//! A server goes on with what it wrote itself, and nobody reads what nobody signed.

use std::path::PathBuf;

use super::*;

/// A log of 600 records: two full bundles, and one of 88; and the checkpoint as it was after 300.
fn log() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 300);
    let early = std::fs::read(folder.path().join("checkpoint")).unwrap();
    write(folder.path(), 300);
    (folder, early)
}

fn replace(path: PathBuf, from: &str, to: &str) {
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes.splice(at..at + from.len(), to.bytes());
    std::fs::write(path, bytes).unwrap();
}

fn refused(folder: &Path) -> String {
    Recorder::open(&config(folder)).unwrap_err().to_string()
}

#[test]
fn records_that_wait_are_the_servers_own() {
    let (folder, _) = log();
    let mut record = read(folder.path()).unwrap().next().unwrap().unwrap();
    record.sequence = 600;
    wait(folder.path(), &[record]);
    assert_eq!(verify(folder.path()).faults, []);
    replace(folder.path().join("pending"), "caller-0", "caller-X");
    assert_eq!(verify(folder.path()).faults, [Fault::Forged(600)]);
    let said = refused(folder.path());
    assert!(said.contains("for record 600 was not written by this server"), "{said}");
    // Who cannot read the key cannot tell.
    std::fs::remove_file(folder.path().join("key")).unwrap();
    assert_eq!(verify(folder.path()).faults, []);
}

#[test]
fn a_server_goes_on_with_no_log_that_is_not_its_own() {
    let (other, _) = log();
    let (folder, _) = log();
    std::fs::copy(other.path().join("key"), folder.path().join("key")).unwrap();
    let said = refused(folder.path());
    assert!(said.contains("`key.pub` is of another key"), "{said}");

    let (folder, _) = log();
    replace(folder.path().join("tile/entries/002.p/88"), "caller-299", "caller-ABC");
    let said = refused(folder.path());
    assert!(said.contains("its last records are not those that were signed"), "{said}");

    for name in ["key.pub", "tile/entries/002.p/88", "tile/0/002.p/88"] {
        let (folder, _) = log();
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let said = refused(folder.path());
        assert!(said.contains("`mentat audit verify` says more"), "{name}: {said}");
    }

    let (folder, _) = log();
    let renamed = AuditConfig { origin: "other.log".into(), ..config(folder.path()) };
    let said = Recorder::open(&renamed).unwrap_err().to_string();
    assert!(said.contains("the log calls itself `test.log`, `audit.origin` says `other.log`"), "{said}");
}

#[test]
fn nobody_reads_by_a_checkpoint_that_nobody_signed() {
    for size in ["0", "1099511627776"] {
        let (folder, _) = log();
        replace(folder.path().join("checkpoint"), "\n600\n", &format!("\n{size}\n"));
        assert!(read(folder.path()).is_err(), "{size}");
    }
    let (folder, early) = log();
    std::fs::write(folder.path().join("checkpoint"), early).unwrap();
    assert!(read(folder.path()).is_err());
    std::fs::remove_file(folder.path().join("checkpoint")).unwrap();
    assert!(read(folder.path()).is_err());
}
