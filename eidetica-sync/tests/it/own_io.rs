//! A program of its own, with `eidetica-dag` and `eidetica-proto` alone and blocking sockets, syncs with a
//! node over HTTP.

use std::net::SocketAddr;

use eidetica_dag::{
    AccessChange, Body, MemoryDag, Role, SecretKey, Subject, sign_above_tips, tip_ids,
};
use eidetica_proto::SyncOutcome;
use eidetica_sync::Node;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::store::MemoryStore;

use crate::common::seed;

#[allow(dead_code, reason = "a test does not call its main function")]
#[path = "../../../eidetica-proto/examples/own_io/main.rs"]
mod example;

#[test]
fn the_example_runs() {
    example::both_sides().expect("both sides are in this process");
}

#[tokio::test]
async fn it_syncs_with_a_node_over_http_in_both_directions() {
    let key = SecretKey::from_bytes(&seed("own io"));
    let http = HttpTransport::builder();
    let http = http
        .bind("127.0.0.1:0".parse().expect("an address"))
        .build();
    let node = Node::builder(MemoryStore::new(), SecretKey::from_bytes(&seed("node")))
        .with_seed(seed("node"))
        .transport("web", http)
        .expect("the first of its name")
        .start();
    // Private: the proofs of the client count.
    let grant = AccessChange::grant(Subject::Key(key.public()), Role::Write);
    let tree = node
        .create_tree("notes", vec![grant])
        .await
        .expect("well formed");
    node.append(tree, "from the node")
        .await
        .expect("it may write");
    node.accept_connections().await.expect("a free port");
    let addresses = node.get_all_server_addresses_async().await;
    let addresses = addresses.iter();
    let address = addresses.map(|(_, address)| address.as_str());
    let address = address.filter_map(|it| it.strip_prefix("http:")).next();
    let address: SocketAddr = address.expect("it serves").parse().expect("an address");

    let other = key.clone();
    let ours = tokio::task::spawn_blocking(move || -> example::Result<MemoryDag> {
        let mut peer = example::NodeOverHttp::greet(address, key)?;
        let node = Some(peer.key());
        let mut ours = MemoryDag::new(tree);
        let pulled = example::sync(&mut ours, node, &mut |request| peer.exchange(request))?;
        assert_eq!(
            (pulled.outcome, pulled.stats.stored),
            (SyncOutcome::Equal, 2)
        );
        let entries = sign_above_tips(&ours, &other, 0, [Body::Data("from outside".into())])?;
        ours.append(entries);
        let pushed = example::sync(&mut ours, node, &mut |request| peer.exchange(request))?;
        assert_eq!(
            (pushed.outcome, pushed.stats.peer_stored),
            (SyncOutcome::Equal, 1)
        );
        Ok(ours)
    });
    let ours = ours
        .await
        .expect("it does not panic")
        .expect("the node answers");
    let Ok(tips) = tip_ids(&ours);
    assert_eq!(node.tips(tree).await.expect("it is here"), tips);

    // A stranger gets nothing.
    let stranger = tokio::task::spawn_blocking(move || {
        let key = SecretKey::from_bytes(&seed("stranger"));
        let mut peer = example::NodeOverHttp::greet(address, key)?;
        example::sync(&mut MemoryDag::new(tree), None, &mut |request| {
            peer.exchange(request)
        })
    });
    let refused = stranger.await.expect("it does not panic");
    let refused = refused.expect_err("the tree is private").to_string();
    assert!(refused.contains("no such tree"), "{refused}");
    node.shutdown().await.expect("it stops");
}
