//! A server that was put back to an old backup gets its members' roles back from them.

use std::sync::Arc;

use crate::common::{assert_equal, at, client, client_on, node, texts, write};
use eidetica_dag::{Role, Subject, TreeId, VerifiedEntry};
use eidetica_proto::grant::GRANT_ENTRIES_MAX;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

/// Copies the tree as it is now.
async fn backup(node: &Node, tree: TreeId) -> Arc<dyn Store> {
    let log = node.log(tree).await.expect("in memory");
    let mut entries: Vec<VerifiedEntry> = log
        .map(|entry| VerifiedEntry::verify(entry.expect("in memory")).expect("genuine"))
        .collect();
    entries.sort_by_key(|entry| entry.get().entry().height);
    let store = MemoryStore::new();
    store.append(tree, entries).expect("parents first");
    Arc::new(store)
}

/// Ends a node, and begins again with its key, at its address, on another store.
async fn restore(network: &MemoryNetwork, name: &str, node: Node, store: Arc<dyn Store>) -> Node {
    node.shutdown().await.expect("it ends");
    let node = client_on(network, name, store);
    node.accept_connections()
        .await
        .expect("the address is free");
    node
}

async fn grant(admin: &Node, tree: TreeId, to: &Node) {
    let granted = admin.grant(tree, Subject::Key(to.key()), Role::Write).await;
    granted.expect("an admin");
}

#[tokio::test]
async fn a_member_brings_its_grant_and_everything_else_back() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let tree = a.create_tree("private", vec![]).await.expect("well formed");
    write(&a, tree, "before").await;
    let store = backup(&a, tree).await;
    write(&a, tree, "lost").await;
    grant(&a, tree, &b).await;
    b.sync(tree, at("a")).await.expect("b may read");
    write(&b, tree, "of b").await;
    b.sync(tree, at("a")).await.expect("b may write");

    let a = restore(&network, "a", a, store).await;
    assert_eq!(texts(&a, tree).await, ["before"]);
    b.sync(tree, at("a")).await.expect("b shows its grant");
    assert_equal(&a, &b, tree).await;
    assert_eq!(texts(&a, tree).await, ["before", "lost", "of b"]);
}

#[tokio::test]
async fn a_grant_that_was_taken_back_opens_nothing() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let tree = a.create_tree("private", vec![]).await.expect("well formed");
    grant(&a, tree, &b).await;
    b.sync(tree, at("a")).await.expect("b may read");
    write(&b, tree, "written after the removal").await;
    let removed = a.revoke(tree, Subject::Key(b.key())).await;
    removed.expect("an admin");
    let before = a.tips(tree).await.expect("in memory");
    let error = b.sync(tree, at("a")).await.expect_err("b is out");
    assert!(error.is_not_found(), "{error}");
    assert_eq!(a.tips(tree).await.expect("in memory"), before);
}

#[tokio::test]
async fn a_stranger_shows_the_grant_of_another_in_vain() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let tree = a.create_tree("private", vec![]).await.expect("well formed");
    write(&a, tree, "before").await;
    let store = backup(&a, tree).await;
    grant(&a, tree, &b).await;
    b.sync(tree, at("a")).await.expect("b may read");
    let thief = client_on(&network, "thief", backup(&b, tree).await);
    let a = restore(&network, "a", a, store).await;
    let before = a.tips(tree).await.expect("in memory");
    let error = thief.sync(tree, at("a")).await.expect_err("it has no role");
    assert!(error.is_not_found(), "{error}");
    assert_eq!(a.tips(tree).await.expect("in memory"), before);
}

/// An older backup needs an admin.
#[tokio::test]
async fn a_grant_far_above_the_backup_is_not_taken() {
    let network = MemoryNetwork::new();
    let (a, b) = (node(&network, "a").await, client(&network, "b"));
    let tree = a.create_tree("private", vec![]).await.expect("well formed");
    let store = backup(&a, tree).await;
    let lost = (0..GRANT_ENTRIES_MAX).map(|n| n.to_string().into());
    a.append_all(tree, lost.collect()).await.expect("an admin");
    grant(&a, tree, &b).await;
    b.sync(tree, at("a")).await.expect("b may read");
    let a = restore(&network, "a", a, store).await;
    let error = b
        .sync(tree, at("a"))
        .await
        .expect_err("it does not connect");
    assert!(error.is_not_found(), "{error}");
    grant(&a, tree, &b).await;
    b.sync(tree, at("a")).await.expect("b may read again");
    assert_equal(&a, &b, tree).await;
}
