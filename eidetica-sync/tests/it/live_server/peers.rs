//! Address records that peers swap.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use eidetica_dag::{AccessChange, PublicKey, Role, SecretKey, Subject, TreeId};
use eidetica_proto::ErrorCode;
use eidetica_proto::message::{Peers, Reply, Request};
use eidetica_proto::peers::AddressRecord;
use eidetica_sync::Node;
use eidetica_sync::store::{MemoryStore, Store};

use super::header;
use crate::common::raw::{As, InMemory, Way, address_of, ask, reply};
use crate::common::{secret, seed};

fn now_ms() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "records expire by the wall clock"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_millis() as u64
}

fn record(name: &str, address: &str, sequence: u64) -> AddressRecord {
    let address = address.parse().expect("an address");
    AddressRecord::sign(&secret(name), sequence, now_ms() + 3_600_000, &[address])
}

async fn swap(
    way: &impl Way,
    server: &Node,
    key: &SecretKey,
    tree: TreeId,
    mut records: Vec<AddressRecord>,
) -> Result<Vec<AddressRecord>, ErrorCode> {
    records.sort_unstable_by_key(|record| *record.key());
    let request = header(Request::Peers(Peers { tree, records }));
    let answer = ask(way, server, As::Key(key), &request).await;
    match reply(&answer) {
        Ok(Reply::Peers(records)) => Ok(records),
        Ok(reply) => panic!("{reply:?}"),
        Err(error) => Err(error.code),
    }
}

fn keys(records: &[AddressRecord]) -> Vec<PublicKey> {
    records.iter().map(|record| *record.key()).collect()
}

fn sorted(names: &[&str]) -> Vec<PublicKey> {
    let mut keys: Vec<_> = names.iter().map(|name| secret(name).public()).collect();
    keys.sort();
    keys
}

async fn server(way: &impl Way, store: &Arc<dyn Store>) -> Node {
    let transport = way.transport("server", &secret("server")).await;
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

async fn readers_of_a_tree_find_each_other(way: impl Way) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let node = server(&way, &store).await;
    let reads = |name| AccessChange::grant(Subject::Key(secret(name).public()), Role::Read);
    let access = vec![reads("a"), reads("b"), reads("c")];
    let tree = node.create_tree("tree", access).await.expect("well formed");
    let other = node.create_tree("other", vec![reads("b")]).await;
    let other = other.expect("well formed");
    let (a, b, stranger) = (secret("a"), secret("b"), secret("stranger"));

    // The first learns where the server is, and tells where two are.
    let of_a = record("a", "http:192.0.2.1:80", 1);
    let of_c = record("c", "http:192.0.2.3:80", 1);
    let unreadable = record("stranger", "http:192.0.2.9:80", 1);
    let told = vec![of_a.clone(), of_c.clone(), unreadable];
    let got = swap(&way, &node, &a, tree, told)
        .await
        .expect("it may read");
    assert_eq!(keys(&got), sorted(&["c", "server"]));
    let own = got.iter().find(|it| *it.key() == node.key());
    let own = own.expect("it is listed").clone();
    own.check(now_ms()).expect("it is genuine");
    assert_eq!(own.addresses(), [address_of(&node).await]);

    // The second finds the others, each as it said itself.
    let got = swap(&way, &node, &b, tree, vec![])
        .await
        .expect("it may read");
    assert_eq!(keys(&got), sorted(&["a", "c", "server"]));
    for known in [&of_a, &of_c, &own] {
        assert!(got.contains(known));
    }
    // A stranger learns nothing of a tree that it may not read, and trees are apart.
    let refused = swap(&way, &node, &stranger, tree, vec![]).await;
    assert_eq!(refused, Err(ErrorCode::NotFound));
    let got = swap(&way, &node, &b, other, vec![])
        .await
        .expect("it may read");
    assert_eq!(got, std::slice::from_ref(&own));

    // An older record changes nothing, a newer one does; both outlive the process.
    let older = record("a", "http:192.0.2.66:80", 0);
    let newer = record("c", "http:192.0.2.4:80", 2);
    let told = vec![older, newer.clone()];
    swap(&way, &node, &b, tree, told)
        .await
        .expect("it may read");
    node.shutdown().await.expect("nothing is left running");
    let node = server(&way, &store).await;
    let got = swap(&way, &node, &b, tree, vec![])
        .await
        .expect("it may read");
    assert_eq!(keys(&got), sorted(&["a", "c", "server"]));
    assert!(got.contains(&of_a) && got.contains(&newer));
    let renewed = got.iter().find(|it| *it.key() == node.key());
    let renewed = renewed.expect("it is listed").sequence();
    assert!(renewed > own.sequence(), "it replaces the one before");

    // The record of a revoked reader is neither told nor kept.
    let revoked = Subject::Key(secret("c").public());
    node.revoke(tree, revoked).await.expect("own tree");
    let got = swap(&way, &node, &b, tree, vec![])
        .await
        .expect("it may read");
    assert_eq!(keys(&got), sorted(&["a", "server"]));
    let stored = store.list("record/").expect("in memory");
    assert_eq!(stored.len(), 1);
    node.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn readers_of_a_tree_find_each_other_in_memory() {
    readers_of_a_tree_find_each_other(InMemory::new(true)).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn readers_of_a_tree_find_each_other_over_http() {
    readers_of_a_tree_find_each_other(crate::common::raw::Http).await;
}

#[cfg(feature = "iroh")]
#[tokio::test]
async fn readers_of_a_tree_find_each_other_over_iroh() {
    readers_of_a_tree_find_each_other(crate::common::raw::Iroh).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn a_greeting_tells_addresses_that_are_of_use() {
    use eidetica_proto::PROTOCOL_VERSION;
    use eidetica_proto::message::Hello;

    let http = |bind: &str| {
        let bind = bind.parse().expect("an address");
        eidetica_sync::http::HttpTransport::builder()
            .bind(bind)
            .build()
    };
    let builder = Node::builder(MemoryStore::new(), secret("server")).with_seed(seed("server"));
    let node = builder
        .transport("local", http("127.0.0.1:0"))
        .expect("the first of its name")
        .start();
    node.accept_connections().await.expect("a free port");
    let own = node.get_all_server_addresses_async().await;
    let request = header(Request::Hello(Hello {
        key: secret("client").public(),
        versions: (PROTOCOL_VERSION, PROTOCOL_VERSION),
        addresses: vec![],
    }));
    let answer = ask(&crate::common::raw::Http, &node, As::Anonymous, &request).await;
    let Ok(Reply::Hello(hello)) = reply(&answer) else {
        panic!("it greets");
    };
    // The client is on the same machine, so even this one leads there.
    assert_eq!(hello.addresses, [own[0].1.clone()]);
    node.shutdown().await.expect("nothing is left running");
}
