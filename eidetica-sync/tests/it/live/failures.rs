//! What goes wrong, and how soon it is made good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eidetica_dag::SecretKey;
use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::{Fault, MemoryNetwork};
use eidetica_sync::store::{MemoryStore, Store};
use eidetica_sync::{Node, Peer};

use super::{SETTLE, peer, server_and_client, until_has, until_state};
use crate::common::{assert_equal, at, client, client_on, node, seed, tree, write};

fn unreachable(state: &LaneStatus) -> bool {
    matches!(state, LaneStatus::Unreachable { .. })
}

/// A partition that lasts longer than the longest backoff; both sides write meanwhile.
#[tokio::test(start_paused = true)]
async fn a_long_partition_heals_by_itself() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    a.transports().stop_accepting().await.expect("it stops");
    until_state(&b, tree, &a, unreachable).await;
    let mine = write(&b, tree, "by b").await;
    let theirs = write(&a, tree, "by a").await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    a.accept_connections().await.expect("the name is free");
    let took = until_has(&b, tree, theirs).await;
    assert!(took <= Duration::from_secs(5 * 60 + 1), "{took:?}");
    until_has(&a, tree, mine).await;
    assert_equal(&a, &b, tree).await;
    let entry = write(&a, tree, "after it").await;
    tokio::time::sleep(SETTLE).await;
    until_has(&b, tree, entry).await;
}

/// A program that knows that the network is back need not wait.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_network_ends_every_wait() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    for retry in [Node::network_changed as fn(&Node), |b| {
        let peers: Vec<_> = b.status().iter().map(|it| it.peer).collect();
        b.retry_now(peers[0]);
    }] {
        a.transports().stop_accepting().await.expect("it stops");
        until_state(&b, tree, &a, unreachable).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let entry = write(&a, tree, "meanwhile").await;
        a.accept_connections().await.expect("the name is free");
        retry(&b);
        let took = until_has(&b, tree, entry).await;
        assert!(took < Duration::from_millis(10), "{took:?}");
    }
}

/// Contact from a peer ends the backoff: here a, which can reach b, comes back.
#[tokio::test(start_paused = true)]
async fn contact_from_a_peer_ends_its_backoff() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    tokio::time::sleep(SETTLE).await;
    a.transports().stop_accepting().await.expect("it stops");
    until_state(&b, tree, &a, unreachable).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let entry = write(&a, tree, "two").await;
    a.accept_connections().await.expect("the name is free");
    // It asks about another tree, so that the contact itself brings nothing.
    let other = crate::common::tree(&b, &[]).await;
    a.sync(other, peer(&b, "b")).await.expect("b serves");
    let took = until_has(&b, tree, entry).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_is_watched_again() {
    let network = MemoryNetwork::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let a = client_on(&network, "a", store.clone());
    a.accept_connections().await.expect("the name is free");
    let b = client(&network, "b");
    let tree = tree(&a, &["one"]).await;
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    tokio::time::sleep(SETTLE).await;
    a.shutdown().await.expect("nothing is left running");
    let a = client_on(&network, "a", store);
    a.accept_connections().await.expect("the name is free");
    let entry = write(&a, tree, "after the restart").await;
    let took = until_has(&b, tree, entry).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    tokio::time::sleep(SETTLE).await;
    let entry = write(&a, tree, "to the watch").await;
    let took = until_has(&b, tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
}

/// A node with two addresses.
async fn movable(network: &MemoryNetwork) -> Node {
    let key = SecretKey::from_bytes(&seed("a"));
    let transport = |name: &str| network.transport(name).key(key.public()).build();
    let builder = Node::builder(MemoryStore::new(), key.clone()).with_seed(seed("a"));
    let node = builder
        .transport("first", transport("a1"))
        .and_then(|builder| builder.transport("second", transport("a2")))
        .expect("two names")
        .start();
    node.accept_connections().await.expect("the names are free");
    node
}

/// The address that worked goes away while it is watched, and another one is known.
#[tokio::test(start_paused = true)]
async fn a_peer_that_moves_is_found_at_its_other_address() {
    let network = MemoryNetwork::new();
    let (a, b) = (movable(&network).await, client(&network, "b"));
    let tree = tree(&a, &["one"]).await;
    let both = Peer {
        key: Some(a.key()),
        addresses: vec![at("a1"), at("a2")],
    };
    b.follow(tree, both).await.expect("b runs");
    tokio::time::sleep(SETTLE).await;
    let first = a.transports().get("first").expect("it is there").clone();
    first.stop_server().await.expect("it stops");
    let entry = write(&a, tree, "elsewhere").await;
    let took = until_has(&b, tree, entry).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(b.peers()[0].1, [at("a2"), at("a1")]);
}

/// An address at which nothing answers costs a quarter of a second once, and nothing after that.
#[tokio::test(start_paused = true)]
async fn a_mute_address_costs_little_and_only_once() {
    let network = MemoryNetwork::new();
    let (a, b) = (movable(&network).await, client(&network, "b"));
    let tree = tree(&a, &["one"]).await;
    network.inject(|exchange| (exchange.to == at("a1")).then_some(Fault::Stall));
    let both = Peer {
        key: Some(a.key()),
        addresses: vec![at("a1"), at("a2")],
    };
    let began = tokio::time::Instant::now();
    b.sync(tree, both.clone()).await.expect("a2 answers");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(300), "{took:?}");
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        b.sync(tree, both.clone()).await.expect("a2 answers");
    }
    assert!(began.elapsed() < Duration::from_millis(10));
}

/// A push that was lost takes nothing with it: the next one begins where the peer is known to be.
#[tokio::test(start_paused = true)]
async fn a_child_follows_a_parent_whose_push_was_lost() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    let cuts = Arc::new(AtomicBool::new(true));
    let once = cuts.clone();
    network.inject(move |_| {
        let cut = once.swap(false, Ordering::Relaxed);
        cut.then_some(Fault::CutRequest { after_frames: 1 })
    });
    write(&b, tree, "parent").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!cuts.load(Ordering::Relaxed), "the push was cut");
    let child = write(&b, tree, "child").await;
    let took = until_has(&a, tree, child).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_equal(&a, &b, tree).await;
}

/// A peer that accepts and says nothing holds up no other.
#[tokio::test(start_paused = true)]
async fn a_stalled_peer_delays_no_other() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let stalled = node(&network, "stalled").await;
    network.inject(|exchange| (exchange.to == at("stalled")).then_some(Fault::Stall));
    let tree = tree(&a, &["one"]).await;
    for _ in 0..100 {
        let tree = crate::common::tree(&b, &[]).await;
        let followed = b.follow(tree, peer(&stalled, "stalled")).await;
        followed.expect("b runs");
    }
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    let took = until_has(&b, tree, a.tips(tree).await.expect("in memory")[0]).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    b.shutdown().await.expect("stalled exchanges are cut");
}
