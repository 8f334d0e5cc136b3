//! Nodes that keep a tree in sync with peers, in virtual time.

use std::time::Duration;

use crate::common::{assert_equal, at, node, texts, tree, write};
use eidetica_proto::schedule::{CHECK_INTERVAL_MS, PeerStatus};
use eidetica_proto::testing::{Fault, MemoryNetwork};
use eidetica_sync::{Event, Node, Peer};

/// Waits until `node` has seen so many successful syncs end.
async fn syncs(events: &mut eidetica_sync::Events, count: usize) {
    let mut succeeded = 0;
    while succeeded < count {
        let event = events.next().await.expect("the node lives");
        succeeded += usize::from(matches!(event, Event::SyncEnded { result: Ok(_), .. }));
    }
}

fn peer(node: &Node, name: &str) -> Peer {
    Peer {
        key: Some(node.key()),
        addresses: vec![at(name)],
    }
}

async fn status(node: &Node) -> PeerStatus {
    node.statuses().await.expect("the node lives")[0].2
}

#[tokio::test(start_paused = true)]
async fn a_local_entry_reaches_a_followed_peer() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    let mut events = b.events();
    b.follow(tree, peer(&a, "a")).await.expect("the node lives");
    syncs(&mut events, 1).await;
    assert_equal(&a, &b, tree).await;
    write(&b, tree, "by b").await;
    syncs(&mut events, 1).await;
    assert_equal(&a, &b, tree).await;
    assert!(matches!(status(&b).await, PeerStatus::Settled { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_next_check_finds_a_remote_entry() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    let mut events = b.events();
    b.follow(tree, peer(&a, "a")).await.expect("the node lives");
    syncs(&mut events, 1).await;
    write(&a, tree, "by a").await;
    let before = tokio::time::Instant::now();
    syncs(&mut events, 1).await;
    assert!(before.elapsed() >= Duration::from_millis(CHECK_INTERVAL_MS - 1_000));
    assert_equal(&a, &b, tree).await;
}

#[tokio::test(start_paused = true)]
async fn entries_are_passed_on_to_third_peers() {
    let network = MemoryNetwork::new();
    let a = node(&network, "a").await;
    let b = node(&network, "b").await;
    let c = node(&network, "c").await;
    let tree = tree(&a, &["one"]).await;
    // b knows a and c; a and c know nobody.
    let mut events = b.events();
    b.follow(tree, peer(&a, "a")).await.expect("the node lives");
    syncs(&mut events, 1).await;
    c.sync(tree, at("b")).await.expect("b serves");
    b.follow(tree, at("c")).await.expect("the node lives");
    syncs(&mut events, 1).await;
    write(&a, tree, "by a").await;
    // The check with a brings it, and passes it on to c.
    syncs(&mut events, 2).await;
    while texts(&c, tree).await.len() < 2 {
        syncs(&mut events, 1).await;
    }
    assert_equal(&a, &c, tree).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_retried_and_delays_no_other() {
    let network = MemoryNetwork::new();
    let (a, b, dead) = (
        node(&network, "a").await,
        node(&network, "b").await,
        node(&network, "dead").await,
    );
    let tree = tree(&a, &["one"]).await;
    dead.sync(tree, at("a")).await.expect("a serves");
    network.inject(|exchange| (exchange.to == at("dead")).then_some(Fault::Refuse));
    let mut events = b.events();
    b.follow(tree, at("dead")).await.expect("the node lives");
    b.follow(tree, peer(&a, "a")).await.expect("the node lives");
    syncs(&mut events, 1).await;
    assert_equal(&a, &b, tree).await;
    let (mut failures, mut last_failures) = (0, 0);
    while failures < 8 {
        if let Event::SyncEnded { result: Err(_), .. } = events.next().await.expect("it lives") {
            failures += 1;
            if let PeerStatus::Failing { failures, .. } = status(&b).await {
                assert!(failures >= last_failures);
                last_failures = failures;
            }
        }
    }
    network.heal();
    write(&a, tree, "while it was dead").await;
    while texts(&dead, tree).await.len() < 2 {
        syncs(&mut events, 1).await;
    }
    assert_equal(&a, &dead, tree).await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_peer_delays_no_other() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let tree = tree(&a, &["one"]).await;
    network.inject(|exchange| (exchange.to == at("stalled")).then_some(Fault::Stall));
    let stalled = b
        .begin_sync(tree, at("stalled"), eidetica_proto::SyncOptions::default())
        .await;
    let _runs_until_the_end = stalled.expect("the node lives");
    b.sync(tree, at("a")).await.expect("a serves");
    assert_equal(&a, &b, tree).await;
    b.shutdown().await.expect("a stalled sync is cut");
}
