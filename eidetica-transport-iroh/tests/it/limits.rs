//! Each limit is reached, and what is within it goes on.

use eidetica_proto::frame::FRAME_BYTES_MAX;
use eidetica_proto::testing::{echo, frames_of, service_fn};
use eidetica_proto::{SyncTransport, TransportErrorKind};
use futures::StreamExt;
use iroh::endpoint::{Connection, ConnectionError};
use tokio::sync::{mpsc, watch};

use crate::stage::{ask, builder, connect, endpoint, failure, hasty, server_address, transport};

const STREAMS_PER_CONNECTION: usize = 16;
const CONNECTIONS_PER_PEER: usize = 8;
const NEWCOMERS: usize = 256;

async fn close_code(connection: &Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("closed otherwise: {other}"),
    }
}

#[tokio::test]
async fn a_connection_carries_sixteen_exchanges() {
    let (client, server) = (
        hasty(builder()).connect_timeout(eidetica_transport_iroh::CONNECT_TIMEOUT),
        transport().await,
    );
    let client = client.bind().await.expect("binds");
    let (open, gate) = watch::channel(false);
    let service = service_fn(move |_, _| {
        let mut gate = gate.clone();
        async move {
            let rest = async move {
                gate.wait_for(|open| *open).await.expect("opened");
                Ok("last".into())
            };
            frames_of(["first"])
                .chain(futures::stream::once(rest))
                .boxed()
        }
    });
    server.start_server(service).await.expect("starts");
    let address = server_address(&server).await;
    let mut under_way = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION {
        let response = client.exchange(&address, frames_of(["ask"])).await;
        under_way.push(response.expect("begins"));
    }
    let error = failure(&client, &address).await;
    assert_eq!(error.kind(), TransportErrorKind::Busy, "{error}");
    open.send_replace(true);
    drop(under_way);
    let answer = ask(&client, &address, "ask").await.expect("has room");
    assert_eq!(answer, ["first", "last"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_peer_has_eight_connections() {
    let (peer, server, client) = (endpoint(&[]).await, transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let mut connections = Vec::new();
    for _ in 0..=CONNECTIONS_PER_PEER {
        connections.push(connect(&peer, &address).await);
    }
    let ended = connections.iter().map(|c| Box::pin(c.closed()));
    let (_, number, _) = futures::future::select_all(ended).await;
    let busy = eidetica_close_codes::BUSY;
    assert_eq!(close_code(&connections[number]).await, busy);
    let alive = connections.iter().filter(|c| c.close_reason().is_none());
    assert_eq!(alive.count(), CONNECTIONS_PER_PEER);
    // Other peers have theirs.
    ask(&client, &address, "hello").await.expect("answers");
    peer.close().await;
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

/// The codes of the wire, which other implementations rely on.
mod eidetica_close_codes {
    pub(crate) const LEAVING: u64 = 1;
    pub(crate) const BUSY: u64 = 3;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_newcomers_leaves_room_to_those_who_were_served() {
    let (server, old, new) = (transport().await, transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    ask(&old, &address, "I was here first")
        .await
        .expect("answers");
    let mut flood = Vec::new();
    for _ in 0..NEWCOMERS / CONNECTIONS_PER_PEER {
        let peer = endpoint(&[]).await;
        let connections = (0..CONNECTIONS_PER_PEER).map(|_| connect(&peer, &address));
        let connections = futures::future::join_all(connections).await;
        flood.push((peer, connections));
    }
    let error = failure(&new, &address).await;
    assert_eq!(error.kind(), TransportErrorKind::Refused, "{error}");
    ask(&old, &address, "and still am").await.expect("answers");
    for (peer, _) in &flood {
        peer.close().await;
    }
    // What the flood held is free again once the server has noticed; until then it refuses.
    while ask(&new, &address, "hello").await.is_err() {
        tokio::task::yield_now().await;
    }
    for transport in [old, new, server] {
        transport.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_newcomer_that_says_nothing_is_sent_away() {
    let server = hasty(builder()).bind().await.expect("binds");
    server.start_server(echo()).await.expect("starts");
    let peer = endpoint(&[]).await;
    let connection = connect(&peer, &server_address(&server).await).await;
    assert_eq!(close_code(&connection).await, eidetica_close_codes::LEAVING);
    peer.close().await;
    server.close().await.expect("closes");
}

/// Sends these bytes as a request that does not end, and returns what the service sees of it.
async fn seen_by_service(bytes: Vec<u8>) -> TransportErrorKind {
    let server = hasty(builder()).bind().await.expect("binds");
    #[expect(
        clippy::disallowed_methods,
        reason = "one report for each exchange of the test"
    )]
    let (report, mut seen) = mpsc::unbounded_channel();
    let service = service_fn(move |_, mut request| {
        let report = report.clone();
        async move {
            let frame = request.next().await.expect("does not end");
            let error = frame.expect_err("no frame is whole");
            report.send(error.kind()).expect("the test waits");
            frames_of(["seen"])
        }
    });
    server.start_server(service).await.expect("starts");
    let peer = endpoint(&[]).await;
    let connection = connect(&peer, &server_address(&server).await).await;
    let (mut send, mut recv) = connection.open_bi().await.expect("opens");
    send.write_all(&bytes).await.expect("writes");
    let kind = seen.recv().await.expect("reports");
    let answer = recv.read_to_end(100).await.expect("is answered");
    assert_eq!(answer, b"\x04\0\0\0seen");
    peer.close().await;
    server.close().await.expect("closes");
    kind
}

#[tokio::test]
async fn a_caller_that_stalls_within_a_frame_times_out() {
    let kind = seen_by_service(b"\x08\0\0\0half".to_vec()).await;
    assert_eq!(kind, TransportErrorKind::TimedOut);
}

#[tokio::test]
async fn a_frame_that_is_announced_too_large_is_refused_on_its_prefix() {
    let claimed = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits");
    let kind = seen_by_service(claimed.to_le_bytes().to_vec()).await;
    assert_eq!(kind, TransportErrorKind::FrameTooLarge);
}
