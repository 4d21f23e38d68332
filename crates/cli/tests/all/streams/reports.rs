//! Lines of stdout that report on an agent's work.

use serde_json::{Value, json};

use super::*;

/// A command that writes this to stdout, in pieces of seven bytes.
fn writer(text: &str) -> String {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 1000) "{bytes}")
          (func (export "_start") (local $at i32) (local $left i32)
            (local.set $left (i32.const {length}))
            (loop $next
              (i32.store (i32.const 0) (i32.add (i32.const 1000) (local.get $at)))
              (i32.store (i32.const 4) (select (i32.const 7) (local.get $left)
                (i32.gt_u (local.get $left) (i32.const 7))))
              (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
              (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
              (local.set $left (i32.sub (local.get $left) (i32.load (i32.const 8))))
              (br_if $next (local.get $left)))))"#,
        length = text.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_report_are_events_and_all_others_output_where_the_manifest_says_so() {
    let text = concat!(
        "a line\n",
        "{\"type\": \"log\", \"level\": \"warn\", \"message\": \"careful\"}\n",
        "{\"type\": \"progress\", \"message\": \"half\", \"data\": {\"percent\": 50}, \"correlation_id\": \"c-1\"}\n",
        "{\"type\": \"result\", \"value\": 7}\n",
        "the last",
    );
    let output = "a line\n{\"type\": \"result\", \"value\": 7}\nthe last";
    let plain = crate::guests::manifest("a.reports", "1.0.0");
    let reporting = format!("events: ndjson\n{plain}");
    let events = |manifest: &str| -> Vec<Value> {
        let folder = agent_folder(manifest, &crate::guests::assemble(&writer(text)));
        let ran = run(&["run", folder.path().to_str().unwrap(), "--stream", "--json"]);
        let lines = crate::program::text(&ran.stdout);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let told = events(&reporting);
    let of_kind = |told: &[Value], kind: &str| -> Vec<Value> {
        told.iter().filter(|event| event["kind"] == kind).cloned().collect()
    };
    let [log] = &of_kind(&told, "log")[..] else { panic!("{told:?}") };
    assert_eq!((&log["level"], &log["message"]), (&json!("warn"), &json!("careful")));
    let [progress] = &of_kind(&told, "progress")[..] else { panic!("{told:?}") };
    assert_eq!(
        (&progress["message"], &progress["data"], &progress["correlation_id"]),
        (&json!("half"), &json!({ "percent": 50 }), &json!("c-1"))
    );
    let chunks: String =
        of_kind(&told, "chunk").iter().map(|chunk| chunk["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!((chunks.as_str(), told.last().unwrap()["exit_code"].as_i64()), (output, Some(0)));
    assert_eq!(of_kind(&events(&plain), "progress").len(), 0, "who says nothing has no reports");

    let server = Server::start();
    server.load_as(&reporting, &writer(text)).await.unwrap();
    let request = execute("a.reports", "");
    let mut told = server.client().await.execute_agent_stream(request).await.unwrap().into_inner();
    let (mut reports, mut end) = (Vec::new(), None);
    while let Some(event) = told.next().await {
        match event.unwrap().event.unwrap() {
            Event::Report(report) => reports.push(report),
            Event::Response(response) => end = Some(response),
            _ => {}
        }
    }
    assert_eq!((reports.len(), reports[0].kind.as_str()), (1, "progress"));
    assert_eq!(reports[0].data_json, "{\"percent\":50}");
    assert_eq!(end.unwrap().output, output);
}
