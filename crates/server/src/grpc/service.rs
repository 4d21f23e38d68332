//! The gRPC door: decodes a call, asks the core, encodes the answer.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use mentat_manifest::{AgentId, AgentVersion};
use mentat_proto::v1;
use mentat_proto::v1::wasm_runtime_server::WasmRuntime;
use mentat_runtime::error::Error;
use mentat_runtime::model::{Caller, ExecutionId};
use tonic::{Code, Request, Response, Status, Streaming};

use super::authentication::{caller, charge};
use super::deadline;
use super::events::{self, Told};
use super::messages;
use super::refusals;
use super::status::{execution_status, status};
use super::told;
use crate::dispatch::{ExecuteRequest, Executed, ExecutionTrail, LoadRequest, PullRequest};
use crate::door::DoorState;
use crate::registry::OnConflict;
use crate::transport::Charge;

/// The service behind the gRPC door.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    state: DoorState,
}

type EventStream = Pin<Box<dyn Stream<Item = Result<v1::ExecuteAgentEvent, Status>> + Send>>;

impl Service {
    pub(crate) fn new(state: DoorState) -> Self {
        Self { state }
    }

    async fn load(&self, caller: &Caller, request: LoadRequest) -> Result<v1::LoadAgentResponse, Status> {
        let loaded = self.state.dispatcher.load(caller, request).await;
        loaded.map(|agent| messages::load_response(&agent)).map_err(|error| status(&error))
    }

    async fn start(
        &self,
        caller: &Caller,
        request: ExecuteRequest,
        charge: Option<Arc<Charge>>,
    ) -> Result<v1::ExecuteAgentResponse, Status> {
        let started = self.state.dispatcher.start(caller, request, charge).await;
        let (execution_id, version) = started.map_err(|error| status(&error))?;
        Ok(messages::started_response(execution_id, &version))
    }
}

#[tonic::async_trait]
impl WasmRuntime for Service {
    type ExecuteAgentStreamStream = EventStream;
    type StreamEventsStream = EventStream;

