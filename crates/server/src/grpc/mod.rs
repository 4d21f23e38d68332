//! The gRPC door: the service of `proto/`, with health checks and reflection.

mod authentication;
mod deadline;
mod door;
mod events;
mod messages;
mod refusals;
mod service;
pub(crate) mod status;
mod told;

use mentat_proto::v1::wasm_runtime_server::WasmRuntimeServer;
use tonic::service::Routes;

pub(crate) use self::door::GrpcDoor;
use self::service::Service;
use crate::door::DoorState;

impl GrpcDoor {
    /// Everything that this door serves.
    ///
    /// # Errors
    /// When the committed descriptors of the contract cannot be read.
    pub(crate) async fn new(state: &DoorState) -> Result<Self, tonic_reflection::server::Error> {
        let limit = usize::try_from(state.max_message.0).unwrap_or(usize::MAX);
        let runtime = WasmRuntimeServer::new(Service::new(state.clone()))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(usize::MAX);
        let (health_reporter, health) = tonic_health::server::health_reporter();
        health_reporter.set_serving::<WasmRuntimeServer<Service>>().await;
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(mentat_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let others =
            Routes::new(health).add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
        Ok(Self::of(runtime, others, state.clone()))
    }
}
