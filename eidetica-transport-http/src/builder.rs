//! What can be chosen about a transport.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use eidetica_proto::Address;

use crate::address::Scheme;
#[cfg(feature = "tls")]
use crate::tls::{ClientTls, ServerTls};
use crate::transport::HttpTransport;
use crate::{limits, server};

/// How long the transport waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// For a connection, the handshake of TLS included, and for the head of its first request. See
    /// [`CONNECT_TIMEOUT`](limits::CONNECT_TIMEOUT).
    pub connect: Duration,
    /// For a caller to send the next bytes of what it has begun. See
    /// [`STALL_TIMEOUT`](limits::STALL_TIMEOUT).
    pub stall: Duration,
    /// For the other side to send or to take the next bytes. See
    /// [`IDLE_TIMEOUT`](limits::IDLE_TIMEOUT).
    pub idle: Duration,
    /// For exchanges under way when the server stops. See [`STOP_GRACE`](limits::STOP_GRACE).
    pub stop_grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: limits::CONNECT_TIMEOUT,
            stall: limits::STALL_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
            stop_grace: limits::STOP_GRACE,
        }
    }
}

/// Which HTTP the client speaks. Servers speak both.
///
/// HTTP/1.1 is the default because its exchanges cannot get in each other's way, and because
/// every proxy takes it. On loopback it carried a large request 1.7 times as fast and a large
/// answer about as fast; ten small exchanges at a time went twice as fast over HTTP/2, to the
/// same server, from one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/1.1: one connection for each exchange at a time.
    #[default]
    Http1,
    /// HTTP/2 by prior knowledge: all exchanges with a server share one connection. At most
    /// [`EXCHANGES_PER_CONNECTION_MAX`](limits::EXCHANGES_PER_CONNECTION_MAX) are under way, more
    /// wait until one ends.
    Http2,
}

/// Builds an [`HttpTransport`].
#[derive(Debug, Clone)]
#[must_use]
pub struct HttpTransportBuilder {
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) advertised: Vec<Address>,
    pub(crate) hosts: Vec<String>,
    pub(crate) version: HttpVersion,
    pub(crate) deadlines: Deadlines,
    pub(crate) connections_max: usize,
    pub(crate) newcomers_max: usize,
    pub(crate) unfinished_bytes_max: usize,
    #[cfg(feature = "tls")]
    pub(crate) server_tls: Option<ServerTls>,
    #[cfg(feature = "tls")]
    pub(crate) client_tls: ClientTls,
}

impl Default for HttpTransportBuilder {
    fn default() -> Self {
        Self {
            bind: None,
            advertised: Vec::new(),
            hosts: Vec::new(),
            version: HttpVersion::default(),
            deadlines: Deadlines::default(),
            connections_max: limits::CONNECTIONS_MAX,
            newcomers_max: limits::NEWCOMERS_MAX,
            unfinished_bytes_max: limits::UNFINISHED_BYTES_MAX,
            #[cfg(feature = "tls")]
            server_tls: None,
            #[cfg(feature = "tls")]
            client_tls: ClientTls::default(),
        }
    }
}

impl HttpTransportBuilder {
    /// Sets where the server listens; port 0 means any free one. Without it the transport has no
    /// server.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// Names an address under which others reach the server, such as the public name of a proxy
    /// before it. If there is one, only such addresses are advertised, in the order of the calls.
    pub fn advertise(mut self, address: Address) -> Self {
        self.advertised.push(address);
        self
    }

    /// Names a host under which others reach the server: a name or an IP address. The address that
    /// is advertised has it and the port where the server listens. Such addresses come behind those
    /// of [`advertise`](Self::advertise), and replace the server's own like those.
    pub fn advertise_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Returns the IP address under which the server is advertised unless it is told otherwise, and
    /// for which its certificate must be then. `None` without a server.
    pub fn advertised_ip(&self) -> Option<IpAddr> {
        self.bind.map(|bind| server::reachable_ip(bind.ip()))
    }

    /// Makes the server speak TLS. Without it everybody on the way between the two sides can read
    /// all that is sent, whatever is signed. Its addresses are of the kind `https` then.
    #[cfg(feature = "tls")]
    pub fn server_tls(mut self, tls: ServerTls) -> Self {
        self.server_tls = Some(tls);
        self
    }

    /// Sets whose certificates the client believes when it is sent to an address of the kind
    /// `https`. By default those that the platform trusts.
    #[cfg(feature = "tls")]
    pub fn client_tls(mut self, tls: ClientTls) -> Self {
        self.client_tls = tls;
        self
    }

    /// Sets which HTTP the client speaks.
    pub fn version(mut self, version: HttpVersion) -> Self {
        self.version = version;
        self
    }

    /// Sets the deadline for connecting, and for the head of a connection's first request.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.deadlines.connect = timeout;
        self
    }

    /// Sets how long a caller may send nothing in the middle of a frame, or before the first one.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.deadlines.stall = timeout;
        self
    }

    /// Sets how long the other side may neither send nor take anything.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.deadlines.idle = timeout;
        self
    }

    /// Sets how long exchanges under way get to end when the server stops.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.deadlines.stop_grace = grace;
        self
    }

    /// Sets how many connections the server keeps that were answered, instead of
    /// [`CONNECTIONS_MAX`](limits::CONNECTIONS_MAX).
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Sets how many connections may wait for their first answer, instead of
    /// [`NEWCOMERS_MAX`](limits::NEWCOMERS_MAX). At least one may.
    pub fn newcomers_max(mut self, connections: usize) -> Self {
        self.newcomers_max = connections.max(1);
        self
    }

    /// Sets how many bytes of unfinished frames the server holds, instead of
    /// [`UNFINISHED_BYTES_MAX`](limits::UNFINISHED_BYTES_MAX). Below
    /// twice [`FRAME_BYTES_MAX`](eidetica_proto::frame::FRAME_BYTES_MAX) large entries may not arrive.
    pub fn unfinished_bytes_max(mut self, bytes: usize) -> Self {
        self.unfinished_bytes_max = bytes;
        self
    }

    /// Returns the scheme of the server's addresses.
    pub(crate) fn server_scheme(&self) -> Scheme {
        #[cfg(feature = "tls")]
        if self.server_tls.is_some() {
            return Scheme::Https;
        }
        Scheme::Http
    }

    /// Makes the transport. It does nothing until it is used.
    pub fn build(self) -> HttpTransport {
        HttpTransport::new(self)
    }
}
