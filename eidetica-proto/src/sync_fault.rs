//! Why a transfer ends early.

use crate::error::{PeerFault, WireError};

/// Why a sync, or receiving entries, ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncFault {
    /// The peer does not answer this request, or cannot go on with its answer.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The peer broke the protocol.
    #[error(transparent)]
    Peer(#[from] PeerFault),
}
