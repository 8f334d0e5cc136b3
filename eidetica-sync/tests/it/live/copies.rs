//! One secret key on two machines, such as by a copied store, is noticed and said.

use std::time::Duration;

use eidetica_dag::PublicKey;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::store::MemoryStore;
use eidetica_sync::{Event, Events, Node, Peer};
use futures::{FutureExt, StreamExt};

use super::peer;
use crate::common::{at, node, secret, tree};

/// Longer than three rounds of asking.
const LONG: Duration = Duration::from_secs(20 * 60);

/// A node of the key of `of` that is reached at `name`. Each start draws randomness of its own.
async fn start(network: &MemoryNetwork, of: &str, name: &str) -> Node {
    let key = secret(of);
    let transport = network.transport(name).key(key.public()).build();
    let builder = Node::builder(MemoryStore::new(), key);
    let node = builder.transport("net", transport).expect("a name").start();
    node.accept_connections().await.expect("the name is free");
    node
}

fn said(events: &mut Events) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        if let Event::DuplicateKey { key } = event {
            keys.push(key);
        }
    }
    keys
}

fn keys(node: &Node) -> Vec<PublicKey> {
    let found = node.duplicate_keys().into_iter();
    found.map(|(key, _)| key).collect()
}

/// Neither of the two meets the other.
#[tokio::test(start_paused = true)]
async fn a_third_node_that_meets_both_says_so() {
    let network = MemoryNetwork::new();
    let third = node(&network, "third").await;
    let tree = tree(&third, &["one"]).await;
    let mut events = third.events();
    let original = start(&network, "twin", "original").await;
    let copy = start(&network, "twin", "copy").await;
    for twin in [&original, &copy] {
        let followed = twin.follow(tree, peer(&third, "third")).await;
        followed.expect("it serves");
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    tokio::time::sleep(LONG).await;
    assert_eq!(said(&mut events), [original.key()], "once");
    assert_eq!(keys(&third), [original.key()]);
    // After the copy has ended, it is forgotten.
    copy.shutdown().await.expect("nothing is left running");
    tokio::time::sleep(LONG * 6).await;
    assert_eq!(keys(&third), []);
}

#[tokio::test(start_paused = true)]
async fn two_that_meet_say_so_of_their_own_key() {
    let network = MemoryNetwork::new();
    let original = start(&network, "twin", "original").await;
    let copy = start(&network, "twin", "copy").await;
    let tree = tree(&original, &["one"]).await;
    tokio::time::sleep(LONG).await;
    let (mut of_original, mut of_copy) = (original.events(), copy.events());
    let own = Peer {
        key: Some(copy.key()),
        addresses: vec![at("original")],
    };
    copy.follow(tree, own).await.expect("it serves");
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (node, events) in [(&original, &mut of_original), (&copy, &mut of_copy)] {
        assert_eq!(said(events), [node.key()]);
        assert_eq!(keys(node), [node.key()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_restarted_is_no_copy() {
    let network = MemoryNetwork::new();
    let third = node(&network, "third").await;
    let tree = tree(&third, &["one"]).await;
    let mut events = third.events();
    for _ in 0..4 {
        let restarted = start(&network, "twin", "original").await;
        let followed = restarted.follow(tree, peer(&third, "third")).await;
        followed.expect("it serves");
        tokio::time::sleep(LONG).await;
        restarted.shutdown().await.expect("nothing is left running");
    }
    assert_eq!(said(&mut events), []);
    assert_eq!(keys(&third), []);
}
