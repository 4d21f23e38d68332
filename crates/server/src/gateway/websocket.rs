//! Streams by WebSocket (RFC 6455). A reader that takes the sub-protocol `mentat.v1.binary` gets chunks as binary frames:
//! eight bytes with the number of the event, the highest first, then the chunk.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::{BufMut, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt, stream};
use mentat_runtime::error::Error;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::Event;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tungstenite::error::ProtocolError;

use super::messages::{Follower, StreamQuery, Told};
use super::reply::Reply;
use super::requests::{Authenticated, name, query};
use crate::door::DoorState;
use crate::transport::Traffic;

/// The sub-protocol of those who take chunks as they are.
const BINARY: &str = "mentat.v1.binary";
/// The sub-protocols of those who take everything as JSON, which is also what others get.
const JSON: [&str; 2] = ["mentat.v1.json", "mentatlab.streaming.v1"];
/// Bytes of a message from a reader at most; they have little to say.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// What is said to a reader whom nobody understands.
const NONSENSE: Goodbye = (close_code::UNSUPPORTED, r#"say {"type": "cancel"}, {"type": "ping"} or nothing"#);
const TOO_LARGE: Goodbye = (close_code::SIZE, "a reader's message has at most 4096 bytes");
const NOT_UTF8: Goodbye = (close_code::INVALID, "a text is not UTF-8");
const NO_WEBSOCKET: Goodbye = (close_code::PROTOCOL, "what was sent is not of the WebSocket protocol");

/// Bytes that are sent at once to a reader that is behind, about, and so many are kept for it: a chunk of its own for each
/// would be a system call of its own.
const BATCH_BYTES: usize = 16 << 10;
/// Bytes that are kept of what a reader says while it is read; tungstenite's own measure would be most of what an idle one
/// takes.
const READ_BYTES: usize = 4 << 10;
/// How long the answer to a reader's goodbye may take.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);
/// How many times as long as what it tells a message can be: JSON needs six bytes for a control character.
const LONGEST_ESCAPE: usize = 6;
/// Bytes of a message besides what it tells.
const ENVELOPE_BYTES: usize = 4 << 10;

/// What a reader can say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    /// The execution is to be ended.
    Cancel {},
    /// Whether anybody is there.
    Ping {},
}

