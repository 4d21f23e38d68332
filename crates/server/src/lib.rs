//! The service: doors (`grpc`, `gateway`), the one core behind them (`dispatch`), and what it keeps
//! (`registry` over `store`, `executions`). `app` builds everything once and owns its end.

pub mod anchors;
pub mod app;
pub mod auth;
pub mod config;
pub mod container;
pub mod dispatch;
pub mod door;
pub mod executions;
mod gateway;
mod grpc;
pub mod guests;
mod looks;
pub mod oci;
pub mod policies;
pub mod published;
pub mod registry;
pub mod rollout;
pub mod signatures;
pub mod store;
pub mod telemetry;
mod transport;
