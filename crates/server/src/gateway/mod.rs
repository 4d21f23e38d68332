//! The HTTP door: the same verbs as the gRPC door, as JSON, with health checks, metrics and an OpenAPI
//! document made from the handlers themselves.

mod bodies;
mod form;
mod http;
mod openapi;
mod reply;
mod requests;
mod site;

pub(crate) use http::router;
