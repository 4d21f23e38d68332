//! Streams as a browser's own `EventSource` and `WebSocket` have them.

use super::*;
use crate::browser::Browser;
use crate::cutter::Cutter;

/// Keeps what an event source is told: the number of each event, and the text of each chunk.
const LISTEN: &str = r#"
    window.told = { numbers: [], text: '', opened: 0, ended: false };
    const source = new EventSource('PATH');
    source.addEventListener('open', () => { told.opened += 1; });
    source.addEventListener('stream_data', (event) => {
        told.numbers.push(Number(event.lastEventId));
        told.text += JSON.parse(event.data).data.text ?? '';
    });
    source.addEventListener('stream_end', (event) => {
        told.numbers.push(Number(event.lastEventId));
        told.ended = JSON.parse(event.data).data;
    });
    source.addEventListener('error', () => { if (told.ended) source.close(); });
"#;

/// The same by WebSocket, with chunks as they are.
const CONNECT: &str = r#"
    window.heard = { numbers: [], text: '', kinds: [], closed: null };
    const socket = new WebSocket(location.origin.replace('http', 'ws') + 'PATH', 'mentat.v1.binary');
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (message) => {
        if (typeof message.data === 'string') {
            heard.kinds.push(JSON.parse(message.data).type);
        } else {
            heard.numbers.push(Number(new DataView(message.data).getBigUint64(0)));
            heard.text += new TextDecoder().decode(message.data.slice(8));
        }
    };
    socket.onclose = (event) => { heard.closed = event.code; };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_that_is_cut_off_again_and_again_misses_nothing_and_is_told_nothing_twice() {
    let server = Server::start();
    server.load("a.numbers", &numbers(100)).await;
    let cutter = Cutter::before(&server);
    let browser = Browser::start();
    browser.open(&cutter.address);
    let id = start(&server, "a.numbers", "150").await;
    browser.run(&LISTEN.replace("PATH", &format!("/api/v1/streams/{id}/sse")));
    // Each time when some more has come, wherever in a message that is.
    for seen in [1, 4, 19, 40, 41, 77] {
        browser.wait(&format!("told.numbers.length >= {seen}"));
        cutter.cut();
    }
    browser.wait("told.ended");
    let all: Vec<u64> = (0..=152).collect();
    assert_eq!(browser.value("told.numbers"), json!(all));
    assert_eq!(browser.value("told.text"), json!((1..=150).map(line).collect::<String>()));
    assert_eq!(browser.value("told.ended.exit_code"), json!(0));
    let opened = browser.value("told.opened").as_u64().unwrap();
    assert!(opened > 2, "it was cut off, and came back {opened} times");
    // At the end it is told to stay away, and does.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(browser.value("told.opened").as_u64(), Some(opened));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_socket_takes_chunks_as_they_are() {
    let server = Server::start();
    server.load("a.numbers", &numbers(1)).await;
    let browser = Browser::start();
    browser.open(&server.http);
    let id = start(&server, "a.numbers", "50").await;
    browser.run(&CONNECT.replace("PATH", &format!("/ws/streams/{id}?from_sequence=0")));
    browser.wait("heard.closed");
    assert_eq!(browser.value("heard.closed"), json!(1000));
    assert_eq!(browser.value("heard.numbers"), json!((1..=50).collect::<Vec<u64>>()));
    assert_eq!(browser.value("heard.text"), json!((1..=50).map(line).collect::<String>()));
    let kinds = browser.value("heard.kinds");
    let kinds: Vec<&str> = kinds.as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("stream_start", "stream_end"));
}
