//! Cursors after restarts, and of other logs.

use std::sync::Arc;

use eidetica_dag::TreeId;
use eidetica_proto::Cursor;
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

use super::{Seen, end_of, news, watch};
use crate::common::raw::{InMemory, Way};
use crate::common::{secret, seed, tree, write};

async fn server(way: &InMemory, store: Arc<dyn Store>) -> Node {
    let transport = way.transport("server", &secret("server")).await;
    let builder = Node::builder_with(store, secret("server")).with_seed(seed("server"));
    let node = builder
        .transport("net", transport)
        .expect("the first of its name")
        .start();
    node.accept_connections()
        .await
        .expect("the address is free");
    node
}

/// What a watch from this cursor says first.
async fn first_of(way: &InMemory, server: &Node, tree: TreeId, cursor: Cursor) -> Seen {
    let mut watcher = watch(way, server, &secret("watcher"), vec![(tree, cursor)]).await;
    watcher.next().await
}

#[tokio::test(start_paused = true)]
async fn a_cursor_outlives_the_process() {
    let way = InMemory::new(true);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = server(&way, store.clone()).await;
    let tree = tree(&first, &["one"]).await;
    let cursor = end_of(&*store, tree);
    let mut watcher = watch(&way, &first, &secret("watcher"), vec![(tree, cursor)]).await;
    write(&first, tree, "two").await;
    assert_eq!(watcher.next().await, news(tree, &["two"]));
    write(&first, tree, "three").await;
    first.shutdown().await.expect("nothing is left running");
    let second = server(&way, store).await;
    let seen = first_of(&way, &second, tree, watcher.cursor).await;
    assert_eq!(seen, news(tree, &["three"]));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_tells_nothing_leads_to_a_comparison() {
    let way = InMemory::new(true);
    let node = server(&way, Arc::new(MemoryStore::new())).await;
    let tree = tree(&node, &["one"]).await;
    let foreign = {
        // Another store with the same entries in the same order.
        let store = MemoryStore::new();
        let log = node.log(tree).await.expect("in memory");
        let entries = log.map(|entry| entry.expect("in memory")).collect();
        let entries = eidetica_dag::verify_batch(entries).verified;
        store.append(tree, entries).expect("genuine");
        end_of(&store, tree)
    };
    let garbage = Cursor::from_bytes(&[9; 20]).expect("short enough");
    for cursor in [Cursor::NONE, foreign, garbage] {
        let seen = first_of(&way, &node, tree, cursor).await;
        assert_eq!(seen, Seen::CompareFirst(tree));
    }
}

/// A backup is restored, and the log goes another way from there.
#[cfg(feature = "redb")]
#[tokio::test]
async fn a_restored_backup_leads_to_a_comparison() {
    use eidetica_sync::store::RedbStore;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, backup) = (folder.path().join("store"), folder.path().join("backup"));
    let way = InMemory::new(true);
    let open = || async {
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(&file).expect("a store"));
        (server(&way, store.clone()).await, store)
    };
    let (node, store) = open().await;
    let tree = tree(&node, &["one"]).await;
    let before = end_of(&*store, tree);
    let close = |node: Node, store: Arc<dyn Store>| async move {
        node.shutdown().await.expect("nothing is left running");
        drop((node, store));
    };
    close(node, store).await;
    std::fs::copy(&file, &backup).expect("room for a copy");

    let (node, store) = open().await;
    write(&node, tree, "lost").await;
    let lost = end_of(&*store, tree);
    close(node, store).await;
    std::fs::copy(&backup, &file).expect("room for a copy");

    let (node, store) = open().await;
    let seen = first_of(&way, &node, tree, lost).await;
    assert_eq!(seen, Seen::CompareFirst(tree), "the log is shorter");
    write(&node, tree, "another").await;
    let seen = first_of(&way, &node, tree, lost).await;
    assert_eq!(seen, Seen::CompareFirst(tree), "the log went another way");
    let seen = first_of(&way, &node, tree, before).await;
    assert_eq!(seen, news(tree, &["another"]));
    close(node, store).await;
}
