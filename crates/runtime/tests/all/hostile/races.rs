//! What is swapped between the check of a name and its use: directories against links, by the host beside the guest, and by
//! another execution of the same agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mentat_manifest::{FileAccess, Metering};
use mentat_runtime::Loaded;
use mentat_runtime::model::Outcome;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::programs::{compiled, component};
use crate::harness::runtime;
use crate::world::World;

/// Swaps two names, over and over, as long as it lives.
struct Swapping {
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Swapping {
    fn of(one: PathBuf, other: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !seen.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        Self { ended, thread: Some(thread) }
    }

    /// How often it has swapped.
    fn end(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

pub async fn load(program: Vec<u8>) -> Loaded {
    runtime().load(program.into(), Metering::Epoch).await.unwrap()
}

/// A directory with a file of the name of the one outside, and a link that leads out.
pub fn world() -> World {
    let mut world = World::new(&["filesystem:readwrite:/data"]);
    world.mount("/data", FileAccess::ReadWrite, None);
    std::fs::create_dir(world.path("/data/door")).unwrap();
    std::fs::write(world.path("/data/door/secret.txt"), "inside").unwrap();
    std::os::unix::fs::symlink("..", world.path("/data/way-out")).unwrap();
    world
}

pub fn told(outcome: Outcome) -> String {
    let answer = outcome.result.unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(answer.output.to_vec()).unwrap()
}

async fn swapped(world: &World, loaded: &Loaded, input: &str) -> String {
    let swapping = Swapping::of(world.path("/data/door"), world.path("/data/way-out"));
    let outcome = world.run(runtime(), loaded, input.to_owned()).await;
    assert!(swapping.end() > 100, "nothing was swapped");
    assert_eq!(world.breach(&outcome), None, "{input}");
    told(outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_in_by_the_host_leads_no_guest_out() {
    for program in [compiled("swap.rs"), component("swap.rs")] {
        let (world, swap) = (world(), load(program).await);
        let read = swapped(&world, &swap, "read 4000 /data/door/secret.txt").await;
        assert!(read.contains("inside"), "{read}");
        let listed = swapped(&world, &swap, "list 2000 /data/door").await;
        assert!(listed.contains("secret.txt") && !listed.contains("data,"), "{listed}");
        swapped(&world, &swap, "write 2000 /data/door/secret.txt").await;
        swapped(&world, &swap, "remove 2000 /data/door/secret.txt").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_in_by_the_host_leads_no_grant_out() {
    let world = world();
    let probe = load(compiled("probe.rs")).await;
    for arguments in [
        r#"{"op":"read","path":"/data/door/secret.txt"}"#,
        r#"{"op":"append","path":"/data/door/secret.txt","data":"x"}"#,
        r#"{"op":"remove","path":"/data/door/secret.txt"}"#,
    ] {
        let uses = format!("use data {arguments} => any\ntell\n").repeat(2000);
        swapped(&world, &probe, &format!("request filesystem:readwrite:/data as data\n{uses}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_in_by_another_execution_leads_to_nothing_that_policy_forbids() {
    let mut world = World::new(&["filesystem:readwrite:/data", "filesystem:readwrite:/data/sub"]);
    world.mount("/data", FileAccess::ReadWrite, None);
    world.policies += "@id(\"private\") forbid (principal, action, resource in Path::\"/data/private\");";
    std::fs::create_dir(world.path("/data/private")).unwrap();
    std::fs::create_dir(world.path("/data/sub")).unwrap();
    std::fs::write(world.path("/data/private/key.txt"), "a key").unwrap();
    let swap = load(compiled("swap.rs")).await;
    for (name, target) in [("/data/x", "private/key.txt"), ("/data/sub/x", "../private/key.txt")] {
        let (attack, victim) = tokio::join!(
            world.run(runtime(), &swap, format!("swap 3000 {name} {target}")),
            world.run(runtime(), &swap, format!("read 3000 {name}")),
        );
        let (attack, victim) = (told(attack), told(victim));
        assert!(victim.contains("harmless") || attack.contains("swapped"), "{attack}{victim}");
        assert!(!victim.contains("a key"), "{attack}{victim}");
    }
}
