//! Lists the trees that a caller may read.

use eidetica_dag::{Arrival, Body, PublicKey, Role, TreeId, current_access};
use eidetica_proto::message::{TREES_MAX, TreeSummary};

use crate::membership::readers::ReaderIndex;
use crate::server::refused::Refused;
use crate::store::{Snapshot, Store, StoreError};

/// Returns the name in the root of a tree: an empty one if the root is damaged, so that the other trees
/// of a list are shown.
pub(crate) fn tree_name(snapshot: &Snapshot) -> Result<String, StoreError> {
    let root = match snapshot.entry(Arrival(0)) {
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::error!(%error, "the root of a tree cannot be read");
            return Ok(String::new());
        }
        root => root?,
    };
    match &root.entry().body {
        Body::Genesis(genesis) => Ok(genesis.name.clone()),
        Body::Data(_) | Body::Access(_) | Body::Extension { .. } => Ok(String::new()),
    }
}

/// Lists the trees after `after` that `key` may read, at most [`TREES_MAX`]. The cost grows with those,
/// and not with the trees of others.
pub(super) fn list_trees(
    store: &dyn Store,
    readers: &ReaderIndex,
    key: Option<PublicKey>,
    after: Option<TreeId>,
) -> Result<Vec<TreeSummary>, Refused> {
    let mut summaries = Vec::new();
    for tree in readers.readable(key.as_ref())? {
        if Some(tree) <= after {
            continue;
        }
        let snapshot = store.snapshot(tree)?;
        if current_access(&*snapshot)?.allows(key.as_ref(), Role::Read) {
            let (name, entries) = (tree_name(&snapshot)?, snapshot.entry_count());
            summaries.push(TreeSummary {
                tree,
                name,
                entries,
            });
        }
        if summaries.len() == TREES_MAX {
            break;
        }
    }
    Ok(summaries)
}
