//! Why a sync fails.

use eidetica_proto::{Address, ErrorCode, SyncFault, TransportError};

use crate::store::StoreError;

/// Why a sync did not come to its end. What was stored before stays, and the next sync goes on from
/// there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The peer could not be reached, or the connection broke.
    #[error("{address}: {source}")]
    Transport {
        /// Where it was tried.
        address: Address,
        /// What went wrong.
        source: TransportError,
    },
    /// The peer refused, or broke the protocol.
    #[error("{address}: {source}")]
    Peer {
        /// Where it was tried.
        address: Address,
        /// What it did.
        source: SyncFault,
    },
    /// The store here failed.
    #[error("the store here failed: {0}")]
    Store(#[from] StoreError),
    /// There is no address to try.
    #[error("there is no address of the peer to try; a ticket has them behind 'at='")]
    NoAddress,
    /// The node is shut down.
    #[error("the node is shut down")]
    Closed,
}

impl SyncError {
    /// Tells whether the same sync may succeed later without anything being changed here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { source, .. } => source.is_transient(),
            Self::Peer {
                source: SyncFault::Refused(error),
                ..
            } => {
                matches!(
                    error.code,
                    ErrorCode::Busy | ErrorCode::Internal | ErrorCode::StaleProof
                )
            }
            Self::Peer { .. } | Self::NoAddress | Self::Closed => false,
            Self::Store(_) => true,
        }
    }
}
