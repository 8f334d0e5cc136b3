//! What it costs when nothing happens.

use std::time::Duration;

use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;

use super::{SETTLE, came, peer, server_and_client};
use crate::common::{client, node, tree};

/// Only the checks go on: one for each minute, give or take a quarter.
#[tokio::test(start_paused = true)]
async fn at_rest_there_is_one_small_exchange_a_minute() {
    let network = MemoryNetwork::new();
    let (_a, b, _) = server_and_client(&network).await;
    let mut events = b.events();
    let exchanges = network.exchanges();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let checks = network.exchanges() - exchanges;
    assert!((8..=13).contains(&checks), "{checks}");
    assert_eq!(came(&mut events), super::Came::default());
}

/// Many trees shared with a peer cost as many exchanges as one.
#[tokio::test(start_paused = true)]
async fn many_trees_cost_no_more_exchanges_than_one() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    for _ in 0..200 {
        let tree = tree(&a, &["one"]).await;
        b.follow(tree, peer(&a, "a")).await.expect("b runs");
    }
    tokio::time::sleep(SETTLE * 4).await;
    assert!(b.status().iter().all(in_sync), "all were fetched");
    let exchanges = network.exchanges();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let checks = network.exchanges() - exchanges;
    assert!((8..=13).contains(&checks), "{checks}");
    let tree = b.status()[77].tree;
    let entry = crate::common::write(&a, tree, "two").await;
    let took = super::until_has(&b, tree, entry).await;
    assert!(took < Duration::from_millis(10), "{took:?}");
}

fn in_sync(status: &eidetica_sync::FollowStatus) -> bool {
    use eidetica_proto::coordinator::LaneStatus;
    matches!(status.state, LaneStatus::InSync { .. })
}

/// A tree that is not followed any more costs nothing.
#[tokio::test(start_paused = true)]
async fn after_the_last_follow_has_stopped_there_is_silence() {
    let network = MemoryNetwork::new();
    let (a, b, tree) = server_and_client(&network).await;
    let follow = b.followed(tree, a.key()).expect("b follows a");
    follow.stop().await.expect("in memory");
    assert!(follow.status().is_none());
    tokio::time::sleep(SETTLE).await;
    let exchanges = network.exchanges();
    crate::common::write(&a, tree, "two").await;
    crate::common::write(&b, tree, "three").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(network.exchanges(), exchanges);
}

/// A runtime may end without a shutdown of the node.
#[test]
fn a_runtime_that_ends_takes_the_engine_along() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    let network = MemoryNetwork::new();
    let nodes: (Node, Node) = runtime.block_on(async {
        let (a, b) = (node(&network, "a").await, client(&network, "b"));
        let tree = tree(&a, &["one"]).await;
        b.follow(tree, peer(&a, "a")).await.expect("b runs");
        b.synced_with(tree, a.key(), Duration::from_secs(60))
            .await
            .expect("a serves");
        (a, b)
    });
    drop(runtime);
    drop(nodes);
}

/// Two that follow each other and both lack a tree ask each other rarely, and have it at once when
/// one of them gets it.
#[tokio::test(start_paused = true)]
async fn a_tree_that_both_lack_is_asked_for_rarely() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, node(&network, "b").await);
    let source = node(&network, "source").await;
    let tree = tree(&source, &["one"]).await;
    a.follow(tree, peer(&b, "b")).await.expect("a runs");
    b.follow(tree, peer(&a, "a")).await.expect("b runs");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let exchanges = network.exchanges();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let checks = network.exchanges() - exchanges;
    // Each asks three to four times a minute, and not because the other asked.
    assert!(checks <= 100, "{checks}");
    a.sync(tree, peer(&source, "source"))
        .await
        .expect("it serves");
    let entry = source.tips(tree).await.expect("in memory")[0];
    let took = super::until_has(&b, tree, entry).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}
