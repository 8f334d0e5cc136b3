//! The transport: an endpoint with its client and its server.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use eidetica_proto::PublicKey;
use eidetica_proto::{
    Address, DiscoveredStream, FrameStream, Response, Service, SyncTransport, TransportError,
    TransportErrorKind,
};
use iroh::Endpoint;
use iroh::endpoint::IncomingAddr;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::address::{self, KIND};
use crate::alpn::ALPN;
use crate::client::Client;
use crate::discovery::LocalDiscovery;
use crate::error;
use crate::limits::{Deadlines, RELAY_WAIT};
use crate::mount::EideticaProtocol;
use crate::server::Server;

/// Which part accepts the endpoint's connections, and closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// The transport accepts and closes.
    OwnEndpoint,
    /// The transport accepts from the first start on, the program closes.
    GivenEndpoint,
    /// The program's router accepts, the program closes.
    Router,
}

/// Carries exchanges over iroh. See the [crate's documentation](crate) for the model.
pub struct IrohTransport {
    endpoint: Endpoint,
    arrivals: Arrivals,
    /// Whether the endpoint is the transport's own and uses relays, so its address is worth a wait.
    awaits_relay: bool,
    /// Set once the wait for a relay is over.
    relay_waited: OnceCell<()>,
    client: Client,
    server: Arc<Server>,
    local: Option<LocalDiscovery>,
    /// The loop that accepts connections, which in turn holds their tasks.
    acceptor: Mutex<JoinSet<()>>,
    deadlines: Deadlines,
}

impl IrohTransport {
    pub(crate) fn new(
        endpoint: Endpoint,
        arrivals: Arrivals,
        awaits_relay: bool,
        local: Option<LocalDiscovery>,
        deadlines: Deadlines,
        server: Server,
    ) -> Self {
        Self {
            endpoint,
            arrivals,
            awaits_relay,
            relay_waited: OnceCell::new(),
            client: Client::default(),
            server: Arc::new(server),
            local,
            acceptor: Mutex::default(),
            deadlines,
        }
    }

    /// Returns the node's key, which every connection proves.
    pub fn public_key(&self) -> PublicKey {
        address::key_of(self.endpoint.id())
    }

    pub(crate) fn protocol(&self) -> EideticaProtocol {
        EideticaProtocol::new(self.server.clone())
    }

    fn acceptor(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the loop that accepts connections, unless it runs.
    ///
    /// It also runs while the server is stopped, and refuses connections then: a caller learns at
    /// once that no server runs, and the endpoint queues nothing.
    pub(crate) fn accept_arrivals(&self) {
        let mut acceptor = self.acceptor();
        if acceptor.is_empty() {
            acceptor.spawn(accept(self.endpoint.clone(), self.server.clone()));
        }
    }

    /// Announces the endpoint on the local network while the server runs.
    fn announce(&self) {
        if let Some(local) = &self.local {
            local.set_serving(self.server.is_running());
        }
    }

    fn check_open(&self) -> Result<(), TransportError> {
        if self.client.is_closed() || self.endpoint.is_closed() {
            return Err(error::of_closed());
        }
        Ok(())
    }
}

/// Accepts connections until the endpoint is closed. The tasks that serve them end with it.
async fn accept(endpoint: Endpoint, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => incoming,
                None => return,
            },
            Some(_) = connections.join_next() => continue,
        };
        let Some(run) = server.run() else {
            incoming.refuse();
            continue;
        };
        if run.is_crowded() && !incoming.remote_addr_validated() {
            // Anyone can send packets with forged source addresses. Before another connection loses
            // its place, the caller must show that answers reach it, which costs a round trip.
            if let Err(error) = incoming.retry() {
                debug!(%error, "not a connection");
            }
            continue;
        }
        let newcomer = run.admit(&group_of(incoming.remote_addr()));
        match incoming.accept() {
            Ok(accepting) => {
                connections.spawn(run.handshake(accepting, newcomer));
            }
            // Any packet that looks like the start of a connection gets here.
            Err(error) => debug!(%error, "not a connection"),
        }
    }
}

/// Returns the group of newcomers from the same source.
fn group_of(addr: IncomingAddr) -> String {
    match addr {
        IncomingAddr::Ip(addr) => addr.ip().to_string(),
        IncomingAddr::Relay { endpoint_id, .. } => endpoint_id.to_string(),
        // An address of the program's own transport.
        other => format!("{other:?}"),
    }
}

#[async_trait]
impl SyncTransport for IrohTransport {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn proves_keys(&self) -> bool {
        true
    }

    fn key_in(&self, address: &Address) -> Option<PublicKey> {
        let endpoint = address::endpoint_addr(address).ok()?;
        Some(address::key_of(endpoint.id))
    }

    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError> {
        self.check_open()?;
        self.server.start(service).await?;
        if self.client.is_closed() {
            // It was closed while this start waited for a stop.
            self.server.stop().await?;
            return Err(error::of_closed());
        }
        if self.arrivals == Arrivals::GivenEndpoint && self.acceptor().is_empty() {
            self.endpoint.set_alpns(vec![ALPN.to_vec()]);
            self.accept_arrivals();
        }
        self.announce();
        Ok(())
    }

    async fn stop_server(&self) -> Result<(), TransportError> {
        if let Some(local) = &self.local {
            local.set_serving(false);
        }
        self.server.stop().await
    }

    fn is_server_running(&self) -> bool {
        self.server.is_running()
    }

    async fn server_addresses(&self) -> Vec<Address> {
        if !self.is_server_running() || self.endpoint.is_closed() {
            return Vec::new();
        }
        let mut addr = self.endpoint.addr();
        if self.awaits_relay && addr.relay_urls().next().is_none() {
            // Right after the start the relay is not connected, and without it the ticket may be
            // useless elsewhere. Without any network, only the first call waits.
            let wait = || async {
                let _ = timeout(RELAY_WAIT, self.endpoint.online()).await;
            };
            self.relay_waited.get_or_init(wait).await;
            addr = self.endpoint.addr();
        }
        vec![address::address_of(&address::useful(addr))]
    }

    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        self.check_open()?;
        let peer = address::endpoint_addr(address)?;
        let exchange = self
            .client
            .exchange(&self.endpoint, &peer, request, self.deadlines);
        exchange.await
    }

    fn discovered(&self) -> Option<DiscoveredStream> {
        self.local.as_ref().map(LocalDiscovery::stream)
    }

    async fn network_changed(&self) {
        self.endpoint.network_change().await;
        if let Some(local) = &self.local {
            local.restart();
        }
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.client.close();
        if let Some(local) = &self.local {
            local.close();
        }
        let stopped = self.server.stop().await;
        let mut acceptor = std::mem::take(&mut *self.acceptor());
        acceptor.shutdown().await;
        if self.arrivals == Arrivals::OwnEndpoint {
            let patience = self.deadlines.stop_grace.max(RELAY_WAIT * 2);
            timeout(patience, self.endpoint.close())
                .await
                .map_err(|_| {
                    let text = "the iroh endpoint did not close in time";
                    TransportError::new(TransportErrorKind::Local, text)
                })?;
        }
        stopped
    }
}

impl fmt::Debug for IrohTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrohTransport")
            .field("id", &self.endpoint.id())
            .field("arrivals", &self.arrivals)
            .field("serving", &self.server.is_running())
            .finish_non_exhaustive()
    }
}
