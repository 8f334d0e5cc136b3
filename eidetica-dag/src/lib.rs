//! Signed entries in an append-only Merkle DAG, its access rules and its set algebra.
//!
//! A **tree** is a DAG of [**entries**](Entry). Each entry is signed by its author, names its
//! **parents** by hash and is itself named by its hash, so that equal **tips** (the entries without
//! children) mean equal trees. An entry is stored only when all its parents are: what is
//! stored is closed under ancestors at every instant, and any prefix of a transfer is a valid,
//! smaller copy.
//!
//! A store numbers the entries of a tree in the order of their [arrival](Arrival). Parents come
//! first, so the numbers are a topological order, and every question about ancestors is a scan over
//! numbers ([`walk`]) on a small read-only trait ([`DagView`]). [`admit()`] is the one way in: it
//! judges a batch and says what to write. [`verify_batch`] checks signatures, one for each author's
//! run. [`check()`] looks for damage.
//!
//! ```
//! use eidetica_dag::{
//!     AccessChange, AccessRule, Arrival, Body, DagView, Entry, EntryError, Genesis, MemoryDag, Role, SecretKey,
//!     Subject, TreeId, VerifiedEntry, walk,
//! };
//!
//! // Keys come from a secure random source; these are for show.
//! let (ann, ben) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
//!
//! // Ann begins a tree in which Ben may write.
//! let genesis = Body::Genesis(Genesis {
//!     access_rule: AccessRule::SENIORITY,
//!     nonce: [7; 16],
//!     name: "notes".to_owned(),
//!     access: vec![AccessChange::grant(Subject::Key(ben.public()), Role::Write)],
//! });
//! let entry = |tree, parents, height, key: &SecretKey, body| {
//!     let (timestamp_ms, author) = (1_790_000_000_000, key.public());
//!     VerifiedEntry::sign(Entry { tree, parents, height, timestamp_ms, author, body }, key)
//! };
//! let root = entry(None, vec![], 0, &ann, genesis)?;
//! let root_id = root.get().id();
//! let tree = TreeId::from_root(root_id);
//!
//! // Both write at the same time, and Ann merges.
//! let data = |text: &'static str| Body::Data(text.as_bytes().into());
//! let left = entry(Some(tree), vec![root_id], 1, &ann, data("milk"))?;
//! let right = entry(Some(tree), vec![root_id], 1, &ben, data("bread"))?;
//! let (left_id, right_id) = (left.get().id(), right.get().id());
//! let mut parents = vec![left_id, right_id];
//! parents.sort();
//! let merge = entry(Some(tree), parents, 2, &ann, data("both"))?;
//!
//! let mut dag = MemoryDag::new(tree);
//! let outcome = dag.append(vec![root, left, right, merge]);
//! assert_eq!(outcome.stored, 0..4);
//!
//! // A replica with the root and Ben's entry lacks Ann's entry and the merge.
//! let missing = walk::difference(&dag, &[right_id]).unwrap();
//! assert_eq!(missing.iter().collect::<Vec<_>>(), [Arrival(1), Arrival(3)]);
//! assert_eq!(walk::merge_base(&dag, Arrival(1), Arrival(2)).unwrap(), [Arrival(0)]);
//! assert_eq!(dag.tips().unwrap(), [Arrival(3)]);
//! # Ok::<(), EntryError>(())
//! ```
//!
//! Everything here is pure and synchronous. Time, randomness and identity are arguments; stores,
//! files and networks belong to the caller.

pub mod access;
mod admit;
mod arrival;
mod assembler;
mod author;
mod buffer;
mod check;
mod encoding;
mod entry;
mod id;
mod key;
mod memory;
mod order;
mod set;
mod shared_set;
mod signed;
#[cfg(feature = "test-utils")]
pub mod testing;
pub mod varint;
mod verify;
mod view;
pub mod walk;

pub use access::{
    AccessChange, AccessId, AccessKey, AccessState, Contests, KeptState, Ledger, LedgerEntry,
    Outlook, Role, Subject,
};
pub use admit::{Admission, AppendOutcome, Changes, Refusal, Rule, admit};
pub use arrival::Arrival;
pub use assembler::Assembler;
pub use author::{AuthorError, parents_above_tips, sign_above_tips, sign_root};
pub use buffer::Buffer;
pub use check::{Problem, check};
pub use encoding::{EncodedBody, EncodedEntry};
pub use entry::{
    AccessRule, Body, ENTRY_BYTES_MAX, ENTRY_VERSION, Entry, EntryError, Genesis, NAME_BYTES_MAX,
    PARENTS_MAX,
};
pub use id::{EntryId, ID_BYTES, IdHasher, IdHashing, IdMap, ParseIdError, TreeId};
pub use key::{
    BadSignature, ParseKeyError, PublicKey, Purpose, SIGNATURE_BYTES, SecretKey, Signature,
};
pub use memory::{MemoryDag, Prefix};
pub use order::TotalOrder;
pub use set::ArrivalSet;
pub use shared_set::SharedSet;
pub use signed::SignedEntry;
pub use verify::{
    Forged, UNPROVEN_BYTES_MAX, UnprovenEntries, Verification, VerifiedEntry, verify_batch,
};
pub use view::{
    CHECKPOINT_INTERVAL, DagView, EntryView, LANDMARK_INTERVAL, Node, current_access,
    is_checkpoint, tip_ids,
};
