//! Each limit is reached, and everything within it goes on.

use eidetica_proto::frame::FRAME_BYTES_MAX;
use eidetica_proto::testing::{collect_frames, echo, frames_of, service_fn};
use eidetica_proto::{SyncTransport, TransportErrorKind};
use eidetica_transport_iroh::ALPN;
use futures::StreamExt;
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream};
use iroh::{EndpointAddr, TransportAddr};
use tokio::sync::{mpsc, watch};

use crate::stage::{
    HASTY, ask, builder, connect, endpoint, endpoint_addr, failure, hasty, server_address,
    transport,
};

const STREAMS_PER_CONNECTION: usize = 16;
const CONNECTIONS_TO_PEER: usize = 4;
const CONNECTIONS_PER_PEER: usize = 8;

async fn close_code(connection: &Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("closed otherwise: {other}"),
    }
}

#[tokio::test]
async fn four_connections_carry_sixteen_exchanges_each() {
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
    for _ in 0..CONNECTIONS_TO_PEER * STREAMS_PER_CONNECTION {
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
async fn in_a_flood_of_newcomers_the_oldest_makes_room() {
    const NEWCOMERS: usize = 2 * CONNECTIONS_PER_PEER;
    let server = builder().newcomers_max(NEWCOMERS).bind().await;
    let (server, old, new) = (server.expect("binds"), transport().await, transport().await);
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    ask(&old, &address, "I was here first")
        .await
        .expect("answers");
    let mut flood = Vec::new();
    for _ in 0..3 {
        let peer = endpoint(&[]).await;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS_PER_PEER {
            connections.push(connect(&peer, &address).await);
        }
        flood.push((peer, connections));
    }
    // Those of the first peer came first.
    for connection in &flood[0].1 {
        assert_eq!(close_code(connection).await, eidetica_close_codes::BUSY);
    }
    ask(&new, &address, "hello").await.expect("has room");
    ask(&old, &address, "and still am").await.expect("answers");
    let second = &flood[1].1[0];
    assert_eq!(close_code(second).await, eidetica_close_codes::BUSY);
    let last = &flood[2].1[CONNECTIONS_PER_PEER - 1];
    assert!(
        last.close_reason().is_none(),
        "no other connection needs its place"
    );
    for (peer, _) in &flood {
        peer.close().await;
    }
    for transport in [old, new, server] {
        transport.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_makes_room_too() {
    let server = builder().newcomers_max(1).bind().await.expect("binds");
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let to = endpoint_addr(&address);
    let at = to.ip_addrs().next().copied().expect("it listens");
    // The caller does not read the answer, so this handshake never ends.
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
    let silent = silent.expect("binds");
    let addr = TransportAddr::Ip(silent.local_addr().expect("is bound"));
    let peer = endpoint(&[]).await;
    let stalled = EndpointAddr::from_parts(to.id, [addr]);
    let dialling = tokio::spawn({
        let peer = peer.clone();
        async move { peer.connect(stalled, ALPN).await.map(|_| ()) }
    });
    let mut datagram = [0; 2048];
    let (bytes, _) = silent.recv_from(&mut datagram).await.expect("it dials");
    silent.send_to(&datagram[..bytes], at).await.expect("sends");
    let client = transport().await;
    for _ in 0..2 {
        ask(&client, &address, "hello").await.expect("has room");
    }
    dialling.abort();
    peer.close().await;
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn acquaintances_beyond_the_limit_are_newcomers_again() {
    let builder = builder().connections_max(1).newcomers_max(1);
    let server = builder.bind().await.expect("binds");
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let peers = [
        endpoint(&[]).await,
        endpoint(&[]).await,
        endpoint(&[]).await,
    ];
    let mut connections = Vec::new();
    for peer in &peers {
        let connection = connect(peer, &address).await;
        ask_on(&connection).await;
        connections.push(connection);
    }
    assert_eq!(
        close_code(&connections[1]).await,
        eidetica_close_codes::BUSY
    );
    ask_on(&connections[0]).await;
    for peer in &peers {
        peer.close().await;
    }
    server.close().await.expect("closes");
}

/// Makes an exchange past the transport.
async fn ask_on(connection: &Connection) {
    let (mut send, mut recv) = connection.open_bi().await.expect("opens");
    send.write_all(b"\x02\0\0\0hi").await.expect("writes");
    send.finish().expect("is open");
    let answer = recv.read_to_end(100).await.expect("is answered");
    assert_eq!(answer, b"\x02\0\0\0hi");
}

/// Opens an exchange with this much of a frame of `frame_bytes`.
async fn begin_frame(
    connection: &Connection,
    frame_bytes: u32,
    bytes: usize,
) -> (SendStream, RecvStream) {
    // Dropping the other half would end the exchange.
    let (mut send, recv) = connection.open_bi().await.expect("opens");
    let prefix = frame_bytes.to_le_bytes();
    send.write_all(&prefix).await.expect("writes");
    send.write_all(&vec![7; bytes]).await.expect("writes");
    (send, recv)
}

#[tokio::test]
async fn the_oldest_unfinished_frame_makes_room() {
    // In memory it takes up to twice that: one has room in any case, and three never.
    const PART_BYTES: usize = 40 << 10;
    let server = builder().unfinished_bytes_max(2 * PART_BYTES).bind().await;
    let server = server.expect("binds");
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let peer = endpoint(&[]).await;
        let connection = connect(&peer, &address).await;
        let stream = begin_frame(&connection, 100 << 10, PART_BYTES).await;
        held.push((peer, connection, stream));
    }
    let first = &held[0].1;
    assert_eq!(close_code(first).await, eidetica_close_codes::BUSY);
    let client = transport().await;
    ask(&client, &address, "takes nothing of it")
        .await
        .expect("answers");
    for (peer, ..) in held {
        peer.close().await;
    }
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

/// A reader that takes nothing costs memory for a while, not for as long as it likes.
#[tokio::test]
async fn the_answer_that_is_not_taken_for_longest_makes_room() {
    const FRAMES: usize = 40;
    const FRAME_BYTES: usize = 256 << 10;
    let frames = || vec![vec![9; FRAME_BYTES]; FRAMES];
    let server = builder().untaken_bytes_max(2 * FRAME_BYTES).bind().await;
    let server = server.expect("binds");
    let service = service_fn(move |_, _| async move { frames_of(frames()) });
    server.start_server(service).await.expect("starts");
    let address = server_address(&server).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let peer = endpoint(&[]).await;
        let connection = connect(&peer, &address).await;
        let (mut send, recv) = connection.open_bi().await.expect("opens");
        send.write_all(b"\x02\0\0\0hi").await.expect("writes");
        held.push((peer, connection, send, recv));
    }
    // They stall once the window is full. One had to make room for another.
    let closed = held
        .iter()
        .map(|(_, connection, ..)| Box::pin(close_code(connection)));
    let (code, ..) = futures::future::select_all(closed).await;
    assert_eq!(code, eidetica_close_codes::BUSY);
    tokio::time::sleep(HASTY).await;
    let client = transport().await;
    for _ in 0..3 {
        let response = client.exchange(&address, frames_of(["ask"])).await;
        let taken = collect_frames(response.expect("begins").frames).await;
        assert_eq!(taken.expect("whole").len(), FRAMES);
    }
    for (peer, ..) in held {
        peer.close().await;
    }
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_caller_that_stalls_is_closed_long_before_it_is_idle() {
    let server = builder().stall_timeout(HASTY).bind().await.expect("binds");
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let peer = endpoint(&[]).await;
    // What came fast before is no reason to wait longer.
    for bytes in [0, 2, 60 << 10] {
        let connection = connect(&peer, &address).await;
        let _stream = begin_frame(&connection, 100 << 10, bytes).await;
        assert_eq!(close_code(&connection).await, eidetica_close_codes::LEAVING);
    }
    // After a whole frame too.
    let connection = connect(&peer, &address).await;
    let (mut send, _recv) = connection.open_bi().await.expect("opens");
    send.write_all(b"\x02\0\0\0hi\x02\0").await.expect("writes");
    assert_eq!(close_code(&connection).await, eidetica_close_codes::LEAVING);
    peer.close().await;
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_silent_newcomer_is_closed() {
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

#[tokio::test]
async fn a_caller_that_trickles_is_closed() {
    let server = builder().stall_timeout(HASTY).bind().await.expect("binds");
    server.start_server(echo()).await.expect("starts");
    let peer = endpoint(&[]).await;
    let connection = connect(&peer, &server_address(&server).await).await;
    let (mut send, _recv) = begin_frame(&connection, 100 << 10, 1).await;
    // Each byte comes well before the deadline, but together they are far below the minimum.
    let trickle = async {
        while send.write_all(b"x").await.is_ok() {
            tokio::time::sleep(HASTY / 10).await;
        }
        futures::future::pending::<()>().await;
    };
    let code = tokio::select! {
        code = close_code(&connection) => code,
        () = trickle => unreachable!("it never ends"),
    };
    assert_eq!(code, eidetica_close_codes::LEAVING);
    peer.close().await;
    server.close().await.expect("closes");
}
