//! Answers which of many trees differ.

use std::sync::Arc;

use eidetica_dag::PublicKey;
use eidetica_proto::check::answer_check;
use eidetica_proto::message::{CheckTrees, Checked};

use crate::server::refused::Refused;
use crate::server::views::StoreViews;
use crate::store::Store;

/// Answers a check for the caller of this key. Blocks, for a bounded time whatever is asked.
pub(super) fn check_trees(
    store: &Arc<dyn Store>,
    key: Option<PublicKey>,
    check: &CheckTrees,
) -> Result<Checked, Refused> {
    let views = StoreViews(&**store);
    Ok(answer_check(&views, store.log_id(), key.as_ref(), check)?)
}
