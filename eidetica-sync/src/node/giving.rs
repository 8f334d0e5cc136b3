//! From which peers this node accepts trees that it does not have.

use eidetica_dag::PublicKey;

use super::Node;
use crate::membership::accepted;
use crate::platform::blocking;
use crate::store::StoreError;

impl Node {
    /// Sets whether a peer may give this node trees that it does not have. The store keeps the
    /// setting, which is off for every key at first.
    ///
    /// Such a peer can fill the store, so accept trees only from your own devices and from peers that
    /// you trust as much. Each entry is judged by its author's role in any case.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn accept_trees_from(&self, key: PublicKey, accept: bool) -> Result<(), StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || accepted::accept_trees_from(&*store, &key, accept)).await
    }

    /// Returns the keys from which this node accepts trees, ascending.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn trees_accepted_from(&self) -> Result<Vec<PublicKey>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || accepted::keys(&*store)).await
    }
}
