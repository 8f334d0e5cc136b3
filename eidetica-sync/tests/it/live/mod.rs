//! Copies that stay equal by themselves, in virtual time over a network in memory.

mod callers;
mod chains;
mod copies;
mod failures;
mod following;
mod found;
mod news;
mod quiet;
mod returning;

use std::time::Duration;

use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::{Event, Events, Node, Origin, Peer, Transfer};
use futures::StreamExt;
use tokio::time::Instant;

use crate::common::{at, client, node, tree};

/// Time to come to rest, in which nothing periodic happens.
const SETTLE: Duration = Duration::from_secs(5);

fn peer(node: &Node, name: &str) -> Peer {
    Peer {
        key: Some(node.key()),
        addresses: vec![at(name)],
    }
}

/// A server and a node that cannot accept connections and follows it, at rest.
async fn server_and_client(network: &MemoryNetwork) -> (Node, Node, TreeId) {
    let (a, b) = (node(network, "a").await, client(network, "b"));
    let tree = tree(&a, &["one"]).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    until_has(&b, tree, a.tips(tree).await.expect("in memory")[0]).await;
    tokio::time::sleep(SETTLE).await;
    (a, b, tree)
}

/// Waits until a node has an entry. Returns how long that took in virtual time.
async fn until_has(node: &Node, tree: TreeId, entry: EntryId) -> Duration {
    let (began, mut events) = (Instant::now(), node.events());
    loop {
        let found = node.entry(tree, entry).await.expect("in memory");
        if found.is_some() {
            return began.elapsed();
        }
        while !matches!(
            events.next().await.expect("the node lives"),
            Event::Stored { .. } | Event::Lagged(_)
        ) {}
    }
}

fn state(node: &Node, tree: TreeId, of: &Node) -> Option<LaneStatus> {
    let followed = node.followed(tree, of.key())?;
    followed.status().map(|status| status.state)
}

/// Waits until the state of a tree with a peer is as wanted.
async fn until_state(
    node: &Node,
    tree: TreeId,
    of: &Node,
    wanted: impl Fn(&LaneStatus) -> bool,
) -> Duration {
    let (began, mut events) = (Instant::now(), node.events());
    while !state(node, tree, of).is_some_and(|state| wanted(&state)) {
        events.next().await.expect("the node lives");
    }
    began.elapsed()
}

/// Counts the entries that were stored since the events were subscribed to, by how they came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    local: usize,
    pulled: usize,
    pushed: usize,
    watched: usize,
}

fn came(events: &mut Events) -> Came {
    use futures::FutureExt;
    let mut came = Came::default();
    while let Some(Some(event)) = events.next().now_or_never() {
        if let Event::Stored {
            arrivals, origin, ..
        } = event
        {
            let count = match origin {
                Origin::Local | Origin::Server => &mut came.local,
                Origin::Peer { how, .. } => match how {
                    Transfer::Pulled => &mut came.pulled,
                    Transfer::Pushed => &mut came.pushed,
                    Transfer::Watched => &mut came.watched,
                },
                Origin::Caller { .. } => panic!("every caller here has a key"),
            };
            *count += arrivals.len();
        }
    }
    came
}
