//! Why a tree cannot be read or written.

use eidetica_dag::{EntryError, EntryId, PublicKey, Refusal, TreeId};
use eidetica_proto::joining::INVITES_PER_TREE_MAX;

use crate::store::StoreError;

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
