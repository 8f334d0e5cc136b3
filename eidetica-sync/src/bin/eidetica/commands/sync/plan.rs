//! What a sync sets out to do, the routes to a peer, and what comes of it.

use eidetica_sync::JoinOptions;
use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::proto::{Address, InviteSecret, Report};
use tokio::time::Instant;

use crate::args::{How, Via};
use crate::output::failure::{Failure, Result};
use crate::store::peers::Known;

/// One way to a peer.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) peer: Option<PublicKey>,
    pub(crate) address: Address,
}

/// What is to be done with a peer.
pub(crate) struct Plan<'a> {
    pub(crate) tree: TreeId,
    pub(crate) how: &'a How,
    pub(crate) invite: Option<InviteSecret>,
    /// What to ask for where this device is not let in; `None` to leave it at that.
    pub(crate) ask: Option<JoinOptions>,
    /// Whether it has been asked for before.
    pub(crate) was_asked: bool,
    /// Whether to wait until an admin has decided.
    pub(crate) wait: bool,
}

/// How far it came with a peer.
pub(crate) enum Outcome {
    Synced(Done),
    Pending(Route),
    Rejected(Route),
}

/// A sync that came to its end.
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

/// Lists the ways that may be taken, in the order of trying.
pub(crate) fn routes(known: Vec<Known>, via: Option<Via>) -> Result<Vec<Route>> {
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
        return Err(Failure::new("no address of anyone who has the tree is known")
            .hint("`eidetica sync <tree> --at <address>`, or `eidetica join '<ticket>'`: mind the \
                   quotes, the shell cuts a ticket at '&'")
            .into());
    }
    if let Some(via) = via {
        let found: Vec<String> = all.iter().map(|it| it.address.to_string()).collect();
        all.retain(|route| via.kinds().contains(&route.address.kind()));
        if all.is_empty() {
            let kinds = via.kinds().join(" or ");
            let text = format!("none of the addresses is of the kind {kinds}");
            let hint = format!("without --via; there are: {}", found.join(", "));
            return Err(Failure::new(text).hint(hint).into());
        }
    }
    Ok(all)
}
