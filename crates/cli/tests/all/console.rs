//! The console, in a real browser: agents, executions as they are followed, audit trails; what no agent can do to it; how it is
//! used without a mouse, on a narrow screen, in light and dark.

use mentat_proto::v1::ExecuteAgentRequest;
use serde_json::{Value, json};

use crate::browser::{Browser, ENTER, TAB};
use crate::cutter::Cutter;
use crate::guests::{EXIT_3, LOOP, assemble, manifest_with, numbers};
use crate::server::{Server, execute};

const CAT: &str = include_str!("cat.wat");
/// What a page must not do that shows it.
const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>\u{202e}txt.exe\u{2066}";

async fn load_some(server: &Server) {
    server.load("example.numbers", &numbers(100)).await;
    server.load("example.exit", EXIT_3).await;
    let wasm = "  fuel: 1000000000000\n  timeout_ms: 600000\n";
    server.load_as(&manifest_with("example.loop", "1.0.0", wasm), LOOP).await.unwrap();
    let wasm = "  capabilities: [\"filesystem:read:/data\", \"env:KEY\"]\n";
    for version in ["1.0.0", "1.1.0-beta.2"] {
        server.load_as(&manifest_with("example.cat", version, wasm), CAT).await.unwrap();
    }
}

async fn start(server: &Server, agent: &str, input: &str) -> String {
    let request = ExecuteAgentRequest { detach: true, ..execute(agent, input.to_owned()) };
    server.client().await.execute_agent(request).await.unwrap().into_inner().execution_id
}

