//! Where a call runs: the one core behind every door. A door decodes a request into the types here,
//! calls, and encodes the answer; whatever the doors offer, they cannot drift apart.
//!
//! An execution goes in a straight line: the agent from the registry, a grant from the policy, a
//! place of its own and one of the pool, one store and one call, then the record of it.

mod agents;
mod following;
mod levels;
mod media;
mod place;
mod publishing;
mod pulling;
mod terms;
mod trail;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion, Instances, Manifest, RuntimeKind};
use mentat_runtime::error::Error;
use mentat_runtime::events::EventBuffer;
use mentat_runtime::model::{Caller, ExecutionId, Invocation, Outcome};
use mentat_runtime::security::audit::Ending;
pub use mentat_runtime::security::authority::Narrowing;
use mentat_runtime::security::authority::{Applicant, Authority};
use mentat_runtime::security::policy::Grant;
use mentat_runtime::security::receipt::{PendingReceipt, ReceiptRequest};
use mentat_runtime::{Expected, Runtime};

pub use self::agents::AgentPage;
pub use self::media::{StoredContent, StoredObject};
use self::place::{Place, Placed};
pub use self::pulling::PullRequest;
use self::terms::{ending, narrowing, record_for_receipt};
pub use self::trail::{ExecutionTrail, Trails};
use crate::container::Containers;
pub use crate::executions::{ExecutionPage, ExecutionState};
use crate::executions::{ExecutionRecord, ExecutionStatus, Executions, Running};
use crate::guests::{GuestThreads, Turn};
use crate::oci::OciRegistries;
pub use crate::published::PublishedStream;
use crate::published::PublishedStreams;
use crate::registry::{LoadedAgent, OnConflict, Registry};
use crate::telemetry::Metrics;

/// The core behind every door.
#[derive(Debug)]
pub struct Dispatcher {
    runtime: Arc<Runtime>,
    containers: Arc<Containers>,
    registry: Arc<Registry>,
    oci: OciRegistries,
    authority: Arc<Authority>,
    executions: Arc<Executions>,
    published: Arc<PublishedStreams>,
    metrics: Arc<Metrics>,
    guests: GuestThreads,
    trails: Trails,
}

/// What is known of executions, and what is told by them and from elsewhere.
#[derive(Debug)]
pub struct Records {
    /// Those that run, and that ran lately.
    pub executions: Executions,
    /// Streams of agents elsewhere.
    pub published: Arc<PublishedStreams>,
    /// What the audit log has of them.
    pub trails: Trails,
}

/// Where agents come from.
#[derive(Debug)]
pub struct Sources {
    /// Those that are loaded.
    pub registry: Registry,
    /// Those that can be pulled.
    pub oci: OciRegistries,
}

/// A request to load an agent.
#[derive(Debug)]
pub struct LoadRequest {
    /// The id that the client expects; checked against the manifest where given.
    pub agent_id: Option<AgentId>,
    /// The manifest's YAML text.
    pub manifest: String,
    /// The module.
    pub module: Bytes,
    /// The attestation where it comes beside the manifest, as YAML or JSON.
    pub attestation: Option<String>,
    /// What to do when the version is loaded with other content.
    pub on_conflict: OnConflict,
}

/// A request to execute an agent.
#[derive(Debug)]
pub struct ExecuteRequest {
    /// Which agent.
    pub agent_id: AgentId,
    /// Which version; the active one where `None`.
    pub version: Option<AgentVersion>,
    /// What the agent reads.
    pub input: Bytes,
    /// The caller's own id for the execution, so that it can cancel it; made here where `None`.
    pub execution_id: Option<ExecutionId>,
    /// A manifest whose limits narrow those of the loaded one.
    pub manifest: Option<String>,
    /// What the caller takes away.
    pub narrowing: Narrowing,
    /// Whether a receipt is made.
    pub receipt: bool,
    /// Where its events are kept, for a door that reads them from the first on; made here where `None`.
    pub events: Option<Arc<EventBuffer>>,
}

/// An execution that was decided on.
struct Ready {
    grant: Grant,
    input: Bytes,
    receipt: Option<AskedReceipt>,
}

/// An execution that was decided on, and is not over in a moment.
struct Unfinished {
    placed: Placed,
    running: Running,
    ready: Ready,
}

/// A receipt that was asked for: by whom it is made, on what input, and since when.
type AskedReceipt = (ReceiptRequest, Bytes, SystemTime);

