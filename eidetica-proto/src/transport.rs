//! The seam between the protocol and whatever carries its frames.
//!
//! A transport moves opaque frames. It knows nothing of entries, trees or stores: one **exchange**
//! is a stream of request frames one way, then a stream of response frames the other way. What the
//! frames mean is decided by the machines of this crate on the asking side, and by a [`Service`] on
//! the answering side.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use eidetica_dag::{EntryId, PublicKey, TreeId};
use futures_core::Stream;
use serde::Serialize;

use crate::address::Address;
use crate::frame::FrameTooLarge;

/// A stream of frames, without their length prefixes.
///
/// It is pulled: the producer makes the next frame when the consumer has room for it, which is how
/// backpressure reaches the other side. It ends with `None`, or with one error, after which it
/// must not be polled again.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Carries exchanges to peers, and serves those that peers begin.
///
/// One value is one transport with its own client side and its own server; several of one kind may
/// run beside each other. Every wait inside has a deadline, so that each call ends.
#[async_trait]
pub trait SyncTransport: Send + Sync + 'static {
    /// Returns the transport's name, such as `http`: the kind of address that it understands, or
    /// the first of several.
    fn kind(&self) -> &'static str;

    /// Tells whether [`SyncTransport::exchange`] can take this address. By default those of its own
    /// kind; a transport with several kinds says so here.
    fn can_handle_address(&self, address: &Address) -> bool {
        address.kind() == self.kind()
    }

    /// Tells whether every connection proves the keys of both sides to each other. If so,
    /// [`Caller::key`] and [`Response::peer`] are always there; if not, never, and both sides prove
    /// theirs by [`crate::proof`].
    fn proves_keys(&self) -> bool;

    /// Starts to accept exchanges and hands each to `service`. When this returns, the server
    /// listens.
    ///
    /// # Errors
    /// [`TransportErrorKind::AddressInUse`], [`TransportErrorKind::AlreadyRunning`], or whatever
    /// the system says.
    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError>;

    /// Stops accepting, lets exchanges under way end for a bounded time, then cuts them. When this
    /// returns, nothing of the server is left running, and the server can be started again.
    /// Stopping a server that does not run does nothing.
    ///
    /// # Errors
    /// Only if something had to be left behind.
    async fn stop_server(&self) -> Result<(), TransportError>;

    /// Tells whether the server accepts exchanges.
    fn is_server_running(&self) -> bool;

    /// Returns where others can reach this server, best first; nothing when it does not run.
    async fn server_addresses(&self) -> Vec<Address>;

    /// Sends the request frames to the peer at `address` and returns its answer as soon as it
    /// begins. Connections are reused. Dropping the returned stream ends the exchange.
    ///
    /// The request is sent to its end before the response is read, unless the peer answers early:
    /// then what is left of the request need not be sent.
    ///
    /// # Errors
    /// Each [`TransportErrorKind`] but those of starting a server. An error that the `request`
    /// stream gives ends the exchange and comes back as it is.
    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError>;

    /// Stops the server and closes every connection. The transport is of no use after that.
    ///
    /// # Errors
    /// Only if something had to be left behind.
    async fn close(&self) -> Result<(), TransportError>;
}

/// What a peer answers.
pub struct Response {
    /// The key that the connection proves the peer to hold, if the transport proves one.
    pub peer: Option<PublicKey>,
    /// The frames of the answer.
    pub frames: FrameStream,
}

/// The answering side: what a server does with the exchanges that peers begin.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one exchange. The answer may begin before the request has ended, and the service
    /// may drop the request without reading it all.
    async fn exchange(&self, caller: Caller, request: FrameStream) -> FrameStream;

    /// Answers a read-only question from a person or a script that speaks no frames. It shows only
    /// what anyone may read.
    async fn inspect(&self, question: Question) -> Result<Inspection, InspectError>;
}

