//! Signed entries in an append-only Merkle DAG.

pub mod id;
pub mod key;

pub use id::{EntryId, TreeId};
pub use key::{PublicKey, Purpose, SecretKey, Signature};