/// What came of an execution, with the names a door needs for its reply.
#[derive(Debug)]
pub struct Executed {
    /// The execution's id.
    pub execution_id: ExecutionId,
    /// The version that ran; `None` when no agent was found.
    pub version: Option<AgentVersion>,
    /// What executed it; `None` when no agent was found.
    pub runtime: Option<RuntimeKind>,
    /// The answer or the error, and what it cost.
    pub outcome: Outcome,
    /// The receipt, or why there is none; `None` where none was asked for, or nothing was executed.
    pub receipt: Option<Result<Bytes, String>>,
}

impl Dispatcher {
    /// A dispatcher.
    #[must_use]
    pub fn new(
        runtime: Arc<Runtime>,
        containers: Arc<Containers>,
        sources: Sources,
        authority: Arc<Authority>,
        metrics: Arc<Metrics>,
        guests: GuestThreads,
        records: Records,
    ) -> Self {
        let Records { executions, published, trails } = records;
        let Sources { registry, oci } = sources;
        let (registry, executions) = (Arc::new(registry), Arc::new(executions));
        Self { runtime, containers, registry, oci, authority, executions, published, metrics, guests, trails }
    }

    /// Loads an agent and makes it the active version of its id.
    ///
    /// # Errors
    /// `INVALID_MANIFEST`, `INVALID_MODULE`, `INVALID_REQUEST`, `ATTESTATION_REJECTED`.
    pub async fn load(&self, caller: &Caller, request: LoadRequest) -> Result<Arc<LoadedAgent>, Error> {
        if let Some(expected) = &request.agent_id {
            let found = Manifest::parse(&request.manifest)?.id;
            if found != *expected {
                return Err(Error::InvalidRequest {
                    message: format!("agent_id is `{expected}`, but the manifest's id is `{found}`"),
                });
            }
        }
        let LoadRequest { manifest, module, attestation, on_conflict, .. } = request;
        let attestation = attestation.as_deref().map(terms::attestation).transpose()?;
        let loaded = self.registry.load(caller, manifest, module, attestation, on_conflict).await;
        if let Err(Error::Overloaded { .. }) = &loaded {
            self.metrics.compile_rejected();
        }
        if let Ok(agent) = &loaded {
            if let Some(origin) = agent.origin() {
                self.metrics.module_loaded(origin);
            }
            tracing::info!(
                agent_id = %agent.stored.id, version = %agent.stored.version, module = %agent.stored.module,
                tenant = %caller.tenant, trust = %agent.stored.standing.last().trust(), "agent loaded"
            );
        }
        loaded
    }

    /// Executes an agent. The outcome holds the error where there is one, since a failed execution
    /// has an id, a cost and a log as well. A caller that goes away, dropping this future, ends the execution; what it
    /// cost until then is recorded.
    pub async fn execute(self: &Arc<Self>, caller: &Caller, request: ExecuteRequest) -> Executed {
        let execution_id = request.execution_id.unwrap_or_default();
        let agent = match self.registry.get(caller, &request.agent_id, request.version.as_ref()).await {
            Ok(agent) => agent,
            Err(error) => return Executed::refused(execution_id, None, error),
        };
        let placed = self.choose(agent, execution_id);
        // Before it begins: of whoever goes away meanwhile, nothing was executed.
        let turn = self.turn(&placed, &request).await;
        match self.begin(caller, execution_id, &placed, &request) {
            Ok(running) => match self.finish_now(caller, placed, running, request, turn) {
                Ok(executed) => executed,
                // In a box of its own: what is over in a moment does not carry the room for it.
                Err(unfinished) => Box::pin(self.finish(caller, *unfinished)).await,
            },
            Err(error) => Executed::refused(execution_id, Some(&placed), error),
        }
    }