/// Who began an exchange, as far as the transport can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The kind of the transport, such as `http`.
    pub transport: &'static str,
    /// The key that the connection proves the caller to hold, if the transport proves one.
    pub key: Option<PublicKey>,
    /// Where the caller's packets come from, for logs only.
    pub remote: String,
}

/// A read-only question, as asked over plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Is the node up, and what does it speak?
    Health,
    /// Which trees may anyone read?
    Trees,
    /// What are the tips of this tree?
    Tips(TreeId),
    /// What does this entry say?
    Entry(TreeId, EntryId),
}

/// The answer to a [`Question`], ready to be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Inspection {
    /// Answers [`Question::Health`].
    Health {
        /// Always `ok`; whoever is not answers nothing.
        status: &'static str,
        /// The protocol versions spoken.
        protocol_versions: Vec<u16>,
        /// The node's public key, in hexadecimal digits.
        key: String,
    },
    /// Answers [`Question::Trees`].
    Trees {
        /// One for each tree that anyone may read, ascending by id.
        trees: Vec<TreeInspection>,
    },
    /// Answers [`Question::Tips`].
    Tips(TreeInspection),
    /// Answers [`Question::Entry`].
    Entry(EntryInspection),
}

/// One tree, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeInspection {
    /// The tree's id, in hexadecimal digits.
    pub tree: String,
    /// The name that its root gives it.
    pub name: String,
    /// How many entries are stored.
    pub entries: u64,
    /// The ids of the tips, ascending.
    pub tips: Vec<String>,
}

/// One entry, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryInspection {
    /// The entry's id, in hexadecimal digits.
    pub id: String,
    /// The tree's id.
    pub tree: String,
    /// The parents' ids, ascending.
    pub parents: Vec<String>,
    /// Zero for the root, else one more than the highest parent's.
    pub height: u64,
    /// The author's claim, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The author's public key.
    pub author: String,
    /// `data`, `access` or `genesis`.
    pub kind: &'static str,
    /// The payload as text, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Length of the payload in bytes.
    pub payload_bytes: u64,
}

/// Why a [`Question`] has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// There is no such thing, or not everyone may read it: the two look the same.
    #[error("not found")]
    NotFound,
    /// The node failed, through no fault of the asker.
    #[error("the node failed to answer")]
    Internal,
}

/// What went wrong in carrying an exchange, by whose fault it is and what can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The address to listen on is taken: choose another, or stop whoever has it.
    AddressInUse,
    /// The server runs already.
    AlreadyRunning,
    /// The address is of a kind that no transport here understands, or its value is malformed.
    UnusableAddress,
    /// Nobody listens at the address.
    Refused,
    /// The address could not be reached at all.
    Unreachable,
    /// A deadline passed: for connecting, for the next frame, or for the whole answer.
    TimedOut,
    /// The peer speaks another protocol, or no version of it that is spoken here.
    ProtocolMismatch,
    /// The peer is somebody else than the address says.
    WrongPeer,
    /// The connection broke while the exchange was under way.
    ConnectionLost,
    /// The peer announced a frame larger than any may be.
    FrameTooLarge,
    /// The peer has no room for this exchange now: try later.
    Busy,
    /// The transport was closed on this side.
    Closed,
    /// The system here failed.
    Local,
}

impl TransportErrorKind {
    /// Tells whether the same exchange may succeed later without anything being changed here.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Refused
            | Self::Unreachable
            | Self::TimedOut
            | Self::ConnectionLost
            | Self::Busy
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

/// What went wrong in carrying an exchange.
///
/// The kind is for programs; the text says what was tried and what to do. The transport's own error
/// is behind [`StdError::source`], its type is nobody's business.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    text: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// Makes an error of this kind. `text` says what was tried and what to do next.
    pub fn new(kind: TransportErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
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

    /// Returns what went wrong, for programs.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// Tells whether the same exchange may succeed later without anything being changed here.
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
