//! Executions that nobody waits for: what they say to those who follow them, now or later, where they stand, and how they are
//! ended.

use std::sync::Arc;

use mentat_manifest::{AgentId, AgentVersion};
use mentat_runtime::error::Error;
use mentat_runtime::events::{EventBuffer, EventReader};
use mentat_runtime::model::{Caller, ExecutionId};

use super::{Dispatcher, ExecuteRequest};
use crate::executions::{ExecutionPage, ExecutionRecord, ExecutionState};
use crate::telemetry::StreamLevels;

impl Dispatcher {
    /// A place for the events of an execution that a door is about to ask for, to read them from the first on.
    #[must_use]
    pub fn events(&self, caller: &Caller, agent: &AgentId) -> Arc<EventBuffer> {
        self.executions.events(caller, agent)
    }

    /// Reads what an execution says, or an agent elsewhere publishes, from the event of that number on; of one that has
    /// ended, for as long as that is kept.
    ///
    /// # Errors
    /// `STREAM_NOT_FOUND`.
    pub fn follow(
        &self,
        caller: &Caller,
        execution_id: ExecutionId,
        from_sequence: u64,
    ) -> Result<EventReader, Error> {
        if let Some(reader) = self.published.follow(caller, execution_id, from_sequence) {
            return Ok(reader);
        }
        self.executions.follow(caller, execution_id, from_sequence)
    }

    /// Ends all executions that run.
    pub fn cancel_all(&self) {
        self.executions.cancel_all();
    }

    /// What is kept of streams.
    #[must_use]
    pub fn streams(&self) -> StreamLevels {
        let room = self.executions.room();
        let (events, dropped) = room.counts();
        StreamLevels { events, dropped, bytes: room.bytes(), published: self.published.count(), sockets: 0 }
    }

    /// Begins an execution that goes on by itself, whatever becomes of its caller. What comes of it is told to those who
    /// follow it, and by `get_execution`. `held` is what its request takes until then.
    ///
    /// # Errors
    /// Why it is not begun; what keeps it from being executed afterwards is its end.
    pub async fn start(
        self: &Arc<Self>,
        caller: &Caller,
        request: ExecuteRequest,
        held: impl Send + 'static,
    ) -> Result<(ExecutionId, AgentVersion), Error> {
        let execution_id = request.execution_id.unwrap_or_default();
        let agent = self.registry.get(caller, &request.agent_id, request.version.as_ref()).await?;
        let placed = self.choose(agent, execution_id);
        let running = self.begin(caller, execution_id, &placed, &request)?;
        if let Some(events) = running.events() {
            events.expect_readers();
        }
        let version = placed.agent.stored.version.clone();
        let (this, caller) = (Arc::clone(self), caller.clone());
        self.guests.go_on(async move {
            let _held = held;
            // Who is cancelled before it has begun does not begin, however soon it would be over.
            let turn = this.turn(&placed, &request).await.filter(|_| !running.is_cancelled());
            if let Err(unfinished) = this.finish_now(&caller, placed, running, request, turn) {
                this.finish(&caller, *unfinished).await;
            }
        });
        Ok((execution_id, version))
    }

    /// Ends an execution; answers its record as it was.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND`.
    pub fn cancel(&self, caller: &Caller, execution_id: ExecutionId) -> Result<ExecutionRecord, Error> {
        self.executions.cancel(caller, execution_id)
    }

    /// A running or lately finished execution.
    ///
    /// # Errors
    /// `EXECUTION_NOT_FOUND`.
    pub fn get_execution(
        &self,
        caller: &Caller,
        execution_id: ExecutionId,
    ) -> Result<ExecutionRecord, Error> {
        self.executions.get(caller, execution_id)
    }

    /// A page of the tenant's running and lately finished executions, the newest first, of all or of those that stand
    /// there. `size` 0 is the usual one.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a token that no page has answered.
    pub fn list_executions(
        &self,
        caller: &Caller,
        state: Option<ExecutionState>,
        size: usize,
        token: &str,
    ) -> Result<ExecutionPage, Error> {
        self.executions.list(caller, state, size, token)
    }
}
