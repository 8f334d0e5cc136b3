//! What servers that share a store have in common besides its data.

use std::ops::Range;
use std::sync::Arc;

use eidetica_dag::TreeId;
use eidetica_proto::proof::Epoch;

use super::StoreError;

/// Hears which arrivals of a tree came by way of another server. Returns `false` when it wants to hear
/// no more.
pub type Listener = Arc<dyn Fn(TreeId, Range<u32>) -> bool + Send + Sync>;

/// What becomes of the proof of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was not used before, on any server.
    First,
    /// It was used before.
    Replay,
    /// It names an epoch that is over: this one has begun.
    Stale(Epoch),
}

/// A store that several servers share, under one key.
pub trait SharedStore: Send + Sync {
    /// Has a listener told what other servers append, from here on. Some arrivals may be told twice, and
    /// the range is empty where it is known only that something arrived.
    fn listen(&self, listener: Listener);

    /// Returns the epoch of request proofs, which all servers share. Blocks.
    ///
    /// # Errors
    /// Returns an error if the store cannot be reached.
    fn epoch(&self) -> Result<Epoch, StoreError>;

    /// Uses up the proof of a request, made at this time by the servers' clocks, in milliseconds since
    /// 1970. Proofs are remembered for as long as requests are accepted, and a minute longer, by which
    /// the clocks of the servers may differ. Blocks.
    ///
    /// # Errors
    /// Returns an error if the store cannot be reached. The request must be refused then.
    fn take_proof(&self, epoch: Epoch, proof: &[u8], made_ms: u64) -> Result<Taken, StoreError>;

    /// Returns at once or within two seconds whether the store can be used. Blocks.
    ///
    /// # Errors
    /// Returns the reason if it cannot.
    fn check(&self) -> Result<(), StoreError>;
}
