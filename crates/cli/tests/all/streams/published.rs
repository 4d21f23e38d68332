//! Streams that agents elsewhere publish.

use serde_json::{Value, json};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn agents_elsewhere_publish_here_and_are_followed_in_the_same_way() {
    let server = Server::with(&["streams.heartbeat_ms=60000"]);
    let ask = |method: &str, path: &str, body: Option<Value>| {
        let url = format!("{}/api/v1/streams{path}", server.http);
        let answered = match (method, body) {
            ("POST", Some(body)) => ureq::post(url).send_json(body),
            ("DELETE", _) => ureq::delete(url).call(),
            _ => ureq::get(url).call(),
        };
        match answered {
            Ok(mut response) => (200, response.body_mut().read_json::<Value>().unwrap()),
            Err(ureq::Error::StatusCode(status)) => (status, Value::Null),
            Err(error) => panic!("{error}"),
        }
    };
    let (_, opened) =
        ask("POST", "/init", Some(json!({ "agent_id": "mentatlab.outside", "pin_name": "tokens" })));
    let id = opened["stream_id"].as_str().unwrap().to_owned();
    assert_eq!(opened["status"], "active");
    let mut early = socket(&server, opened["ws_url"].as_str().unwrap(), &[]).await.unwrap();
    for number in 0..3 {
        let (_, published) = ask("POST", &format!("/{id}/publish"), Some(json!({ "token": number })));
        assert_eq!(published, json!({ "message": "Data published", "sequence": number }));
    }
    early.send(Message::text(r#"{"type": "ping"}"#)).await.unwrap();
    let (_, stands) = ask("GET", &format!("/{id}"), None);
    assert_eq!((&stands["agent_id"], &stands["pin_name"]), (&json!("mentatlab.outside"), &json!("tokens")));
    assert_eq!((&stands["message_count"], &stands["subscriber_count"]), (&json!(3), &json!(1)));
    assert_eq!(ask("GET", "", None).1["streams"].as_array().unwrap().len(), 1);
    assert_eq!(ask("DELETE", &format!("/{id}"), None).0, 200);
    assert_eq!(ask("GET", "", None).1["streams"].as_array().unwrap().len(), 0);
    for (method, path, body) in [
        ("POST", format!("/{id}/publish"), Some(json!({}))),
        ("DELETE", format!("/{id}"), None),
        ("GET", format!("/{id}"), None),
    ] {
        assert_eq!(ask(method, &path, body).0, 404, "{method} {path}");
    }
    let again = ask("POST", "/init", Some(json!({ "agent_id": "a.b" }))).1["stream_id"].clone();
    let again = again.as_str().unwrap();
    // Refused by what it says of itself, before it is sent.
    let mut large = TcpStream::connect(server.http.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST /api/v1/streams/{again}/publish HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 5242880\r\n\r\n"
    );
    large.write_all(head.as_bytes()).unwrap();
    let mut status = String::new();
    BufReader::new(large).read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 413 "), "{status}");
    let deep = |levels: usize| {
        serde_json::from_str(&format!("{{\"a\": {}{}}}", "[".repeat(levels), "]".repeat(levels))).unwrap()
    };
    assert_eq!(ask("POST", &format!("/{again}/publish"), Some(deep(99))).0, 200);
    assert_eq!(ask("POST", &format!("/{again}/publish"), Some(deep(100))).0, 400);
    for (path, body) in
        [("/init", json!({})), ("/init", json!({ "agent_id": "a b" })), ("/x/publish", json!({}))]
    {
        assert_eq!(ask("POST", path, Some(body)).0, 400, "{path}");
    }
    let (mut tokens, mut kinds, mut pongs) = (Vec::new(), Vec::new(), 0);
    while let Some(Ok(Message::Text(text))) = early.next().await {
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "pong" {
            pongs += 1;
            continue;
        }
        check(&message, false);
        tokens.extend(message["data"]["token"].as_u64());
        kinds.push(message["type"].as_str().unwrap().to_owned());
    }
    assert_eq!((tokens, pongs), (vec![0, 1, 2], 1));
    assert_eq!(kinds, ["stream_start", "stream_data", "stream_data", "stream_data", "stream_end"]);
    // Late, by gRPC and by the command line.
    let late: Vec<_> = follow(&server, &id, 2).await.unwrap().map(|event| event.unwrap()).collect().await;
    let Some(Event::Published(published)) = &late[0].event else { panic!("{late:?}") };
    assert_eq!(published.data_json, r#"{"token":2}"#);
    let Some(Event::StreamEnd(end)) = &late[1].event else { panic!("{late:?}") };
    assert_eq!((late.len(), end.total_chunks, end.whole), (2, 3, true));
    let followed = mentat().args(["stream", &id, "--server", &server.grpc]).output().unwrap();
    assert_eq!(text(&followed.stdout), "{\"token\":0}\n{\"token\":1}\n{\"token\":2}\n");
    assert_eq!(followed.status.code(), Some(0), "{}", text(&followed.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_not_taken_for_what_the_server_says_of_it() {
    let server = Server::start();
    let post = |path: &str, body: Value| {
        let url = format!("{}/api/v1/streams{path}", server.http);
        ureq::post(url).send_json(body).unwrap().body_mut().read_json::<Value>().unwrap()
    };
    let opened = post("/init", json!({ "agent_id": "a.b" }));
    let id = opened["stream_id"].as_str().unwrap();
    let said = json!({ "kind": "missed", "first": 0, "last": 41, "sequence": 5 });
    post(&format!("/{id}/publish"), said.clone());
    ureq::delete(format!("{}/api/v1/streams/{id}", server.http)).call().unwrap();
    let all = ureq::get(format!("{}/api/v1/streams/{id}/sse", server.http)).call().unwrap();
    let all = all.into_body().read_to_string().unwrap();
    let mut told = all.lines().filter_map(|line| line.strip_prefix("data:"));
    let told: Value = serde_json::from_str(told.nth(1).unwrap()).unwrap();
    check(&told, false);
    assert_eq!((&told["type"], &told["data"]), (&json!("stream_data"), &said));
    let followed = mentat().args(["stream", id, "--json", "--server", &server.grpc]).output().unwrap();
    let line: Value = serde_json::from_str(text(&followed.stdout).lines().next().unwrap()).unwrap();
    assert_eq!((&line["kind"], &line["data"], &line["sequence"]), (&json!("published"), &said, &json!(0)));
}
