//! Programs that attack by the libraries of their language, or by calls of components, and tell what came of it.

use mentat_manifest::FileAccess;

use super::programs::{compiled, component};
use super::races::{load, told, world};
use crate::harness::runtime;
use crate::world::World;

#[tokio::test]
async fn a_component_hoards_no_files_makes_none_of_holes_and_reads_nothing_blindly() {
    let hoard = load(component("hoard.rs")).await;
    let mut world = World::new(&["filesystem:readwrite:/data"]);
    world.mount("/data", FileAccess::ReadWrite, None);
    std::fs::write(world.path("/data/hello.txt"), "hello").unwrap();
    let streams: u32 = told(world.run(runtime(), &hoard, "streams").await).trim().parse().unwrap();
    assert!((100..=128).contains(&streams), "{streams} files were kept open");
    let listings: u32 = told(world.run(runtime(), &hoard, "listings").await).trim().parse().unwrap();
    assert!((100..=128).contains(&listings), "{listings} listings were held");
    let trapped = world.run(runtime(), &hoard, "more").await.result.unwrap_err().to_string();
    assert!(trapped.contains("write not permitted"), "{trapped}");
    assert_eq!(std::fs::metadata(world.path("/data/new.txt")).unwrap().len(), 0);
    // The errors are `insufficient-space` and `access`.
    assert_eq!(told(world.run(runtime(), &hoard, "holes").await), "Err(23)\n");
    world.capabilities = vec!["filesystem:write:/data".into()];
    assert_eq!(told(world.run(runtime(), &hoard, "blind").await), "Err(0)\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_in_c_finds_no_way_out_by_its_library() {
    let world = world();
    std::fs::write(world.path("/data/hello.txt"), "hello").unwrap();
    std::os::unix::fs::symlink("../secret.txt", world.path("/data/door-out")).unwrap();
    std::os::unix::fs::symlink("..", world.path("/data/up")).unwrap();
    let outcome = world.run(runtime(), &load(compiled("climb.c")).await, "").await;
    assert_eq!(world.breach(&outcome), None);
    assert_eq!(told(outcome), "nothing\n");
    assert!(world.path("/data/hello.txt").exists());
}
