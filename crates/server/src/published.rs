//! Streams of agents that run elsewhere and publish here, so that whoever follows an execution here follows those in the same
//! way.
//!
//! Invariant: a stream belongs to the tenant that opened it. One that nobody publishes to any more is given up, so that a
//! publisher which is gone leaves nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mentat_manifest::AgentId;
use mentat_runtime::error::Error;
use mentat_runtime::events::{EventBuffer, EventError, EventReader, EventRoom};
use mentat_runtime::model::{Caller, Event, ExecutionId};
use parking_lot::Mutex;
use serde_json::value::RawValue;

/// Open streams of one tenant at most.
const MAX_OPEN: usize = 1_000;
/// Bytes of a pin's name at most.
const MAX_PIN_BYTES: usize = 64;
/// When a publisher that is refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The open streams of all tenants.
#[derive(Debug)]
pub struct PublishedStreams {
    room: Arc<EventRoom>,
    /// How long nothing may be published to one.
    patience: Duration,
    open: Mutex<HashMap<Arc<str>, HashMap<ExecutionId, Open>>>,
}

#[derive(Debug)]
struct Open {
    events: Arc<EventBuffer>,
    pin: Arc<str>,
    opened: SystemTime,
    used: Instant,
    used_at: SystemTime,
    /// How many publish now, and perhaps wait for a reader.
    publishing: usize,
}

/// An open stream, as it stands.
#[derive(Clone, Debug)]
pub struct PublishedStream {
    /// Its id.
    pub stream_id: ExecutionId,
    /// The agent that publishes.
    pub agent: AgentId,
    /// The pin of the agent that it is for.
    pub pin: Arc<str>,
    /// When it was opened.
    pub opened: SystemTime,
    /// When something was last published.
    pub used: SystemTime,
    /// How many read it now.
    pub readers: usize,
    /// How much was published.
    pub messages: u64,
}

/// Somebody who publishes; also one whose connection is cut while it waits is noted to be done.
struct Publishing<'a> {
    streams: &'a PublishedStreams,
    caller: &'a Caller,
    id: ExecutionId,
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.streams.using(self.caller, self.id, -1);
    }
}

impl PublishedStreams {
    /// None; what is published is kept in that room once its stream has ended.
    #[must_use]
    pub fn new(room: Arc<EventRoom>, patience: Duration) -> Self {
        Self { room, patience, open: Mutex::default() }
    }

