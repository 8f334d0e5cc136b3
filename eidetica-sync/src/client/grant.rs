//! Shows this node's grant to a peer that has lost it; see [`eidetica_proto::grant`].

use std::sync::Arc;

use eidetica_dag::TreeId;
use eidetica_proto::coordinator::PeerId;
use eidetica_proto::grant::shown_by;
use eidetica_proto::message::{Reply, ResponseHeader};

use crate::client::dialer::Dialer;
use crate::client::error::SyncError;
use crate::platform::blocking;
use crate::store::Store;
use crate::transport::frame_streams::EntrySource;

/// Shows the peer how this node's key got its role, if a grant gave it. Returns whether the peer stored that.
pub(crate) async fn show_grant(
    store: &Arc<dyn Store>,
    dialer: &Dialer,
    peer: PeerId,
    tree: TreeId,
) -> bool {
    let key = dialer.client.key();
    let shown = async {
        let source = EntrySource {
            store: store.clone(),
            tree,
        };
        let read = source.clone();
        let grant = blocking::run(move || shown_by(&*read.snapshot()?, &key, &peer)).await?;
        let Some(grant) = grant else {
            return Ok(false);
        };
        let uploaded = dialer.upload(peer, grant, source).await?;
        let header = uploaded.reached.only_frame().await?;
        let reply = ResponseHeader::decode(&header).map(|header| header.reply);
        Ok(matches!(reply, Ok(Ok(Reply::Stored(_)))))
    };
    let shown: Result<bool, SyncError> = shown.await;
    match shown {
        Ok(is_stored) => is_stored,
        Err(error) => {
            tracing::debug!(%tree, %error, "the grant could not be shown");
            false
        }
    }
}
