//! Nodes on a network in memory.

#[cfg(any(feature = "http", feature = "iroh"))]
pub(crate) mod gate;
pub(crate) mod raw;
pub(crate) mod served;

use std::collections::BTreeSet;
use std::sync::Arc;

use eidetica_dag::{AccessChange, Body, EntryId, Role, SecretKey, Subject, TreeId};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_proto::{Address, Report};
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

/// A node named `name` on `network`, serving at `memory:<name>`. Its key follows from its name.
pub(crate) async fn node(network: &MemoryNetwork, name: &str) -> Node {
    let node = client(network, name);
    node.accept_connections()
        .await
        .expect("no other node has the address");
    node
}

/// A node like [`node`] that does not serve.
pub(crate) fn client(network: &MemoryNetwork, name: &str) -> Node {
    client_on(network, name, Arc::new(MemoryStore::new()))
}

/// A node like [`client`] on a store of an earlier one.
pub(crate) fn client_on(network: &MemoryNetwork, name: &str, store: Arc<dyn Store>) -> Node {
    let seed = seed(name);
    let key = SecretKey::from_bytes(&seed);
    let transport = network.transport(name).key(key.public()).build();
    let builder = Node::builder_with(store, key).with_seed(seed);
    builder
        .transport("net", transport)
        .expect("the first of its name")
        .start()
}

pub(crate) fn secret(name: &str) -> SecretKey {
    SecretKey::from_bytes(&seed(name))
}

pub(crate) fn seed(name: &str) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    seed
}

pub(crate) fn at(name: &str) -> Address {
    Address::new("memory", name).expect("well formed")
}

pub(crate) fn anyone(role: Role) -> Vec<AccessChange> {
    vec![AccessChange::grant(Subject::Anyone, role)]
}

/// A tree to which anyone may write, with one entry for each of `texts` on top of each other.
pub(crate) async fn tree(node: &Node, texts: &[&str]) -> TreeId {
    let tree = node
        .create_tree("tree", anyone(Role::Write))
        .await
        .expect("a name and a grant");
    for text in texts {
        write(node, tree, text).await;
    }
    tree
}

pub(crate) async fn write(node: &Node, tree: TreeId, text: &str) -> EntryId {
    node.append(tree, text.to_owned())
        .await
        .expect("anyone may write")
}

/// The payloads of a tree in the order that is the same on every replica.
pub(crate) async fn texts(node: &Node, tree: TreeId) -> Vec<String> {
    let log = node.log(tree).await.expect("the store is in memory");
    let entries = log.map(|entry| entry.expect("the store is in memory"));
    let text = |body: &Body| match body {
        Body::Data(data) => Some(String::from_utf8_lossy(data).into_owned()),
        Body::Access(_) | Body::Genesis(_) | Body::Extension { .. } => None,
    };
    entries
        .filter_map(|entry| text(&entry.entry().body))
        .collect()
}

pub(crate) async fn ids(node: &Node, tree: TreeId) -> BTreeSet<EntryId> {
    let log = node.log(tree).await.expect("the store is in memory");
    log.map(|entry| entry.expect("the store is in memory").id())
        .collect()
}

/// Asserts that both have the same entries and the same tips.
pub(crate) async fn assert_equal(a: &Node, b: &Node, tree: TreeId) {
    assert_eq!(ids(a, tree).await, ids(b, tree).await);
    assert_eq!(
        a.tips(tree).await.expect("in memory"),
        b.tips(tree).await.expect("in memory")
    );
}

/// What a report says of entries: stored here, sent, and how many round trips.
pub(crate) fn costs(report: &Report) -> (u64, u64, u32) {
    (
        report.stats.stored,
        report.stats.peer_stored,
        report.stats.round_trips,
    )
}
