//! The handlers of executions that have begun: which there are, where one stands, what the audit log has on it, its end.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use mentat_runtime::error::Error;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::bodies::{ExecutionsQuery, StateName, TrailQuery};
use super::executed::ExecutionBody;
use super::reply::{ErrorBody, Reply};
use super::requests::{Authenticated, name, query};
use crate::dispatch::ExecutionTrail;
use crate::door::DoorState;

/// Some of the caller's executions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExecutionsBody {
    /// The newest first, without receipts.
    executions: Vec<ExecutionBody>,
    /// For the next page; absent when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// What the audit log has on an execution.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TrailBody {
    /// The records as they lie in the log, in their order. The last one of an execution that has ended has the
    /// `event_type` `execution`.
    #[schema(value_type = Vec<Object>)]
    records: Vec<Box<RawValue>>,
    /// There where the search was cut off, before the log and the execution ended; to go on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// The caller's executions, running and lately finished, the newest first.
#[utoipa::path(get, path = "/v1/executions", tag = "executions", params(ExecutionsQuery),
    responses((status = 200, body = ExecutionsBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_executions(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    asked: Result<Query<ExecutionsQuery>, QueryRejection>,
) -> Result<Json<ExecutionsBody>, Reply> {
    let asked = query(asked)?;
    let (stands, size) = (asked.state.map(StateName::state), asked.page_size.unwrap_or_default());
    let token = asked.page_token.unwrap_or_default();
    let page = state.dispatcher.list_executions(&caller, stands, size, &token)?;
    let executions = page.executions.into_iter().map(ExecutionBody::new).collect();
    Ok(Json(ExecutionsBody {
        executions,
        next_page_token: Some(page.next).filter(|token| !token.is_empty()),
    }))
}

/// A running or lately finished execution.
#[utoipa::path(get, path = "/v1/executions/{id}", tag = "executions",
    params(("id" = String, Path, description = "The execution")),
    responses((status = 200, body = ExecutionBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_execution(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ExecutionBody>, Reply> {
    Ok(Json(ExecutionBody::new(state.dispatcher.get_execution(&caller, name(id)?.parse()?)?)))
}

/// Ends an execution; one that has ended is left as it is.
#[utoipa::path(post, path = "/v1/executions/{id}/cancel", tag = "executions",
    params(("id" = String, Path, description = "The execution")),
    responses((status = 200, body = ExecutionBody), (status = "4XX", body = ErrorBody)))]
pub(super) async fn cancel_execution(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ExecutionBody>, Reply> {
    Ok(Json(ExecutionBody::new(state.dispatcher.cancel(&caller, name(id)?.parse()?)?)))
}

/// What the audit log has on an execution of the caller's tenant: each decision, and its end. One that ended moments ago may
/// not have all of its records yet.
#[utoipa::path(get, path = "/v1/executions/{id}/audit", tag = "executions",
    params(("id" = String, Path, description = "The execution"), TrailQuery),
    responses((status = 200, body = TrailBody), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(super) async fn get_execution_audit(
    State(state): State<DoorState>,
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Query<TrailQuery>, QueryRejection>,
) -> Result<Json<TrailBody>, Reply> {
    let (id, token) = (name(id)?.parse()?, query(asked)?.page_token.unwrap_or_default());
    let ExecutionTrail { records, next } = state.dispatcher.trail(&caller, id, &token).await?;
    let records: Result<_, _> = records.into_iter().map(RawValue::from_string).collect();
    let records = records.map_err(|error| Error::internal("reading the audit log", error))?;
    Ok(Json(TrailBody { records, next_page_token: Some(next).filter(|token| !token.is_empty()) }))
}
