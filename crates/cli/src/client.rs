//! The client's side of the wire: connects to a server, speaks its calls, and turns its answers and
//! errors into the command line's own. Nothing else here knows gRPC.

mod connection;
pub(crate) mod signature;
mod told;

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::AgentVersion;
use mentat_proto::v1::load_agent_stream_request::Part;
use mentat_proto::v1::wasm_runtime_client::WasmRuntimeClient;
use mentat_proto::v1::{
    ActivateVersionRequest, Agent, CapabilityList, CodeOrigin, ExecuteAgentEvent, ExecuteAgentRequest,
    ExecuteAgentResponse, GetExecutionRequest, ListAgentsRequest, LoadAgentHeader, LoadAgentRequest,
    LoadAgentResponse, LoadAgentStreamRequest, SandboxConfig, StreamEventsRequest, UnloadAgentRequest,
};
use mentat_runtime::error::Reason;
use mentat_runtime::events::Delivery;
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::Narrowing;
use serde::Serialize;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use self::connection::{Connection, Credential};
use self::signature::SignatureReport;
use self::told::Told;
use crate::args::ServerArguments;
use crate::output::Failure;
use crate::progress;
use crate::report::UsageReport;
use crate::source::ManifestFile;
use crate::values::AgentReference;

/// Bytes of one answer at most: the largest output that the default ceiling allows, and its log.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// Modules over this size are sent in pieces.
const STREAMED_ABOVE_BYTES: usize = 2 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// Agents asked for at a time.
const PAGE_SIZE: u32 = 1000;
/// Whose reason codes we know, in `google.rpc.ErrorInfo`.
const ERROR_DOMAIN: &str = "mentat.runtime";

/// A connection to a server.
pub(crate) struct Client {
    calls: WasmRuntimeClient<InterceptedService<Channel, Credential>>,
    address: String,
}

/// A loaded agent, as the server tells it.
#[derive(Debug, Serialize)]
pub(crate) struct LoadedReport {
    pub(crate) agent: String,
    pub(crate) version: String,
    pub(crate) module: String,
    pub(crate) capabilities: Vec<String>,
    /// `memory`, `disk`, `compiled`, or `unknown`.
    pub(crate) code_origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compile_us: Option<u64>,
    /// Of an agent that has a module as well, where it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    pub(crate) signature: SignatureReport,
}

/// A version of an agent, as a list tells it.
#[derive(Debug, Serialize)]
pub(crate) struct AgentReport {
    pub(crate) agent: String,
    pub(crate) version: String,
    pub(crate) active: bool,
    pub(crate) module: String,
    /// Of an agent that has a module as well, where it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// Since 1970, in milliseconds.
    pub(crate) loaded_at_ms: u64,
    pub(crate) signature: SignatureReport,
}

/// An execution that ended by itself.
#[derive(Debug)]
pub(crate) struct ExecutedReport {
    pub(crate) output: Bytes,
    pub(crate) exit_code: i32,
    pub(crate) version: String,
    /// What executed it; empty where the server does not tell.
    pub(crate) runtime: String,
    pub(crate) usage: UsageReport,
    pub(crate) logs_dropped: u64,
    /// The receipt, where one was asked for; or why there is none.
    pub(crate) receipt: Result<Bytes, String>,
}

