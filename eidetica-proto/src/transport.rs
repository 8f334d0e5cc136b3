//! The seam between the protocol and the transports.
//!
//! A transport moves opaque frames. It knows nothing of entries, trees or stores: one **exchange**
//! is a stream of request frames one way, then a stream of response frames the other way. The
//! machines of this crate decide what the frames mean on the asking side, a [`Service`] on the
//! answering side.
//!
//! A response may live for ever, such as one that reports news. It stays alive as long as a frame
//! arrives within each idle time of the transport, 30 s unless set otherwise; a heartbeat every 15 s
//! does that, and a peer that falls silent is noticed within the idle time.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use eidetica_dag::PublicKey;
use futures_core::Stream;

use crate::address::Address;
use crate::frame::{FrameIncomplete, FrameTooLarge};

/// A stream of frames, without their length prefixes.
///
/// The consumer pulls: the producer makes the next frame when the consumer has room for it, so
/// backpressure reaches the other side. The stream ends with `None`, or with one error, after which
/// it must not be polled again.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// A stream of peers that a transport finds by itself.
pub type DiscoveredStream = Pin<Box<dyn Stream<Item = Discovered> + Send>>;

/// Carries exchanges to peers, and serves the exchanges that peers begin.
///
/// One value is one transport with its own client and its own server; several of one kind may run
/// side by side. Every wait inside has a deadline, so each call ends.
#[async_trait]
pub trait SyncTransport: Send + Sync + 'static {
    /// Returns the transport's name, such as `http`: the kind of address that it handles, or the
    /// first of several.
    fn kind(&self) -> &'static str;

    /// Returns whether [`SyncTransport::exchange`] accepts this address. By default, a transport
    /// accepts the addresses of its own kind.
    fn can_handle_address(&self, address: &Address) -> bool {
        address.kind() == self.kind()
    }

    /// Returns whether every connection proves the keys of both sides to each other. If so,
    /// [`Caller::key`] and [`Response::peer`] are always present; if not, they never are, and both
    /// sides prove their keys by [`crate::proof`].
    fn proves_keys(&self) -> bool;

    /// Returns the key of the peer that an address of this transport names, if every connection that
    /// is made to the address proves that key. By default, an address names no key.
    fn key_in(&self, _address: &Address) -> Option<PublicKey> {
        None
    }

    /// Starts the server, which hands each exchange to `service`. When this returns, the server
    /// listens.
    ///
    /// # Errors
    /// [`TransportErrorKind::AddressInUse`], [`TransportErrorKind::AlreadyRunning`], or an error of
    /// the system.
    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError>;

    /// Stops the server. Exchanges in progress may end within a bounded time, then they are cut. A
    /// response that has begun and waits for news is cut at once. When this returns, nothing of the
    /// server is running, and the server can be started again. Stopping a server that does not run
    /// does nothing.
    ///
    /// # Errors
    /// Only if something could not be ended.
    async fn stop_server(&self) -> Result<(), TransportError>;

    /// Returns whether the server accepts exchanges.
    fn is_server_running(&self) -> bool;

    /// Returns the addresses of this server, best first; none if it does not run.
    async fn server_addresses(&self) -> Vec<Address>;

    /// Sends the request frames to the peer at `address` and returns its response as soon as it
    /// begins. Connections are reused, and a reused connection that turns out to be dead is replaced.
    ///
    /// The request is sent to its end before the response is read, unless the peer answers early:
    /// then the rest of the request need not be sent.
    ///
    /// Dropping the future or the returned stream ends the exchange, and the peer's service drops
    /// its side promptly. A caller may therefore try another address before this one has failed,
    /// and drop the slower attempt.
    ///
    /// # Errors
    /// Each [`TransportErrorKind`] except those of starting a server. An error from the `request`
    /// stream ends the exchange and is returned unchanged.
    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError>;

    /// Returns the peers that this transport finds by itself, such as on the local network: those
    /// found so far, and then each one that appears, or appears at another address. The stream ends
    /// when the transport is closed. A slow consumer costs no memory: it misses addresses that were
    /// replaced meanwhile. By default, a transport finds no peers.
    fn discovered(&self) -> Option<DiscoveredStream> {
        None
    }

    /// Tells the transport that the network of this machine may have changed, or that the machine
    /// was suspended, so that it checks its connections at once. Calling it without need is
    /// harmless. By default, it does nothing.
    async fn network_changed(&self) {}

    /// Stops the server and closes every connection. The transport cannot be used after that.
    ///
    /// # Errors
    /// Only if something could not be ended.
    async fn close(&self) -> Result<(), TransportError>;
}

