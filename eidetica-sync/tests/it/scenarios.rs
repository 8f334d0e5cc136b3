//! What goes wrong between nodes that keep a tree equal, over real transports.
//!
//! Time is real here, so nothing is said about speed: each wait ends long before a check that would
//! make things good by itself, or only after [`LONG`].

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::Ticket;
use eidetica_proto::backoff::BackoffPolicy;
use eidetica_proto::coordinator::LaneStatus;
use eidetica_sync::store::{MemoryStore, Store};
use eidetica_sync::{FollowOptions, Node, Peer};
use futures::StreamExt;

use crate::common::gate::Gate;
use crate::common::raw::Way;
use crate::common::served::Received;
use crate::common::{assert_equal, secret, tree, write};

/// Longer than anything takes on a loaded machine.
const LONG: Duration = Duration::from_secs(120);

/// The longest backoff of these nodes is a fifth of a second.
const BACKOFF: BackoffPolicy = BackoffPolicy {
    base_ms: 50,
    factor: 2,
    cap_ms: 200,
};

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

/// A node on a store, with one transport, that does not serve.
async fn client_on(way: &impl Way, name: &str, store: Arc<dyn Store>) -> Node {
    let key = secret(name);
    let transport = way.transport(name, &key).await;
    let builder = Node::builder_with(store, key).backoff(BACKOFF);
    let builder = builder.transport("net", transport).expect("the only one");
    builder.start()
}

async fn client(way: &impl Way, name: &str) -> Node {
    client_on(way, name, memory()).await
}

async fn server_on(way: &impl Way, name: &str, store: Arc<dyn Store>) -> Node {
    let node = client_on(way, name, store).await;
    node.accept_connections().await.expect("a free address");
    node
}

async fn server(way: &impl Way, name: &str) -> Node {
    server_on(way, name, memory()).await
}

/// A node and where it serves now.
async fn at(node: &Node) -> Peer {
    let addresses = node.get_all_server_addresses_async().await;
    Peer {
        key: Some(node.key()),
        addresses: addresses.into_iter().map(|(_, address)| address).collect(),
    }
}

/// Has a node follow a server, and waits until they are equal and it watches.
async fn follow(node: &Node, tree: TreeId, server: &Node) {
    let options = FollowOptions {
        remember: true,
        ..FollowOptions::default()
    };
    let followed = node.follow_with(tree, at(server).await, options).await;
    followed.expect("it serves");
    let synced = node.synced_with(tree, server.key(), LONG).await;
    synced.expect("it serves");
}

/// Waits until a node has an entry.
async fn until_has(node: &Node, tree: TreeId, entry: EntryId) {
    let mut events = node.events();
    let arrives = async {
        while (node.entry(tree, entry).await.expect("in memory")).is_none() {
            events.next().await.expect("the node lives");
        }
    };
    let arrived = tokio::time::timeout(LONG, arrives).await;
    arrived.expect("it arrives");
}

/// Waits until a node cannot reach a peer.
async fn until_unreachable(node: &Node, tree: TreeId, of: &Node) {
    let mut events = node.events();
    let follow = node.followed(tree, of.key()).expect("it is followed");
    let is_away = || {
        let status = follow.status().expect("it is followed");
        matches!(status.state, LaneStatus::Unreachable { .. })
    };
    let turns = async {
        while !is_away() {
            events.next().await.expect("the node lives");
        }
    };
    tokio::time::timeout(LONG, turns).await.expect("it is away");
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.shutdown().await.expect("nothing is left running");
    }
}

/// `a <- b <- c`: a and c never meet.
async fn news_pass_along_a_chain(way: impl Way) {
    let (a, b) = (server(&way, "a").await, server(&way, "b").await);
    let c = client(&way, "c").await;
    let tree = tree(&a, &["one"]).await;
    follow(&b, tree, &a).await;
    follow(&c, tree, &b).await;
    for text in ["two", "three"] {
        let entry = write(&a, tree, text).await;
        until_has(&c, tree, entry).await;
        let entry = write(&c, tree, text).await;
        until_has(&a, tree, entry).await;
    }
    assert_equal(&a, &c, tree).await;
    stop([a, b, c]).await;
}

