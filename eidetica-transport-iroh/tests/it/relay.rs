//! Peers without a direct path, and the relay server between them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eidetica_proto::testing::{collect_frames, frames_of, service_fn};
use eidetica_proto::{Address, SyncTransport, TransportErrorKind};
use eidetica_transport_iroh::{IrohTransport, IrohTransportBuilder, Relays};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};

use crate::stage::{HASTY, builder, endpoint_addr, server_address};

/// Loopback, version 4 and version 6. A socket on one cannot send to the other, so endpoints on
/// different ones have no direct path.
const V4: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const V6: ([u16; 8], u16) = ([0, 0, 0, 0, 0, 0, 0, 1], 0);

/// Starts a relay server on loopback over plain HTTP, and returns it with its URL.
async fn relay_at(addr: SocketAddr) -> (Server, String) {
    let mut config = ServerConfig::default();
    config.relay = Some(RelayConfig::new(addr));
    let relay = Server::spawn(config).await.expect("a free port");
    let url = format!("http://{}", relay.http_addr().expect("it is bound"));
    (relay, url)
}

async fn relay() -> (Server, String) {
    relay_at(V4.into()).await
}

fn relayed(url: &str, bind: impl Into<SocketAddr>) -> IrohTransportBuilder {
    let relays = Relays::Custom(vec![url.to_owned()]);
    builder().relays(relays).bind_addr(bind.into())
}

/// Serves an echo on loopback version 4, and returns where its callers' packets come from.
async fn serve(transport: &IrohTransport) -> Arc<Mutex<Vec<String>>> {
    let remotes = Arc::<Mutex<Vec<String>>>::default();
    let seen = remotes.clone();
    let service = service_fn(move |caller, request| {
        seen.lock().expect("no panic").push(caller.remote);
        async { request }
    });
    transport.start_server(service).await.expect("starts");
    remotes
}

fn megabytes() -> Vec<Bytes> {
    (0..4).map(|n| Bytes::from(vec![n; 500_000])).collect()
}

async fn echoes(client: &IrohTransport, to: &Address) {
    let response = client.exchange(to, frames_of(megabytes())).await;
    let frames = response.expect("answers").frames;
    let frames = collect_frames(frames).await.expect("ends well");
    assert!(frames == megabytes(), "the frames come back unchanged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_without_a_direct_path_exchange_frames_through_a_relay() {
    let (relay, url) = relay().await;
    let server = relayed(&url, V4).bind().await.expect("binds");
    let client = relayed(&url, V6).bind().await.expect("binds");
    let remotes = serve(&server).await;
    let address = server_address(&server).await;
    let ticket = endpoint_addr(&address);
    let relays: Vec<String> = ticket.relay_urls().map(ToString::to_string).collect();
    assert_eq!(relays, [format!("{url}/")]);
    assert_eq!(
        ticket.ip_addrs().count(),
        0,
        "loopback is of no use to others"
    );

    echoes(&client, &address).await;
    let remotes = remotes.lock().expect("no panic").clone();
    assert!(
        remotes[0].contains(&url),
        "not through the relay: {remotes:?}"
    );
    let carried = relay.metrics().server.bytes_recv.get();
    assert!(carried > 4_000_000, "both ways: {carried}");

    client.close().await.expect("closes");
    server.close().await.expect("closes");
    relay.shutdown().await.expect("shuts down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_relays_does_not_use_the_relay_in_a_ticket() {
    let (relay, url) = relay().await;
    let server = relayed(&url, V4).bind().await.expect("binds");
    let alone = builder().bind_addr(V6.into()).connect_timeout(HASTY);
    let alone = alone.bind().await.expect("binds");
    serve(&server).await;
    let address = server_address(&server).await;
    let error = alone.exchange(&address, frames_of(["ask"])).await;
    let error = error.map(|_| ()).expect_err("no path");
    assert_eq!(error.kind(), TransportErrorKind::TimedOut, "{error}");
    assert_eq!(relay.metrics().server.accepts.get(), 1, "the server alone");
    alone.close().await.expect("closes");
    server.close().await.expect("closes");
    relay.shutdown().await.expect("shuts down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_find_each_other_again_after_their_relay_was_restarted() {
    /// iroh connects to its relay anew after up to some seconds.
    const RECONNECTED_WITHIN: Duration = Duration::from_secs(60);
    let (relay, url) = relay().await;
    let at = relay.http_addr().expect("it is bound");
    let server = relayed(&url, V4).bind().await.expect("binds");
    let client = relayed(&url, V6).bind().await.expect("binds");
    serve(&server).await;
    let address = server_address(&server).await;
    echoes(&client, &address).await;
    relay.shutdown().await.expect("shuts down");
    let (relay, _) = relay_at(at).await;
    let again = async {
        loop {
            for node in [&client, &server] {
                node.network_changed().await;
            }
            let response = client.exchange(&address, frames_of(["again"])).await;
            if let Ok(response) = response {
                return collect_frames(response.frames).await;
            }
        }
    };
    let answer = tokio::time::timeout(RECONNECTED_WITHIN, again).await;
    let answer = answer.expect("in time").expect("ends well");
    assert_eq!(answer, ["again"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
    relay.shutdown().await.expect("shuts down");
}