    /// Opens a stream for an agent's pin, with that place for what is published.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a name that is none; `OVERLOADED` when the tenant has too many.
    pub fn open(&self, caller: &Caller, pin: &str, events: Arc<EventBuffer>) -> Result<ExecutionId, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=MAX_PIN_BYTES).contains(&pin.len()) || !pin.bytes().all(allowed) {
            let message = format!(
                "`pin_name` is no name; take 1 to {MAX_PIN_BYTES} letters, digits, dots, hyphens and underscores"
            );
            return Err(Error::InvalidRequest { message });
        }
        let mut open = self.open.lock();
        let own = open.entry(Arc::clone(&caller.tenant)).or_default();
        if own.len() >= MAX_OPEN {
            let message = format!("this tenant has {MAX_OPEN} open streams; end some first");
            return Err(Error::Overloaded { message, retry_after: RETRY_AFTER });
        }
        events.expect_readers();
        let (id, now) = (ExecutionId::new(), SystemTime::now());
        let (pin, used) = (pin.into(), Instant::now());
        own.insert(id, Open { events, pin, opened: now, used, used_at: now, publishing: 0 });
        Ok(id)
    }

    /// Publishes, waiting for slow readers as is configured; answers the number of the event.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`; `OVERLOADED` when readers are too far behind; `INVALID_REQUEST` for more than can be kept.
    pub async fn publish(&self, caller: &Caller, id: ExecutionId, data: Box<RawValue>) -> Result<u64, Error> {
        let events = self.using(caller, id, 1).ok_or_else(|| unknown(id))?;
        let publishing = Publishing { streams: self, caller, id };
        let published = events.write_waiting(Event::Published(data)).await;
        drop(publishing);
        published.map_err(|error| match error {
            EventError::Full => Error::Overloaded { message: error.to_string(), retry_after: RETRY_AFTER },
            EventError::TooLarge(_) => Error::InvalidRequest { message: error.to_string() },
            // It was ended meanwhile.
            EventError::Closed => unknown(id),
        })
    }

    /// Notes that one more publishes, or one less.
    fn using(&self, caller: &Caller, id: ExecutionId, change: isize) -> Option<Arc<EventBuffer>> {
        let mut open = self.open.lock();
        let stream = open.get_mut(&caller.tenant)?.get_mut(&id)?;
        (stream.used, stream.used_at) = (Instant::now(), SystemTime::now());
        stream.publishing = stream.publishing.saturating_add_signed(change);
        Some(Arc::clone(&stream.events))
    }

    /// Ends a stream; its readers then know that they have all of it.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub fn end(&self, caller: &Caller, id: ExecutionId) -> Result<(), Error> {
        let mut open = self.open.lock();
        let own = open.get_mut(&caller.tenant).ok_or_else(|| unknown(id))?;
        let stream = own.get(&id).ok_or_else(|| unknown(id))?;
        let events = Arc::clone(&stream.events);
        // Before it is gone from here: who looks for it finds it here or there.
        self.room.keep(&caller.tenant, id, Arc::clone(&events));
        own.remove(&id);
        drop(open);
        close(&events, true);
        Ok(())
    }

    /// Reads a stream that is open.
    #[must_use]
    pub fn follow(&self, caller: &Caller, id: ExecutionId, from_sequence: u64) -> Option<EventReader> {
        let open = self.open.lock();
        Some(open.get(&caller.tenant)?.get(&id)?.events.read_from(from_sequence))
    }

    /// The tenant's open streams, in the order in which they were opened.
    #[must_use]
    pub fn list(&self, caller: &Caller) -> Vec<PublishedStream> {
        let open = self.open.lock();
        let own = open.get(&caller.tenant).into_iter().flatten();
        let mut list: Vec<_> = own.filter_map(|(id, stream)| stream.told(*id)).collect();
        list.sort_unstable_by_key(|stream| stream.stream_id);
        list
    }

    /// How many are open, of all tenants.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.lock().values().map(HashMap::len).sum()
    }

    /// One of them.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub fn get(&self, caller: &Caller, id: ExecutionId) -> Result<PublishedStream, Error> {
        let open = self.open.lock();
        let stream = open.get(&caller.tenant).and_then(|own| own.get(&id)?.told(id));
        stream.ok_or_else(|| unknown(id))
    }

    /// Gives up the streams that nobody publishes to any more.
    pub fn sweep(&self) {
        let mut gone = Vec::new();
        self.open.lock().retain(|tenant, own| {
            let is_old = |stream: &Open| stream.publishing == 0 && stream.used.elapsed() > self.patience;
            for (id, stream) in own.extract_if(|_, stream| is_old(stream)) {
                self.room.keep(tenant, id, Arc::clone(&stream.events));
                gone.push(stream.events);
            }
            !own.is_empty()
        });
        gone.iter().for_each(|events| close(events, false));
    }
}

fn close(events: &EventBuffer, whole: bool) {
    // A stream has one end.
    let _ = events.write(Event::Closed { whole });
}

impl Open {
    fn told(&self, stream_id: ExecutionId) -> Option<PublishedStream> {
        let (messages, readers) = self.events.counts();
        Some(PublishedStream {
            stream_id,
            agent: self.events.agent()?.clone(),
            pin: Arc::clone(&self.pin),
            opened: self.opened,
            used: self.used_at,
            readers,
            messages,
        })
    }
}

fn unknown(id: ExecutionId) -> Error {
    Error::StreamNotFound { stream_id: id.to_string() }
}

#[cfg(test)]
mod tests {
    use mentat_runtime::events::{BackPressure, Delivery, EventLimits};
    use serde_json::json;

    use super::*;

