//! Signed entries in an append-only Merkle DAG, its access rules and its set algebra.
//!
//! A **tree** is a DAG of [**entries**](Entry). Each entry is signed by its author, names its
//! **parents** by hash and is itself named by its hash, so that equal **tips** (the entries that are
//! nobody's parent) mean equal trees. An entry is stored only when all its parents are: what is
//! stored is closed under ancestors at every instant, and any prefix of a transfer is a valid,
//! smaller copy.
//!
//! A store numbers the entries of a tree in the order of their [arrival](Arrival). Parents come
//! first, so the numbers are a topological order, and every question about ancestors is a scan over
//! numbers ([`walk`]) on a small read-only trait ([`DagView`]). [`admit`] is the one way in: it
//! judges a batch and says what to write. [`verify_batch`] checks signatures, one for each author's
//! run. [`check`] looks for damage.
//!
//! Everything here is pure and synchronous. Time, randomness and identity are arguments; stores,
//! files and networks belong to those who call.

pub mod access;
pub mod admit;
pub mod entry;
pub mod id;
pub mod key;
pub mod memory;
pub mod set;
pub mod verify;
pub mod view;
pub mod walk;

pub use access::{AccessChange, AccessId, AccessState, Role, Subject};
pub use admit::{Admission, Changes, Outcome, Refusal, Rule, admit};
pub use entry::{Body, ENTRY_BYTES_MAX, Entry, EntryError, Genesis, PARENTS_MAX, SignedEntry};
pub use id::{EntryId, TreeId};
pub use key::{PublicKey, Purpose, SecretKey, Signature};
pub use memory::MemoryDag;
pub use set::ArrivalSet;
pub use verify::{Forged, Verification, VerifiedEntry, verify_batch};
pub use view::{Arrival, DagView, EntryView, Node, current_access, tip_ids};
