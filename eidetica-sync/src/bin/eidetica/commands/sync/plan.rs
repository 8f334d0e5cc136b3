//! What a sync sets out to do, the routes to peers, and what comes of it.

use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::proto::{Address, InviteSecret, Report};
use eidetica_sync::{JoinOptions, Node, Peer};
use tokio::time::Instant;

use crate::args::{How, Via};
use crate::output::failure::{Failure, Result};

/// A peer, and the addresses at which to try it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) peer: Option<PublicKey>,
    /// At least one.
    pub(crate) addresses: Vec<Address>,
}

impl Route {
    /// Returns the address to try first, or the one that answered if this is [`Route::answered`].
    pub(crate) fn address(&self) -> &Address {
        &self.addresses[0]
    }

    /// Returns the route with the address first at which the peer answered last.
    pub(crate) fn answered(&self, node: &Node) -> Self {
        let known = self.peer.map(|peer| node.addresses_of(&peer));
        let mut known = known.into_iter().flatten();
        let mut route = self.clone();
        if let Some(last) = known.find(|address| self.addresses.contains(address)) {
            route.addresses.retain(|address| *address != last);
            route.addresses.insert(0, last);
        }
        route
    }
}

impl From<&Route> for Peer {
    fn from(route: &Route) -> Self {
        Self {
            key: route.peer,
            addresses: route.addresses.clone(),
        }
    }
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
    /// The peer, and first where it answered.
    pub(crate) route: Route,
    pub(super) report: Report,
    pub(super) seconds: f64,
}

impl Done {
    pub(crate) fn new(node: &Node, route: &Route, report: Report, begun: Instant) -> Self {
        Self {
            route: route.answered(node),
            report,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }
}

/// Lists the routes to try, in order, with addresses of one kind if that is asked for.
pub(crate) fn routes(known: Vec<Peer>, via: Option<Via>) -> Result<Vec<Route>> {
    let all = known.iter().flat_map(|peer| &peer.addresses);
    let all: Vec<String> = all.map(ToString::to_string).collect();
    if all.is_empty() {
        return Err(Failure::new("no peer of the tree is known")
            .hint(
                "run `eidetica sync <tree> --at <address>` or `eidetica join '<ticket>'`; the \
                   quotes matter, because the shell cuts a ticket at '&'",
            )
            .into());
    }
    let is_asked_for =
        |address: &Address| via.is_none_or(|it| it.kinds().contains(&address.kind()));
    let route = |mut peer: Peer| {
        peer.addresses.retain(is_asked_for);
        Route {
            peer: peer.key,
            addresses: peer.addresses,
        }
    };
    let mut routes: Vec<Route> = known.into_iter().map(route).collect();
    routes.retain(|route| !route.addresses.is_empty());
    match via {
        Some(via) if routes.is_empty() => {
            let kinds = via.kinds().join(" or ");
            let text = format!("no known address is of kind {kinds}");
            let hint = format!("leave out --via; known addresses: {}", all.join(", "));
            Err(Failure::new(text).hint(hint).into())
        }
        _ => Ok(routes),
    }
}
