//! Where a machine that answers about many trees reads them.

use std::sync::Arc;

use eidetica_dag::{DagView, EntryView, TreeId};

/// Gives views of the trees of one store.
pub trait ViewSource {
    /// A view of one tree.
    type View: EntryView + ?Sized;

    /// Returns the tree as it is at this moment. A tree that is absent is empty.
    ///
    /// # Errors
    /// Those of the store.
    fn view(&self, tree: TreeId) -> Result<Arc<Self::View>, ViewError<Self>>;
}

/// The error of a source's views.
pub type ViewError<S> = <<S as ViewSource>::View as DagView>::Error;
