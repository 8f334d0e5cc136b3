//! From which keys this node accepts trees that it does not have.

use eidetica_dag::PublicKey;

use crate::store::{Store, StoreError};

fn meta_key(key: &PublicKey) -> String {
    format!("accept-trees/{key}")
}

/// Sets whether trees are accepted from a key. Blocks.
pub(crate) fn accept_trees_from(
    store: &dyn Store,
    key: &PublicKey,
    accept: bool,
) -> Result<(), StoreError> {
    let value: Option<&[u8]> = accept.then_some(&[1]);
    store.put(&meta_key(key), value)
}

/// Returns whether trees are accepted from a key. Blocks.
pub(crate) fn accepts_trees_from(store: &dyn Store, key: &PublicKey) -> Result<bool, StoreError> {
    Ok(store.get(&meta_key(key))?.is_some())
}

/// Returns the keys from which trees are accepted, ascending. Blocks.
pub(crate) fn keys(store: &dyn Store) -> Result<Vec<PublicKey>, StoreError> {
    let all = store.list("accept-trees/")?.into_iter();
    Ok(all
        .filter_map(|(meta_key, _)| meta_key.split_once('/')?.1.parse().ok())
        .collect())
}
