//! One attempt with one peer.

use std::sync::Arc;

use eidetica_sync::dag::TreeId;
use eidetica_sync::proto::{SyncOptions, Ticket};
use eidetica_sync::{Event, Joined, Node, Origin, Peer, SyncError};
use futures::StreamExt;
use tokio::time::Instant;

use super::plan::{Done, Outcome, Plan, Route};
use crate::output::console::Console;

/// Syncs with one peer, after asking to join if that is needed.
pub(crate) async fn attempt(
    console: &Console,
    node: &Node,
    plan: &Plan<'_>,
    route: &Route,
) -> Result<Outcome, Arc<SyncError>> {
    let tree = plan.tree;
    let mut route = route.clone();
    if route.peer.is_none() {
        route.peer = Some(node.identify(&Peer::from(&route)).await?);
    }
    let route = &route;
    let Some(ask) = &plan.ask else {
        return one(console, node, tree, route).await.map(Outcome::Synced);
    };
    // A device that was granted a lower role than it asked for can read, and need not ask again.
    let asks_first = plan.invite.is_some() || ask.role.is_some() && !plan.was_asked;
    if !asks_first {
        match one(console, node, tree, route).await {
            Err(error) if error.is_not_found() => {}
            result => return result.map(Outcome::Synced),
        }
    }
    let begun = Instant::now();
    let mut ticket = Ticket::new(tree);
    ticket.peer = route.peer;
    ticket.addresses.clone_from(&route.addresses);
    ticket.invite.clone_from(&plan.invite);
    let joining = node.join(&ticket, ask.clone());
    match watch(console, node, tree, joining).await? {
        Joined::Synced(report) => Ok(Outcome::Synced(Done::new(node, route, report, begun))),
        Joined::Rejected => Ok(Outcome::Rejected(route.answered(node))),
        // The role is undecided, but the tree may be readable meanwhile.
        Joined::Pending if asks_first => match one(console, node, tree, route).await {
            Err(error) if error.is_not_found() => Ok(Outcome::Pending(route.answered(node))),
            result => result.map(Outcome::Synced),
        },
        Joined::Pending => Ok(Outcome::Pending(route.answered(node))),
    }
}

/// Shows how many entries arrive meanwhile. Their total is not known here.
async fn watch<T>(
    console: &Console,
    node: &Node,
    tree: TreeId,
    joining: impl Future<Output = T>,
) -> T {
    let mut events = node.events();
    let mut joining = std::pin::pin!(joining);
    let (mut progress, mut received) = (None, 0);
    loop {
        tokio::select! {
            result = &mut joining => return result,
            Some(event) = events.next() => {
                if let Event::Stored { tree: of, arrivals, origin: Origin::Peer { .. }, .. } = event
                    && of == tree
                {
                    received += arrivals.len() as u64;
                    let progress = progress.get_or_insert_with(|| console.progress("receiving"));
                    progress.set(received, None);
                }
            }
        }
    }
}

/// Syncs with one peer.
pub(crate) async fn one(
    console: &Console,
    node: &Node,
    tree: TreeId,
    route: &Route,
) -> Result<Done, Arc<SyncError>> {
    let begun = Instant::now();
    let running = node.begin_sync(tree, route, SyncOptions::default());
    let running = running.await?;
    let mut seen = running.progress();
    let mut finished = std::pin::pin!(running.finish());
    let mut progress = console.progress("receiving");
    loop {
        tokio::select! {
            result = &mut finished => return result.map(|report| Done::new(node, route, report, begun)),
            Ok(()) = seen.changed() => {
                let at = *seen.borrow_and_update();
                if at.to_send > 0 && at.received >= at.expected {
                    progress.say("sending", at.to_send);
                } else {
                    progress.show("receiving".into(), at.received, (at.expected > 0).then_some(at.expected));
                }
            }
        }
    }
}
