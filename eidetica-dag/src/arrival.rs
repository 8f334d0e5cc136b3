//! Numbers of entries in one store.

use serde::{Deserialize, Serialize};

/// The number of an entry in the order in which this store received the entries of its tree,
/// counted from zero.
///
/// An entry is stored only after its parents, so the number of a parent is always lower: the order
/// of arrival is a topological order. Numbers mean nothing to other stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Arrival(pub u32);

impl Arrival {
    /// Returns the number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