    fn json_of(value: &serde_json::Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    fn streams(patience: Duration) -> (PublishedStreams, Arc<EventRoom>) {
        let room = Arc::new(EventRoom::default());
        (PublishedStreams::new(Arc::clone(&room), patience), room)
    }

    fn events(room: &Arc<EventRoom>) -> Arc<EventBuffer> {
        let agent = "a.b".parse().unwrap();
        Arc::new(EventBuffer::new(EventLimits::default(), "default".into(), agent, Arc::clone(room)))
    }

    #[tokio::test]
    async fn what_is_published_is_told_and_kept_after_the_end() {
        let (streams, room) = streams(Duration::MAX);
        let (caller, stranger) = (Caller::local(), Caller { tenant: "other".into(), name: "x".into() });
        let id = streams.open(&caller, "output", events(&room)).unwrap();
        assert_eq!(streams.publish(&caller, id, json_of(&json!({ "n": 1 }))).await.unwrap(), 0);
        assert_eq!(streams.publish(&caller, id, json_of(&json!({ "n": 2 }))).await.unwrap(), 1);
        assert!(streams.publish(&stranger, id, json_of(&json!({}))).await.is_err());
        assert!(streams.follow(&stranger, id, 0).is_none() && streams.list(&stranger).is_empty());
        let mut reader = streams.follow(&caller, id, 1).unwrap();
        assert_eq!((streams.list(&caller)[0].messages, streams.get(&caller, id).unwrap().readers), (2, 1));
        streams.end(&caller, id).unwrap();
        let Some(Delivery::Event(event)) = reader.next().await else { panic!("nothing") };
        assert_eq!(event.event.to_json(), json!({ "n": 2 }));
        let Some(Delivery::Event(event)) = reader.next().await else { panic!("nothing") };
        assert!(matches!(event.event, Event::Closed { whole: true }));
        assert!(reader.next().await.is_none());
        assert!(room.find(&caller.tenant, id).is_some());
        assert!(streams.publish(&caller, id, json_of(&json!({}))).await.is_err());
    }

    #[tokio::test]
    async fn a_publisher_that_is_gone_leaves_nothing_open() {
        let (streams, room) = streams(Duration::ZERO);
        let caller = Caller::local();
        let id = streams.open(&caller, "output", events(&room)).unwrap();
        let mut reader = streams.follow(&caller, id, 0).unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        streams.sweep();
        let Some(Delivery::Event(event)) = reader.next().await else { panic!("nothing") };
        assert!(matches!(event.event, Event::Closed { whole: false }));
        assert!(streams.list(&caller).is_empty());
    }

    #[tokio::test]
    async fn a_publisher_that_is_cut_off_while_it_waits_is_given_up_as_well() {
        let (streams, room) = streams(Duration::ZERO);
        let (caller, agent) = (Caller::local(), "a.b".parse().unwrap());
        let limits = EventLimits {
            count: 1,
            back_pressure: BackPressure::Block(Duration::MAX),
            ..EventLimits::default()
        };
        let events = Arc::new(EventBuffer::new(limits, "default".into(), agent, Arc::clone(&room)));
        let id = streams.open(&caller, "output", events).unwrap();
        let _stalled = streams.follow(&caller, id, 0).unwrap();
        streams.publish(&caller, id, json_of(&json!({}))).await.unwrap();
        let waiting = streams.publish(&caller, id, json_of(&json!({})));
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err(), "nobody reads");
        streams.sweep();
        assert!(streams.list(&caller).is_empty());
    }

    #[test]
    fn a_tenant_opens_so_many_and_by_names_that_are_some() {
        let (streams, room) = streams(Duration::MAX);
        let caller = Caller::local();
        for name in ["", "a b", "ä", &"x".repeat(65)] {
            assert!(streams.open(&caller, name, events(&room)).is_err(), "{name}");
        }
        for _ in 0..MAX_OPEN {
            streams.open(&caller, "output", events(&room)).unwrap();
        }
        assert!(matches!(streams.open(&caller, "output", events(&room)), Err(Error::Overloaded { .. })));
    }
}
