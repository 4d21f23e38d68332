//! Whom containers run as: each as somebody who is nobody else, since the kernel bounds some things by user.

use serde_json::json;

use super::engine::Engine;
use super::{load, run};
use crate::server::Server;

const REUSE: &str = "events: ndjson\nwasm: { instances: reuse }\n";

/// What a kept program says to a word, without its number.
async fn says(server: &Server, id: &str, what: &str) -> String {
    let answer = run(server, id, &json!(what).to_string()).await.unwrap();
    let said = String::from_utf8(answer.output.into()).unwrap();
    said.trim().split_once(' ').unwrap().1.to_owned()
}

/// Two kept containers run as two users, and what one used up of what the kernel gives a user is there for the other.
pub async fn are_apart(server: &Server) {
    let mut users = Vec::new();
    for id in ["a.one", "a.two"] {
        load(server, id, "serve", REUSE).await;
        users.push(says(server, id, "who").await);
    }
    assert_ne!(users[0], users[1]);
    let watchers: usize = says(server, "a.one", "watch").await.parse().unwrap();
    assert!(watchers > 1, "{watchers}");
    // It holds them all, and there are as many for the other.
    assert_eq!(says(server, "a.one", "watch").await, "0");
    assert_eq!(says(server, "a.two", "watch").await, watchers.to_string());
    assert_eq!(says(server, "a.one", "who").await, users[0], "it is another container");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_container_uses_up_of_its_users_is_there_for_another() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    are_apart(&server).await;
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_those_of_the_configuration_and_are_given_back() {
    let engine = Engine::start();
    let settings = [
        "container.users.first=70000",
        "container.users.count=4",
        "container.max_executions=1",
        "container.warm.max_containers=1",
        "container.user=70004:71000",
    ];
    let server = engine.server(&settings);
    load(&server, "a.look", "look", "").await;
    for _ in 0..4 {
        let said = String::from_utf8(run(&server, "a.look", "").await.unwrap().output.into()).unwrap();
        let has = |fact: &str| said.lines().any(|line| line == fact);
        let user = said.lines().find_map(|line| line.strip_prefix("Uid: ")).unwrap();
        assert!(
            ["70000 ", "70001 ", "70002 ", "70003 "].iter().any(|user_is| user.starts_with(user_is)),
            "{said}"
        );
        assert!(has("Gid: 71000 71000 71000 71000"), "{said}");
    }
    // Kept ones have theirs while they wait.
    load(&server, "a.serve", "serve", REUSE).await;
    let one = says(&server, "a.serve", "who").await;
    load(&server, "a.other", "serve", REUSE).await;
    let two = says(&server, "a.other", "who").await;
    assert!(one != two && [&one, &two].iter().all(|user| user.starts_with("7000")), "{one} {two}");
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}