/// The child is written after the push of its parent was lost: both arrive, parents first.
async fn a_child_follows_a_parent_whose_push_was_lost(way: impl Way) {
    let (a, b) = (client(&way, "a").await, client(&way, "b").await);
    let gate = Gate::serve(&a).await;
    let tree = tree(&a, &["one"]).await;
    follow(&b, tree, &a).await;
    let lost = gate.lose_one();
    let parent = write(&b, tree, "parent").await;
    tokio::time::timeout(LONG, lost)
        .await
        .expect("it is pushed");
    let child = write(&b, tree, "child").await;
    until_has(&a, tree, child).await;
    until_has(&a, tree, parent).await;
    assert_equal(&a, &b, tree).await;
    stop([a, b]).await;
}

/// Both write while nothing passes, for many times the longest backoff.
async fn a_partition_heals_that_outlasts_every_backoff(way: impl Way) {
    let (a, b) = (client(&way, "a").await, client(&way, "b").await);
    let gate = Gate::serve(&a).await;
    let tree = tree(&a, &["one"]).await;
    follow(&b, tree, &a).await;
    gate.close();
    until_unreachable(&b, tree, &a).await;
    let by_a = write(&a, tree, "by a").await;
    let by_b = write(&b, tree, "by b").await;
    tokio::time::sleep(Duration::from_millis(10 * BACKOFF.cap_ms)).await;
    assert!(b.entry(tree, by_a).await.expect("in memory").is_none());
    assert!(a.entry(tree, by_b).await.expect("in memory").is_none());
    gate.open();
    until_has(&b, tree, by_a).await;
    until_has(&a, tree, by_b).await;
    let entry = write(&a, tree, "after it").await;
    until_has(&b, tree, entry).await;
    assert_equal(&a, &b, tree).await;
    stop([a, b]).await;
}

/// The watched side and the watching side each stop while the watch is open, and come back on the
/// same store, the watched one at another address. No follow is repeated.
async fn either_side_of_a_watch_restarts(way: impl Way) {
    let (store_a, store_b) = (memory(), memory());
    let a = server_on(&way, "a", store_a.clone()).await;
    let b = server_on(&way, "b", store_b.clone()).await;
    let tree = tree(&a, &["one"]).await;
    follow(&b, tree, &a).await;
    follow(&a, tree, &b).await;

    stop([b]).await;
    let entry = write(&a, tree, "while b is away").await;
    let b = server_on(&way, "b", store_b).await;
    until_has(&b, tree, entry).await;
    let entry = write(&a, tree, "to the watch of b").await;
    until_has(&b, tree, entry).await;

    stop([a]).await;
    let entry = write(&b, tree, "while a is away").await;
    let a = server_on(&way, "a", store_a).await;
    until_has(&a, tree, entry).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let entry = write(from, tree, "after both").await;
        until_has(to, tree, entry).await;
    }
    assert_equal(&a, &b, tree).await;
    stop([a, b]).await;
}

/// A server that is watched moves to another address while its process lives on.
async fn an_address_changes_while_it_is_watched(way: impl Way) {
    let (a, b) = (server(&way, "a").await, server(&way, "b").await);
    let tree = tree(&a, &["one"]).await;
    follow(&b, tree, &a).await;
    follow(&a, tree, &b).await;
    a.transports().stop_accepting().await.expect("it stops");
    let entry = write(&a, tree, "on the way").await;
    a.accept_connections().await.expect("a free address");
    until_has(&b, tree, entry).await;
    let entry = write(&a, tree, "from the new address").await;
    until_has(&b, tree, entry).await;
    let entry = write(&b, tree, "to the new address").await;
    until_has(&a, tree, entry).await;
    stop([a, b]).await;
}

