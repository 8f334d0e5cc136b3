//! Entries before they are signed: plain data, and the rules of their form.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::access::{AccessChange, CHANGES_MAX, Role, Subject};
use crate::id::{EntryId, TreeId};
use crate::key::PublicKey;

/// The version of the entry format that this crate writes and reads.
pub const ENTRY_VERSION: u8 = 2;

/// Largest entry in bytes, canonical bytes and signature together. One entry always fits into one
/// frame and into a receiver's memory.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Most parents of one entry. A tree with more tips than this is merged in several steps.
pub const PARENTS_MAX: usize = 256;

/// Longest name of a tree in bytes: a line on a screen.
pub const NAME_BYTES_MAX: usize = 256;

/// An entry before it is signed.
///
/// The root has no tree, no parents, height 0 and a [`Body::Genesis`]. Every other entry names its
/// tree and at least one parent, and its height is one more than its highest parent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The tree that the entry belongs to; `None` in the root, which cannot name itself.
    pub tree: Option<TreeId>,
    /// The ids of the parents, strictly ascending.
    pub parents: Vec<EntryId>,
    /// Number of steps on the longest path to the root.
    pub height: u32,
    /// The author's claim, in milliseconds since 1970. Nothing is ordered or decided by it.
    pub timestamp_ms: u64,
    /// The author, who signs the entry.
    pub author: PublicKey,
    /// What the entry carries.
    pub body: Body,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Bytes of the application.
    Data(Bytes),
    /// Grants and revocations. Needs [`crate::Role::Admin`].
    Access(Vec<AccessChange>),
    /// The beginning of a tree. Its author is admin of the tree.
    Genesis(Genesis),
    /// Content of a kind that this crate does not interpret. Needs [`crate::Role::Write`].
    ///
    /// It is checked, stored and sent like data, so that peers relay kinds that they do not know.
    Extension {
        /// What `bytes` mean, by agreement between programs.
        kind: u32,
        /// The content.
        bytes: Bytes,
    },
}

/// Identifies the rule that decides who may do what in a tree.
///
/// The root names the rule, and all replicas of a tree must apply the same one. A crate that does
/// not know the rule refuses the root with [`EntryError::UnknownAccessRule`], and with it the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessRule(pub u16);

impl AccessRule {
    /// Strong removal by seniority, the only rule that this crate knows: see [`crate::access`].
    pub const SENIORITY: Self = Self(1);

    pub(crate) fn check(self) -> Result<(), EntryError> {
        match self {
            Self::SENIORITY => Ok(()),
            Self(other) => Err(EntryError::UnknownAccessRule(other)),
        }
    }
}

/// The beginning of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The rule that decides who may do what in this tree. It comes first in the encoding, so that
    /// an unknown rule is recognised whatever follows it.
    pub access_rule: AccessRule,
    /// Sixteen random bytes, so that two trees of one author and name differ.
    pub nonce: [u8; 16],
    /// A name for people. Nothing depends on it.
    pub name: String,
    /// The roles of other subjects from the start.
    pub access: Vec<AccessChange>,
}

/// The rule of form that an entry breaks. The author is at fault, or a peer that altered the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum EntryError {
    /// The bytes are not the canonical form of an entry and a signature.
    #[error("the bytes are not the canonical encoding of an entry")]
    NotCanonical,
    /// The entry has a format version other than [`ENTRY_VERSION`].
    #[error("the entry has format version {0}, only version {ENTRY_VERSION} is supported")]
    UnknownVersion(u8),
    /// The entry is larger than [`ENTRY_BYTES_MAX`].
    #[error("the entry has {bytes} bytes, the maximum is {ENTRY_BYTES_MAX}; split the payload")]
    TooLarge {
        /// Its size, signature included.
        bytes: usize,
    },
    /// There are more parents than [`PARENTS_MAX`].
    #[error("the entry has {0} parents, the maximum is {PARENTS_MAX}; merge in several steps")]
    TooManyParents(usize),
    /// The parents are not strictly ascending.
    #[error("the parents are not strictly ascending")]
    ParentsNotAscending,
    /// The root names a tree or parents, or its height is not zero.
    #[error("a root has no tree, no parents and height 0")]
    MalformedRoot,
    /// An entry that is not a root names no tree or no parents, or has height 0, or is a genesis.
    #[error("an entry that is not a root has a tree, parents, a height and no genesis")]
    MalformedEntry,
    /// The name of the tree is longer than [`NAME_BYTES_MAX`].
    #[error("the tree name has more than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// The entry has more access changes than [`CHANGES_MAX`].
    #[error("one entry has at most {CHANGES_MAX} access changes")]
    TooManyChanges,
    /// The signing key is not the author's.
    #[error("the signing key is not the author's")]
    WrongSigner,
    /// The root names an access rule other than [`AccessRule::SENIORITY`].
    #[error("the tree has access rule {0}, only rule 1 (strong removal by seniority) is supported")]
    UnknownAccessRule(u16),
    /// [`Subject::Anyone`] is granted [`Role::Admin`].
    #[error("anyone cannot be an admin; grant that role to a key")]
    AnyoneAdmin,
}

impl Entry {
    /// Checks every rule that concerns this entry alone, except the size.
    pub(crate) fn check_form(&self) -> Result<(), EntryError> {
        if self.parents.len() > PARENTS_MAX {
            return Err(EntryError::TooManyParents(self.parents.len()));
        }
        if !self.parents.is_sorted_by(|a, b| a < b) {
            return Err(EntryError::ParentsNotAscending);
        }
        let bare = self.tree.is_none() && self.parents.is_empty() && self.height == 0;
        let placed = self.tree.is_some() && !self.parents.is_empty() && self.height > 0;
        match &self.body {
            Body::Genesis(_) if !bare => Err(EntryError::MalformedRoot),
            Body::Data(_) | Body::Access(_) | Body::Extension { .. } if !placed => {
                Err(EntryError::MalformedEntry)
            }
            Body::Genesis(genesis) if genesis.name.len() > NAME_BYTES_MAX => {
                Err(EntryError::NameTooLong)
            }
            Body::Genesis(genesis) => {
                genesis.access_rule.check()?;
                check_changes(&genesis.access)
            }
            Body::Access(changes) => check_changes(changes),
            Body::Data(_) | Body::Extension { .. } => Ok(()),
        }
    }

    /// Returns a guess of the encoded size that is hardly ever too small.
    pub(crate) fn encoded_bytes_guess(&self) -> usize {
        let body = match &self.body {
            Body::Data(data) => data.len(),
            Body::Access(changes) => changes.len() * 40,
            Body::Genesis(genesis) => genesis.name.len() + genesis.access.len() * 40 + 32,
            Body::Extension { bytes, .. } => bytes.len() + 5,
        };
        160 + self.parents.len() * 32 + body
    }
}

/// Checks a list of access changes, those of a root included.
fn check_changes(changes: &[AccessChange]) -> Result<(), EntryError> {
    if changes.len() > CHANGES_MAX {
        return Err(EntryError::TooManyChanges);
    }
    let admin = AccessChange::grant(Subject::Anyone, Role::Admin);
    if changes.contains(&admin) {
        return Err(EntryError::AnyoneAdmin);
    }
    Ok(())
}
