//! The gRPC door: the service of `proto/`, with health checks and reflection.

mod authentication;
mod deadline;
mod events;
mod messages;
mod refusals;
mod service;
pub(crate) mod status;

use mentat_proto::v1::wasm_runtime_server::WasmRuntimeServer;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{LayerExt, Routes};
use tower::util::{MapRequestLayer, MapResponseLayer};

use self::authentication::Authentication;
use self::service::Service;
use crate::door::DoorState;

/// Everything that this door serves.
///
/// # Errors
/// When the committed descriptors of the contract cannot be read.
pub(crate) async fn routes(state: &DoorState) -> Result<Routes, tonic_reflection::server::Error> {
    let limit = usize::try_from(state.max_message.0).unwrap_or(usize::MAX);
    let service = WasmRuntimeServer::new(Service::new(state.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(usize::MAX);
    let service = MapResponseLayer::new(refusals::explain).named_layer(service);
    let service = MapRequestLayer::new(refusals::explain_body).named_layer(service);
    let service = InterceptedService::new(service, Authentication::new(state.clone()));
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<WasmRuntimeServer<Service>>().await;
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(mentat_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(service)
        .add_service(health)
        .add_service(builder().build_v1()?)
        .add_service(builder().build_v1alpha()?))
}
