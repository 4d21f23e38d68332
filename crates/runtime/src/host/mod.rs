//! The host's side of a running guest: what it may call, and what those calls may touch.

pub(crate) mod abi;
pub(crate) mod api;
pub(crate) mod budget;
pub(crate) mod capabilities;
pub(crate) mod component;
pub(crate) mod context;
pub(crate) mod descriptors;
pub(crate) mod exchanges;
pub(crate) mod extensions;
pub(crate) mod file_streams;
pub(crate) mod files;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod network;
pub(crate) mod outbound;
pub(crate) mod paths;
pub(crate) mod preview0;
pub(crate) mod preview1;
pub(crate) mod preview2;
pub(crate) mod requests;
pub(crate) mod sandbox;
pub(crate) mod scratch;
pub(crate) mod secrets;
pub(crate) mod sockets;
pub(crate) mod stdio;
pub(crate) mod volumes;
