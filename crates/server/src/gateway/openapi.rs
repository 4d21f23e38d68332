//! The OpenAPI document, made from the handlers and bodies themselves; `schemas/openapi.json` is its copy.

use axum::Json;
use utoipa::OpenApi;

use super::{executions, http, media, publishing, sse};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mentat runtime",
        version = "v1",
        description = "Runs agents compiled to WebAssembly, each execution in a pristine sandbox. The same verbs as the \
                       gRPC service `mentat.runtime.v1.WasmRuntime`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        http::load_agent,
        http::list_agents,
        http::get_agent,
        http::unload_agent,
        http::is_loaded,
        http::execute_agent,
        http::activate_version,
        executions::list_executions,
        executions::get_execution,
        executions::cancel_execution,
        executions::get_execution_audit,
        media::store,
        media::fetch,
        sse::follow,
        publishing::init,
        publishing::publish,
        publishing::end,
        publishing::list,
        publishing::get,
    )
)]
struct Document;

/// Answers the document.
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_what_the_handlers_make() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/openapi.json");
        let made = Document::openapi().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(made == committed, "schemas/openapi.json is stale; run the tests with UPDATE_EXPECT=1");
    }
}
