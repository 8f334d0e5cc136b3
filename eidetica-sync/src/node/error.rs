//! Why a tree cannot be read or written.

use eidetica_dag::{EntryError, EntryId, PublicKey, Refusal, Subject, TreeId};
use eidetica_proto::joining::INVITES_PER_TREE_MAX;

use crate::store::StoreError;

/// Why a tree could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The store has no such tree.
    #[error("the store has no tree {0}; join it with a ticket, or create one")]
    NoSuchTree(TreeId),
    /// The entry is not well formed; the message says which limit it exceeds.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An entry breaks a rule of the tree, usually because its author lacks the required role.
    #[error("{0}; an admin of the tree can grant the role")]
    Refused(Refusal),
    /// An entry's parent is not stored.
    #[error("the parent {0} is not stored; parents must be stored before their children")]
    MissingParent(EntryId),
    /// The store does not have an entry.
    #[error("the entry {0} is not stored; sync the tree, and try again")]
    NoSuchEntry(EntryId),
    /// A cursor is of another store, or of this one before an older copy of it was restored.
    #[error(
        "the cursor is not of the tree {0} in this store, or an older copy of the store was restored \
         since; start again"
    )]
    OtherLog(TreeId),
    /// There is no request to join by this key, or it has expired.
    #[error("{0} has no pending request to join this tree; grant it a role instead")]
    NoSuchRequest(PublicKey),
    /// No signature of the key can verify, so no device has it. Nothing was written.
    #[error("{0} is not the key of a device: no signature of it can be valid; check its digits")]
    UnusableKey(PublicKey),
    /// This node's key is not an admin of the tree.
    #[error("this device is not an admin of the tree {0}; an admin can grant it the role")]
    NotAdmin(TreeId),
    /// The change would have no effect: usually because it lowers an admin that is senior to this
    /// device. Nothing was written.
    #[error(
        "the change about {} would have no effect, so nothing was written: only a more senior admin \
         can lower an admin, or the admin itself", subject_name(.0)
    )]
    NoEffect(Subject),
    /// The tree has [`INVITES_PER_TREE_MAX`] open invites.
    #[error(
        "the tree {0} has {INVITES_PER_TREE_MAX} open invites, which is the maximum; withdraw some"
    )]
    TooManyInvites(TreeId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn subject_name(subject: &Subject) -> String {
    match subject {
        Subject::Anyone => "anyone".to_owned(),
        Subject::Key(key) => key.to_string(),
    }
}
