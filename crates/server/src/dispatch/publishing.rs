//! Streams of agents that run elsewhere and publish here.

use mentat_manifest::AgentId;
use mentat_runtime::error::Error;
use mentat_runtime::model::{Caller, ExecutionId};
use serde_json::value::RawValue;

use super::Dispatcher;
use crate::published::PublishedStream;

impl Dispatcher {
    /// Opens a stream for a pin of an agent that runs elsewhere; answers its id.
    ///
    /// # Errors
    /// `INVALID_REQUEST`, `OVERLOADED`.
    pub fn open_stream(&self, caller: &Caller, agent: &AgentId, pin: &str) -> Result<ExecutionId, Error> {
        self.published.open(caller, pin, self.events(caller, agent))
    }

    /// Publishes to such a stream; answers the number of the event.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`, `OVERLOADED`, `INVALID_REQUEST`.
    pub async fn publish(
        &self,
        caller: &Caller,
        stream_id: ExecutionId,
        data: Box<RawValue>,
    ) -> Result<u64, Error> {
        self.published.publish(caller, stream_id, data).await
    }

    /// Ends such a stream.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub fn end_stream(&self, caller: &Caller, stream_id: ExecutionId) -> Result<(), Error> {
        self.published.end(caller, stream_id)
    }

    /// The tenant's open streams.
    #[must_use]
    pub fn list_streams(&self, caller: &Caller) -> Vec<PublishedStream> {
        self.published.list(caller)
    }

    /// One of them.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub fn get_stream(&self, caller: &Caller, stream_id: ExecutionId) -> Result<PublishedStream, Error> {
        self.published.get(caller, stream_id)
    }
}
