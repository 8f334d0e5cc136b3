//! Answers which of many trees differ.

use std::sync::Arc;

use eidetica_dag::PublicKey;
use eidetica_proto::check::{CheckAnswered, answer_check};
use eidetica_proto::message::{CheckTrees, Checked};

use crate::news::News;
use crate::server::refused::Refused;
use crate::server::views::StoreViews;
use crate::store::Store;

/// Answers a check for the caller of this key, and tells the engine what the caller has. Blocks, for a
/// bounded time whatever is asked.
pub(super) fn check_trees(
    store: &Arc<dyn Store>,
    news: &News,
    key: Option<PublicKey>,
    check: &CheckTrees,
) -> Result<Checked, Refused> {
    let views = StoreViews(&**store);
    let answered = answer_check(&views, store.log_id(), key.as_ref(), check)?;
    let CheckAnswered { checked, equal } = answered;
    if let Some(key) = key {
        news.inbound().peer_has(key, equal);
    }
    Ok(checked)
}