/// Nothing was refused by the policy, nothing is missing, nothing went wrong.
fn assert_quiet(browser: &Browser) {
    assert_eq!(browser.log(), Vec::<String>::new());
    let elsewhere = browser.value(
        "performance.getEntriesByType('resource').map((one) => one.name).filter((name) => !name.startsWith(location.origin + '/'))",
    );
    assert_eq!(elsewhere, json!([]), "everything comes from the server itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_executed_from_the_page_which_shows_its_chunks_as_they_come_and_then_its_trail() {
    let server = Server::start();
    load_some(&server).await;
    let browser = Browser::start();
    browser.open(&server.http);
    browser.wait_for("#agents-table", "example.numbers");
    let agents = browser.text("#agents-table tbody");
    assert!(agents.contains("1.1.0-beta.2") && agents.contains("sha256:"), "{agents}");
    browser.click("a[href='#/agents/example.cat']");
    browser.wait_for("#agent-title", "example.cat");
    browser.wait_for("#capabilities", "filesystem:read:/data");
    browser.wait("document.getElementById('manifest').textContent.includes('version: 1.1.0-beta.2')");
    browser.click("nav a[href='#/agents']");
    browser.click("a[href='#/agents/example.numbers']");
    browser.wait_for("#execute-version", "1.0.0");
    browser.type_into("#execute-input", "40");
    browser.click("#execute-form button");
    // While the agent goes on for some seconds.
    let said = browser.wait(
        "document.getElementById('stream').innerText.includes('00000003') && document.getElementById('stream-status').innerText",
    );
    assert!(said.as_str().unwrap().contains("live"), "{said}");
    let lines = browser.text("#stream");
    assert!(lines.contains("begins") && !lines.contains("00000040"), "{lines}");
    browser.photograph("execution-live");
    browser.wait_for("#stream-status", "ended with exit code 0");
    assert!(browser.text("#stream").contains("00000040"));
    assert_eq!(browser.text("#output").trim(), "00000040");
    browser.wait_for("#execution-facts", "Peak memory");
    browser.wait_for("#trail-table", "exit code 0");
    // Another one, whose decisions are on record.
    let id = start(&server, "example.cat", "x").await;
    browser.run(&format!("location.hash = '#/executions/{id}'"));
    browser.wait_for("#trail-table", "denied: not_permitted");
    browser.wait_for("#trail-table", "exit code 8");
    assert_eq!(browser.value("document.querySelectorAll('#trail-table tbody tr').length"), 3);
    browser.photograph("execution-audit");
    assert_quiet(&browser);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_listed_and_can_be_cancelled() {
    let server = Server::start();
    load_some(&server).await;
    // By the machine's name, as a person may call it.
    let browser = Browser::start();
    browser.open(&format!("{}/#/executions", server.http.replace("127.0.0.1", "localhost")));
    browser.wait("!document.getElementById('executions-none').hidden");
    let id = start(&server, "example.loop", "").await;
    start(&server, "example.exit", "").await;
    // Without anybody asking for it.
    browser.wait_for("#executions-table", "example.loop");
    browser.wait_for("#executions-table", "finished");
    browser.photograph("executions");
    browser.run("const state = document.getElementById('state'); state.value = 'running'; state.onchange();");
    browser.wait("document.querySelectorAll('#executions-table tbody tr').length === 1");
    browser.click(&format!("a[href='#/executions/{id}']"));
    browser.wait_for("#execution-state", "running");
    browser.wait_for("#stream-status", "live");
    browser.click("#cancel");
    browser.wait_for("#stream-status", "ended: CANCELLED");
    browser.wait_for("#execution-facts", "CANCELLED");
    browser.wait("document.getElementById('cancel').hidden");
    browser.wait_for("#trail-table", "CANCELLED");
    assert_quiet(&browser);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_agent_writes_becomes_part_of_the_page() {
    let server = Server::start();
    let bytes: String = HOSTILE.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let length = HOSTILE.len();
    let guest = format!(
        r#"(module
      (import "mentat" "log" (func $log (param i32 i32 i32)))
      (import "mentat" "write_output" (func $output (param i32 i32) (result i32)))
      (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
      (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "{bytes}")
      (data (i32.const 1000) "said")
      (func (export "process") (result i32)
        (call $log (i32.const 0) (i32.const 0) (i32.const {length}))
        (drop (call $write (call $start (i32.const 1000) (i32.const 4)) (i32.const 0) (i32.const {length})))
        (call $output (i32.const 0) (i32.const {length}))))"#
    );
    let manifest = manifest_with("a.hostile", "1.0.0", "  timeout_ms: 20000\n");
    let manifest = format!("{manifest}description: {}\n", json!(HOSTILE));
    server.load_as(&manifest, &guest).await.unwrap();
    let id = start(&server, "a.hostile", HOSTILE).await;
    let browser = Browser::start();
    browser.open(&format!("{}/#/agents/a.hostile", server.http));
    browser.wait("document.getElementById('manifest').textContent.includes('onerror')");
    browser.run(&format!("location.hash = '#/executions/{id}'"));
    browser.wait_for("#trail-table", "exit code 0");
    for part in ["#stream .log .text", "#stream .chunk .text", "#output"] {
        let shown = browser.text(part);
        assert!(
            shown.contains("<img src=x onerror=") && shown.contains("\\u{202e}txt.exe"),
            "{part}: {shown}"
        );
        assert!(!shown.contains('\u{202e}') && !shown.contains('\u{2066}'), "{part}: {shown}");
    }
    browser.photograph("hostile");
    // One source alone, and the end, which belongs to all.
    browser.run("const source = document.getElementById('source'); source.value = 'log'; source.onchange();");
    let shown = browser.value("document.querySelectorAll('#stream li:not([hidden])').length");
    assert_eq!((shown, browser.text("#source").contains("stream said")), (json!(2), true));
    // Names of views are written by strangers as well: by whoever sends a link.
    browser.run("location.hash = '#/executions/' + encodeURIComponent('<img src=x onerror=alert(1)>')");
    browser.wait_for("#problem", "INVALID_REQUEST");
    assert_eq!(browser.value("document.querySelectorAll('main img, main script').length"), 0);
    assert!(!browser.value("document.title").as_str().unwrap().contains("owned"));
    // One answer of 400, which was asked for.
    assert!(browser.log().iter().all(|line| line.contains("400 (Bad Request)")));
    // Even a page with a mistake in it would make no script of a text, and send nothing elsewhere.
    for script in [
        "document.body.innerHTML = '<b>'",
        "document.body.setAttribute('onclick', 'document.title = `owned`')",
        "document.createElement('script').text = 'document.title = `owned`'",
        "document.createElement('script').src = '/console/text.js'",
        "new DOMParser().parseFromString('<b>', 'text/html')",
    ] {
        let done = browser
            .run(&format!("try {{ {script}; return 'done'; }} catch (error) {{ return error.name; }}"));
        assert_eq!(done, "TypeError", "{script}");
    }
    browser.run("fetch('http://127.0.0.1:9/').then(() => { window.how = 'sent'; }, () => { window.how = 'refused'; });");
    assert_eq!(browser.wait("window.how"), "refused");
    let log = browser.log().join("\n");
    assert!(log.contains("connect-src 'self'"), "{log}");
    assert!(!browser.value("document.title").as_str().unwrap().contains("owned"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_asks_for_a_key_where_the_server_does_and_shows_its_tenants_executions_alone() {
    let key = |name: &str| {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
        format!(r#"{{ name = "{name}", tenant = "{name}", sha256 = "{digest}" }}"#)
    };
    let server = Server::with(&[&format!("auth.api_keys=[{}, {}]", key("one"), key("two"))]);
    let post = |path: &str, key: &str, body: Value| {
        let request =
            ureq::post(format!("{}{path}", server.http)).header("authorization", format!("Bearer {key}"));
        request.send_json(body).unwrap().body_mut().read_json::<Value>().unwrap()
    };
    let module = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, assemble(EXIT_3));
    let load = json!({ "manifest": crate::guests::manifest("a.exit", "1.0.0"), "module_base64": module });
    post("/v1/agents", "one", load.clone());
    post("/v1/agents", "two", load);
    let started = post("/v1/agents/a.exit/execute", "two", json!({ "detach": true }));
    let foreign = started["execution_id"].as_str().unwrap();
    let own = post("/v1/agents/a.exit/execute", "one", json!({ "detach": true }));
    let own = own["execution_id"].as_str().unwrap();

    let browser = Browser::start();
    browser.open(&format!("{}/#/executions", server.http));
    browser.wait("!document.getElementById('key').hidden && document.activeElement.id === 'key-text'");
    let rows = "document.querySelectorAll('tbody tr, #stream li').length";
    assert_eq!(browser.value(rows), 0, "nothing is shown of anybody");
    browser.photograph("key");
    browser.type_into("#key-text", &format!("wrong{ENTER}"));
    browser.wait_for("#problem", "The key is not accepted");
    browser.type_into("#key-text", &format!("one{ENTER}"));
    browser.wait(&format!("document.querySelector(\"a[href='#/executions/{own}']\")"));
    assert!(!browser.text("#executions-table").contains(&foreign[24..]));
    browser.click(&format!("a[href='#/executions/{own}']"));
    browser.wait_for("#trail-table", "exit code 3");
    browser.wait_for("#stream", "three it is");
    browser.run(&format!("location.hash = '#/executions/{foreign}'"));
    browser.wait_for("#problem", "EXECUTION_NOT_FOUND");
    let of_it = "document.querySelectorAll('#stream li, #trail-table tbody tr, #execution-facts dd').length";
    assert_eq!(browser.value(of_it), 0);
    // The key outlives a reload, and nothing but this tab has it.
    browser.open(&format!("{}/?#/agents", server.http));
    browser.wait_for("#agents-table", "a.exit");
    assert_eq!(browser.value("[localStorage.length, document.cookie]"), json!([0, ""]));
    browser.click("#forget-key");
    browser.wait("!document.getElementById('key').hidden");
    assert_eq!(browser.value("sessionStorage.length"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_execution_that_the_server_has_forgotten_the_audit_trail_is_shown() {
    let server = Server::with(&["executions.remembered=1"]);
    load_some(&server).await;
    let mut begun = Vec::new();
    for _ in 0..2 {
        let executed = server.client().await.execute_agent(execute("example.exit", "")).await.unwrap();
        begun.push(executed.into_inner().execution_id);
    }
    let browser = Browser::start();
    browser.open(&format!("{}/#/executions/{}", server.http, begun[0]));
    browser.wait_for("#trail-table", "exit code 3");
    browser.wait_for("#forgotten", "does not remember");
    assert_eq!(
        browser.value(
            "[document.getElementById('remembered').hidden, document.getElementById('problem').hidden]"
        ),
        json!([true, true])
    );
    // And one that it remembers, in the same page.
    browser.run(&format!("location.hash = '#/executions/{}'", begun[1]));
    browser.wait_for("#stream-status", "ended with exit code 3");
    assert_eq!(
        browser.value(
            "[document.getElementById('remembered').hidden, document.getElementById('forgotten').hidden]"
        ),
        json!([false, true])
    );
    browser.click("#trail-table summary");
    browser.wait_for("#trail-table pre", "\"event_type\": \"execution\"");
    browser.photograph("record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_off_goes_on_behind_the_last_line_that_was_shown() {
    let server = Server::start();
    load_some(&server).await;
    let cutter = Cutter::before(&server);
    let id = start(&server, "example.numbers", "60").await;
    let browser = Browser::start();
    browser.open(&format!("{}/#/executions/{id}", cutter.address));
    for seen in ["00000005", "00000020", "00000035"] {
        browser.wait_for("#stream", seen);
        cutter.cut();
        browser.wait_for("#stream-status", "cut off");
    }
    browser.wait_for("#stream-status", "ended with exit code 0");
    let text = browser.value(
        "[...document.querySelectorAll('#stream .chunk .text')].map((one) => one.textContent).join('')",
    );
    let expected: String = (1..=60).map(|number| format!("{number:08}\n")).collect();
    assert_eq!(text.as_str().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_elsewhere_publishes_is_listed_and_shown_as_it_comes() {
    let server = Server::start();
    let post = |path: &str, body: Value| {
        let url = format!("{}/api/v1/streams{path}", server.http);
        ureq::post(url).send_json(body).unwrap().body_mut().read_json::<Value>().unwrap()
    };
    let opened = post("/init", json!({ "agent_id": "mentatlab.outside", "pin_name": "tokens" }));
    let id = opened["stream_id"].as_str().unwrap();
    let browser = Browser::start();
    browser.open(&format!("{}/#/executions", server.http));
    browser.wait_for("#published", "mentatlab.outside");
    browser.click("#published a");
    browser.wait_for("#execution-facts", "tokens");
    for said in [json!({ "token": "first" }), json!({ "kind": "chunk" }), json!({ "token": "last" })] {
        post(&format!("/{id}/publish"), said);
    }
    browser.wait_for("#stream", "first");
    browser.wait_for("#stream", "\"kind\":\"chunk\"");
    browser.wait_for("#stream", "last");
    browser.photograph("published");
    ureq::delete(format!("{}/api/v1/streams/{id}", server.http)).call().unwrap();
    browser.wait_for("#stream-status", "ended");
    assert_eq!(browser.value("document.getElementById('problem').hidden"), json!(true));
}

/// Where axe-core lies, which knows the rules of WCAG that a program can check: contrasts, names, roles, the order of headings.
const AXE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/accessibility/node_modules/axe-core/axe.min.js");

/// What axe-core finds wrong with what is shown now, and whether it sticks out at the side, which axe does not look at.
fn assert_accessible(browser: &Browser, axe: &str, what: &str) {
    browser.run(axe);
    browser.run(
        "window.found = undefined;
         axe.run(document).then(({ violations }) => {
           window.found = violations.flatMap(({ help, nodes }) => nodes.map((node) => `${help}: ${node.html}`));
         });",
    );
    assert_eq!(browser.wait("window.found"), json!([]), "{what}");
    let beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.value(beyond), 0, "{what} is wider than its window");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_can_be_read_in_light_and_dark_wide_and_narrow() {
    let server = Server::start();
    load_some(&server).await;
    let said = start(&server, "example.exit", "").await;
    let denied = start(&server, "example.cat", "x").await;
    let failed = start(&server, "example.loop", "").await;
    let axe = std::fs::read_to_string(AXE).unwrap_or_else(|error| {
        panic!(
            "`{AXE}`: {error}; `cargo xtask test` installs it, and so does `npm ci` in `tests/accessibility`"
        )
    });
    let browser = Browser::start();
    browser.open(&server.http);
    for (scheme, motion) in [("light", "no-preference"), ("dark", "reduce")] {
        browser.prefer(scheme, motion);
        for width in [1280, 360] {
            browser.show_at(width);
            for (name, hash, selector, text) in [
                ("agents", "#/agents".to_owned(), "#agents-table", "example.loop"),
                ("agent", "#/agents/example.cat".to_owned(), "#capabilities", "env:KEY"),
                ("executions", "#/executions".to_owned(), "#executions-table", "example.exit"),
                ("logged", format!("#/executions/{said}"), "#trail-table", "exit code 3"),
                ("denied", format!("#/executions/{denied}"), "#trail-table", "exit code 8"),
                ("running", format!("#/executions/{failed}"), "#trail-status", "No record so far"),
                (
                    "unknown",
                    "#/executions/01890a5d-ac96-774b-bcce-b302099a8000".to_owned(),
                    "#problem",
                    "NOT_FOUND",
                ),
            ] {
                browser.run(&format!("location.hash = {}", json!(hash)));
                browser.wait_for(selector, text);
                browser.photograph(&format!("{name}-{scheme}-{width}"));
                assert_accessible(&browser, &axe, &format!("{name}, {scheme}, {width}"));
            }
        }
        let moving = browser.value("document.getAnimations().length > 0");
        assert_eq!((motion, moving), (motion, json!(false)), "nothing moves where nothing runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_is_enough() {
    let server = Server::start();
    server.load("a.exit", EXIT_3).await;
    let browser = Browser::start();
    browser.open(&server.http);
    browser.wait_for("#agents-table", "a.exit");
    let go_to = |what: &str| {
        for _ in 0..40 {
            browser.press(TAB);
            if browser.value("document.activeElement.innerText || document.activeElement.id") == what {
                let outline = browser.value("getComputedStyle(document.activeElement).outlineStyle");
                assert_eq!(outline, "solid", "where the focus is can be seen");
                return;
            }
        }
        panic!("no way to {what}");
    };
    browser.press(TAB);
    assert_eq!(browser.value("document.activeElement.className"), "skip");
    browser.press(ENTER);
    assert_eq!(
        browser.value("[document.activeElement.id, document.getElementById('agents').hidden]"),
        json!(["main", false])
    );
    go_to("a.exit");
    browser.press(ENTER);
    browser.wait_for("#execute-version", "1.0.0");
    assert_eq!(browser.value("document.activeElement.id"), "agent-title", "whoever hears the page is told");
    go_to("Execute");
    browser.press(ENTER);
    browser.wait_for("#trail-table", "exit code 3");
    assert_eq!(browser.value("document.activeElement.id"), "execution-title");
    assert_eq!(browser.value("document.getElementById('stream-status').getAttribute('role')"), "status");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_files_need_no_key_and_can_be_framed_kept_or_taken_for_something_else_by_nobody() {
    let server = Server::with(&[
        r#"auth.api_keys=[{ name = "one", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]"#,
    ]);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/page.css", "text/css; charset=utf-8"),
        ("/console/page.js", "text/javascript; charset=utf-8"),
        ("/console/server.js", "text/javascript; charset=utf-8"),
        ("/console/stream.js", "text/javascript; charset=utf-8"),
        ("/console/text.js", "text/javascript; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let response = ureq::get(format!("{}{path}", server.http)).call().unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!((header("content-type"), header("cache-control")), (kind, "no-store"), "{path}");
        assert_eq!((header("x-content-type-options"), header("referrer-policy")), ("nosniff", "no-referrer"));
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    }
}