/// How a socket is closed: the code of RFC 6455, section 7.4, and why.
type Goodbye = (u16, &'static str);

/// What was heard of a reader.
enum Heard {
    Said(Said),
    /// Something that is none of our business.
    Nothing,
    /// What cannot be taken.
    Wrong(Goodbye),
    /// It says goodbye.
    Left,
    /// It has gone away.
    Gone,
}

/// Where a reader is told.
struct Teller {
    sink: SplitSink<WebSocket, Message>,
    follower: Follower,
    takes_bytes: bool,
    patience: Duration,
    traffic: Arc<Traffic>,
    /// Its place among those that there is room for.
    _place: OwnedSemaphorePermit,
}

/// Why a reader is not told any more.
enum Gone {
    /// Its connection is gone.
    Closed,
    /// It closed the socket.
    Left,
    /// It does not take what it is sent.
    Stuck,
    /// More is on its way than the server holds.
    Busy,
}

/// What an execution says, by WebSocket: what is kept of it, then the rest as it comes.
pub(super) async fn follow(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    stream_id: Result<Path<String>, PathRejection>,
    asked: Result<Query<StreamQuery>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Reply> {
    let (stream_id, asked) = (name(stream_id)?, query(asked)?);
    let upgrade = upgrade.map_err(|rejection| {
        let message = format!("this is a WebSocket: {}", rejection.body_text());
        Reply::transport(StatusCode::UPGRADE_REQUIRED, message)
    })?;
    let from = asked.from_sequence.unwrap_or_default();
    let (follower, execution_id) = Follower::new(&state, &caller, &stream_id, from, asked.format)?;
    let place = Arc::clone(&state.sockets).try_acquire_owned().map_err(|_| Error::Overloaded {
        message: "there are as many WebSockets as `streams.max_sockets` allows".into(),
        retry_after: Duration::from_secs(1),
    })?;
    let longest = usize::try_from(state.max_event.0).unwrap_or(usize::MAX).saturating_mul(LONGEST_ESCAPE);
    let upgrade = upgrade
        .protocols(JSON.into_iter().chain([BINARY]))
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(BATCH_BYTES)
        .max_write_buffer_size(longest.saturating_add(ENVELOPE_BYTES + 2 * BATCH_BYTES));
    let takes_bytes = upgrade.selected_protocol().is_some_and(|protocol| protocol == BINARY);
    Ok(upgrade.on_upgrade(async move |socket| {
        let (sink, heard) = socket.split();
        let (patience, traffic) = (state.idle_timeout, Arc::clone(&state.traffic));
        let teller = Teller { sink, follower, takes_bytes, patience, traffic, _place: place };
        let cancel = || {
            // It may have ended meanwhile; and a stream from elsewhere is nobody's to cancel here.
            let _ = state.dispatcher.cancel(&caller, execution_id);
        };
        let told = tell(teller, heard, &state, cancel).await;
        if told.is_none() && asked.cancel_on_disconnect {
            cancel();
        }
    }))
}

/// Tells a reader everything; `None` where it goes away before the end.
async fn tell(
    mut teller: Teller,
    mut reader: SplitStream<WebSocket>,
    state: &DoorState,
    cancel: impl Fn(),
) -> Option<()> {
    let mut next = Some(text(teller.follower.start()));
    loop {
        let Some(message) = next else {
            teller.close((close_code::NORMAL, "the stream has ended")).await;
            return Some(());
        };
        let (mut pings, mut wrong) = (0_u32, None);
        // Heard while it is told: who does not take what it is sent can cancel and go away all the same.
        let sent = {
            let mut sending = pin!(teller.send_with_more(message));
            loop {
                tokio::select! {
                    sent = &mut sending => break sent,
                    heard = hear(&mut reader) => match heard {
                        Heard::Said(Said::Cancel {}) => cancel(),
                        Heard::Said(Said::Ping {}) => pings = pings.saturating_add(1),
                        Heard::Nothing => {}
                        Heard::Wrong(goodbye) => wrong = Some(goodbye),
                        Heard::Left => break Err(Gone::Left),
                        Heard::Gone => return None,
                    }
                }
            }
        };
        match sent {
            Ok(()) => {}
            Err(Gone::Closed) => return None,
            Err(Gone::Left) => {
                teller.answer_goodbye().await;
                return None;
            }
            Err(Gone::Stuck) => {
                tracing::debug!("a reader of a stream did not take it");
                return None;
            }
            Err(Gone::Busy) => {
                teller
                    .close((close_code::AGAIN, "the server sends as much as it can hold; come back later"))
                    .await;
                return Some(());
            }
        }
        next = loop {
            if let Some(goodbye) = wrong {
                teller.close(goodbye).await;
                return None;
            }
            for _ in 0..std::mem::take(&mut pings) {
                teller.send(Message::text(r#"{"type":"pong"}"#)).await.ok()?;
            }
            tokio::select! {
                delivery = teller.follower.next() => break delivery.map(|delivery| teller.message(delivery)),
                heard = hear(&mut reader) => match heard {
                    Heard::Said(Said::Cancel {}) => cancel(),
                    Heard::Said(Said::Ping {}) => pings = 1,
                    Heard::Nothing => {}
                    Heard::Wrong(goodbye) => wrong = Some(goodbye),
                    Heard::Left => {
                        teller.answer_goodbye().await;
                        return None;
                    }
                    Heard::Gone => return None,
                },
                () = tokio::time::sleep(state.heartbeat) => break Some(text(teller.follower.heartbeat())),
                () = state.closing.cancelled() => {
                    teller.close((close_code::AWAY, "the server is closing")).await;
                    // The execution is ended by the server itself, or goes on to its end.
                    return Some(());
                }
            }
        };
    }
}

async fn hear(reader: &mut SplitStream<WebSocket>) -> Heard {
    match reader.next().await {
        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
            Ok(said) => Heard::Said(said),
            Err(_) => Heard::Wrong(NONSENSE),
        },
        // Pings of the protocol are answered below us; bytes mean nothing here.
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => Heard::Nothing,
        Some(Err(error)) => broken(&error),
        Some(Ok(Message::Close(_))) => Heard::Left,
        None => Heard::Gone,
    }
}

/// What a socket that cannot be read was sent, if anything.
fn broken(error: &axum::Error) -> Heard {
    match error.source().and_then(<dyn std::error::Error>::downcast_ref) {
        Some(tungstenite::Error::Capacity(_)) => Heard::Wrong(TOO_LARGE),
        Some(tungstenite::Error::Utf8(_)) => Heard::Wrong(NOT_UTF8),
        Some(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Heard::Gone,
        Some(tungstenite::Error::Protocol(_)) => Heard::Wrong(NO_WEBSOCKET),
        _ => Heard::Gone,
    }
}

impl Teller {
    /// Sends a message, and what else there is to be told already.
    async fn send_with_more(&mut self, message: Message) -> Result<(), Gone> {
        let mut bytes = length(&message);
        let mut batch = vec![message];
        while bytes < BATCH_BYTES
            && let Some(delivery) = self.follower.now()
        {
            let message = self.message(delivery);
            bytes = bytes.saturating_add(length(&message));
            batch.push(message);
        }
        self.hand_over(batch, bytes).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        let bytes = length(&message);
        self.hand_over(vec![message], bytes).await
    }

    async fn hand_over(&mut self, batch: Vec<Message>, bytes: usize) -> Result<(), Gone> {
        let _held = self.traffic.hold(bytes).ok_or(Gone::Busy)?;
        let mut batch = stream::iter(batch).map(Ok);
        match tokio::time::timeout(self.patience, self.sink.send_all(&mut batch)).await {
            Ok(sent) => sent.map_err(|_| Gone::Closed),
            Err(_elapsed) => Err(Gone::Stuck),
        }
    }

    fn message(&self, delivery: Delivery) -> Message {
        if self.takes_bytes
            && let Delivery::Event(event) = &delivery
            && let Event::StreamData { chunk, .. } = &event.event
        {
            return Message::Binary(framed(chunk, event.sequence));
        }
        text(self.follower.tell(delivery))
    }

    /// Lets the answer to a reader's goodbye be sent, which RFC 6455 asks for in section 5.5.1.
    async fn answer_goodbye(&mut self) {
        // Who does not wait for it has gone already.
        let _ = tokio::time::timeout(LONGEST_GOODBYE, self.sink.close()).await;
    }

    /// Says goodbye, to a reader that hears it.
    async fn close(&mut self, (code, reason): Goodbye) {
        let frame = CloseFrame { code, reason: reason.into() };
        // Who does not hear it has gone already.
        let _ = self.send(Message::Close(Some(frame))).await;
    }
}

fn text(told: Told) -> Message {
    Message::Text(told.text.into())
}

fn length(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

fn framed(chunk: &[u8], sequence: u64) -> Bytes {
    let mut frame = BytesMut::with_capacity(size_of::<u64>() + chunk.len());
    frame.put_u64(sequence);
    frame.put_slice(chunk);
    frame.freeze()
}
