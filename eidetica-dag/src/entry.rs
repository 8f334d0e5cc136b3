//! Entries: what they say, their one encoding, and how they are signed and named.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::access::{AccessChange, CHANGES_MAX, Role, Subject};
use crate::assemble::Assembler;
use crate::encoding::{EncodedBody, EncodedEntry, write_canonical};
use crate::id::{EntryId, TreeId};
use crate::key::{PublicKey, Purpose, SIGNATURE_BYTES, SecretKey, Signature};

/// The version of the entry format that this crate writes and reads.
pub const ENTRY_VERSION: u8 = 2;

/// Largest entry in bytes, canonical bytes and signature together. One entry always fits into one
/// frame, and whoever receives it can hold it in memory.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Most parents of one entry. A tree with more tips than this is merged in several steps.
pub const PARENTS_MAX: usize = 256;

/// Longest name of a tree in bytes: a line on a screen.
pub const NAME_BYTES_MAX: usize = 256;

/// What an author says: an entry before it is signed.
///
/// The root has no tree, no parents, height 0 and a [`Body::Genesis`]. Every other entry names its
/// tree and at least one parent, and its height is one more than its highest parent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The tree it belongs to; `None` in the root, which cannot name itself.
    pub tree: Option<TreeId>,
    /// The ids of the parents, strictly ascending.
    pub parents: Vec<EntryId>,
    /// Longest way to the root, in steps.
    pub height: u32,
    /// The author's claim, in milliseconds since 1970. Nothing is ordered or decided by it.
    pub timestamp_ms: u64,
    /// Who signs.
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

    fn check(self) -> Result<(), EntryError> {
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
    /// What others may do from the start.
    pub access: Vec<AccessChange>,
}

/// The broken rule of an entry that is not well formed, each the author's fault (or the fault of
/// whoever altered the bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum EntryError {
    /// The bytes are not the canonical form of an entry and a signature.
    #[error("the bytes are not the canonical encoding of an entry")]
    NotCanonical,
    /// The format's version is another one.
    #[error("the entry has format version {0}, version {ENTRY_VERSION} is understood")]
    UnknownVersion(u8),
    /// The entry is larger than [`ENTRY_BYTES_MAX`].
    #[error("the entry has {bytes} bytes, the most is {ENTRY_BYTES_MAX}; split the payload")]
    TooLarge {
        /// Its size, signature included.
        bytes: usize,
    },
    /// There are more parents than [`PARENTS_MAX`].
    #[error("the entry has {0} parents, the most is {PARENTS_MAX}")]
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
    #[error("the name of a tree has at most {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// There are more changes of access in one entry than [`CHANGES_MAX`].
    #[error("one entry changes the access of at most {CHANGES_MAX} keys")]
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
    /// Checks the rules that need no other entry to be looked at, the size excepted.
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

    /// Returns the canonical bytes, with room for a signature behind them.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes_guess());
        write_canonical(self, &mut bytes);
        bytes
    }

    /// Returns a guess of the encoded size that is hardly ever too small.
    fn encoded_bytes_guess(&self) -> usize {
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

/// An entry with its signature and its id.
///
/// Holding one proves that the entry is well formed, that its bytes are the canonical ones and that
/// the id was computed from them. Whether the signature is the author's is a separate question:
/// see [`crate::verify`].
///
/// A clone is the same entry in memory, and moving one moves a pointer: entries go through several
/// hands from the wire to the store.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedEntry(Arc<Parts>);

/// What a [`SignedEntry`] is made of.
#[derive(Clone, PartialEq, Eq)]
struct Parts {
    id: EntryId,
    entry: Entry,
    /// Canonical bytes, then the signature. Data and extensions in `entry.body` are slices of it.
    encoded: Bytes,
}

impl SignedEntry {
    /// Signs an entry.
    ///
    /// # Errors
    /// The rule that the entry breaks.
    pub fn sign(entry: Entry, key: &SecretKey) -> Result<Self, EntryError> {
        if entry.author != key.public() {
            return Err(EntryError::WrongSigner);
        }
        let signature = key.sign(Purpose::Entry, &entry.canonical());
        Self::from_parts(entry, &signature)
    }

    /// Puts an entry and a signature together. The signature is not checked.
    ///
    /// # Errors
    /// The rule that the entry breaks.
    pub fn from_parts(entry: Entry, signature: &Signature) -> Result<Self, EntryError> {
        let mut assembler = Assembler::with_capacity(1, entry.encoded_bytes_guess());
        assembler.push(entry, signature)?;
        let mut entries = assembler.finish();
        Ok(entries.pop().expect("one was added"))
    }

    fn new(id: EntryId, entry: Entry, encoded: Bytes) -> Self {
        Self(Arc::new(Parts { id, entry, encoded }))
    }

    /// Begins an entry, to be finished with [`Self::set_encoding`].
    pub(crate) fn without_encoding(id: EntryId, entry: Entry) -> Self {
        Self::new(id, entry, Bytes::new())
    }

    /// Sets the bytes from which the id was computed.
    pub(crate) fn set_encoding(&mut self, encoded: Bytes) {
        let parts = Arc::make_mut(&mut self.0);
        if let Body::Data(data) | Body::Extension { bytes: data, .. } = &mut parts.entry.body {
            // The payload stands last. The caller's may be a slice of something much larger, which
            // it would keep in memory.
            let end = encoded.len() - SIGNATURE_BYTES;
            *data = encoded.slice(end - data.len()..end);
        }
        parts.encoded = encoded;
    }

    /// Returns the entry with its bytes in an allocation of their own. What came in a batch shares
    /// the batch's memory, all of which stays for as long as one of its entries does.
    #[must_use]
    pub fn detached(mut self) -> Self {
        let encoded = Bytes::copy_from_slice(self.encoded());
        self.set_encoding(encoded);
        self
    }

    /// Reads canonical bytes followed by a signature, and computes the id. The signature is not
    /// checked.
    ///
    /// # Errors
    /// The rule that the bytes break.
    pub fn decode(encoded: Bytes) -> Result<Self, EntryError> {
        if encoded.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge {
                bytes: encoded.len(),
            });
        }
        let entry = decode_canonical(&encoded)?;
        entry.check_form()?;
        let canonical = &encoded[..encoded.len() - SIGNATURE_BYTES];
        // One entry has exactly one encoding: postcard reads some numbers in longer forms than it
        // writes, and those forms are refused here.
        if entry.canonical() != canonical {
            return Err(EntryError::NotCanonical);
        }
        let id = EntryId::from_bytes(Sha256::digest(&encoded).into());
        Ok(Self::new(id, entry, encoded))
    }

    /// Reads back what a store wrote: bytes that were checked and hashed before they were written.
    /// Only a store calls this, with the id that it kept beside the bytes.
    ///
    /// # Errors
    /// [`EntryError::NotCanonical`] if the bytes are no entry at all: the store is damaged.
    pub fn decode_stored(id: EntryId, encoded: Bytes) -> Result<Self, EntryError> {
        let entry = decode_canonical(&encoded)?;
        Ok(Self::new(id, entry, encoded))
    }

    /// Returns the id.
    pub fn id(&self) -> EntryId {
        self.0.id
    }

    /// Returns what the author said.
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    /// Returns the tree, which for a root is named by the root itself.
    pub fn tree(&self) -> TreeId {
        self.0.entry.tree.unwrap_or(TreeId::from_root(self.0.id))
    }

    /// Returns the canonical bytes and the signature behind them.
    pub fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    /// Returns the parts of the encoding.
    pub fn parts(&self) -> EncodedEntry<'_> {
        EncodedEntry::parse(&self.0.encoded).expect("it was encoded here, or decoded")
    }

    /// Returns the signature.
    pub fn signature(&self) -> Signature {
        let bytes = self
            .encoded()
            .last_chunk()
            .expect("the encoding ends with a signature");
        Signature::from_bytes(*bytes)
    }

    /// Tells whether the signature is the author's.
    pub fn has_valid_signature(&self) -> bool {
        let canonical = &self.encoded()[..self.encoded().len() - SIGNATURE_BYTES];
        self.0
            .entry
            .author
            .verify(Purpose::Entry, canonical, &self.signature())
            .is_ok()
    }
}

