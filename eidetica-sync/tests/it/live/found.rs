//! Peers find each other, and each other's new addresses, through a third.

use std::sync::Arc;
use std::time::Duration;

use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

use super::{SETTLE, peer, until_has, until_state};
use crate::common::{client, node, secret, tree, write};

/// A node that serves at `at` and follows whom it meets, as the program does.
async fn serving(network: &MemoryNetwork, name: &str, at: &str, store: Arc<dyn Store>) -> Node {
    let key = secret(name);
    let transport = network.transport(at).key(key.public()).build();
    let builder = Node::builder_with(store, key).follow_callers();
    let node = builder.transport("net", transport).expect("a name").start();
    node.accept_connections().await.expect("the name is free");
    node
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(start_paused = true)]
async fn two_that_never_exchanged_tickets_follow_each_other() {
    let network = MemoryNetwork::new();
    let store = memory();
    let a = serving(&network, "a", "a", store.clone()).await;
    let [b, c] = ["b", "c"].map(|name| serving(&network, name, name, memory()));
    let (b, c) = (b.await, c.await);
    let tree = tree(&b, &["one"]).await;
    a.follow(tree, peer(&b, "b")).await.expect("b serves");
    tokio::time::sleep(SETTLE).await;
    c.follow(tree, peer(&b, "b")).await.expect("b serves");
    tokio::time::sleep(SETTLE).await;
    let in_sync = |state: &LaneStatus| matches!(state, LaneStatus::InSync { .. });
    until_state(&a, tree, &c, in_sync).await;
    until_state(&c, tree, &a, in_sync).await;
    // The third is not needed from here on.
    b.shutdown().await.expect("nothing is left running");
    tokio::time::sleep(SETTLE).await;
    let entry = write(&a, tree, "two").await;
    let took = until_has(&c, tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
    // Nor after a restart.
    a.shutdown().await.expect("nothing is left running");
    let a = serving(&network, "a", "a", store).await;
    until_state(&a, tree, &c, in_sync).await;
}

/// The follower makes no contact that would tell it, and the peer that moved does not know it.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_address_changed_is_found_through_a_third() {
    let network = MemoryNetwork::new();
    let b = node(&network, "b").await;
    let store = memory();
    let c = serving(&network, "c", "c", store.clone()).await;
    let a = client(&network, "a");
    let tree = tree(&b, &["one"]).await;
    c.follow(tree, peer(&b, "b")).await.expect("b serves");
    a.follow(tree, peer(&b, "b")).await.expect("b serves");
    a.follow(tree, peer(&c, "c")).await.expect("c serves");
    tokio::time::sleep(SETTLE).await;
    c.shutdown().await.expect("nothing is left running");
    let away = |state: &LaneStatus| matches!(state, LaneStatus::Unreachable { .. });
    until_state(&a, tree, &c, away).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let c = serving(&network, "c", "elsewhere", store).await;
    c.follow(tree, peer(&b, "b")).await.expect("b serves");
    let in_sync = |state: &LaneStatus| matches!(state, LaneStatus::InSync { .. });
    let took = until_state(&a, tree, &c, in_sync).await;
    // The longest backoff, at the end of which it asks.
    assert!(took <= Duration::from_secs(301), "{took:?}");
    assert_eq!(a.addresses_of(&c.key())[0], crate::common::at("elsewhere"));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_paused_a_found_peer_is_obeyed() {
    let network = MemoryNetwork::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| serving(&network, name, name, memory()));
    let (a, b, c) = (a.await, b.await, c.await);
    let tree = tree(&b, &["one"]).await;
    a.pause(tree, c.key()).await.expect("in memory");
    c.pause(tree, a.key()).await.expect("in memory");
    for node in [&a, &c] {
        node.follow(tree, peer(&b, "b")).await.expect("b serves");
        tokio::time::sleep(SETTLE).await;
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!a.addresses_of(&c.key()).is_empty(), "it knows where c is");
    assert!(a.followed(tree, c.key()).is_none());
    assert!(c.followed(tree, a.key()).is_none());
}