/// What is asked of an execution besides its input.
#[derive(Debug)]
pub(crate) struct ExecutionWish {
    pub(crate) execution_id: ExecutionId,
    pub(crate) narrowing: Narrowing,
    /// Whether a receipt is made.
    pub(crate) receipt: bool,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// `UNAVAILABLE` when no server answers; `INVALID_REQUEST` for an address that is none, or a key or
    /// certificate that cannot be read.
    pub(crate) async fn connect(arguments: &ServerArguments) -> Result<Self, Failure> {
        let Connection { channel, credential, address } = connection::open(arguments).await?;
        let calls = WasmRuntimeClient::with_interceptor(channel, credential)
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self { calls, address })
    }

    /// Loads an agent and makes it the active version.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn load(
        &mut self,
        manifest: &ManifestFile,
        module: Bytes,
        attestation: String,
        replace: bool,
    ) -> Result<LoadedReport, Failure> {
        let agent_id = manifest.manifest.id.to_string();
        let manifest = manifest.text.clone();
        let answer = if module.len() <= STREAMED_ABOVE_BYTES {
            let request = LoadAgentRequest {
                agent_id,
                wasm_bytes: module,
                manifest,
                replace,
                attestation,
                ..LoadAgentRequest::default()
            };
            self.calls.load_agent(request).await
        } else {
            let total_bytes = module.len() as u64;
            let header = LoadAgentHeader { agent_id, manifest, replace, total_bytes, attestation };
            self.calls.load_agent_stream(upload(header, module)).await
        };
        match answer {
            Ok(answer) => Ok(answer.into_inner().into()),
            Err(status) => Err(self.failure(&status)),
        }
    }

    /// Has the server load an agent out of a registry.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn load_from(
        &mut self,
        reference: String,
        attestation: String,
        replace: bool,
    ) -> Result<LoadedReport, Failure> {
        let request = LoadAgentRequest { reference, attestation, replace, ..LoadAgentRequest::default() };
        let answer = self.calls.load_agent(request).await;
        answer.map(|answer| answer.into_inner().into()).map_err(|status| self.failure(&status))
    }

    /// Executes an agent; `on_told` gets its events as they come, and says whether it wants more: where not, the execution
    /// is ended.
    ///
    /// # Errors
    /// The server's, and those of the execution.
    pub(crate) async fn execute(
        &mut self,
        agent: &AgentReference,
        input: Bytes,
        wish: &ExecutionWish,
        on_told: impl FnMut(&Delivery) -> bool,
    ) -> Result<ExecutedReport, Failure> {
        let request = ExecuteAgentRequest {
            agent_id: agent.id.to_string(),
            version: version_or_empty(agent.version.as_ref()),
            input,
            sandbox_config: Some(sandbox(&wish.narrowing)),
            execution_id: wish.execution_id.to_string(),
            receipt: wish.receipt,
            ..ExecuteAgentRequest::default()
        };
        let answer = self.calls.execute_agent_stream(request).await;
        let events = answer.map_err(|status| self.failure(&status))?.into_inner();
        self.receive(events, on_told).await?.ok_or_else(|| {
            Failure::unavailable(format!("the server at `{}` ended the call without an answer", self.address))
        })
    }

    /// Follows an execution from the event of that number on; `on_told` gets its events as they come, and says whether it
    /// wants more. `None` where there was no more to be told.
    ///
    /// # Errors
    /// The server's, and those of the execution.
    pub(crate) async fn follow(
        &mut self,
        execution_id: &ExecutionId,
        from_sequence: u64,
        on_told: impl FnMut(&Delivery) -> bool,
    ) -> Result<Option<ExecutedReport>, Failure> {
        let request = StreamEventsRequest { stream_id: execution_id.to_string(), from_sequence };
        let answer = self.calls.stream_events(request).await;
        let events = answer.map_err(|status| self.failure(&status))?.into_inner();
        self.receive(events, on_told).await
    }

    async fn receive(
        &self,
        mut events: Streaming<ExecuteAgentEvent>,
        mut on_told: impl FnMut(&Delivery) -> bool,
    ) -> Result<Option<ExecutedReport>, Failure> {
        let mut response = None;
        while let Some(event) = events.message().await.map_err(|status| self.failure(&status))? {
            match told::told(event) {
                Some(Told::Delivery(delivery)) if !on_told(&delivery) => return Ok(None),
                Some(Told::Response(end)) => response = Some(*end),
                Some(Told::Delivery(_)) | None => {}
            }
        }
        Ok(response.map(Into::into))
    }

    /// The receipt of an execution that has ended, where the server has kept one.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn receipt(&mut self, execution_id: ExecutionId) -> Result<Option<Bytes>, Failure> {
        let request = GetExecutionRequest { execution_id: execution_id.to_string() };
        let answer = self.calls.get_execution(request).await;
        let receipt = answer.map_err(|status| self.failure(&status))?.into_inner().receipt;
        Ok(Some(receipt).filter(|receipt| !receipt.is_empty()))
    }

    /// All agents of the caller, all versions.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn list(&mut self) -> Result<Vec<AgentReport>, Failure> {
        let mut agents = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListAgentsRequest { page_size: PAGE_SIZE, page_token: page_token.clone() };
            let answer = self.calls.list_agents(request).await;
            let page = answer.map_err(|status| self.failure(&status))?.into_inner();
            agents.extend(page.agents.into_iter().map(AgentReport::from));
            // A token that stands still would make a list without end.
            if page.next_page_token.is_empty() || page.next_page_token == page_token {
                return Ok(agents);
            }
            page_token = page.next_page_token;
        }
    }

    /// Removes an agent or one version of it; answers the versions that were removed.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn unload(&mut self, agent: &AgentReference) -> Result<Vec<String>, Failure> {
        let request = UnloadAgentRequest {
            agent_id: agent.id.to_string(),
            version: version_or_empty(agent.version.as_ref()),
        };
        let answer = self.calls.unload_agent(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner().versions)
    }

    /// Makes a loaded version the active one.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn activate(
        &mut self,
        agent_id: String,
        version: &AgentVersion,
    ) -> Result<AgentReport, Failure> {
        let request = ActivateVersionRequest { agent_id, version: version.to_string() };
        let answer = self.calls.activate_version(request).await;
        let agent = answer.map_err(|status| self.failure(&status))?.into_inner().agent;
        Ok(agent.unwrap_or_default().into())
    }

    fn failure(&self, status: &Status) -> Failure {
        failure(status, &self.address)
    }
}

