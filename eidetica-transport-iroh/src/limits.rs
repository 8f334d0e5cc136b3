//! Every limit of this transport, with its reason.

use std::time::Duration;

/// Longest wait for a connection: the lookup of addresses, the handshake, and whoever dials the
/// same peer already. A handshake across the world through a relay takes about one second.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the peer between two frames, in either direction. It is longer than any pause
/// that a live peer makes: one batch of entries is stored in well under a second.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait of the server for bytes that a caller has at hand: those of a frame that it has
/// begun, and of the first one. Each byte that arrives extends it by a 1024th of a second, up to what
/// it was. A connection that was lost for that long costs less to make anew
/// than one that is never going to end costs to keep.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(8);

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
/// deadline by its share, up to what it was, so a large frame over a slow link arrives, and a peer
/// that sends one byte now and then is cut soon after [`STALL_TIMEOUT`] or [`IDLE_TIMEOUT`].
pub(crate) const PROGRESS_BYTES_PER_SECOND: u32 = 1024;

/// Exchanges under way on one connection. The largest tree needs one; the rest is for many trees
/// at once. Each may hold a frame in memory.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 16;

/// Connections of one peer. One is enough; the rest is for connections that the peer's restart or
/// change of network left behind.
pub(crate) const CONNECTIONS_PER_PEER_MAX: usize = 8;

/// Connections, handshakes included, of callers that have not completed an exchange. One more, and
/// the oldest of them is closed, of those from the address that has most: a flood of made-up keys
/// ends here, leaves room to those who were served before, and whoever has something to say is
/// served before its turn comes.
pub(crate) const NEWCOMERS_MAX: usize = 256;

/// Connections of callers that have completed an exchange, which are kept for the next one. More of
/// them are served as newcomers are. Each costs some 100 KiB.
pub(crate) const CONNECTIONS_MAX: usize = 512;

/// Most memory for frames that are not whole yet, of all requests together: eight of the largest.
/// One more byte, and the connection whose frame got on least recently is closed, of the peer that has most.
pub(crate) const UNFINISHED_BYTES_MAX: usize = 16 << 20;

/// What is there of a frame is not counted up to here. The usual request is shorter, so no flood of
/// large frames reaches it.
pub(crate) const FRAME_FREE_BYTES: usize = 4 << 10;

/// How much a caller may send before it is read, on all its streams together, until a whole frame
/// has come, on an endpoint of the transport's own. The first frame of a request is a few hundred bytes, rarely some kilobytes.
pub(crate) const NEWCOMER_WINDOW_BYTES: u32 = 64 << 10;

/// How much a caller may send then, and a peer that was asked. More than all streams together can, so that one that
/// is not read leaves room for the others.
pub(crate) const WINDOW_BYTES: u32 = 32 << 20;

/// How often a reader of a large frame lets others go first while there is too little memory: those
/// that must give theirs back. It does not wait for them, for what is not read takes memory too.
pub(crate) const YIELDS_MAX: usize = 16;

/// Largest piece taken from a stream at once, in bytes.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// How often an exchange is begun: a pooled connection may turn out to be closed by then.
pub(crate) const ATTEMPTS_MAX: usize = 2;

/// The waits that a program may choose. The defaults are the constants of this module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) connect: Duration,
    pub(crate) stall: Duration,
    pub(crate) idle: Duration,
    pub(crate) stop_grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            stall: STALL_TIMEOUT,
            idle: IDLE_TIMEOUT,
            stop_grace: STOP_GRACE,
        }
    }
}

/// The numbers that a program may choose. The defaults are the constants of this module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    pub(crate) newcomers: usize,
    pub(crate) connections: usize,
    pub(crate) unfinished_bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            newcomers: NEWCOMERS_MAX,
            connections: CONNECTIONS_MAX,
            unfinished_bytes: UNFINISHED_BYTES_MAX,
        }
    }
}
