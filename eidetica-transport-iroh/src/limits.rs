//! Every limit of this transport, with its reason.

use std::time::Duration;

/// Longest wait for a connection: the lookup of addresses, the handshake, and an attempt at the same
/// address that is in progress. A handshake across the world through a relay takes about one second.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the peer between two frames, in either direction. It is longer than any pause
/// that a live peer makes: one batch of entries is stored in well under a second.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait of the server for bytes that a caller has at hand: those of a frame that it has
/// begun, and of the first one. Each byte that arrives extends it by a 1024th of a second, up to what
/// it was. A lost connection costs less to make anew than an endless request costs to keep.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long exchanges in progress may go on when the server stops. Most end within milliseconds, and
/// a person at a terminal waits for the stop.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest pause of an answer while the server stops. An answer that has begun and then pauses for
/// longer waits for news and is cut; reading the next batch from a store takes a few milliseconds.
pub(crate) const STOP_QUIET: Duration = Duration::from_millis(250);

/// How long a reused connection may receive nothing after a request was sent on it, before another
/// connection is made. A live peer acknowledges within 25 ms and one round trip.
pub(crate) const SILENCE_TOLERATED: Duration = Duration::from_millis(250);

/// Longest wait for exchanges that were cut to end. Only code that blocks its thread takes that
/// long.
pub(crate) const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a service that has not answered yet may go on after its caller has left: enough to
/// notice that the request was cut, and to clean up.
pub(crate) const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection without an exchange is kept for the next one. A periodic comparison
/// within this time finds the connection open; a peer that left costs no memory after it.
pub(crate) const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for a relay before the server's addresses are given without one. iroh chooses a relay
/// after three seconds where the network drops its QUIC probes, after five at most, and then
/// connects to it. The networks that drop them are those where a relay is needed most.
pub(crate) const RELAY_WAIT: Duration = Duration::from_secs(iroh::NET_REPORT_TIMEOUT + 1);

/// Most peers on the local network that are remembered. An office has fewer; anyone on the network
/// can announce keys that do not exist. Each takes up to 2 KiB.
#[cfg(feature = "mdns")]
pub(crate) const DISCOVERED_MAX: usize = 256;

/// Longest wait for a peer on the local network to announce itself, when it is dialled and no other
/// address is known. Peers answer each query within a second.
#[cfg(feature = "mdns")]
pub(crate) const LOCAL_LOOKUP_WAIT: Duration = Duration::from_secs(2);

/// Slowest progress within a frame, in bytes per second. Each byte that moves extends the frame's
/// deadline by its share, up to what it was, so a large frame over a slow link arrives, and a peer
/// that sends one byte now and then is cut soon after [`STALL_TIMEOUT`] or [`IDLE_TIMEOUT`].
pub(crate) const PROGRESS_BYTES_PER_SECOND: u32 = 1024;

/// Most concurrent exchanges on one connection. The largest tree needs one; the rest is for many
/// trees at once. Each may hold a frame in memory.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 16;

/// Most connections of a client to one peer: 64 concurrent exchanges, as many as an engine runs in
/// all. Long-lived answers leave room for others so.
pub(crate) const CONNECTIONS_TO_PEER_MAX: usize = 4;

/// Most connections from one peer: twice what a client makes, for connections that the peer's
/// restart or change of network left open.
pub(crate) const CONNECTIONS_PER_PEER_MAX: usize = 8;

/// Most connections, including handshakes, that have not completed an exchange. One more, and the
/// oldest of the address that has most is closed: a flood of made-up keys ends here, leaves room to
/// callers that were served before, and a caller that has something to ask is served before its turn
/// comes.
pub(crate) const NEWCOMERS_MAX: usize = 256;

/// Most connections kept that have completed an exchange: a thousand peers that wait for news, and
/// as many that ask. Further ones are served like newcomers. Each costs up to 100 KiB.
pub(crate) const CONNECTIONS_MAX: usize = 2048;

/// Most memory for frames that are not whole yet, of all requests together: eight of the largest.
/// One more byte, and of the peer that has most, the connection whose frame made progress least
/// recently is closed.
pub(crate) const UNFINISHED_BYTES_MAX: usize = 16 << 20;

/// Most memory for answers that a connection has not taken yet, of all exchanges together: 64
/// batches of entries. One more byte, and of the peer that has most, the connection whose answer made
/// progress least recently is closed.
pub(crate) const UNTAKEN_BYTES_MAX: usize = 16 << 20;

/// How much of all answers on one connection may be on its way, sent and not acknowledged: as much as
/// 100 Mbit/s carry within a round trip of 80 ms. It stays in memory until then.
pub(crate) const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// Unfinished frames up to this length are not counted. The usual request is shorter, so a flood of
/// large frames does not affect it.
pub(crate) const FRAME_FREE_BYTES: usize = 4 << 10;

/// How much a caller may send before it is read, on all its streams together, until a whole frame
/// has arrived, on an endpoint of the transport's own. The first frame of a request is a few hundred
/// bytes, rarely some kilobytes.
pub(crate) const NEWCOMER_WINDOW_BYTES: u32 = 64 << 10;

/// How much a caller may send after that, and a peer that was asked. More than all streams together
/// can, so that a stream that is not read leaves room for the others.
pub(crate) const WINDOW_BYTES: u32 = 32 << 20;

/// How often a reader of a large frame yields while there is too little memory, so that the readers
/// that must give memory back can run. It does not wait longer: unread data takes memory too.
pub(crate) const YIELDS_MAX: usize = 16;

/// Largest piece taken from a stream at once, in bytes.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;

/// How often an exchange is tried: a reused connection may turn out to be dead.
pub(crate) const ATTEMPTS_MAX: usize = 2;

/// Most bytes of a request kept to send it again on another connection. Frames are shared, not
/// copied.
pub(crate) const REPLAY_BYTES_MAX: usize = 1 << 20;

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
    pub(crate) untaken_bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            newcomers: NEWCOMERS_MAX,
            connections: CONNECTIONS_MAX,
            unfinished_bytes: UNFINISHED_BYTES_MAX,
            untaken_bytes: UNTAKEN_BYTES_MAX,
        }
    }
}
