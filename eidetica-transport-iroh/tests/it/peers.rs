//! Keys that connections prove, and errors when another peer answers.

use std::sync::Arc;
use std::sync::Mutex;

use eidetica_proto::SecretKey;
use eidetica_proto::testing::{echo, frames_of, service_fn};
use eidetica_proto::{SyncTransport, TransportErrorKind};
use eidetica_transport_iroh::{ALPN, IrohTransport, KIND, Relays};
use iroh::EndpointAddr;

use crate::stage::{
    address_of, ask, builder, endpoint, endpoint_addr, failure, server_address, transport,
};

#[tokio::test]
async fn the_nodes_keys_are_proved_both_ways() {
    let keys = [1, 2].map(|byte| SecretKey::from_bytes(&[byte; 32]));
    let [client_key, server_key] = keys.clone().map(|key| key.public());
    let [client, server] = keys.map(|key| builder().secret_key(key).bind());
    let (client, server) = (client.await.expect("binds"), server.await.expect("binds"));
    assert_eq!(client.public_key(), client_key);

    let seen = Arc::new(Mutex::new(None));
    let service = {
        let seen = seen.clone();
        service_fn(move |caller, _| {
            *seen.lock().expect("no panic") = Some(caller);
            async { frames_of(["answer"]) }
        })
    };
    server.start_server(service).await.expect("starts");
    let address = server_address(&server).await;
    let response = client.exchange(&address, frames_of(["ask"])).await;
    assert_eq!(response.expect("answers").peer, Some(server_key));
    let caller = seen.lock().expect("no panic").take().expect("called");
    assert_eq!(caller.key, Some(client_key));
    assert_eq!(caller.transport, KIND);
    assert!(caller.remote.contains("127.0.0.1"), "{}", caller.remote);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_peer_of_another_version_is_told_apart() {
    let (client, other) = (transport().await, endpoint(&[b"eidetica/0"]).await);
    let accepting = {
        let other = other.clone();
        tokio::spawn(async move {
            while let Some(incoming) = other.accept().await {
                assert!(incoming.await.is_err(), "no common protocol");
            }
        })
    };
    let error = failure(&client, &address_of(other.addr())).await;
    assert_eq!(error.kind(), TransportErrorKind::ProtocolMismatch);
    let own = std::str::from_utf8(ALPN).expect("text");
    assert!(error.to_string().contains(own), "{error}");
    client.close().await.expect("closes");
    other.close().await;
    accepting.await.expect("no panic");
}

#[tokio::test]
async fn another_peer_at_the_address_is_the_wrong_peer() {
    let (client, expected, server) = (transport().await, transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let addr = endpoint_addr(&server_address(&server).await);
    let id = iroh::EndpointId::from_bytes(expected.public_key().as_bytes()).expect("a key");
    let addr = EndpointAddr::from_parts(id, addr.addrs);
    let error = failure(&client, &address_of(addr)).await;
    assert_eq!(error.kind(), TransportErrorKind::WrongPeer, "{error}");
    for transport in [client, expected, server] {
        transport.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_serve_refuses_at_once() {
    let (client, server) = (transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    server.stop_server().await.expect("stops");
    let error = failure(&client, &address).await;
    assert_eq!(error.kind(), TransportErrorKind::Refused, "{error}");
    // And so does one that never served.
    let error = failure(&server, &address_of(client_addr(&client).await)).await;
    assert_eq!(error.kind(), TransportErrorKind::Refused, "{error}");
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

/// Finds out where a transport is that shall not serve later.
async fn client_addr(client: &IrohTransport) -> EndpointAddr {
    client.start_server(echo()).await.expect("starts");
    let address = server_address(client).await;
    client.stop_server().await.expect("stops");
    endpoint_addr(&address)
}

#[tokio::test]
async fn a_bare_id_without_lookup_is_unreachable() {
    let client = transport().await;
    let id = SecretKey::from_bytes(&[3; 32]).public();
    let address = format!("iroh:{id}").parse().expect("an address");
    let error = failure(&client, &address).await;
    assert_eq!(error.kind(), TransportErrorKind::Unreachable, "{error}");
    client.close().await.expect("closes");
}

#[tokio::test]
async fn a_bare_id_reaches_a_peer_whose_place_is_known() {
    let (client, server) = (transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let id = format!("iroh:{}", server.public_key());
    let id = id.parse().expect("an address");
    ask(&client, &address, "first").await.expect("answers");
    let answer = ask(&client, &id, "second").await.expect("answers");
    assert_eq!(answer, ["second"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_node_does_not_call_itself() {
    let node = transport().await;
    node.start_server(echo()).await.expect("starts");
    let error = failure(&node, &server_address(&node).await).await;
    assert_eq!(error.kind(), TransportErrorKind::UnusableAddress, "{error}");
    node.close().await.expect("closes");
}

#[tokio::test]
async fn a_relay_that_is_no_url_is_refused() {
    for relays in [
        &["not a url"][..],
        &["relay.example:80"],
        &["ftp://relay.example"],
        &[],
    ] {
        let relays = Relays::Custom(relays.iter().map(ToString::to_string).collect());
        let error = builder().relays(relays).bind().await.expect_err("refused");
        assert_eq!(error.kind(), TransportErrorKind::UnusableAddress, "{error}");
    }
}