    /// The right to execute on this thread, for what is likely to be over in a moment.
    async fn turn(&self, placed: &Placed, request: &ExecuteRequest) -> Option<Turn<'_>> {
        let expected = match placed.place() {
            Place::Wasm(module) => module.expected(),
            Place::Container(_) => Expected::Long,
        };
        let agent = &*placed.agent;
        let is_kept = agent.manifest.listed().instances == Instances::Reuse;
        if is_kept || request.receipt || agent.places.is_some() {
            return None;
        }
        match expected {
            Expected::Short => self.guests.short_turn(),
            Expected::Brief => self.guests.turn().await,
            Expected::Long => None,
        }
    }

    /// Executes what has begun on this thread, if it has the right to and that is over in a moment.
    ///
    /// # Errors
    /// What is to be executed elsewhere.
    fn finish_now(
        &self,
        caller: &Caller,
        placed: Placed,
        running: Running,
        request: ExecuteRequest,
        turn: Option<Turn<'_>>,
    ) -> Result<Executed, Box<Unfinished>> {
        let (execution_id, version) = (running.id(), Some(placed.agent.stored.version.clone()));
        let runtime = Some(placed.runtime);
        let outcome = match self.ready(caller, &placed, execution_id, request) {
            Err(error) => Outcome::failed(error),
            Ok(ready) => {
                let Some(outcome) = turn.and_then(|turn| self.run_now(turn, &placed, &ready)) else {
                    return Err(Box::new(Unfinished { placed, running, ready }));
                };
                if !outcome.logs.is_empty()
                    && let Some(events) = running.events()
                {
                    events.write_logs(&outcome.logs);
                }
                let ending = self.ending(&ready.grant, &outcome);
                ready.grant.record_end(ending);
                outcome
            }
        };
        let outcome = self.ended(&placed, running, execution_id, outcome);
        Ok(Executed { execution_id, version, runtime, outcome, receipt: None })
    }

    /// Executes what has begun where there is a thread for it, however long that takes.
    async fn finish(self: &Arc<Self>, caller: &Caller, unfinished: Unfinished) -> Executed {
        let Unfinished { placed, running, ready } = unfinished;
        let (execution_id, version) = (running.id(), Some(placed.agent.stored.version.clone()));
        let (runtime, cancel) = (Some(placed.runtime), running.token());
        // From here on whoever asked can go away.
        let _cancelled_when_dropped = cancel.clone().drop_guard();
        let (this, caller) = (Arc::clone(self), caller.clone());
        let is_elsewhere = matches!(placed.place(), Place::Container(_));
        // What is large is in a box, and what is rare in one of its own: a future is copied each time that it is handed on.
        let execution = Box::pin(async move {
            let Ready { grant, input, receipt } = ready;
            let events = running.events();
            let invocation = Invocation { execution_id, input, caller: caller.clone(), events, cancel };
            let (outcome, receipt) = match this.run(&placed, grant, invocation, receipt).await {
                Ok(ended) => ended,
                Err(error) => (Outcome::failed(error), None),
            };
            let outcome = this.ended(&placed, running, execution_id, outcome);
            // Its place is free already: the receipt waits for the audit log alone.
            let receipt = match receipt {
                Some(pending) => Some(Box::pin(this.receive(&caller, execution_id, pending)).await),
                None => None,
            };
            (outcome, receipt)
        });
        let ended = if is_elsewhere {
            self.guests.accompany(execution).await
        } else {
            self.guests.run(execution).await
        };
        let (outcome, receipt) = ended.unwrap_or_else(|error| (Outcome::failed(error), None));
        Executed { execution_id, version, runtime, outcome, receipt }
    }

    /// Notes that an execution has ended.
    fn ended(
        &self,
        placed: &Placed,
        running: Running,
        execution_id: ExecutionId,
        outcome: Outcome,
    ) -> Outcome {
        running.end(&outcome);
        let agent_id = &placed.agent.stored.id;
        match placed.place() {
            Place::Wasm(_) => self.metrics.executed(agent_id, &outcome),
            Place::Container(_) => self.metrics.container_executed(agent_id, &outcome),
        }
        if let Err(error @ Error::Internal { .. }) = &outcome.result {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%execution_id, %agent_id, %error, cause, "execution failed");
        }
        outcome
    }

    /// Waits for a receipt, and keeps it for those who ask for it later.
    async fn receive(
        &self,
        caller: &Caller,
        execution_id: ExecutionId,
        pending: PendingReceipt,
    ) -> Result<Bytes, String> {
        match pending.ready().await {
            Ok(receipt) => {
                let receipt = Bytes::from(receipt);
                self.executions.keep_receipt(caller, execution_id, receipt.clone());
                Ok(receipt)
            }
            Err(error) => {
                tracing::warn!(%execution_id, %error, "no receipt could be made");
                Err(error.to_string())
            }
        }
    }

    fn begin(
        &self,
        caller: &Caller,
        execution_id: ExecutionId,
        placed: &Placed,
        request: &ExecuteRequest,
    ) -> Result<Running, Error> {
        // An id of the caller's own can be one that a stream has; one that is made here cannot.
        if request.execution_id.is_some() && self.published.get(caller, execution_id).is_ok() {
            let message = format!("execution_id `{execution_id}` is the id of a stream; take another");
            return Err(Error::InvalidRequest { message });
        }
        let record = ExecutionRecord {
            execution_id,
            agent_id: placed.agent.stored.id.clone(),
            version: placed.agent.stored.version.clone(),
            runtime: placed.runtime,
            caller: caller.clone(),
            started: SystemTime::now(),
            status: ExecutionStatus::Running,
            receipt: None,
            end_sequence: 0,
        };
        self.executions.begin(record, request.events.clone())
    }

    /// Decides on an execution.
    ///
    /// # Errors
    /// What keeps it from being executed.
    fn ready(
        &self,
        caller: &Caller,
        placed: &Placed,
        execution_id: ExecutionId,
        request: ExecuteRequest,
    ) -> Result<Ready, Error> {
        let agent = &*placed.agent;
        let limit = self.authority.rules().max_input;
        if request.input.len() as u64 > limit.0 {
            return Err(Error::InvalidRequest {
                message: format!("the input has {} bytes, the limit is {limit}", request.input.len()),
            });
        }
        let narrowing = narrowing(agent, request.manifest.as_deref(), request.narrowing)?;
        let standing = self.registry.signatures().standing(&agent.stored);
        if let Some(refusal) = standing.refusal() {
            return Err(refusal.of(&agent.stored.id, &agent.stored.version));
        }
        let applicant = Applicant {
            manifest: &agent.manifest,
            module: placed.digest(),
            runtime: placed.runtime,
            in_place_of: placed.in_place_of()?,
            trust: standing.trust(),
            signer: standing.name(),
            caller,
            execution: execution_id,
            narrowing: &narrowing,
            last: placed.last_case(),
        };
        let grant = self.authority.decide(&applicant)?;
        // Once more when it begins; those that are refused here leave no records, of which there is no end.
        grant.ensure_audited()?;
        let input = request.input;
        let receipt = if request.receipt {
            Some((grant.ask_for_receipt()?, input.clone(), SystemTime::now()))
        } else {
            None
        };
        Ok(Ready { grant, input, receipt })
    }

    /// Executes on this thread, if that is over in a moment.
    fn run_now(&self, turn: Turn<'_>, placed: &Placed, ready: &Ready) -> Option<Outcome> {
        let Place::Wasm(module) = placed.place() else { return None };
        let (Ready { grant, input, .. }, expected) = (ready, turn.expected());
        turn.take(|| self.runtime.execute_now(module, grant, input, expected))
    }

    /// What came of an execution, and its receipt to be, where one was asked for.
    ///
    /// # Errors
    /// What kept it from being executed.
    async fn run(
        &self,
        placed: &Placed,
        grant: Grant,
        invocation: Invocation,
        receipt: Option<AskedReceipt>,
    ) -> Result<(Outcome, Option<PendingReceipt>), Error> {
        let _place = match &placed.agent.places {
            Some(places) => {
                let admitted = async {
                    tokio::select! {
                        admitted = places.admit(1) => admitted,
                        () = invocation.cancel.cancelled() => Err(Error::Cancelled),
                    }
                };
                Some(Box::pin(admitted).await?)
            }
            None => None,
        };
        let outcome = match placed.place() {
            Place::Wasm(module) => self.runtime.execute(module, &grant, invocation).await,
            Place::Container(container) => {
                Box::pin(self.containers.execute(container, &grant, invocation)).await
            }
        };
        let ending = self.ending(&grant, &outcome);
        let Some((request, input, started)) = receipt else {
            grant.record_end(ending);
            return Ok((outcome, None));
        };
        let output = outcome.result.as_ref().ok().map(|answer| answer.output.clone());
        let manifest = placed.agent.stored.manifest.clone();
        let recorded = record_for_receipt(request, ending.clone(), manifest, input, output, started);
        let receipt = Box::pin(recorded).await;
        if receipt.is_none() {
            grant.record_end(ending);
        }
        Ok((outcome, receipt))
    }

    /// How an execution ended, for the audit log; what it was given is counted.
    fn ending(&self, grant: &Grant, outcome: &Outcome) -> Ending {
        let decisions = grant.decisions();
        self.metrics.decided(&decisions);
        ending(outcome, &decisions)
    }
}

impl Executed {
    /// An execution that never began.
    fn refused(execution_id: ExecutionId, placed: Option<&Placed>, error: Error) -> Self {
        let version = placed.map(|placed| placed.agent.stored.version.clone());
        let runtime = placed.map(|placed| placed.runtime);
        Self { execution_id, version, runtime, outcome: Outcome::failed(error), receipt: None }
    }
}
