//! Where a request goes. Executions, which are nearly all, go straight to their handler; all others by axum's router. That
//! knows the path of executions too, for agents whose name is written in a way of its own (`%61` for `a`).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use futures::future::{BoxFuture, Either};
use mentat_manifest::AgentId;
use tower::Service;

use super::bodies::ExecuteQuery;
use super::http::execute;
use super::reply::Reply;
use super::requests::{authenticate, query};
use crate::door::DoorState;
use crate::transport::RequestBody;

type Routed = <Router as Service<Request<RequestBody>>>::Future;

/// Everything that is served here. Each request clones it: one count, whatever is in it.
#[derive(Clone, Debug)]
pub(crate) struct HttpDoor(Arc<Ways>);

#[derive(Debug)]
struct Ways {
    state: DoorState,
    router: Router,
}

impl HttpDoor {
    pub(super) fn new(state: DoorState, router: Router) -> Self {
        Self(Arc::new(Ways { state, router }))
    }
}

impl Service<Request<RequestBody>> for HttpDoor {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<BoxFuture<'static, Result<Response, Infallible>>, Routed>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router never is anything else.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let Some(agent_id) = executed_agent(&request) else {
            // Past the router, a body is of another type.
            let charge = Arc::clone(request.body().charge());
            request.extensions_mut().insert(charge);
            return Either::Right(self.0.router.clone().call(request));
        };
        let ways = Arc::clone(&self.0);
        Either::Left(Box::pin(async move {
            let (parts, body) = request.into_parts();
            Ok(answer(&ways.state, agent_id, &parts, body).await.into_response())
        }))
    }
}

async fn answer(
    state: &DoorState,
    agent_id: AgentId,
    parts: &Parts,
    body: RequestBody,
) -> Result<Response, Reply> {
    let caller = authenticate(state, parts)?;
    let asked = match parts.uri.query() {
        Some(_) => query(Query::try_from_uri(&parts.uri))?,
        None => ExecuteQuery::default(),
    };
    let charge = Arc::clone(body.charge());
    execute(state, &caller, agent_id, asked, &parts.headers, body, Some(charge)).await
}

/// The agent that is to be executed, where that is asked for and its name is written as it is.
fn executed_agent<B>(request: &Request<B>) -> Option<AgentId> {
    let name = request.uri().path().strip_prefix("/v1/agents/")?.strip_suffix("/execute")?;
    if request.method() == Method::POST { name.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executions_of_agents_that_are_named_plainly_go_straight() {
        let agent = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            executed_agent(&request).map(|id| id.to_string())
        };
        assert_eq!(agent("POST", "/v1/agents/a.b/execute?version=1.0.0").as_deref(), Some("a.b"));
        for (method, path) in [
            ("GET", "/v1/agents/a.b/execute"),
            ("POST", "/v1/agents/%61.b/execute"),
            ("POST", "/v1/agents//execute"),
            ("POST", "/v1/agents/../execute"),
            ("POST", "/v1/agents/a/b/execute"),
            ("POST", "/v1/agents/a.b/execute/"),
            ("POST", "/v1/agents/a.b"),
        ] {
            assert_eq!(agent(method, path), None, "{method} {path}");
        }
    }
}