/// The header, then the module in pieces, with a bar that fills as they are taken.
fn upload(
    header: LoadAgentHeader,
    mut module: Bytes,
) -> impl tokio_stream::Stream<Item = LoadAgentStreamRequest> + Send + 'static {
    let bar = progress::upload_bar(module.len() as u64);
    let pieces = std::iter::from_fn(move || {
        if module.is_empty() {
            bar.finish_and_clear();
            return None;
        }
        let piece = module.split_to(PIECE_BYTES.min(module.len()));
        bar.inc(piece.len() as u64);
        Some(Part::Chunk(piece))
    });
    let parts = std::iter::once(Part::Header(header)).chain(pieces);
    tokio_stream::iter(parts.map(|part| LoadAgentStreamRequest { part: Some(part) }))
}

/// What a server's error comes to here.
fn failure(status: &Status, address: &str) -> Failure {
    if let Some(info) = status.get_details_error_info()
        && info.domain == ERROR_DOMAIN
        && let Some(reason) = Reason::from_code(&info.reason)
    {
        let mut message = status.message().to_owned();
        if reason == Reason::Unauthenticated {
            message.push_str("; give the key by --api-key-file or MENTAT_API_KEY");
        }
        return Failure::answered(reason, message, info.metadata);
    }
    // A status with a cause was made on this side: the connection is gone, whatever its code says.
    if let Some(cause) = status.source() {
        return Failure::unavailable(format!("the connection to `{address}` broke: {}", innermost(cause)));
    }
    // From something between here and the service.
    let text = format!("the server at `{address}` answered {:?}: {}", status.code(), status.message());
    let reason = match status.code() {
        Code::Unavailable | Code::ResourceExhausted => return Failure::unavailable(text),
        Code::Unimplemented => {
            return Failure::invalid(format!(
                "the server at `{address}` does not know this call; it is no Mentat runtime, or an older one"
            ));
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::AlreadyExists => {
            Reason::InvalidRequest
        }
        Code::NotFound => Reason::AgentNotFound,
        Code::Unauthenticated => Reason::Unauthenticated,
        Code::PermissionDenied => Reason::PolicyDenied,
        Code::DeadlineExceeded => Reason::Timeout,
        Code::Cancelled => Reason::Cancelled,
        Code::Ok | Code::Unknown | Code::Aborted | Code::Internal | Code::DataLoss => Reason::Internal,
    };
    Failure::answered(reason, text, [])
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn version_or_empty(version: Option<&AgentVersion>) -> String {
    version.map(ToString::to_string).unwrap_or_default()
}

/// On the wire 0 takes nothing away; a limit of 0 is asked for as the least there is.
fn sandbox(narrowing: &Narrowing) -> SandboxConfig {
    let limits = &narrowing.limits;
    let milliseconds = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    SandboxConfig {
        memory_bytes: limits.memory_bytes.map_or(0, |memory| memory.0.max(1)),
        fuel: limits.fuel.map_or(0, |fuel| fuel.0.max(1)),
        timeout_ms: limits.timeout.map_or(0, |timeout| milliseconds(timeout).max(1)),
        output_bytes: limits.output_bytes.map_or(0, |output| output.0.max(1)),
        capabilities: narrowing
            .capabilities
            .as_ref()
            .map(|left| CapabilityList { allow: left.iter().map(ToString::to_string).collect() }),
    }
}

fn milliseconds_since_epoch(seconds: i64, nanoseconds: i32) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    let milliseconds = u64::try_from(nanoseconds / 1_000_000).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(milliseconds)
}

impl From<LoadAgentResponse> for LoadedReport {
    fn from(response: LoadAgentResponse) -> Self {
        let code_origin = match response.code_origin() {
            CodeOrigin::Memory => "memory",
            CodeOrigin::Disk => "disk",
            CodeOrigin::Compiled => "compiled",
            CodeOrigin::Image => "image",
            CodeOrigin::Unspecified => "unknown",
        };
        Self {
            agent: response.agent_id,
            version: response.version,
            module: response.module_hash,
            capabilities: response.capabilities_required,
            code_origin,
            compile_us: Some(response.compile_us).filter(|took| *took > 0),
            image: Some(response.image_hash).filter(|image| !image.is_empty()),
            signature: response.signature.unwrap_or_default().into(),
        }
    }
}

impl From<Agent> for AgentReport {
    fn from(agent: Agent) -> Self {
        let loaded_at = agent.loaded_at.unwrap_or_default();
        Self {
            agent: agent.agent_id,
            version: agent.version,
            active: agent.active,
            module: agent.module_hash,
            image: Some(agent.image_hash).filter(|image| !image.is_empty()),
            loaded_at_ms: milliseconds_since_epoch(loaded_at.seconds, loaded_at.nanos),
            signature: agent.signature.unwrap_or_default().into(),
        }
    }
}

impl From<ExecuteAgentResponse> for ExecutedReport {
    fn from(response: ExecuteAgentResponse) -> Self {
        let metrics = response.metrics.unwrap_or_default();
        Self {
            output: response.output,
            exit_code: response.exit_code,
            version: response.version,
            runtime: response.runtime,
            usage: UsageReport {
                fuel: metrics.fuel_consumed,
                peak_memory_bytes: metrics.peak_memory_bytes,
                queued_us: metrics.queued_us,
                instantiation_us: metrics.instantiation_us,
                execution_us: metrics.execution_us,
                compile_us: None,
            },
            logs_dropped: response.logs_dropped,
            receipt: match (response.receipt, response.receipt_problem) {
                (receipt, _) if !receipt.is_empty() => Ok(receipt),
                (_, problem) if !problem.is_empty() => Err(problem),
                _ => Err("the server made none; it is an older one".into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_servers_error_keeps_its_row_and_its_facts() {
        let metadata = [("limit_fuel".to_owned(), "100".to_owned())];
        let details = ErrorDetails::with_error_info("FUEL_EXHAUSTED", ERROR_DOMAIN, metadata);
        let status = Status::with_error_details(Code::ResourceExhausted, "used up", details);
        let body = serde_json::to_value(failure(&status, "x").body()).unwrap();
        let expected = serde_json::json!({
            "reason": "FUEL_EXHAUSTED", "message": "used up", "details": { "limit_fuel": "100" },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn an_error_from_elsewhere_is_not_taken_for_a_row() {
        let details = ErrorDetails::with_error_info("TRAP", "example.com", []);
        let status = Status::with_error_details(Code::Unavailable, "proxy down", details);
        let body = serde_json::to_value(failure(&status, "http://a:1").body()).unwrap();
        assert_eq!(body["reason"], "UNAVAILABLE");
        assert!(body["message"].as_str().unwrap().contains("http://a:1"));
    }

    #[test]
    fn a_connection_that_breaks_is_no_bug_of_the_server() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let body = serde_json::to_value(failure(&Status::from_error(broken.into()), "a").body()).unwrap();
        assert_eq!(body["reason"], "UNAVAILABLE");
    }

    #[test]
    fn an_upload_is_the_header_and_then_the_module_in_order() {
        let module: Vec<u8> = (0..PIECE_BYTES + 3).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let stream = upload(LoadAgentHeader::default(), Bytes::from(module.clone()));
        let parts = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(tokio_stream::StreamExt::collect::<Vec<_>>(stream));
        let mut parts = parts.into_iter().map(|request| request.part.unwrap());
        assert!(matches!(parts.next(), Some(Part::Header(_))));
        let pieces: Vec<Bytes> = parts
            .map(|part| match part {
                Part::Chunk(piece) => piece,
                Part::Header(_) => panic!("a second header"),
            })
            .collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces.concat(), module);
    }
}
