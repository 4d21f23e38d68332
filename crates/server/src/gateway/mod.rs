//! The HTTP door: the same verbs as the gRPC door, as JSON, with health checks, metrics and an OpenAPI
//! document made from the handlers themselves; and the console, a page that calls them.

mod bodies;
mod console;
mod executed;
mod executions;
mod form;
mod http;
mod media;
mod messages;
mod openapi;
mod publishing;
mod raw;
mod reply;
mod requests;
mod signature;
mod site;
mod sse;
mod straight;
mod websocket;

pub(crate) use http::door;
