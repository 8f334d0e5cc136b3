//! Deadlines and the version of HTTP: what both sides of a transport need to know.

use std::time::Duration;

use crate::limits;

/// The longest waits of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// For a connection, including the TLS handshake, and for the head of its first request. See
    /// [`CONNECT_TIMEOUT`](limits::CONNECT_TIMEOUT).
    pub connect: Duration,
    /// For a caller to send the next bytes of what it has begun. See
    /// [`STALL_TIMEOUT`](limits::STALL_TIMEOUT).
    pub stall: Duration,
    /// For the other side to send or to take the next bytes. See
    /// [`IDLE_TIMEOUT`](limits::IDLE_TIMEOUT).
    pub idle: Duration,
    /// For exchanges in progress when the server stops. See [`STOP_GRACE`](limits::STOP_GRACE).
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

/// The version of HTTP that the client speaks. Servers speak both.
///
/// HTTP/1.1 is the default because its exchanges cannot slow each other down, and because every
/// proxy accepts it. On loopback it carried a large request 1.7 times as fast and a large answer
/// about as fast; ten small exchanges at a time went twice as fast over HTTP/2, to the same server,
/// from one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/1.1: one connection for each exchange in progress.
    #[default]
    Http1,
    /// HTTP/2 by prior knowledge. A connection carries up to
    /// [`EXCHANGES_PER_CONNECTION_MAX`](limits::EXCHANGES_PER_CONNECTION_MAX) exchanges, so that
    /// long-lived answers leave room for others; a server gets at most
    /// [`HTTP2_CONNECTIONS_MAX`](limits::HTTP2_CONNECTIONS_MAX) connections, and further exchanges
    /// wait until one ends.
    Http2,
}
