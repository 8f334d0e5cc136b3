//! Every limit of this transport, with its reason.

use std::time::Duration;

/// Longest wait for a connection: the lookup of addresses, the handshake, and whoever dials the
/// same peer already. A handshake across the world through a relay takes about one second.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the peer between two frames, in either direction. It is longer than any pause
/// that a live peer makes: one batch of entries is stored in well under a second.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long exchanges under way may go on when the server is told to stop. Most end within
/// milliseconds; whoever waits for the stop is a person at a terminal.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest wait for what was cut to be gone. Only code that blocks its thread takes that long.
pub(crate) const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a service that has not answered yet may go on after its caller gave up: enough to read
/// that the request was cut, and to put things in order.
pub(crate) const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection without an exchange is kept for the next one. A periodic comparison
/// within this time finds the connection open; a peer that left costs no memory after it.
pub(crate) const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for a relay before the server's addresses are told without one.
pub(crate) const RELAY_WAIT: Duration = Duration::from_secs(3);

/// Slowest progress within a frame, in bytes per second. Each byte that moves extends the frame's
/// deadline by its share, so a large frame over a slow link arrives, and a peer that sends one byte
/// now and then is cut soon after [`IDLE_TIMEOUT`].
pub(crate) const PROGRESS_BYTES_PER_SECOND: u32 = 1024;

/// Exchanges under way on one connection. The largest tree needs one; the rest is for many trees
/// at once. Each may hold a frame in memory.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 16;

/// Connections of one peer. One is enough; the rest is for connections that the peer's restart or
/// change of network left behind.
pub(crate) const CONNECTIONS_PER_PEER_MAX: usize = 8;

/// Connections, handshakes included, of callers that have not completed an exchange. A flood of
/// made-up keys ends here, and leaves room to those who were served before.
pub(crate) const NEWCOMERS_MAX: usize = 256;

/// Largest piece taken from a stream at once, in bytes.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// How often an exchange is begun: a pooled connection may turn out to be closed by then.
pub(crate) const ATTEMPTS_MAX: usize = 2;

/// The waits that a program may choose. The defaults are the constants of this module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) connect: Duration,
    pub(crate) idle: Duration,
    pub(crate) stop_grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            idle: IDLE_TIMEOUT,
            stop_grace: STOP_GRACE,
        }
    }
}
