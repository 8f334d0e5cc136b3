//! Builds transports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use eidetica_proto::Address;

use crate::options::HttpVersion;
use crate::server;
use crate::settings::Settings;
#[cfg(feature = "tls")]
use crate::tls::{ClientTls, ServerTls};
use crate::transport::HttpTransport;

impl HttpTransport {
    /// Begins to build a transport.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder::default()
    }
}

/// Builds an [`HttpTransport`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until build is called"]
pub struct HttpTransportBuilder {
    settings: Settings,
}

impl HttpTransportBuilder {
    /// Sets the address to listen on; port 0 means any free port. Without it the transport is
    /// client only.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.settings.bind = Some(address);
        self
    }

    /// Adds an address at which others reach the server, such as the public name of a proxy, with the
    /// path below which the proxy serves it. The server itself takes requests with and without that
    /// path. Once there is one, only such addresses are advertised, in the order of the calls.
    pub fn advertise(mut self, address: Address) -> Self {
        self.settings.advertised.push(address);
        self
    }

    /// Adds a host at which others reach the server: a name or an IP address. The server advertises
    /// it with the port that it listens on, after the addresses of [`advertise`](Self::advertise)
    /// and, like them, instead of its own address.
    pub fn advertise_host(mut self, host: impl Into<String>) -> Self {
        self.settings.hosts.push(host.into());
        self
    }

    /// Adds a name to which the server answers, as requests have it in their `Host`. It always answers
    /// to IP addresses, to `localhost`, and to the hosts that it advertises. Any other name is
    /// refused: a web page could have its own name lead to this server, and then read from it.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.settings.allowed_hosts.push(host.into());
        self
    }

    /// Returns the IP address that the server advertises by default, and that its certificate must
    /// then be for. `None` without a server.
    pub fn advertised_ip(&self) -> Option<IpAddr> {
        self.settings
            .bind
            .map(|bind| server::reachable_ip(bind.ip()))
    }

    /// Makes the server speak TLS, with addresses of the kind `https`. Without TLS, anyone on the
    /// path between the two sides can read all that is sent, signed or not.
    #[cfg(feature = "tls")]
    pub fn server_tls(mut self, tls: ServerTls) -> Self {
        self.settings.server_tls = Some(tls);
        self
    }

    /// Sets the certificates that the client trusts at addresses of the kind `https`. By default
    /// those that the platform trusts.
    #[cfg(feature = "tls")]
    pub fn client_tls(mut self, tls: ClientTls) -> Self {
        self.settings.client_tls = tls;
        self
    }

    /// Sets the version of HTTP that the client speaks.
    pub fn version(mut self, version: HttpVersion) -> Self {
        self.settings.version = version;
        self
    }

    /// Sets the deadline for connecting, and for the head of a connection's first request.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.deadlines.connect = timeout;
        self
    }

    /// Sets how long a caller may send nothing in the middle of a frame, or before the first one.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.settings.deadlines.stall = timeout;
        self
    }

    /// Sets how long the other side may neither send nor take anything.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.deadlines.idle = timeout;
        self
    }

    /// Sets how long exchanges in progress may go on when the server stops.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.settings.deadlines.stop_grace = grace;
        self
    }

    /// Sets how many connections with an answer the server keeps, instead of
    /// [`CONNECTIONS_MAX`](crate::limits::CONNECTIONS_MAX).
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.settings.connections_max = connections;
        self
    }

    /// Sets how many connections may wait for their first answer, instead of
    /// [`NEWCOMERS_MAX`](crate::limits::NEWCOMERS_MAX); at least one.
    pub fn newcomers_max(mut self, connections: usize) -> Self {
        self.settings.newcomers_max = connections.max(1);
        self
    }

    /// Sets how many bytes of unfinished frames the server holds, instead of
    /// [`UNFINISHED_BYTES_MAX`](crate::limits::UNFINISHED_BYTES_MAX). Below
    /// twice [`FRAME_BYTES_MAX`](eidetica_proto::frame::FRAME_BYTES_MAX) large entries may not arrive.
    pub fn unfinished_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.unfinished_bytes_max = bytes;
        self
    }

    /// Sets how many bytes of answers that are not taken yet the server holds, instead of
    /// [`UNTAKEN_BYTES_MAX`](crate::limits::UNTAKEN_BYTES_MAX). Below
    /// twice [`FRAME_BYTES_MAX`](eidetica_proto::frame::FRAME_BYTES_MAX) large entries may not be sent.
    pub fn untaken_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.untaken_bytes_max = bytes;
        self
    }

    /// Makes the transport. It does nothing until it is used.
    pub fn build(self) -> HttpTransport {
        HttpTransport::new(self.settings)
    }
}
