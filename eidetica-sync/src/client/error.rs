//! Why a sync fails.

use eidetica_proto::{Address, ErrorCode, SyncFault, TransportError};

use crate::store::StoreError;

/// Why a sync failed. Entries stored before the error stay, and the next sync continues from them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The peer could not be reached, or the connection broke.
    #[error("{address}: {source}")]
    Transport {
        /// The address that was tried.
        address: Address,
        /// What went wrong.
        source: TransportError,
    },
    /// The peer refused, or broke the protocol.
    #[error("{address}: {source}")]
    Peer {
        /// The address that was tried.
        address: Address,
        /// What the peer did.
        source: SyncFault,
    },
    /// The local store failed.
    #[error("the local store failed: {0}")]
    Store(#[from] StoreError),
    /// No address of the peer is known.
    #[error("no address of the peer is known; tickets list addresses as at=…")]
    NoAddress,
    /// The node was shut down.
    #[error("the node was shut down")]
    Closed,
}

impl SyncError {
    /// Tells whether the same sync may succeed later without a change on this side.
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
