//! Peers that find each other on the local network.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use eidetica_proto::testing::echo;
use eidetica_proto::{Address, Discovered, DiscoveredStream, SyncTransport};
use eidetica_transport_iroh::{IrohTransport, KIND};
use futures::StreamExt;
use tokio::time::timeout;

use crate::stage::{ask, builder, endpoint_addr, server_address};

/// Longest wait for an announcement. It takes a second where nothing is lost.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// Returns whether a packet to the group of multicast DNS comes back to this machine.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn has_multicast() -> bool {
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send_to(b"probe", (GROUP, socket.local_addr()?.port()))?;
        socket.recv(&mut [0; 16])
    };
    match probe() {
        Ok(_) => true,
        Err(error) => {
            eprintln!("SKIPPED: this machine's network carries no multicast: {error}");
            false
        }
    }
}

async fn node() -> IrohTransport {
    let builder = builder().local_discovery(true);
    builder.bind().await.expect("binds")
}

fn found_by(node: &IrohTransport) -> DiscoveredStream {
    node.discovered().expect("local discovery is on")
}

/// Waits until `peer` is found. Other programs on this network may be found before.
async fn find(found: &mut DiscoveredStream, peer: &IrohTransport) -> Address {
    let search = async {
        loop {
            let Discovered { key, address } = found.next().await.expect("it goes on");
            if key == peer.public_key() {
                return address;
            }
        }
    };
    let address = timeout(FOUND_WITHIN, search).await;
    address.expect("announced within the deadline")
}

#[tokio::test]
async fn peers_on_one_network_find_each_other_without_addresses() {
    if !has_multicast() {
        return;
    }
    let (a, b) = (node().await, node().await);
    let (mut found_by_a, mut found_by_b) = (found_by(&a), found_by(&b));
    for node in [&a, &b] {
        node.start_server(echo()).await.expect("starts");
    }
    let (at_b, at_a) = tokio::join!(find(&mut found_by_a, &b), find(&mut found_by_b, &a));
    assert_eq!(
        endpoint_addr(&at_b),
        endpoint_addr(&server_address(&b).await)
    );
    assert_eq!(ask(&a, &at_b, "hello").await.expect("answers"), ["hello"]);
    assert_eq!(ask(&b, &at_a, "hello").await.expect("answers"), ["hello"]);

    // A stream that begins later has what was found before.
    assert_eq!(find(&mut found_by(&a), &b).await, at_b);

    for node in [a, b] {
        node.close().await.expect("closes");
    }
    let rest = found_by_a.map(|found| found.key).collect::<Vec<_>>();
    timeout(FOUND_WITHIN, rest).await.expect("closing ends it");
}

#[tokio::test]
async fn a_bare_id_reaches_a_peer_on_the_same_network() {
    if !has_multicast() {
        return;
    }
    let (client, server) = (node().await, node().await);
    server.start_server(echo()).await.expect("starts");
    find(&mut found_by(&client), &server).await;
    let id = format!("{KIND}:{}", server.public_key());
    let id = id.parse().expect("an address");
    let answer = ask(&client, &id, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_peer_is_found_again_after_the_network_changed() {
    if !has_multicast() {
        return;
    }
    let (client, server) = (node().await, node().await);
    server.start_server(echo()).await.expect("starts");
    let mut found = found_by(&client);
    let before = find(&mut found, &server).await;
    client.network_changed().await;
    assert_eq!(find(&mut found, &server).await, before);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_node_is_announced_only_while_it_serves() {
    if !has_multicast() {
        return;
    }
    let (first, stopped) = (node().await, node().await);
    stopped.start_server(echo()).await.expect("starts");
    find(&mut found_by(&first), &stopped).await;
    stopped.stop_server().await.expect("stops");

    let observer = node().await;
    let mut found = found_by(&observer);
    let mut keys = Vec::new();
    // The second is announced in a later round than the first: between them is a round in which the
    // stopped one would have been announced.
    let servers = [node().await, node().await];
    for server in &servers {
        server.start_server(echo()).await.expect("starts");
        let search = async {
            while keys.last() != Some(&server.public_key()) {
                keys.push(found.next().await.expect("it goes on").key);
            }
        };
        timeout(FOUND_WITHIN, search).await.expect("in time");
    }
    assert!(!keys.contains(&stopped.public_key()));
    for node in servers.into_iter().chain([first, stopped, observer]) {
        node.close().await.expect("closes");
    }
}

#[tokio::test]
async fn local_discovery_is_off_unless_asked_for() {
    let node = builder().bind().await.expect("binds");
    assert!(node.discovered().is_none());
    node.network_changed().await;
    node.close().await.expect("closes");
}
