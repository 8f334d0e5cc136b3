//! Sets up transports.

use std::net::SocketAddr;
use std::time::Duration;

use eidetica_proto::SecretKey;
use eidetica_proto::{TransportError, TransportErrorKind};
use iroh::endpoint::{QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, RelayConfig, RelayMap, RelayMode, RelayUrl};

use crate::alpn::ALPN;
use crate::discovery::LocalDiscovery;
use crate::error;
use crate::limits::{
    Capacity, Deadlines, NEWCOMER_WINDOW_BYTES, SEND_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::mount::EideticaProtocol;
use crate::server::Server;
use crate::transport::{Arrivals, IrohTransport};

impl IrohTransport {
    /// Begins to set up a transport.
    pub fn builder() -> IrohTransportBuilder {
        IrohTransportBuilder::new()
    }

    /// Uses an endpoint of the program, with the default deadlines:
    /// [`IrohTransportBuilder::attach`].
    pub fn from_endpoint(endpoint: Endpoint) -> Self {
        Self::builder().attach(endpoint)
    }
}

/// Which relay servers help peers that cannot reach each other directly.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Relays {
    /// The public relays of iroh's makers.
    #[default]
    Default,
    /// None: only peers that can be reached directly.
    Disabled,
    /// These, as URLs such as `https://relay.example.org`. Packets are encrypted between the peers, so
    /// a relay without TLS, `http://…`, sees no more of them than one with TLS.
    Custom(Vec<String>),
}

/// Sets up an [`IrohTransport`].
///
/// End with [`bind`](Self::bind) for an endpoint of the transport's own, with
/// [`attach`](Self::attach) or [`mount`](Self::mount) for an endpoint of the program. The key,
/// relays, address lookup, local discovery and bind address apply only to the transport's own
/// endpoint.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until bind, attach or mount is called"]
pub struct IrohTransportBuilder {
    secret_key: Option<SecretKey>,
    relays: Relays,
    address_lookup: bool,
    #[cfg(feature = "mdns")]
    local_discovery: bool,
    bind_addr: Option<SocketAddr>,
    deadlines: Deadlines,
    capacity: Capacity,
}

impl IrohTransportBuilder {
    pub(crate) fn new() -> Self {
        Self {
            secret_key: None,
            relays: Relays::default(),
            address_lookup: true,
            #[cfg(feature = "mdns")]
            local_discovery: false,
            bind_addr: None,
            deadlines: Deadlines::default(),
            capacity: Capacity::default(),
        }
    }

