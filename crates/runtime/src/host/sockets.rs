//! WASI's sockets and its look-up of names, for components: Wasmtime's own sockets, with a question to the gate before
//! each address, and names that are looked up by the host's rules. Nobody listens.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::vec;

use mentat_manifest::Protocol;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    self, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, HostNetwork, IpAddress, IpAddressFamily, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket, TcpSocket};
use wasmtime_wasi::p2::bindings::sockets::udp::{HostUdpSocket, UdpSocket};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsView};
use wasmtime_wasi_io::poll::subscribe;

use super::context::HostContext;
use super::network::NetworkError;
use super::outbound::Outbound;
use crate::model::{HostCallKind, LogLevel};

/// The interfaces whose functions are counted here, in Wasmtime's own version of them.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const TCP_CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";
const UDP_CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";
/// Why no address of one's own is given.
const NOBODY_LISTENS: &str = "an agent cannot listen: there is no capability for it";
/// Bytes of a name that is looked up (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 255;

/// The places of a component's open sockets.
#[derive(Debug, Default)]
pub(crate) struct SocketPlaces {
    tcp: HashMap<u32, OwnedSemaphorePermit>,
    udp: HashMap<u32, OwnedSemaphorePermit>,
}

/// Names of one component, while a call looks them up.
pub(crate) struct GuardedNames<'a> {
    table: &'a mut ResourceTable,
    outbound: Arc<Outbound>,
}

struct HasNames;

impl HasData for HasNames {
    type Data<'a> = GuardedNames<'a>;
}

/// A look-up on its way, or what it found.
enum LookUp {
    Asking(AbortOnDropJoinHandle<Result<Vec<IpAddr>, ErrorCode>>),
    Found(vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

/// Puts the counted sockets and the guarded look-up in the place of Wasmtime's own.
pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<_, HasNames>(linker, HostContext::names)?;
    linker.instance(TCP_CREATE)?.func_wrap("create-tcp-socket", create_tcp)?;
    linker
        .instance(UDP_CREATE)?
        .func_wrap_async("create-udp-socket", |store, (family,)| Box::new(create_udp(store, family)))?;
    linker.instance(TCP)?.resource(
        "tcp-socket",
        ResourceType::host::<TcpSocket>(),
        |mut store, socket| {
            let context: &mut HostContext = store.data_mut();
            context.preview2().sockets.tcp.remove(&socket);
            HostTcpSocket::drop(&mut context.sockets(), Resource::new_own(socket))
        },
    )?;
    linker.instance(UDP)?.resource(
        "udp-socket",
        ResourceType::host::<UdpSocket>(),
        |mut store, socket| {
            let context: &mut HostContext = store.data_mut();
            context.preview2().sockets.udp.remove(&socket);
            HostUdpSocket::drop(&mut context.sockets(), Resource::new_own(socket))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Lets a component have sockets, each of whose addresses is asked for.
pub(crate) fn allow(wasi: &mut WasiCtxBuilder, outbound: &Arc<Outbound>) {
    let outbound = Arc::clone(outbound);
    wasi.allow_tcp(true).allow_udp(true).socket_addr_check(move |address, usage| {
        let may = may_use(&outbound, address, usage);
        Box::pin(async move { may })
    });
}

fn may_use(outbound: &Outbound, address: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        SocketAddrUse::TcpConnect => outbound.decide_address(Protocol::Tcp, address),
        SocketAddrUse::UdpSend => outbound.decide_datagram(address),
        SocketAddrUse::UdpReceive => outbound.is_peer(address),
        // What the system does by itself before it connects; an address of one's own choice is for those who listen.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if is_systems_choice(address) => true,
        SocketAddrUse::UdpBind => {
            outbound.refuse(Protocol::Udp, address, NOBODY_LISTENS);
            false
        }
        SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => {
            outbound.refuse(Protocol::Tcp, address, NOBODY_LISTENS);
            false
        }
    }
}

fn is_systems_choice(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
}

type Created<T> = wasmtime::Result<(Result<Resource<T>, ErrorCode>,)>;

fn create_tcp(
    mut store: StoreContextMut<'_, HostContext>,
    (family,): (IpAddressFamily,),
) -> Created<TcpSocket> {
    let context = store.data_mut();
    context.calls.count(HostCallKind::WasiSockets);
    let place = match context.outbound().open() {
        Ok(place) => place,
        Err(error) => return Ok((Err(too_many(context, &error)),)),
    };
    let created = tcp_create_socket::Host::create_tcp_socket(&mut context.sockets(), family);
    Ok((match created {
        Ok(socket) => {
            context.preview2().sockets.tcp.insert(socket.rep(), place);
            Ok(socket)
        }
        Err(error) => Err(error.downcast()?),
    },))
}

async fn create_udp(
    mut store: StoreContextMut<'_, HostContext>,
    family: IpAddressFamily,
) -> Created<UdpSocket> {
    let context = store.data_mut();
    context.calls.count(HostCallKind::WasiSockets);
    let place = match context.outbound().open() {
        Ok(place) => place,
        Err(error) => return Ok((Err(too_many(context, &error)),)),
    };
    let created = udp_create_socket::Host::create_udp_socket(&mut context.sockets(), family).await;
    Ok((match created {
        Ok(socket) => {
            context.preview2().sockets.udp.insert(socket.rep(), place);
            Ok(socket)
        }
        Err(error) => Err(error.downcast()?),
    },))
}

fn too_many(context: &HostContext, error: &NetworkError) -> ErrorCode {
    context.logs.log(LogLevel::Warn, error.tell().as_bytes());
    ErrorCode::NewSocketLimit
}

impl HostContext {
    fn names(&mut self) -> GuardedNames<'_> {
        self.calls.count(HostCallKind::WasiSockets);
        let outbound = Arc::clone(self.outbound());
        GuardedNames { table: &mut self.preview2().table, outbound }
    }
}

impl HostNetwork for GuardedNames<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl network::Host for GuardedNames<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<std::io::Error>().map(ErrorCode::from))
    }
}

