//! The trees of a store, for machines that answer about many of them.

use eidetica_dag::TreeId;
use eidetica_proto::source::ViewSource;

use crate::store::{Snapshot, Store, StoreError, TreeSnapshot};

/// Takes a snapshot of a tree whenever a machine asks for it. Blocks.
pub(super) struct StoreViews<'a>(pub(super) &'a dyn Store);

impl ViewSource for StoreViews<'_> {
    type View = dyn TreeSnapshot;

    fn view(&self, tree: TreeId) -> Result<Snapshot, StoreError> {
        self.0.snapshot(tree)
    }
}
