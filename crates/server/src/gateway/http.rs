//! The HTTP door's handlers: each decodes a request, asks the core, encodes the answer.

use std::error::Error as StdError;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use mentat_manifest::AgentId;
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;

use super::bodies::{
    ActivateBody, AgentBody, AgentsBody, ExecuteBody, ExecuteQuery, IsLoadedBody, Load, LoadBody, LoadedBody,
    PageQuery, RawBody, UnloadedBody, VersionQuery, agent_id, version,
};
use super::executed::{ExecutedBody, StartedBody};
use super::form::LoadForm;
use super::reply::{ErrorBody, Reply};
use super::requests::{Authenticated, Kind, kind, name, parse_json, query, read, unsupported};
use super::site::Guard;
use super::straight::HttpDoor;
use super::{console, executions, media, openapi, publishing, raw, sse, websocket};
use crate::dispatch::{ExecuteRequest, Narrowing};
use crate::door::DoorState;
use crate::telemetry::{Levels, StreamLevels};
use crate::transport::Charge;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that this door serves.
pub(crate) fn door(state: DoorState) -> Guard<HttpDoor> {
    Guard::new(state.names, HttpDoor::new(Arc::clone(&state), router(state)))
}

fn router(state: DoorState) -> Router {
    Router::new()
        .route("/v1/agents", get(list_agents).post(load_agent))
        .route("/v1/agents/{id}", get(get_agent).delete(unload_agent))
        .route("/v1/agents/{id}/loaded", get(is_loaded))
        .route("/v1/agents/{id}/execute", post(execute_agent))
        .route("/v1/agents/{id}/activate", post(activate_version))
        .route("/v1/executions", get(executions::list_executions))
        .route("/v1/executions/{id}", get(executions::get_execution))
        .route("/v1/executions/{id}/audit", get(executions::get_execution_audit))
        .route("/v1/executions/{id}/cancel", post(executions::cancel_execution))
        .route("/v1/media", post(media::store))
        .route("/v1/media/{*name}", get(media::fetch))
        .route("/api/v1/streams", get(publishing::list))
        .route("/api/v1/streams/init", post(publishing::init))
        .route("/api/v1/streams/{stream_id}", get(publishing::get).delete(publishing::end))
        .route("/api/v1/streams/{stream_id}/publish", post(publishing::publish))
        .route("/api/v1/streams/{stream_id}/sse", get(sse::follow))
        .route("/ws/streams/{stream_id}", any(websocket::follow))
        .merge(console::pages())
        .route("/openapi.json", get(openapi::document))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|request: Request| async move {
            Reply::transport(
                StatusCode::NOT_FOUND,
                format!("there is no `{}` here; /openapi.json lists what there is", path_of(&request)),
            )
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("`{}` is not offered at `{}`", request.method(), path_of(&request));
            Reply::transport(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .with_state(state)
}

fn path_of(request: &Request) -> String {
    mentat_manifest::escape_untrusted(request.uri().path(), 200)
}

/// Loads an agent and makes it the active version of its id.
#[utoipa::path(post, path = "/v1/agents", tag = "agents",
    request_body(content((LoadBody = "application/json"), (LoadForm = "multipart/form-data"))),
    responses((status = 200, body = LoadedBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn load_agent(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LoadedBody>, Reply> {
    let load = match kind(&headers) {
        Kind::Json => parse_json::<LoadBody>(&read(&state, &headers, body).await?)?.into_request()?,
        Kind::Form(said) => {
            Load::Given(LoadForm::parse(said, read(&state, &headers, body).await?).await?.into_request()?)
        }
        Kind::Other => return Err(unsupported("`application/json` or `multipart/form-data`")),
    };
    let agent = match load {
        Load::Given(request) => state.dispatcher.load(&caller, request).await?,
        Load::Pulled(request) => state.dispatcher.load_from(&caller, request).await?,
    };
    Ok(Json(LoadedBody::new(&agent)))
}

/// Executes an agent.
///
/// A JSON body is a request as described here. A body of any other content type is the input itself; the reply's
/// body is then the output itself, and headers carry `mentat-execution-id`, `mentat-version`, `mentat-exit-code`, `mentat-fuel`
/// and `mentat-peak-memory-bytes`.
#[utoipa::path(post, path = "/v1/agents/{id}/execute", tag = "agents",
    params(("id" = String, Path, description = "The agent"), ExecuteQuery),
    request_body(content((ExecuteBody = "application/json"), (RawBody = "application/octet-stream"))),
    responses((status = 200, content((ExecutedBody = "application/json"), (RawBody = "application/octet-stream"))), (status = 202, body = StartedBody), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn execute_agent(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Query<ExecuteQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Reply> {
    let (id, asked) = (agent_id(&name(id)?)?, query(asked)?);
    let (parts, body) = request.into_parts();
    let charge = parts.extensions.get().cloned();
    execute(&state, &caller, id, asked, &parts.headers, body, charge).await
}

/// Executes an agent, whichever way the request came here.
///
/// # Errors
/// What the client is told.
pub(super) async fn execute<B>(
    state: &DoorState,
    caller: &Caller,
    agent_id: AgentId,
    asked: ExecuteQuery,
    headers: &HeaderMap,
    body: B,
    charge: Option<Arc<Charge>>,
) -> Result<Response, Reply>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: StdError + 'static,
{
    let bytes = read(state, headers, body).await?;
    if kind(headers) == Kind::Json {
        // In a box of its own, as below: what is carried along for it is not for those who do not need it.
        return Box::pin(execute_described(state, caller, agent_id, asked, &bytes, charge)).await;
    }
    let request = ExecuteRequest {
        agent_id,
        version: version(asked.version.as_deref())?,
        input: bytes,
        execution_id: None,
        manifest: None,
        narrowing: Narrowing::default(),
        receipt: false,
        events: None,
    };
    if asked.detach {
        return Box::pin(start(state, caller, request, charge)).await;
    }
    raw::reply(state.dispatcher.execute(caller, request).await)
}

/// Executes an agent as a JSON body says.
async fn execute_described(
    state: &DoorState,
    caller: &Caller,
    agent_id: AgentId,
    asked: ExecuteQuery,
    bytes: &[u8],
    charge: Option<Arc<Charge>>,
) -> Result<Response, Reply> {
    let body: ExecuteBody = parse_json(bytes)?;
    let (include_logs, detach) = (body.include_logs, body.detach || asked.detach);
    let mut request = body.into_request(agent_id)?;
    if request.version.is_none() {
        request.version = version(asked.version.as_deref())?;
    }
    if detach {
        return start(state, caller, request, charge).await;
    }
    // Awaited here and not on a task: a client that goes away takes its execution with it.
    let executed = state.dispatcher.execute(caller, request).await;
    let execution_id = executed.execution_id;
    let body = ExecutedBody::new(executed, include_logs)
        .map_err(|error| Reply::of_execution(error, execution_id))?;
    Ok(Json(body).into_response())
}

async fn start(
    state: &DoorState,
    caller: &Caller,
    request: ExecuteRequest,
    charge: Option<Arc<Charge>>,
) -> Result<Response, Reply> {
    let (execution_id, version) = state.dispatcher.start(caller, request, charge).await?;
    Ok((StatusCode::ACCEPTED, Json(StartedBody::new(execution_id, &version))).into_response())
}

/// The caller's agents, all versions, in order of id and version.
#[utoipa::path(get, path = "/v1/agents", tag = "agents", params(PageQuery),
    responses((status = 200, body = AgentsBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_agents(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    asked: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<AgentsBody>, Reply> {
    let asked = query(asked)?;
    let token = asked.page_token.unwrap_or_default();
    let page = state.dispatcher.list_agents(&caller, asked.page_size.unwrap_or_default(), &token).await?;
    let agents = page.agents.iter().map(|(agent, active)| AgentBody::listed(agent, *active)).collect();
    let next_page_token = Some(page.next).filter(|token| !token.is_empty());
    Ok(Json(AgentsBody { agents, next_page_token }))
}

/// An agent: its active version, or the one asked for.
#[utoipa::path(get, path = "/v1/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent"), VersionQuery),
    responses((status = 200, body = AgentBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_agent(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Query<VersionQuery>, QueryRejection>,
) -> Result<Json<AgentBody>, Reply> {
    let (id, version) = (agent_id(&name(id)?)?, version(query(asked)?.version.as_deref())?);
    let (agent, active) = state.dispatcher.get_agent(&caller, &id, version.as_ref()).await?;
    Ok(Json(AgentBody::new(&agent, active)))
}

/// Whether an agent, or one version of it, can be executed.
#[utoipa::path(get, path = "/v1/agents/{id}/loaded", tag = "agents",
    params(("id" = String, Path, description = "The agent"), VersionQuery),
    responses((status = 200, body = IsLoadedBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn is_loaded(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Query<VersionQuery>, QueryRejection>,
) -> Result<Json<IsLoadedBody>, Reply> {
    let (id, version) = (agent_id(&name(id)?)?, version(query(asked)?.version.as_deref())?);
    Ok(Json(IsLoadedBody { loaded: state.dispatcher.is_loaded(&caller, &id, version.as_ref())? }))
}

/// Removes an agent, or one version of it. Executions that are running finish.
#[utoipa::path(delete, path = "/v1/agents/{id}", tag = "agents",
    params(("id" = String, Path, description = "The agent"), VersionQuery),
    responses((status = 200, body = UnloadedBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn unload_agent(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Query<VersionQuery>, QueryRejection>,
) -> Result<Json<UnloadedBody>, Reply> {
    let (id, version) = (agent_id(&name(id)?)?, version(query(asked)?.version.as_deref())?);
    let removed = state.dispatcher.unload(&caller, &id, version.as_ref()).await?;
    Ok(Json(UnloadedBody { versions: removed.iter().map(|agent| agent.version.to_string()).collect() }))
}

/// Makes a loaded version the active one: rolls back, or forward.
#[utoipa::path(post, path = "/v1/agents/{id}/activate", tag = "agents",
    params(("id" = String, Path, description = "The agent")), request_body = ActivateBody,
    responses((status = 200, body = AgentBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn activate_version(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AgentBody>, Reply> {
    let id = agent_id(&name(id)?)?;
    if kind(&headers) != Kind::Json {
        return Err(unsupported("`application/json`"));
    }
    let body: ActivateBody = parse_json(&read(&state, &headers, body).await?)?;
    let Some(version) = version(Some(&body.version))? else {
        return Err(Error::InvalidRequest { message: "say which `version` is to be active".into() }.into());
    };
    let agent = state.dispatcher.activate(&caller, &id, &version).await?;
    Ok(Json(AgentBody::listed(&agent, true)))
}

/// Answers as long as the process can; there is nothing that the service waits for before it is ready, since it
/// listens only when everything is built.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The same, and how each runtime stands. Without its container engine the service is ready for agents that are modules.
async fn readyz(State(state): State<DoorState>) -> String {
    let containers = state.dispatcher.containers();
    let stand = match (containers.places, containers.engine_up) {
        (0, _) => "none",
        (_, true) => "ready",
        (_, false) => "away",
    };
    format!("ok\nwasm ready\ncontainers {stand}\n")
}

/// Names agents, so it asks for a credential as they do.
async fn metrics(State(state): State<DoorState>, _: Authenticated) -> Result<Response, Reply> {
    let (active, places) = state.dispatcher.places();
    let (memory_used, memory_limit) = state.dispatcher.memory();
    let in_flight_bytes = state.traffic.bytes();
    let (memory_evictions, disk_evictions) = state.dispatcher.evictions();
    let levels = Levels {
        active,
        places,
        warm: state.dispatcher.warm_instances(),
        in_flight_bytes,
        streams: StreamLevels {
            sockets: state.max_sockets.saturating_sub(state.sockets.available_permits()),
            ..state.dispatcher.streams()
        },
        memory_used,
        memory_limit,
        memory_evictions,
        disk_evictions,
        media: state.dispatcher.media_counts(),
        standings: state.dispatcher.standings(),
        containers: state.dispatcher.containers(),
    };
    let text =
        state.metrics.render(&levels).map_err(|error| Error::internal("writing the metrics", error))?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
