//! Every limit of the transport, with its reason.

use std::time::Duration;

/// Longest time to connect, the handshake of TLS included, and for the handshake and the first
/// request's head to arrive at the server: anything slower than three
/// lost packets in a row is not there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that the server waits for bytes that a caller has at hand: those of a frame that it
/// has begun, of the first one, and of the end of a body. Each byte that arrives extends it by its
/// share of [`PROGRESS_MIN_BYTES_PER_S`]. A connection that was lost for that long costs less to
/// make anew than one that is never going to end costs to keep.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest time to wait for the other side to send or to take the next bytes.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that exchanges under way get to end when the server stops.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// Longest pause of an answer while the server stops. An answer that has begun and then pauses for
/// longer waits for news and is cut; reading the next batch from a store takes a few milliseconds.
pub const STOP_QUIET: Duration = Duration::from_millis(250);

/// Least progress of a request's body while the server waits for it: 1 KiB/s. A modem did better;
/// who is slower wants to hold the connection.
pub const PROGRESS_MIN_BYTES_PER_S: u64 = 1024;

/// Most bytes given to the connection at once. With [`IDLE_TIMEOUT`] for each piece, an answer
/// makes at least [`PROGRESS_MIN_BYTES_PER_S`].
pub const PIECE_BYTES: usize = 32 << 10;

/// Most connections kept that have had an answer: a thousand peers that wait for news over HTTP/1.1,
/// and as many that ask. An idle connection costs about 20 KiB of buffers.
pub const CONNECTIONS_MAX: usize = 2048;

/// Most connections that have had no answer yet. One more, and the oldest of them is closed, of
/// those from the address that has most: a flood of connections that say nothing ends here, and
/// a peer that sends a request is answered before its turn comes. Peers are not limited one by
/// one: this transport does not know them, and many may share one address.
pub const NEWCOMERS_MAX: usize = 256;

/// Most memory for frames that are not whole yet, of all requests together: eight of the largest.
/// One more byte, and the connection whose frame got on least recently is closed, chosen as above.
pub const UNFINISHED_BYTES_MAX: usize = 16 << 20;

/// Most memory for answers that were handed to a connection and not taken yet, of all connections
/// together: 64 batches of entries. One more byte, and the connection whose answer got on least
/// recently is closed, chosen as above: a reader takes a batch within seconds, also over a slow link.
pub const UNTAKEN_BYTES_MAX: usize = 16 << 20;

/// An answer is not counted while no more than this is not taken. The usual one is shorter, so no flood
/// of large ones reaches it.
pub const UNTAKEN_FREE_BYTES: usize = 1 << 10;

/// Most of the connections with an answer that one address may have, as parts of
/// [`CONNECTIONS_MAX`]: three quarters, because all callers of a proxy have its address. Further ones
/// count as newcomers.
pub const CONNECTIONS_OF_ONE: (usize, usize) = (3, 4);

/// A frame is not counted until more than this has arrived. The usual request is shorter, so no flood
/// of large frames reaches it.
pub const FRAME_FREE_BYTES: usize = 4 << 10;

/// Most bytes read from a connection before they are taken, and the longest head.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// Most concurrent exchanges on one HTTP/2 connection.
pub const EXCHANGES_PER_CONNECTION_MAX: u32 = 16;

/// Most HTTP/2 connections of a client to one server: 64 concurrent exchanges, as many as an engine
/// runs in all.
pub const HTTP2_CONNECTIONS_MAX: usize = 4;

/// How much of a request may arrive before it is read, for each HTTP/2 exchange.
pub const REQUEST_WINDOW_BYTES: u32 = 256 << 10;

/// How much of an answer may arrive before it is read, for each HTTP/2 exchange. Larger than
/// [`REQUEST_WINDOW_BYTES`] because a client chooses whom it asks.
pub const ANSWER_WINDOW_BYTES: u32 = 1 << 20;

/// Longest time that a request is read and thrown away after its answer has ended, so that a
/// caller that still sends gets the answer before the connection ends.
pub const LINGER: Duration = Duration::from_secs(5);

/// How much of an unread request is thrown away at full speed: bytes under way when a caller
/// stops sending as soon as it can.
pub const LINGER_BYTES: usize = 1 << 20;

/// Pause after each piece of an unread request beyond [`LINGER_BYTES`].
pub const LINGER_PAUSE: Duration = Duration::from_millis(10);

/// How long the client keeps a connection that it does not use: half of [`IDLE_TIMEOUT`], after
/// which the server closes it, so that no exchange begins on a connection about to be closed.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Most HTTP/1.1 connections to one server that the client keeps without using them.
pub const POOL_IDLE_CONNECTIONS_MAX: usize = 8;

/// How often an HTTP/2 client asks a server that says nothing whether it is there, and how long it
/// waits for that answer.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Most text of a refusal that is repeated in an error.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 300;

/// How long the server waits when the system has no room for another connection.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How long it waits when it has closed another one to make room: that takes a moment.
pub const FREED_BACKOFF: Duration = Duration::from_millis(2);

/// How many connections the system keeps for the server until it takes them.
pub const ACCEPT_BACKLOG: u32 = 1024;