impl ip_name_lookup::Host for GuardedNames<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        self.table.get(&network)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let outbound = Arc::clone(&self.outbound);
        let name = outbound.decide_name(&name).map_err(|error| code(&error))?;
        let asking = wasmtime_wasi::runtime::spawn(async move {
            let found = outbound.look_up(&name).await;
            found.map_err(|error| {
                outbound.logs.log(LogLevel::Warn, error.tell().as_bytes());
                code(&error)
            })
        });
        let look_up = self.table.push(LookUp::Asking(asking))?;
        // The guest's handle is of Wasmtime's type, which nobody else can make; what it stands for in the table is ours.
        Ok(Resource::new_own(look_up.rep()))
    }
}

impl HostResolveAddressStream for GuardedNames<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let look_up = self.table.get_mut(&ours(&stream))?;
        if let LookUp::Asking(asking) = look_up {
            let Some(found) = wasmtime_wasi::runtime::poll_noop(std::pin::Pin::new(asking)) else {
                return Err(ErrorCode::WouldBlock.into());
            };
            look_up.settle(found);
        }
        match look_up {
            LookUp::Found(addresses) => Ok(addresses.next().map(Into::into)),
            LookUp::Failed(code) => Err((*code).into()),
            LookUp::Asking(_) => Err(ErrorCode::WouldBlock.into()),
        }
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, ours(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<LookUp>::new_own(stream.rep()))?;
        Ok(())
    }
}

fn ours(stream: &Resource<ResolveAddressStream>) -> Resource<LookUp> {
    Resource::new_borrow(stream.rep())
}

fn code(error: &NetworkError) -> ErrorCode {
    match error {
        NetworkError::Denied(_) | NetworkError::Prohibited(_) => ErrorCode::AccessDenied,
        NetworkError::Malformed(_) => ErrorCode::InvalidArgument,
        NetworkError::NoSuchName(_) => ErrorCode::NameUnresolvable,
        NetworkError::TooMany(_) => ErrorCode::NewSocketLimit,
        _ => ErrorCode::TemporaryResolverFailure,
    }
}

impl LookUp {
    fn settle(&mut self, found: Result<Vec<IpAddr>, ErrorCode>) {
        *self = match found {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(code) => Self::Failed(code),
        };
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LookUp {
    async fn ready(&mut self) {
        if let Self::Asking(asking) = self {
            let found = asking.await;
            self.settle(found);
        }
    }
}
