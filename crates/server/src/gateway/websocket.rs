//! Streams by WebSocket (RFC 6455). A reader that takes the sub-protocol `mentat.v1.binary` gets chunks as binary frames:
//! eight bytes with the number of the event, the highest first, then the chunk.

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
use mentat_runtime::error::Error;
use mentat_runtime::model::{Caller, ExecutionId};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::messages::{Follower, StreamQuery, Told};
use super::reply::Reply;
use super::requests::{Authenticated, name, query};
use crate::door::DoorState;

/// The sub-protocol of those who take chunks as they are.
const BINARY: &str = "mentat.v1.binary";
/// The sub-protocol of those who take everything as JSON, which is also what others get.
const JSON: &str = "mentat.v1.json";
/// Bytes of a message from a reader at most; they have little to say.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// Bytes of messages that wait for a slow reader's connection, beyond which it is waited for.
const WRITE_BUFFER_BYTES: usize = 128 << 10;

/// What a reader can say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Said {
    /// The execution is to be ended.
    Cancel,
}

/// One socket.
struct Socket {
    socket: WebSocket,
    takes_bytes: bool,
    patience: Duration,
    /// Its place among those that there is room for.
    _place: OwnedSemaphorePermit,
}

/// Why a socket is not written to any more.
enum Gone {
    /// It was closed, or its connection is gone.
    Closed,
    /// It does not take what it is sent.
    Stuck,
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
    let upgrade = upgrade
        .protocols([JSON, BINARY])
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES.max(state.longest_message));
    let takes_bytes = upgrade.selected_protocol().is_some_and(|protocol| protocol == BINARY);
    Ok(upgrade.on_upgrade(async move |socket| {
        let socket = Socket { socket, takes_bytes, patience: state.idle_timeout, _place: place };
        let work = tell(socket, follower, &state, &caller, execution_id);
        if work.await.is_none() && asked.cancel_on_disconnect {
            // It may have ended meanwhile.
            let _ = state.dispatcher.cancel(&caller, execution_id);
        }
    }))
}

/// Tells a reader everything; `None` where it goes away before the end.
async fn tell(
    mut socket: Socket,
    mut follower: Follower,
    state: &DoorState,
    caller: &Caller,
    execution_id: ExecutionId,
) -> Option<()> {
    let start = follower.start();
    socket.send(start).await.ok()?;
    loop {
        let told = tokio::select! {
            told = follower.next() => told,
            said = socket.socket.recv() => {
                match said?.ok()? {
                    Message::Text(text) => hear(&text, &mut socket, state, caller, execution_id).await?,
                    Message::Close(_) => return None,
                    // Pings are answered below us; bytes mean nothing here.
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
                }
                continue;
            }
            () = tokio::time::sleep(state.heartbeat) => Some(follower.heartbeat()),
            () = state.closing.cancelled() => {
                socket.close(close_code::AWAY, "the server is closing").await;
                // The execution is ended by the server itself, or goes on to its end.
                return Some(());
            }
        };
        let Some(told) = told else {
            socket.close(close_code::NORMAL, "the stream has ended").await;
            return Some(());
        };
        match socket.send(told).await {
            Ok(()) => {}
            Err(Gone::Closed) => return None,
            Err(Gone::Stuck) => {
                tracing::debug!(%execution_id, "a reader of a stream did not take it");
                return None;
            }
        }
    }
}

async fn hear(
    text: &str,
    socket: &mut Socket,
    state: &DoorState,
    caller: &Caller,
    execution_id: ExecutionId,
) -> Option<()> {
    match serde_json::from_str(text) {
        Ok(Said::Cancel) => {
            let _ = state.dispatcher.cancel(caller, execution_id);
            Some(())
        }
        Err(_) => {
            socket.close(close_code::UNSUPPORTED, r#"say {"type": "cancel"} or nothing"#).await;
            None
        }
    }
}

impl Socket {
    async fn send(&mut self, told: Told) -> Result<(), Gone> {
        let message = match told.chunk.filter(|_| self.takes_bytes) {
            Some((chunk, sequence)) => Message::Binary(framed(&chunk, sequence)),
            None => Message::Text(told.text.into()),
        };
        match tokio::time::timeout(self.patience, self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|_| Gone::Closed),
            Err(_elapsed) => Err(Gone::Stuck),
        }
    }

    /// Says goodbye, to a reader that hears it.
    async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = tokio::time::timeout(self.patience, self.socket.send(Message::Close(Some(frame)))).await;
    }
}

fn framed(chunk: &[u8], sequence: u64) -> Bytes {
    let mut frame = BytesMut::with_capacity(size_of::<u64>() + chunk.len());
    frame.put_u64(sequence);
    frame.put_slice(chunk);
    frame.freeze()
}
