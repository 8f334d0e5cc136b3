//! Many nodes of which each knows one or two others.

use std::time::Duration;

use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use tokio::time::Instant;

use super::{SETTLE, peer, until_has};
use crate::common::served::Received;
use crate::common::{assert_equal, client, tree, write};

const LENGTH: usize = 20;

/// How long a hop may take on a network that takes no time: no wait of any kind is part of it.
const HOP_MAX: Duration = Duration::from_millis(5);

fn name(n: usize) -> String {
    format!("n{n}")
}

/// Nodes that serve, and what they receive.
async fn nodes(network: &MemoryNetwork) -> (Vec<Node>, Received) {
    let (mut nodes, received) = (Vec::new(), Received::default());
    for n in 0..LENGTH {
        let node = client(network, &name(n));
        received.serve(&node).await;
        nodes.push(node);
    }
    (nodes, received)
}

/// Asserts that all nodes have an entry within so many hops of `began`.
async fn all_have(nodes: &[Node], tree: TreeId, entry: EntryId, began: Instant, hops: usize) {
    for node in nodes {
        until_has(node, tree, entry).await;
    }
    let (took, most) = (began.elapsed(), HOP_MAX * hops as u32);
    assert!(took <= most, "{took:?} for {hops} hops");
}

/// `n0 <- n1 <- … <- n19`: each waits for the tree before the one that it follows has it. The tree
/// passes along at once, and so do entries after it, from either end.
#[tokio::test(start_paused = true)]
async fn a_tree_passes_along_a_chain_of_twenty() {
    let network = MemoryNetwork::new();
    let (nodes, received) = nodes(&network).await;
    let (first, last) = (&nodes[0], &nodes[LENGTH - 1]);
    let tree = tree(first, &["one"]).await;
    for n in (2..LENGTH).rev() {
        let before = peer(&nodes[n - 1], &name(n - 1));
        nodes[n].follow(tree, before).await.expect("it runs");
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let began = Instant::now();
    let followed = nodes[1].follow(tree, peer(first, &name(0))).await;
    followed.expect("it runs");
    let tip = first.tips(tree).await.expect("in memory")[0];
    all_have(&nodes, tree, tip, began, LENGTH).await;
    tokio::time::sleep(SETTLE).await;
    for (writer, text) in [(first, "by the first"), (last, "by the last")] {
        let began = Instant::now();
        let entry = write(writer, tree, text).await;
        all_have(&nodes, tree, entry, began, LENGTH).await;
    }
    tokio::time::sleep(SETTLE).await;
    for node in &nodes {
        assert_equal(first, node, tree).await;
    }
    assert_eq!(received.most(), 1, "there is one way to each node");
}

/// A ring in which each follows the one before: wherever an entry is written, all have it soon, and
/// at most once from either side.
#[tokio::test(start_paused = true)]
async fn news_pass_around_a_ring() {
    let network = MemoryNetwork::new();
    let (nodes, received) = nodes(&network).await;
    let tree = tree(&nodes[0], &["one"]).await;
    for n in 0..LENGTH {
        let before = (n + LENGTH - 1) % LENGTH;
        let before = peer(&nodes[before], &name(before));
        nodes[n].follow(tree, before).await.expect("it runs");
    }
    let tip = nodes[0].tips(tree).await.expect("in memory")[0];
    for node in &nodes {
        until_has(node, tree, tip).await;
    }
    tokio::time::sleep(SETTLE).await;
    let mut written = Vec::new();
    for n in 0..40 {
        let began = Instant::now();
        let entry = write(&nodes[n * 7 % LENGTH], tree, &n.to_string()).await;
        // The farthest node is half of the ring away.
        all_have(&nodes, tree, entry, began, LENGTH / 2).await;
        written.push(entry);
    }
    tokio::time::sleep(SETTLE).await;
    for node in &nodes {
        assert_equal(&nodes[0], node, tree).await;
        for entry in &written {
            let count = received.count(node, *entry);
            assert!(count <= 2, "{count} times");
        }
    }
}
