//! What a sync sets out to do, the routes to a peer, and what comes of it.

use eidetica_sync::JoinOptions;
use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::proto::{Address, InviteSecret, Report};
use tokio::time::Instant;

use crate::args::{How, Via};
use crate::output::failure::{Failure, Result};
use crate::store::peers::RememberedPeer;

/// A way to reach a peer.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) peer: Option<PublicKey>,
    pub(crate) address: Address,
}

/// What to do with a peer.
pub(crate) struct Plan<'a> {
    pub(crate) tree: TreeId,
    pub(crate) how: &'a How,
    pub(crate) invite: Option<InviteSecret>,
    /// What to ask for if this device may not read the tree; `None` to fail instead.
    pub(crate) ask: Option<JoinOptions>,
    /// Whether it was asked for before.
    pub(crate) was_asked: bool,
    /// Whether to wait until an admin has decided.
    pub(crate) wait: bool,
}

/// What came of an attempt.
pub(crate) enum Outcome {
    Synced(Done),
    Pending(Route),
    Rejected(Route),
}

/// A completed sync.
pub(crate) struct Done {
    pub(crate) route: Route,
    pub(super) report: Report,
    pub(super) seconds: f64,
}

impl Done {
    pub(crate) fn new(route: &Route, report: Report, begun: Instant) -> Self {
        Self {
            route: route.clone(),
            report,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

/// Lists the routes to try, in order.
pub(crate) fn routes(known: Vec<RememberedPeer>, via: Option<Via>) -> Result<Vec<Route>> {
    let mut all = Vec::new();
    for known in known {
        let peer = known.key();
        all.extend(
            known
                .addresses
                .into_iter()
                .map(|address| Route { peer, address }),
        );
    }
    if all.is_empty() {
        return Err(Failure::new("no peer of the tree is known")
            .hint(
                "run `eidetica sync <tree> --at <address>` or `eidetica join '<ticket>'`; the \
                   quotes matter, because the shell cuts a ticket at '&'",
            )
            .into());
    }
    if let Some(via) = via {
        let found: Vec<String> = all.iter().map(|it| it.address.to_string()).collect();
        all.retain(|route| via.kinds().contains(&route.address.kind()));
        if all.is_empty() {
            let kinds = via.kinds().join(" or ");
            let text = format!("no known address is of kind {kinds}");
            let hint = format!("leave out --via; known addresses: {}", found.join(", "));
            return Err(Failure::new(text).hint(hint).into());
        }
    }
    Ok(all)
}
