//! Peers that are followed because they made contact.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::SecretKey;
use eidetica_proto::coordinator::LaneStatus;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

use super::{peer, until_has, until_state};
use crate::common::{assert_equal, client, node, seed, tree, write};

/// A server that follows its callers.
async fn hub(network: &MemoryNetwork, store: Arc<dyn Store>) -> Node {
    let key = SecretKey::from_bytes(&seed("hub"));
    let transport = network.transport("hub").key(key.public()).build();
    let builder = Node::builder_with(store, key).with_seed(seed("hub"));
    let builder = builder.transport("net", transport).expect("the only one");
    let hub = builder.follow_callers().start();
    hub.accept_connections().await.expect("the address is free");
    hub
}

fn in_sync(state: &LaneStatus) -> bool {
    matches!(state, LaneStatus::InSync { .. })
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_can_be_reached_is_followed() {
    let network = MemoryNetwork::new();
    let hub = hub(&network, Arc::new(MemoryStore::new())).await;
    let b = node(&network, "b").await;
    let tree = tree(&hub, &["one"]).await;
    b.follow(tree, peer(&hub, "hub")).await.expect("b runs");
    until_state(&hub, tree, &b, in_sync).await;
    // Only one side can connect from here on, and it is the other one.
    hub.transports().stop_accepting().await.expect("it stops");
    let entry = write(&b, tree, "two").await;
    until_has(&hub, tree, entry).await;
    let entry = write(&hub, tree, "three").await;
    until_has(&b, tree, entry).await;
    assert_equal(&hub, &b, tree).await;
}

#[tokio::test(start_paused = true)]
async fn callers_are_remembered_and_a_pause_is_too() {
    let network = MemoryNetwork::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = hub(&network, store.clone()).await;
    let b = node(&network, "b").await;
    let tree = tree(&first, &["one"]).await;
    b.follow(tree, peer(&first, "hub")).await.expect("b runs");
    until_state(&first, tree, &b, in_sync).await;
    first.shutdown().await.expect("nothing is left running");
    let second = hub(&network, store.clone()).await;
    until_state(&second, tree, &b, in_sync).await;

    second.pause(tree, b.key()).await.expect("in memory");
    let follows = second.remembered_follows().await.expect("in memory");
    assert!(follows.len() == 1 && follows[0].is_paused, "{follows:?}");
    // Contact does not end it.
    let entry = write(&b, tree, "two").await;
    until_has(&second, tree, entry).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(second.status().is_empty());
    let follow = second.follow_with(tree, follows[0].peer, follows[0].options);
    follow.await.expect("it runs");
    until_state(&second, tree, &b, in_sync).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_cannot_be_reached_is_not_followed() {
    let network = MemoryNetwork::new();
    let hub = hub(&network, Arc::new(MemoryStore::new())).await;
    let b = client(&network, "b");
    let tree = tree(&hub, &["one"]).await;
    b.follow(tree, peer(&hub, "hub")).await.expect("b runs");
    until_state(&b, tree, &hub, in_sync).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(hub.status().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_may_not_read_is_not_followed() {
    let network = MemoryNetwork::new();
    let hub = hub(&network, Arc::new(MemoryStore::new())).await;
    let b = node(&network, "b").await;
    let tree = hub.create_tree("private", vec![]).await.expect("a name");
    b.follow(tree, peer(&hub, "hub")).await.expect("b runs");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(hub.status().is_empty());
    assert!(
        hub.remembered_follows()
            .await
            .expect("in memory")
            .is_empty()
    );
}
