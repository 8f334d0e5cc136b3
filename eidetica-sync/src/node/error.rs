//! What a program that uses a node can run into.

use eidetica_dag::{EntryError, EntryId, PublicKey, Refusal, TreeId};
use eidetica_proto::joining::INVITES_PER_TREE_MAX;
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

/// Why something could not be written or read here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is no such tree in this store.
    #[error("there is no tree {0} here; join it with a ticket, or create one")]
    NoSuchTree(TreeId),
    /// The entry is not well formed; the text says which limit it passes.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The tree does not take the entry: usually because this node's key has not the role for it.
    #[error("{0}; an admin of the tree can grant the role")]
    Refused(Refusal),
    /// An entry's parent is not stored.
    #[error("the parent {0} is not here; parents are stored before their children")]
    MissingParent(EntryId),
    /// Nobody with this key asks to join the tree, or its request has expired.
    #[error("{0} does not ask to join this tree; to let it in all the same, grant it a role")]
    NoSuchRequest(PublicKey),
    /// This node is not admin of the tree.
    #[error("this device is not admin of the tree {0}; an admin can grant it that")]
    NotAdmin(TreeId),
    /// There are as many open invites as are kept.
    #[error(
        "the tree {0} has {INVITES_PER_TREE_MAX} open invites, which is the most; withdraw some"
    )]
    TooManyInvites(TreeId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
