//! Random bytes that a seed determines, so that a run can be replayed.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// Gives random bytes: SHA-256 over a seed and a counter. With a secret seed nobody can foretell
/// them.
#[derive(Clone)]
pub(crate) struct Random(Arc<Mutex<([u8; 32], u64)>>);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new((seed, 0))))
    }

    /// Returns the next `N` bytes; `N` is at most 32.
    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        const { assert!(N <= 32, "one hash gives 32 bytes") };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (seed, counter) = &mut *state;
        *counter += 1;
        let block = Sha256::new()
            .chain_update(*seed)
            .chain_update(counter.to_le_bytes());
        let block: [u8; 32] = block.finalize().into();
        *block.first_chunk().expect("N is at most 32")
    }
}