/// Reads an entry whose payload is a slice of `encoded`, without judging it.
fn decode_canonical(encoded: &Bytes) -> Result<Entry, EntryError> {
    let parts = EncodedEntry::parse(encoded)?;
    let body = match parts.body {
        EncodedBody::Data(data) => Body::Data(encoded.slice_ref(data)),
        EncodedBody::Access(bytes) => Body::Access(decode_changes(bytes)?),
        EncodedBody::Genesis(bytes) => Body::Genesis(decode_genesis(bytes)?),
        EncodedBody::Extension { kind, bytes } => Body::Extension {
            kind,
            bytes: encoded.slice_ref(bytes),
        },
    };
    let parents = parts.parents.iter().copied().map(EntryId::from_bytes);
    Ok(Entry {
        tree: parts.tree,
        parents: parents.collect(),
        height: parts.height,
        timestamp_ms: parts.timestamp_ms,
        author: parts.author,
        body,
    })
}

/// Reads the content of [`EncodedBody::Access`].
///
/// # Errors
/// [`EntryError::NotCanonical`] if the bytes are not a list of changes.
pub fn decode_changes(bytes: &[u8]) -> Result<Vec<AccessChange>, EntryError> {
    from_postcard(bytes)
}

/// Reads the content of [`EncodedBody::Genesis`].
///
/// # Errors
/// [`EntryError::UnknownAccessRule`], and [`EntryError::NotCanonical`] if the bytes are not a
/// genesis.
pub fn decode_genesis(bytes: &[u8]) -> Result<Genesis, EntryError> {
    // A genesis with another rule may have other fields.
    if let Ok((rule, _)) = postcard::take_from_bytes::<AccessRule>(bytes) {
        rule.check()?;
    }
    from_postcard(bytes)
}

fn from_postcard<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, EntryError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(EntryError::NotCanonical),
    }
}

impl std::fmt::Debug for SignedEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedEntry")
            .field("id", &self.0.id)
            .field("entry", &self.0.entry)
            .finish()
    }
}