    /// Sets the node's key, which every connection proves. By default it is random, so the node is
    /// another peer after every start.
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.secret_key = Some(key);
        self
    }

    /// Sets which relays to use. By default the public ones.
    pub fn relays(mut self, relays: Relays) -> Self {
        self.relays = relays;
        self
    }

    /// Sets whether to publish this endpoint's relay, and to look other endpoints up by their id,
    /// at the public service of iroh's makers. By default yes. Without it, addresses that are bare
    /// ids are unreachable.
    pub fn address_lookup(mut self, on: bool) -> Self {
        self.address_lookup = on;
        self
    }

    /// Sets whether to find peers on the local network by multicast DNS, and, while the server runs,
    /// to announce this node's key and direct addresses to everyone there. By default no.
    #[cfg(feature = "mdns")]
    pub fn local_discovery(mut self, on: bool) -> Self {
        self.local_discovery = on;
        self
    }

    /// Sets the only address to listen on, over UDP. Port 0 takes any free one. By default all
    /// interfaces, on any free port.
    pub fn bind_addr(mut self, addr: SocketAddr) -> Self {
        self.bind_addr = Some(addr);
        self
    }

    /// Sets the longest wait for a connection. By default [`CONNECT_TIMEOUT`](crate::CONNECT_TIMEOUT).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.deadlines.connect = timeout;
        self
    }

    /// Sets how long a caller may send nothing in the middle of a frame, or before the first one. By
    /// default [`STALL_TIMEOUT`](crate::STALL_TIMEOUT).
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.deadlines.stall = timeout;
        self
    }

    /// Sets how many connections, including handshakes, may exist without a completed exchange; at
    /// least one. By default 256. One more, and the oldest is closed.
    pub fn newcomers_max(mut self, connections: usize) -> Self {
        self.capacity.newcomers = connections.max(1);
        self
    }

    /// Sets how many connections with a completed exchange are kept. By default 2048. Further ones
    /// count as newcomers.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.capacity.connections = connections;
        self
    }

    /// Sets how many bytes of unfinished frames the server holds. By default 16 MiB. Below
    /// twice [`FRAME_BYTES_MAX`](eidetica_proto::frame::FRAME_BYTES_MAX) large entries may not arrive.
    pub fn unfinished_bytes_max(mut self, bytes: usize) -> Self {
        self.capacity.unfinished_bytes = bytes;
        self
    }

    /// Sets how many bytes of answers that are not taken yet the server holds. By default 16 MiB. Below
    /// twice [`FRAME_BYTES_MAX`](eidetica_proto::frame::FRAME_BYTES_MAX) large entries may not be sent.
    pub fn untaken_bytes_max(mut self, bytes: usize) -> Self {
        self.capacity.untaken_bytes = bytes;
        self
    }

    /// Sets the longest wait for the peer between two frames. By default
    /// [`IDLE_TIMEOUT`](crate::IDLE_TIMEOUT).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.deadlines.idle = timeout;
        self
    }

    /// Sets how long exchanges in progress may go on when the server stops. By default
    /// [`STOP_GRACE`](crate::STOP_GRACE).
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.deadlines.stop_grace = grace;
        self
    }

    /// Binds an endpoint of the transport's own. From then on it can ask; connections that arrive
    /// before the server is started are refused.
    ///
    /// The socket is bound here and not when the server starts, because asking needs it too, and
    /// because its port, which tickets contain, stays the same when the server is restarted.
    ///
    /// # Errors
    /// [`TransportErrorKind::AddressInUse`] if another program has the address,
    /// [`TransportErrorKind::UnusableAddress`] if a relay's URL or the bind address is malformed,
    /// [`TransportErrorKind::Local`] for other errors of the system.
    pub async fn bind(self) -> Result<IrohTransport, TransportError> {
        let relays = relay_mode(&self.relays)?;
        let awaits_relay = !matches!(relays, RelayMode::Disabled);
        let builder = if self.address_lookup {
            Endpoint::builder(presets::N0)
        } else {
            Endpoint::builder(presets::Minimal)
        };
        // The windows of streams keep their defaults: larger ones break connections under load.
        let streams = QuicTransportConfig::builder()
            .receive_window(NEWCOMER_WINDOW_BYTES.into())
            .send_window(SEND_WINDOW_BYTES)
            .max_concurrent_bidi_streams(STREAMS_PER_CONNECTION_MAX.into())
            .max_concurrent_uni_streams(VarInt::from_u32(0));
        let mut builder = builder
            .relay_mode(relays)
            .transport_config(streams.build())
            .alpns(vec![ALPN.to_vec()]);
        if let Some(key) = &self.secret_key {
            builder = builder.secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()));
        }
        if let Some(addr) = self.bind_addr {
            let bound = builder.clear_ip_transports().bind_addr(addr);
            builder = bound.map_err(|error| {
                let text = format!("cannot listen on {addr}");
                TransportError::new(TransportErrorKind::UnusableAddress, text).with_source(error)
            })?;
        }
        let endpoint = builder.bind().await.map_err(error::of_bind)?;
        #[cfg(feature = "mdns")]
        let local = self
            .local_discovery
            .then(|| LocalDiscovery::start(&endpoint));
        #[cfg(not(feature = "mdns"))]
        let local = None;
        let transport = self.transport(endpoint, Arrivals::OwnEndpoint, awaits_relay, local);
        transport.accept_arrivals();
        Ok(transport)
    }

    fn transport(
        &self,
        endpoint: Endpoint,
        arrivals: Arrivals,
        awaits_relay: bool,
        local: Option<LocalDiscovery>,
    ) -> IrohTransport {
        let server = Server::new(self.deadlines, self.capacity);
        let deadlines = self.deadlines;
        IrohTransport::new(endpoint, arrivals, awaits_relay, local, deadlines, server)
    }

    /// Uses an endpoint of the program. The transport accepts its connections from the first start
    /// of the server on, and sets its ALPNs to [`ALPN`] alone; use [`mount`](Self::mount) if it
    /// speaks other protocols. The program closes the endpoint, and waits for its relay if the
    /// server's addresses must include it.
    pub fn attach(self, endpoint: Endpoint) -> IrohTransport {
        self.transport(endpoint, Arrivals::GivenEndpoint, false, None)
    }

    /// Uses an endpoint whose connections the program's [`Router`](iroh::protocol::Router)
    /// accepts. Mount the second value there, for [`ALPN`]. The program shuts the router down.
    ///
    /// ```no_run
    /// use eidetica_transport_iroh::{ALPN, IrohTransport};
    /// # async fn mount(endpoint: iroh::Endpoint) {
    /// let (transport, protocol) = IrohTransport::builder().mount(endpoint.clone());
    /// let router = iroh::protocol::Router::builder(endpoint)
    ///     .accept(ALPN, protocol)
    ///     .spawn();
    /// # let _ = (transport, router);
    /// # }
    /// ```
    pub fn mount(self, endpoint: Endpoint) -> (IrohTransport, EideticaProtocol) {
        let transport = self.transport(endpoint, Arrivals::Router, false, None);
        let protocol = transport.protocol();
        (transport, protocol)
    }
}

fn relay_mode(relays: &Relays) -> Result<RelayMode, TransportError> {
    let unusable = |text| TransportError::new(TransportErrorKind::UnusableAddress, text);
    let urls = match relays {
        Relays::Default => return Ok(iroh::endpoint::default_relay_mode()),
        Relays::Disabled => return Ok(RelayMode::Disabled),
        Relays::Custom(urls) if urls.is_empty() => {
            return Err(unusable(
                "no relay is given; to use none, disable relays".to_owned(),
            ));
        }
        Relays::Custom(urls) => urls,
    };
    let relays = urls.iter().map(|text| {
        let malformed = || {
            unusable(format!(
                "{text:?} is not the URL of a relay, such as https://relay.example"
            ))
        };
        let url = text.parse::<RelayUrl>();
        let url = url.map_err(|error| malformed().with_source(error))?;
        match url.scheme() {
            "https" => Ok(RelayConfig::from(url)),
            // QUIC needs a certificate. Where there is none, asking by QUIC for the own public
            // address gets no answer, and delays the choice of a relay by three seconds.
            "http" => Ok(RelayConfig::new(url, None)),
            _ => Err(malformed()),
        }
    });
    Ok(RelayMode::Custom(relays.collect::<Result<RelayMap, _>>()?))
}