    async fn load_agent(
        &self,
        request: Request<v1::LoadAgentRequest>,
    ) -> Result<Response<v1::LoadAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        if !request.reference.is_empty() {
            let request = pull_request(request).map_err(|error| status(&error))?;
            let loaded = self.state.dispatcher.load_from(&caller, request).await;
            let loaded = loaded.map_err(|error| status(&error))?;
            return Ok(Response::new(messages::load_response(&loaded)));
        }
        let header = v1::LoadAgentHeader {
            agent_id: request.agent_id,
            manifest: request.manifest,
            replace: request.replace,
            total_bytes: 0,
            attestation: request.attestation,
        };
        let request = load_request(header, request.wasm_bytes).map_err(|error| status(&error))?;
        self.load(&caller, request).await.map(Response::new)
    }

    async fn load_agent_stream(
        &self,
        request: Request<Streaming<v1::LoadAgentStreamRequest>>,
    ) -> Result<Response<v1::LoadAgentResponse>, Status> {
        let caller = caller(&request)?;
        let mut parts = request.into_inner();
        let (header, module) = receive_module(&mut parts, self.state.max_module.0).await?;
        let request = load_request(header, module).map_err(|error| status(&error))?;
        self.load(&caller, request).await.map(Response::new)
    }

    async fn execute_agent(
        &self,
        request: Request<v1::ExecuteAgentRequest>,
    ) -> Result<Response<v1::ExecuteAgentResponse>, Status> {
        let caller = caller(&request)?;
        let (charge, deadline) = (charge(&request), deadline::of(request.metadata()));
        let request = request.into_inner();
        let (include_logs, detach) = (request.include_logs, request.detach);
        let mut request = messages::execute_request(request).map_err(|error| status(&error))?;
        if detach {
            return self.start(&caller, request, charge).await.map(Response::new);
        }
        deadline::narrow(&mut request.narrowing.limits, deadline);
        // Awaited here and not on a task: a client that goes away takes its execution with it.
        let executed = self.state.dispatcher.execute(&caller, request).await;
        count(charge.as_deref(), &executed);
        response(executed, include_logs).map(Response::new)
    }

    async fn execute_agent_stream(
        &self,
        request: Request<v1::ExecuteAgentRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let caller = caller(&request)?;
        let (charge, deadline) = (charge(&request), deadline::of(request.metadata()));
        let mut request = messages::execute_request(request.into_inner()).map_err(|error| status(&error))?;
        deadline::narrow(&mut request.narrowing.limits, deadline);
        let dispatcher = Arc::clone(&self.state.dispatcher);
        let events = dispatcher.events(&caller, &request.agent_id);
        let reader = events.read_from(0);
        let execution_id = *request.execution_id.get_or_insert_default();
        request.events = Some(events);
        let execution = async move {
            let executed = dispatcher.execute(&caller, request).await;
            count(charge.as_deref(), &executed);
            executed
        };
        let events = events::tell(&self.state.tasks, reader, execution).map(move |told| match told {
            Told::Delivery(delivery) => told::delivered(delivery, execution_id, 0),
            Told::End(ended, event) => {
                let executed = ended.map_err(|error| status(&error))?;
                let response = v1::execute_agent_event::Event::Response(response(*executed, false)?);
                Ok(told::numbered(response, event.as_ref()))
            }
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let execution_id = stream_id(&request.stream_id).map_err(|error| status(&error))?;
        let reader = self.state.dispatcher.follow(&caller, execution_id, request.from_sequence);
        let reader = reader.map_err(|error| status(&error))?;
        let closing = self.state.closing.clone();
        let events = stream::unfold(Some((reader, closing)), move |following| async move {
            let (mut reader, closing) = following?;
            let Some(delivery) = closing.run_until_cancelled(reader.next()).await else {
                return Some((
                    Err(Status::unavailable("the server is closing; come back with the next number")),
                    None,
                ));
            };
            let delivery = delivery?;
            let total_chunks = reader.buffer().total_chunks();
            let told = told::delivered(delivery, execution_id, total_chunks);
            Some((told, Some((reader, closing))))
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn is_loaded(
        &self,
        request: Request<v1::IsLoadedRequest>,
    ) -> Result<Response<v1::IsLoadedResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let (id, version) = named(&request.agent_id, &request.version)?;
        let loaded = self.state.dispatcher.is_loaded(&caller, &id, version.as_ref());
        Ok(Response::new(v1::IsLoadedResponse { loaded: loaded.map_err(|error| status(&error))? }))
    }

    async fn get_agent(&self, request: Request<v1::GetAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let (id, version) = named(&request.agent_id, &request.version)?;
        let found = self.state.dispatcher.get_agent(&caller, &id, version.as_ref()).await;
        let (agent, active) = found.map_err(|error| status(&error))?;
        Ok(Response::new(messages::agent(&agent, active)))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = usize::try_from(request.page_size).unwrap_or(usize::MAX);
        let page = self.state.dispatcher.list_agents(&caller, size, &request.page_token).await;
        let page = page.map_err(|error| status(&error))?;
        let agents =
            page.agents.iter().map(|(agent, active)| messages::listed_agent(agent, *active)).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents, next_page_token: page.next }))
    }

    async fn unload_agent(
        &self,
        request: Request<v1::UnloadAgentRequest>,
    ) -> Result<Response<v1::UnloadAgentResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let (id, version) = named(&request.agent_id, &request.version)?;
        let removed = self.state.dispatcher.unload(&caller, &id, version.as_ref()).await;
        let removed = removed.map_err(|error| status(&error))?;
        let versions = removed.iter().map(|agent| agent.version.to_string()).collect();
        Ok(Response::new(v1::UnloadAgentResponse { versions }))
    }

    async fn activate_version(
        &self,
        request: Request<v1::ActivateVersionRequest>,
    ) -> Result<Response<v1::ActivateVersionResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let (id, version) = named(&request.agent_id, &request.version)?;
        let Some(version) = version else {
            return Err(status(&Error::InvalidRequest {
                message: "say which `version` is to be active".into(),
            }));
        };
        let activated = self.state.dispatcher.activate(&caller, &id, &version).await;
        let agent = activated.map_err(|error| status(&error))?;
        Ok(Response::new(v1::ActivateVersionResponse { agent: Some(messages::listed_agent(&agent, true)) }))
    }

    async fn cancel_execution(
        &self,
        request: Request<v1::CancelExecutionRequest>,
    ) -> Result<Response<v1::Execution>, Status> {
        let caller = caller(&request)?;
        let id = execution_id(&request.into_inner().execution_id)?;
        let record = self.state.dispatcher.cancel(&caller, id).map_err(|error| status(&error))?;
        Ok(Response::new(messages::execution(record)))
    }

    async fn get_execution(
        &self,
        request: Request<v1::GetExecutionRequest>,
    ) -> Result<Response<v1::Execution>, Status> {
        let caller = caller(&request)?;
        let id = execution_id(&request.into_inner().execution_id)?;
        let record = self.state.dispatcher.get_execution(&caller, id).map_err(|error| status(&error))?;
        Ok(Response::new(messages::execution(record)))
    }

    async fn list_executions(
        &self,
        request: Request<v1::ListExecutionsRequest>,
    ) -> Result<Response<v1::ListExecutionsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let state = messages::state(request.state).map_err(|error| status(&error))?;
        let size = usize::try_from(request.page_size).unwrap_or(usize::MAX);
        let page = self.state.dispatcher.list_executions(&caller, state, size, &request.page_token);
        let page = page.map_err(|error| status(&error))?;
        let executions = page.executions.into_iter().map(messages::execution).collect();
        Ok(Response::new(v1::ListExecutionsResponse { executions, next_page_token: page.next }))
    }

    async fn get_execution_audit(
        &self,
        request: Request<v1::GetExecutionAuditRequest>,
    ) -> Result<Response<v1::GetExecutionAuditResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let id = execution_id(&request.execution_id)?;
        let trail = self.state.dispatcher.trail(&caller, id, &request.page_token).await;
        let ExecutionTrail { records, next } = trail.map_err(|error| status(&error))?;
        Ok(Response::new(v1::GetExecutionAuditResponse { records, next_page_token: next }))
    }
}