/// A peer that a transport has found by itself.
///
/// It is a hint that anyone on the network can forge: only an exchange at the address proves the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The key that the peer claims.
    pub key: PublicKey,
    /// The address that it claims.
    pub address: Address,
}

/// The response of a peer.
pub struct Response {
    /// The key that the connection proves the peer to hold, if the transport proves one.
    pub peer: Option<PublicKey>,
    /// The frames of the response.
    pub frames: FrameStream,
}

/// The answering side: handles the exchanges that peers begin.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one exchange. The response may begin before the request has ended, and the service
    /// may drop the request without reading all of it. When the caller leaves, the response is
    /// dropped.
    async fn exchange(&self, caller: Caller, request: FrameStream) -> FrameStream;
}

/// The peer that began an exchange, as far as the transport knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The kind of the transport, such as `http`.
    pub transport: &'static str,
    /// The key that the connection proves the caller to hold, if the transport proves one.
    pub key: Option<PublicKey>,
    /// The source of the caller's packets, for logs only.
    pub remote: String,
}

/// The kind of a [`TransportError`]: whose fault it is, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The address to listen on is in use: choose another, or stop the program that uses it.
    AddressInUse,
    /// The server is already running.
    AlreadyRunning,
    /// No transport handles addresses of this kind, or the value is malformed.
    UnusableAddress,
    /// The peer is reachable, but no server listens at the address.
    Refused,
    /// The address could not be reached.
    Unreachable,
    /// A deadline passed: for connecting, or for the next frame.
    TimedOut,
    /// The peer speaks another protocol, or another version of it.
    ProtocolMismatch,
    /// Another peer answers at the address.
    WrongPeer,
    /// The connection was lost, or the peer cut the exchange, before its end.
    ConnectionLost,
    /// A frame is larger than [`FRAME_BYTES_MAX`](crate::frame::FRAME_BYTES_MAX).
    FrameTooLarge,
    /// A proxy on the path refuses requests of this size: send less at once
    /// ([`BodyLimit`](crate::body_limit::BodyLimit)), or raise its limit.
    RequestTooLarge,
    /// The peer has no room for this exchange: retry later, after [`TransportError::retry_after`] if
    /// it is given.
    Busy,
    /// The transport is closed on this side.
    Closed,
    /// This machine failed.
    Local,
}

impl TransportErrorKind {
    /// Returns whether the same exchange may succeed later without a change on this side.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Refused
            | Self::Unreachable
            | Self::TimedOut
            | Self::ConnectionLost
            | Self::Busy
            | Self::RequestTooLarge
            | Self::Local => true,
            Self::AddressInUse
            | Self::AlreadyRunning
            | Self::UnusableAddress
            | Self::ProtocolMismatch
            | Self::WrongPeer
            | Self::FrameTooLarge
            | Self::Closed => false,
        }
    }
}

/// An exchange failed, or a server did not start.
///
/// The kind is for programs; the text says what was tried and what to do. [`StdError::source`] is
/// the transport's own error, whose type is not part of the interface.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    text: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// Makes an error of this kind. `text` says what was tried and what to do next.
    pub fn new(kind: TransportErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            retry_after: None,
            source: None,
        }
    }

    /// Adds how long the peer asks to wait before another attempt.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Makes an error of the kind [`TransportErrorKind::ConnectionLost`].
    pub fn connection_lost(text: impl Into<String>) -> Self {
        Self::new(TransportErrorKind::ConnectionLost, text)
    }

    /// Makes an error of the kind [`TransportErrorKind::TimedOut`].
    pub fn timed_out(text: impl Into<String>) -> Self {
        Self::new(TransportErrorKind::TimedOut, text)
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// Returns how long the peer asks to wait before another attempt, if it asks.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns whether the same exchange may succeed later without a change on this side.
    pub fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<FrameTooLarge> for TransportError {
    fn from(error: FrameTooLarge) -> Self {
        Self::new(TransportErrorKind::FrameTooLarge, error.to_string())
    }
}

impl From<FrameIncomplete> for TransportError {
    fn from(error: FrameIncomplete) -> Self {
        Self::new(TransportErrorKind::ConnectionLost, error.to_string())
    }
}
