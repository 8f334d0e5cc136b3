//! Servers that share a PostgreSQL database, under one key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eidetica_dag::Role;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::store::conformance::postgres::Server;
use eidetica_sync::store::{MemoryStore, PostgresStore, Store};
use eidetica_sync::{FollowOptions, InviteTerms, JoinOptions, Node, generate_key};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::common::{anyone, assert_equal, at, client, ids, secret, tree, write};

/// Nothing here takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn store(server: &Arc<Server>) -> Arc<dyn Store> {
    let server = server.clone();
    let open = move || PostgresStore::builder(&server.url()).and_then(|builder| builder.open());
    let opened = tokio::task::spawn_blocking(open).await;
    Arc::new(opened.expect("it does not panic").expect("the server runs"))
}

async fn database() -> Arc<Server> {
    let started = tokio::task::spawn_blocking(Server::start).await;
    Arc::new(started.expect("PostgreSQL is installed"))
}

/// A server of the hub at `memory:<name>`.
async fn member(network: &MemoryNetwork, server: &Arc<Server>, name: &str) -> Node {
    let key = secret("hub");
    let transport = network.transport(name).key(key.public()).build();
    let builder = Node::builder_with(store(server).await, key);
    let node = builder.transport("net", transport).expect("the first");
    let node = node.start();
    node.accept_connections().await.expect("a free address");
    node
}

async fn until_equal(a: &Node, b: &Node, tree: eidetica_dag::TreeId) {
    let equal = async {
        while ids(a, tree).await != ids(b, tree).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, equal).await.expect("they become equal");
    assert_equal(a, b, tree).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn postgres_a_watch_of_one_server_brings_what_another_stores() {
    let (network, server) = (MemoryNetwork::new(), database().await);
    let first = member(&network, &server, "first").await;
    let second = member(&network, &server, "second").await;
    let tree = tree(&first, &["one"]).await;

    let reader = client(&network, "reader");
    let options = FollowOptions::default();
    reader
        .follow_with(tree, at("first"), options)
        .await
        .expect("the first server is there");
    until_equal(&first, &reader, tree).await;
    let writer = client(&network, "writer");
    for text in ["two", "three", "four"] {
        writer
            .sync(tree, at("second"))
            .await
            .expect("the second is there");
        write(&writer, tree, text).await;
        let report = writer.sync(tree, at("second")).await;
        assert_eq!(report.expect("it is there").stats.peer_stored, 1);
        until_equal(&writer, &reader, tree).await;
    }
    assert_equal(&first, &second, tree).await;
    for node in [first, second, reader, writer] {
        node.shutdown().await.expect("it stops");
    }
}

/// Lends each connection to the next of several servers, and counts the requests.
async fn balancer(servers: Vec<std::net::SocketAddr>) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        for server in servers.iter().cycle() {
            let (client, _) = listener.accept().await.expect("it listens");
            let server = TcpStream::connect(server).await.expect("it serves");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
                    let starts = bytes[..length].windows(5).filter(|it| it == b"POST ");
                    counted.fetch_add(starts.count(), Ordering::Relaxed);
                    if to_server.write_all(&bytes[..length]).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
            });
        }
    });
    (address, requests)
}

/// Clients behind a plain balancer need neither stickiness nor second attempts, and an invite of one use
/// lets in one of those that use it at the same time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn postgres_clients_need_no_particular_server() {
    let server = database().await;
    let mut members = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let any = "127.0.0.1:0".parse().expect("an address");
        let transport = HttpTransport::builder().bind(any).build();
        let builder = Node::builder_with(store(&server).await, secret("hub"));
        let node = builder
            .transport("web", transport)
            .expect("the first")
            .start();
        node.accept_connections().await.expect("a free port");
        let own = node.get_all_server_addresses_async().await;
        let url = own[0].1.as_str().trim_start_matches("http:");
        let host = url
            .trim_matches('/')
            .split('/')
            .next_back()
            .expect("a host");
        addresses.push(host.parse().expect("an address of a socket"));
        members.push(node);
    }
    let (balancer, requests) = balancer(addresses).await;
    let balanced: eidetica_proto::Address = format!("http:{balancer}").parse().expect("an address");

    let tree = members[0].create_tree("hub", anyone(Role::Write)).await;
    let tree = tree.expect("a new tree");
    let syncs = Arc::new(AtomicUsize::new(0));
    let clients = (0..8).map(|number| {
        let (balanced, syncs) = (balanced.clone(), syncs.clone());
        async move {
            let transport = HttpTransport::builder().build();
            let node = Node::builder(MemoryStore::new(), generate_key());
            let node = node.transport("web", transport).expect("the first").start();
            for round in 0..10 {
                let report = node
                    .sync(tree, balanced.clone())
                    .await
                    .expect("it is served");
                syncs.fetch_add(report.stats.round_trips as usize, Ordering::Relaxed);
                write(&node, tree, &format!("{number} {round}")).await;
            }
            let report = node
                .sync(tree, balanced.clone())
                .await
                .expect("it is served");
            syncs.fetch_add(report.stats.round_trips as usize, Ordering::Relaxed);
            node
        }
    });
    let clients = join_all(clients).await;
    // Each client greets the address once. What exceeds that are second attempts.
    let (needed, made) = (
        syncs.load(Ordering::Relaxed) + clients.len(),
        requests.load(Ordering::Relaxed),
    );
    assert!(
        made >= needed && made * 100 <= needed * 105,
        "{made} for {needed}"
    );
    assert_eq!(ids(&members[1], tree).await.len(), 81);

    let private = members[0]
        .create_tree("private", vec![])
        .await
        .expect("a new tree");
    let terms = InviteTerms {
        role: Role::Write,
        valid_for: Duration::from_secs(600),
        uses: 1,
    };
    let invite = members[0].invite(private, terms).await.expect("an admin");
    let joining = clients
        .iter()
        .zip(members.iter().cycle())
        .map(|(client, member)| {
            let invite = invite.clone();
            async move {
                let ticket = eidetica_proto::Ticket {
                    addresses: member.ticket(private).await.addresses,
                    ..invite
                };
                let options = JoinOptions {
                    role: Some(Role::Write),
                    ..JoinOptions::default()
                };
                client.join(&ticket, options).await.is_ok()
            }
        });
    let joined = join_all(joining).await;
    assert_eq!(
        joined.iter().filter(|joined| **joined).count(),
        1,
        "{joined:?}"
    );
    let access = members[2].access(private).await.expect("it is stored");
    let subjects: BTreeSet<_> = access.iter().map(|(subject, _)| *subject).collect();
    assert_eq!(subjects.len(), 2, "the admin and one more: {access:?}");
}
