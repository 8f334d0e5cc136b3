//! Trees that peers give to a node that lacks them.

use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{Role, SecretKey, TreeId};
use eidetica_proto::message::Reply;
use eidetica_proto::push::{PushSession, PushStart};
use eidetica_proto::testing::MemoryNetwork;
use eidetica_proto::{ErrorCode, SyncTransport};
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

use crate::common::raw::{self, As, InMemory, Way, ask};
use crate::common::{anyone, assert_equal, node, secret, seed, tree, write};

/// A node on a store that outlives it.
async fn server(store: &Arc<dyn Store>, transport: impl SyncTransport) -> Node {
    let builder = Node::builder_with(store.clone(), secret("server")).with_seed(seed("server"));
    let node = builder
        .transport("net", transport)
        .expect("the first of its name")
        .start();
    node.accept_connections()
        .await
        .expect("the address is free");
    node
}

/// The frames that give a whole tree to a peer.
fn gift(giver: &Node, tree: TreeId, to: &Node) -> Vec<Bytes> {
    let snapshot = giver.store().snapshot(tree).expect("in memory");
    let start = PushSession::give(&*snapshot, tree, Some(&to.key())).expect("in memory");
    let PushStart::Send(session) = start else {
        panic!("there is something to send");
    };
    let mut frames = vec![session.header()];
    let mut outgoing = session.entries().outgoing();
    while let Some((frame, _)) = outgoing.poll_frame(&*snapshot).expect("in memory") {
        frames.push(frame);
    }
    frames
}

async fn give(
    way: &impl Way,
    giver: &Node,
    key: &SecretKey,
    tree: TreeId,
    to: &Node,
) -> Result<u32, ErrorCode> {
    let answer = ask(way, to, As::Key(key), &gift(giver, tree, to)).await;
    match raw::reply(&answer) {
        Ok(Reply::Stored(stored)) => Ok(stored.stored),
        Ok(reply) => panic!("{reply:?}"),
        Err(error) => Err(error.code),
    }
}

async fn trees_come_from_accepted_keys_only(way: impl Way) {
    let elsewhere = MemoryNetwork::new();
    let giver = node(&elsewhere, "giver").await;
    let (first, second) = (tree(&giver, &["a"]).await, tree(&giver, &["b"]).await);
    let (key, other) = (secret("giver"), secret("other"));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let own = secret("server");
    let transport = || way.transport("server", &own);
    let node = server(&store, transport().await).await;
    let refused = Err(ErrorCode::NotFound);

    assert_eq!(give(&way, &giver, &key, first, &node).await, refused);
    node.accept_trees_from(key.public(), true)
        .await
        .expect("in memory");
    let accepted = node.trees_accepted_from().await.expect("in memory");
    assert_eq!(accepted, [key.public()]);
    assert_eq!(give(&way, &giver, &other, first, &node).await, refused);
    assert_eq!(give(&way, &giver, &key, first, &node).await, Ok(2));
    assert_equal(&giver, &node, first).await;

    // The setting is kept, and can be taken back.
    node.shutdown().await.expect("nothing is left running");
    let node = server(&store, transport().await).await;
    let third = tree(&giver, &[]).await;
    assert_eq!(give(&way, &giver, &key, third, &node).await, Ok(1));
    node.accept_trees_from(key.public(), false)
        .await
        .expect("in memory");
    assert_eq!(give(&way, &giver, &key, second, &node).await, refused);
    let accepted = node.trees_accepted_from().await.expect("in memory");
    assert_eq!(accepted, []);
    // What is here goes by the roles of the tree.
    write(&giver, first, "more").await;
    assert_eq!(give(&way, &giver, &other, first, &node).await, Ok(1));
    let closed = giver.create_tree("closed", anyone(Role::Read)).await;
    let closed = closed.expect("well formed");
    let half = gift(&giver, closed, &node);
    for text in ["one", "two"] {
        write(&giver, closed, text).await;
    }
    node.accept_trees_from(other.public(), true)
        .await
        .expect("in memory");
    let answer = ask(&way, &node, As::Key(&other), &half).await;
    assert!(raw::reply(&answer).is_ok());
    // A reader goes on with what it gives, for as long as it may give.
    assert_eq!(give(&way, &giver, &other, closed, &node).await, Ok(2));
    assert_equal(&giver, &node, closed).await;
    node.accept_trees_from(other.public(), false)
        .await
        .expect("in memory");
    let again = give(&way, &giver, &other, closed, &node).await;
    assert_eq!(again, Err(ErrorCode::ReadOnly));
    node.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn trees_come_from_accepted_keys_only_in_memory() {
    trees_come_from_accepted_keys_only(InMemory::new(true)).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn trees_come_from_accepted_keys_only_over_http() {
    trees_come_from_accepted_keys_only(raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn trees_come_from_accepted_keys_only_over_iroh() {
    trees_come_from_accepted_keys_only(raw::Iroh).await;
}
