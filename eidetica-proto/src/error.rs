//! What goes wrong between two peers, by whose fault it is.

use eidetica_dag::{EntryId, Refusal};
use serde::{Deserialize, Serialize};

pub use crate::batch_error::BatchError;
use crate::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// Longest text of an error on the wire, in bytes. It is for people; programs go by the code.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;

/// Why a peer refuses a request. On the wire it is a number, and later versions may add some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request is not a message of this protocol: the client's fault.
    Malformed,
    /// The peer does not speak the protocol version of the request.
    UnsupportedVersion,
    /// The peer has no such tree, **or the client may not read it**: the two are the same answer.
    NotFound,
    /// The client may read the tree but not write to it.
    ReadOnly,
    /// Something is larger or more than a limit allows.
    TooLarge,
    /// An entry that was sent breaks a rule. Those before it are stored; it and its descendants are
    /// never stored by any replica.
    EntryRefused,
    /// The peer has too much to do: ask again later.
    Busy,
    /// The peer failed, through no fault of the client.
    Internal,
    /// The request does not prove who asks: its signature is of another key, over another request
    /// or for another peer, the request was made before, or it has no signature and needs one.
    Unproven,
    /// The request was signed for another epoch of the peer, or for a time that is not now: sign it
    /// again with what the answer's proof says.
    StaleProof,
    /// The peer does not know this kind of request, or some value in it: it is of a later version.
    Unsupported,
    /// The peer's copy of the tree is damaged. Another peer may have a sound one.
    Damaged,
    /// A later version's code, of which only the number is known.
    Unknown(u16),
}

impl From<u16> for ErrorCode {
    fn from(number: u16) -> Self {
        match number {
            0 => Self::Malformed,
            1 => Self::UnsupportedVersion,
            2 => Self::NotFound,
            3 => Self::ReadOnly,
            4 => Self::TooLarge,
            5 => Self::EntryRefused,
            6 => Self::Busy,
            7 => Self::Internal,
            8 => Self::Unproven,
            9 => Self::StaleProof,
            10 => Self::Unsupported,
            11 => Self::Damaged,
            other => Self::Unknown(other),
        }
    }
}

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Malformed => 0,
            ErrorCode::UnsupportedVersion => 1,
            ErrorCode::NotFound => 2,
            ErrorCode::ReadOnly => 3,
            ErrorCode::TooLarge => 4,
            ErrorCode::EntryRefused => 5,
            ErrorCode::Busy => 6,
            ErrorCode::Internal => 7,
            ErrorCode::Unproven => 8,
            ErrorCode::StaleProof => 9,
            ErrorCode::Unsupported => 10,
            ErrorCode::Damaged => 11,
            ErrorCode::Unknown(number) => number,
        }
    }
}

/// A refusal as encoded on the wire.
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

    /// The one answer for trees that are not here and for trees that the client may not read.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "no such tree, or no access to it")
    }

    /// The answer to a request of another version.
    pub fn unsupported_version(asked: u16) -> Self {
        let text = format!(
            "version {asked} is not supported; this peer speaks {}",
            spoken()
        );
        Self::new(ErrorCode::UnsupportedVersion, text)
    }

    /// The answer to a request with something in it that only a later version knows.
    pub fn unsupported(what: &str, kind: u16) -> Self {
        let text = format!(
            "{what} {kind} is not supported; this peer speaks {}",
            spoken()
        );
        Self::new(ErrorCode::Unsupported, text)
    }

    /// Says that this side's copy of the tree is damaged.
    pub fn damaged() -> Self {
        let text = "this node's copy of the tree is damaged; its log says where";
        Self::new(ErrorCode::Damaged, text)
    }

    /// Says that this side failed, without details that are not the client's concern.
    pub fn internal() -> Self {
        Self::new(
            ErrorCode::Internal,
            "the node failed to answer; its log says why",
        )
    }
}

/// Names the versions that this side speaks.
fn spoken() -> String {
    match PROTOCOL_VERSION_MIN == PROTOCOL_VERSION {
        true => format!("version {PROTOCOL_VERSION}"),
        false => format!("versions {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}"),
    }
}

/// What a peer did that the protocol forbids. The exchange ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// A frame is not a message of this protocol.
    #[error("the peer sent a frame that is not a message of this protocol")]
    NotAMessage,
    /// A response is of a version that was not asked for.
    #[error("the peer answered in version {0} of the protocol, which this side did not offer")]
    OtherVersion(u16),
    /// A message has a kind that only a later version knows, where it cannot be passed over.
    #[error("the peer sent {what} of kind {kind}, which this version does not know")]
    UnknownKind {
        /// What has the kind.
        what: &'static str,
        /// The kind.
        kind: u16,
    },
    /// A message is well formed but out of place.
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
    /// More entries wait for their parents than the limit allows.
    #[error("the peer sent too many entries without their parents")]
    TooManyWaiting,
    /// The peer was asked for entries below its own tips and did not send them.
    #[error("the peer did not send {0}, though it lies below its tips")]
    Withheld(EntryId),
    /// A list is too long, does not ascend or has a value out of range.
    #[error("the peer sent a malformed list: {0}")]
    BadList(&'static str),
    /// A filter cannot be read.
    #[error("the peer sent a filter that cannot be read: {0}")]
    BadFilter(String),
}
