//! Why a sync fails.

use std::time::Duration;

use eidetica_proto::coordinator::TooManyLanes;
use eidetica_proto::{Address, ErrorCode, SyncFault, TransportError, WireError};

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
    /// Too many trees are followed.
    #[error(transparent)]
    TooManyFollowed(#[from] TooManyLanes),
    /// The peer did not confirm in time that both sides have the same entries.
    #[error("the peer did not confirm within {0:?} that it has the same entries; status tells why")]
    NotConfirmed(Duration),
    /// The node was shut down.
    #[error("the node was shut down")]
    Closed,
}

impl SyncError {
    pub(crate) fn transport(address: &Address, source: TransportError) -> Self {
        Self::Transport {
            address: address.clone(),
            source,
        }
    }

    pub(crate) fn peer(address: &Address, source: impl Into<SyncFault>) -> Self {
        Self::Peer {
            address: address.clone(),
            source: source.into(),
        }
    }

    /// Tells whether the peer has no such tree or does not let this node read it; it does not say which.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Peer {
                source: SyncFault::Refused(WireError {
                    code: ErrorCode::NotFound,
                    ..
                }),
                ..
            }
        )
    }

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
            Self::Peer { .. } | Self::NoAddress | Self::TooManyFollowed(_) | Self::Closed => false,
            Self::Store(_) | Self::NotConfirmed(_) => true,
        }
    }
}