fn load_request(header: v1::LoadAgentHeader, module: Bytes) -> Result<LoadRequest, Error> {
    Ok(LoadRequest {
        agent_id: expected_id(&header.agent_id)?,
        manifest: header.manifest,
        module,
        attestation: given(header.attestation),
        on_conflict: on_conflict(header.replace),
    })
}

fn pull_request(request: v1::LoadAgentRequest) -> Result<PullRequest, Error> {
    let v1::LoadAgentRequest { agent_id, wasm_bytes, manifest, replace, reference, attestation } = request;
    if !wasm_bytes.is_empty() || !manifest.is_empty() {
        let message = "give a `reference`, or `wasm_bytes` and a `manifest`, not both".into();
        return Err(Error::InvalidRequest { message });
    }
    let (agent_id, attestation) = (expected_id(&agent_id)?, given(attestation));
    Ok(PullRequest { agent_id, reference, attestation, on_conflict: on_conflict(replace) })
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn expected_id(text: &str) -> Result<Option<AgentId>, Error> {
    (!text.is_empty()).then(|| messages::agent_id(text)).transpose()
}

fn on_conflict(replace: bool) -> OnConflict {
    if replace { OnConflict::Replace } else { OnConflict::Refuse }
}

/// Reads a streamed module; one that is over the limit is refused by its header, before it is read.
async fn receive_module(
    parts: &mut Streaming<v1::LoadAgentStreamRequest>,
    limit: u64,
) -> Result<(v1::LoadAgentHeader, Bytes), Status> {
    use v1::load_agent_stream_request::Part;
    let wrong = |message: String| status(&Error::InvalidRequest { message });
    let mut next = async || match parts.message().await {
        Err(refused) if refused.code() == Code::OutOfRange => Err(refusals::over_limit(&refused)),
        message => message,
    };
    let Some(Part::Header(header)) = next().await?.and_then(|message| message.part) else {
        return Err(wrong("the first message of a streamed load must be its `header`".into()));
    };
    if header.total_bytes > limit {
        return Err(wrong(format!("the module has {} bytes, the limit is {limit}", header.total_bytes)));
    }
    let mut module = BytesMut::new();
    while let Some(message) = next().await? {
        let Some(Part::Chunk(chunk)) = message.part else {
            return Err(wrong("every message after the first must be a `chunk`".into()));
        };
        if module.len() as u64 + chunk.len() as u64 > header.total_bytes {
            return Err(wrong(format!(
                "more bytes came than the header's `total_bytes`, {}",
                header.total_bytes
            )));
        }
        module.extend_from_slice(&chunk);
    }
    if module.len() as u64 != header.total_bytes {
        return Err(wrong(format!("{} bytes came, the header said {}", module.len(), header.total_bytes)));
    }
    Ok((header, module.freeze()))
}

/// Counts an output from when it is there, and not from when the client begins to take it.
fn count(charge: Option<&Charge>, executed: &Executed) {
    if let (Some(charge), Ok(answer)) = (charge, &executed.outcome.result) {
        let receipt = executed.receipt.as_ref().and_then(|receipt| receipt.as_ref().ok());
        charge.add(answer.output.len() + receipt.map_or(0, Bytes::len));
    }
}

fn response(executed: Executed, include_logs: bool) -> Result<v1::ExecuteAgentResponse, Status> {
    let Executed { execution_id, version, runtime, outcome, receipt } = executed;
    let (answer, usage, mut logs, logs_dropped) =
        messages::split(outcome).map_err(|error| execution_status(&error, execution_id))?;
    if !include_logs {
        logs.clear();
    }
    Ok(messages::execute_response(
        execution_id,
        (version, runtime),
        answer,
        &usage,
        logs,
        logs_dropped,
        receipt,
    ))
}

fn named(agent_id: &str, version: &str) -> Result<(AgentId, Option<AgentVersion>), Status> {
    let id = messages::agent_id(agent_id).map_err(|error| status(&error))?;
    let version = messages::version(version).map_err(|error| status(&error))?;
    Ok((id, version))
}

/// Streams are known by the executions that write them.
fn stream_id(text: &str) -> Result<ExecutionId, Error> {
    text.parse().map_err(|_| Error::InvalidRequest {
        message: "stream_id is not a UUID of version 7; it is the id of the execution".into(),
    })
}

fn execution_id(text: &str) -> Result<ExecutionId, Status> {
    text.parse().map_err(|error: Error| status(&error))
}
