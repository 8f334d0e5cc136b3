//! What goes wrong between two peers, by whose fault it is.

use eidetica_dag::{EntryId, Refusal};
use serde::{Deserialize, Serialize};

use crate::PROTOCOL_VERSION;
pub use crate::batch_error::BatchError;

/// Longest text of an error on the wire, in bytes. It is for people; programs go by the code.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;

/// Why a peer refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is not a message of this protocol: the asker's fault.
    Malformed,
    /// The request's protocol version is not spoken here.
    UnsupportedVersion,
    /// There is no such tree here, **or the asker may not read it**: the two are the same answer.
    NotFound,
    /// The asker may read the tree and not write to it.
    ReadOnly,
    /// Something is larger or more than a limit allows.
    TooLarge,
    /// An entry that was sent breaks a rule. Those before it are stored; it and its descendants
    /// never will be.
    EntryRefused,
    /// The peer has too much to do: ask again later.
    Busy,
    /// The peer failed, through no fault of the asker.
    Internal,
    /// The request does not prove who asks: its signature is of somebody else, over another
    /// request or for another peer, it was made before, or it has none where one is needed.
    Unproven,
    /// The request was signed for another epoch of the peer, or for a time that is not now: sign it
    /// again with what the answer's proof says.
    StaleProof,
}

/// A refusal as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the peer refused ({code:?}): {text}")]
pub struct WireError {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people; at most [`ERROR_TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// When to ask again, in milliseconds from now, if that may help.
    pub retry_after_ms: Option<u32>,
}

impl WireError {
    /// Makes a refusal. The text is cut where it is too long.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        let cut = (0..=ERROR_TEXT_BYTES_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        Self {
            code,
            text,
            retry_after_ms: None,
        }
    }

    /// The one answer for trees that are not here and for trees that the asker may not read.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "no such tree, or no access to it")
    }

    /// The answer to a request of another version.
    pub fn unsupported_version(asked: u16) -> Self {
        let text = format!("version {asked} is not spoken here, version {PROTOCOL_VERSION} is");
        Self::new(ErrorCode::UnsupportedVersion, text)
    }

    /// Says that this side failed, without saying how: that is nobody else's business.
    pub fn internal() -> Self {
        Self::new(
            ErrorCode::Internal,
            "the node failed to answer; its log says why",
        )
    }
}

/// What a peer did that the protocol forbids. The exchange ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// A frame is not a message of this protocol.
    #[error("the peer sent a frame that is no message of this protocol")]
    NotAMessage,
    /// A message is well formed and out of place.
    #[error("the peer sent {got} where {wanted} belongs")]
    OutOfPlace {
        /// What came.
        got: &'static str,
        /// What should have come.
        wanted: &'static str,
    },
    /// The stream ended, cleanly, before it was complete.
    #[error("the peer ended its message before it was complete")]
    Incomplete,
    /// A batch cannot be unpacked.
    #[error("the peer sent a batch that cannot be unpacked: {0}")]
    BadBatch(#[from] BatchError),
    /// An entry's signature is not its author's.
    #[error("the peer sent a forged entry: the signature of {0} is not its author's")]
    Forged(EntryId),
    /// An entry breaks a rule of the tree.
    #[error("the peer sent an entry that may not be in the tree: {0}")]
    RefusedEntry(#[from] Refusal),
    /// More entries wait for their parents than anyone has to keep.
    #[error("the peer sent too many entries without their parents")]
    TooManyWaiting,
    /// The peer was asked for entries below its own tips and did not send them.
    #[error("the peer did not send {0}, though it lies below its tips")]
    Withheld(EntryId),
    /// The peer says what cannot be, in a list that is too long, not ascending or out of range.
    #[error("the peer sent a malformed list: {0}")]
    BadList(&'static str),
    /// A filter cannot be read.
    #[error("the peer sent a filter that cannot be read: {0}")]
    BadFilter(String),
}
