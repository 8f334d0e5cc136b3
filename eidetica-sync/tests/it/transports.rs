//! Nodes that sync over real transports on loopback, each alone and both at once.

use std::time::Duration;

use crate::common::{anyone, assert_equal, texts, write};
use eidetica_dag::{Role, SecretKey};
use eidetica_proto::SyncOutcome;
use eidetica_sync::store::MemoryStore;
use eidetica_sync::{Node, Peer};
use futures::StreamExt;

/// A node with every transport that is switched on, serving on loopback.
async fn node(n: u8) -> Node {
    let node = client(n).await;
    node.accept_connections().await.expect("free ports");
    node
}

/// A node like [`node`] that does not serve.
async fn client(n: u8) -> Node {
    let key = SecretKey::from_bytes(&[n; 32]);
    let builder = Node::builder(MemoryStore::new(), key.clone()).with_seed([n; 32]);
    #[cfg(feature = "http")]
    let builder = {
        let http = eidetica_sync::http::HttpTransport::builder()
            .bind("127.0.0.1:0".parse().expect("an address"))
            .build();
        builder
            .transport("web", http)
            .expect("the first of its name")
    };
    #[cfg(feature = "iroh")]
    let builder = {
        use eidetica_sync::iroh::{IrohTransport, Relays};
        let iroh = IrohTransport::builder()
            .secret_key(key)
            .relays(Relays::Disabled)
            .address_lookup(false)
            .bind_addr("127.0.0.1:0".parse().expect("an address"))
            .bind();
        builder
            .transport("p2p", iroh.await.expect("loopback"))
            .expect("the first of its name")
    };
    builder.start()
}

#[tokio::test]
async fn every_transport_brings_both_sides_together() {
    let (a, b) = (node(1).await, node(2).await);
    let tree = a
        .create_tree("tree", anyone(Role::Write))
        .await
        .expect("well formed");
    // Large enough for several batches each way.
    for n in 0..30 {
        a.append(tree, format!("{n} by a ").repeat(3_000))
            .await
            .expect("anyone may write");
    }
    for (name, address) in a.get_all_server_addresses_async().await {
        let peer = Peer {
            key: Some(a.key()),
            addresses: vec![address.clone()],
        };
        b.sync(tree, peer.clone()).await.expect("a serves");
        assert_equal(&a, &b, tree).await;
        for n in 0..30 {
            b.append(tree, format!("{n} by b ").repeat(3_000))
                .await
                .expect("anyone may write");
        }
        write(&a, tree, "meanwhile").await;
        let report = b.sync(tree, peer.clone()).await.expect("a serves");
        assert_eq!(report.outcome, SyncOutcome::Equal, "over {name}");
        assert_eq!(
            (report.stats.stored, report.stats.peer_stored),
            (1, 30),
            "over {name}"
        );
        assert_eq!(report.stats.redundant, 0, "over {name}");
        assert_equal(&a, &b, tree).await;
        assert!(
            !address.as_str().contains(&name),
            "names do not leak into addresses"
        );
    }
    a.shutdown().await.expect("nothing is left running");
    b.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn a_ticket_names_every_transport() {
    let a = node(1).await;
    let tree = a
        .create_tree("tree", anyone(Role::Read))
        .await
        .expect("well formed");
    let ticket = a.ticket(tree).await;
    let kinds: Vec<&str> = ticket
        .addresses
        .iter()
        .map(|address| address.kind())
        .collect();
    let mut expected = Vec::new();
    if cfg!(feature = "http") {
        expected.push("http");
    }
    if cfg!(feature = "iroh") {
        expected.push("iroh");
    }
    assert_eq!(kinds, expected, "in the order of registration");
    a.shutdown().await.expect("nothing is left running");
}

#[tokio::test]
async fn one_entry_of_a_megabyte_passes_and_two_are_refused() {
    let (a, b) = (node(1).await, node(2).await);
    let tree = a
        .create_tree("tree", anyone(Role::Read))
        .await
        .expect("well formed");
    a.append(tree, "x".repeat(1_000_000))
        .await
        .expect("it is below the limit");
    let error = a
        .append(tree, "x".repeat(2_000_000))
        .await
        .expect_err("it is above the limit");
    assert!(
        error.to_string().contains("the maximum is 1048576"),
        "{error}"
    );
    for (_, address) in a.get_all_server_addresses_async().await {
        let c = node(3).await;
        c.sync(tree, address).await.expect("a serves");
        assert_eq!(texts(&c, tree).await[0].len(), 1_000_000);
        c.shutdown().await.expect("nothing is left running");
    }
    b.shutdown().await.expect("nothing is left running");
}

#[cfg(feature = "http")]
#[tokio::test]
async fn servers_stop_and_start_again() {
    let (a, b) = (node(1).await, node(2).await);
    let tree = a
        .create_tree("tree", anyone(Role::Read))
        .await
        .expect("well formed");
    b.sync(tree, &a.ticket(tree).await).await.expect("a serves");
    a.transports()
        .stop_accepting()
        .await
        .expect("nothing is left running");
    assert_eq!(a.get_all_server_addresses_async().await, []);
    a.accept_connections().await.expect("the ports are free");
    b.sync(tree, &a.ticket(tree).await)
        .await
        .expect("a serves again");
}

/// News reach both sides at once over each transport, though b cannot be reached: by its watch, and
/// by a push.
#[tokio::test]
async fn news_travel_at_once_over_every_transport() {
    let a = node(1).await;
    for (n, (_, address)) in (2..).zip(a.get_all_server_addresses_async().await) {
        let b = client(n).await;
        let tree = a.create_tree("tree", anyone(Role::Write)).await;
        let tree = tree.expect("well formed");
        b.follow(tree, address).await.expect("a serves");
        let long = Duration::from_secs(30);
        b.synced_with(tree, a.key(), long).await.expect("a serves");
        for n in 0..20 {
            let (from, to) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let mut events = to.events();
            let entry = write(from, tree, &format!("{n}")).await;
            let arrives = async {
                while (to.entry(tree, entry).await.expect("in memory")).is_none() {
                    events.next().await.expect("the node lives");
                }
            };
            // Far below the minute after which a check would find it.
            let arrived = tokio::time::timeout(Duration::from_secs(20), arrives).await;
            arrived.expect("it travels at once");
        }
        b.synced_with(tree, a.key(), long).await.expect("a serves");
        assert_equal(&a, &b, tree).await;
        b.shutdown().await.expect("nothing is left running");
    }
    a.shutdown().await.expect("nothing is left running");
}