/// What names a transport within a program says nothing to others: tickets and address records name
/// its kind.
async fn a_transport_of_any_name_gives_usable_addresses(way: impl Way) {
    let named = async |name: &str, transport_name: &str| {
        let key = secret(name);
        let transport = way.transport(name, &key).await;
        let builder = Node::builder_with(memory(), key).backoff(BACKOFF);
        let builder = builder
            .follow_callers()
            .transport(transport_name, transport);
        let node = builder.expect("the only one").start();
        node.accept_connections().await.expect("a free address");
        node
    };
    let a = named("a", "from the garage").await;
    let b = named("b", "http").await;
    let c = named("c", "iroh").await;
    let tree = tree(&b, &["one"]).await;
    // By the text of a ticket.
    let ticket = b.ticket(tree).await.to_string();
    let ticket: Ticket = ticket.parse().expect("a ticket");
    for node in [&a, &c] {
        node.follow(tree, &ticket).await.expect("b serves");
        let synced = node.synced_with(tree, b.key(), LONG).await;
        synced.expect("b serves");
    }
    // By records, which b passes on.
    let meet = async {
        while a.followed(tree, c.key()).is_none() {
            // Another round of swaps: in the one before, b may not have heard of both.
            a.network_changed();
            c.network_changed();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        a.synced_with(tree, c.key(), LONG).await
    };
    let met = tokio::time::timeout(LONG, meet).await;
    met.expect("they find each other").expect("c serves");
    stop([b]).await;
    let entry = write(&a, tree, "without b").await;
    until_has(&c, tree, entry).await;
    stop([a, c]).await;
}

/// Each gets each entry of the other once, and none of its own.
async fn two_that_follow_each_other_do_not_echo(way: impl Way) {
    let (a, b) = (client(&way, "a").await, client(&way, "b").await);
    let received = Received::default();
    received.serve_to(&a, Some(b.key())).await;
    received.serve_to(&b, Some(a.key())).await;
    let tree = tree(&a, &["one"]).await;
    follow(&b, tree, &a).await;
    follow(&a, tree, &b).await;
    for n in 0..20 {
        let (from, to) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let entry = write(from, tree, &n.to_string()).await;
        until_has(to, tree, entry).await;
        // An echo would be on its way by the end of a check.
        let synced = from.synced_with(tree, to.key(), LONG).await;
        synced.expect("it serves");
        assert_eq!(received.count(from, entry), 0, "entry {n} came back");
    }
    // Where a push and a watch are both under way, an entry may travel twice.
    assert!(received.most() <= 2);
    stop([a, b]).await;
}

/// A copy of a store on another machine, which follows the original.
#[cfg(feature = "http")]
#[tokio::test]
async fn a_copied_store_is_detected_over_http() {
    let way = crate::common::raw::Http;
    let (original, copy) = (server(&way, "twin").await, server(&way, "twin").await);
    let tree = tree(&original, &["one"]).await;
    for (node, other) in [(&copy, &original), (&original, &copy)] {
        let mut events = node.events();
        let followed = node.follow(tree, at(other).await).await;
        followed.expect("it serves");
        let said = async {
            while !matches!(events.next().await, Some(eidetica_sync::Event::DuplicateKey { key }) if key == node.key())
            {
            }
        };
        if node.duplicate_keys().is_empty() {
            tokio::time::timeout(LONG, said).await.expect("it is said");
        }
        assert_eq!(node.duplicate_keys()[0].0, node.key());
    }
    stop([original, copy]).await;
}

/// One writes over HTTP, another reads over iroh; the server between them speaks both.
#[cfg(all(feature = "http", feature = "iroh"))]
#[tokio::test]
async fn a_server_relays_from_http_to_iroh_and_back() {
    use crate::common::raw::{Http, Iroh};
    let key = secret("relay");
    let (http, iroh) = (
        Http.transport("relay", &key).await,
        Iroh.transport("relay", &key).await,
    );
    let builder = Node::builder_with(memory(), key).transport("web", http);
    let builder = builder.and_then(|builder| builder.transport("p2p", iroh));
    let relay = builder.expect("two names").start();
    relay.accept_connections().await.expect("free addresses");
    let (writer, reader) = (client(&Http, "writer").await, client(&Iroh, "reader").await);
    let tree = tree(&relay, &["one"]).await;
    // Each takes from the ticket what it can reach.
    follow(&writer, tree, &relay).await;
    follow(&reader, tree, &relay).await;
    for text in ["two", "three"] {
        let entry = write(&writer, tree, text).await;
        until_has(&reader, tree, entry).await;
        let entry = write(&reader, tree, text).await;
        until_has(&writer, tree, entry).await;
    }
    assert_equal(&writer, &reader, tree).await;
    stop([writer, reader, relay]).await;
}

/// Runs each scenario over HTTP and over iroh.
macro_rules! over_each {
    ($($scenario:ident)*) => {
        #[cfg(feature = "http")]
        mod http {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(crate::common::raw::Http).await;
            })*
        }

        #[cfg(feature = "iroh")]
        mod iroh {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(crate::common::raw::Iroh).await;
            })*
        }
    };
}

over_each! {
    news_pass_along_a_chain
    a_child_follows_a_parent_whose_push_was_lost
    a_partition_heals_that_outlasts_every_backoff
    either_side_of_a_watch_restarts
    an_address_changes_while_it_is_watched
    a_transport_of_any_name_gives_usable_addresses
    two_that_follow_each_other_do_not_echo
}
