//! Endpoints and routers of the program's own, and how connections come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eidetica_proto::testing::{collect_frames, echo, frames_of, service_fn};
use eidetica_proto::{SyncTransport, TransportErrorKind};
use eidetica_transport_iroh::{ALPN, EideticaProtocol, IrohTransport};
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use iroh::endpoint::Connection;
use iroh::protocol::{AcceptError, ProtocolHandler, Router};

use crate::stage::{address_of, ask, builder, endpoint, failure, server_address, transport};

const OTHER_ALPN: &[u8] = b"another/7";

/// Sends back what one stream says.
#[derive(Debug)]
struct Other;

impl ProtocolHandler for Other {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let (mut send, mut recv) = connection.accept_bi().await?;
        let said = recv.read_to_end(100).await.map_err(AcceptError::from_err)?;
        send.write_all(&said).await.map_err(AcceptError::from_err)?;
        send.finish()?;
        connection.closed().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_router_carries_another_protocol_beside_ours() {
    let (client, shared) = (transport().await, endpoint(&[]).await);
    let (server, protocol) = IrohTransport::builder().mount(shared.clone());
    let router = Router::builder(shared.clone())
        .accept(OTHER_ALPN, Other)
        .accept(ALPN, protocol)
        .spawn();
    let address = address_of(shared.addr());
    let error = failure(&client, &address).await;
    assert_eq!(error.kind(), TransportErrorKind::Refused, "{error}");

    server.start_server(echo()).await.expect("starts");
    assert_eq!(server_address(&server).await, address);
    assert_eq!(
        ask(&client, &address, "ours").await.expect("answers"),
        ["ours"]
    );

    let stranger = endpoint(&[]).await;
    let connection = stranger.connect(shared.addr(), OTHER_ALPN).await;
    let connection = connection.expect("connects");
    let (mut send, mut recv) = connection.open_bi().await.expect("opens");
    send.write_all(b"theirs").await.expect("writes");
    send.finish().expect("open");
    assert_eq!(recv.read_to_end(100).await.expect("reads"), b"theirs");

    // The transport leaves what belongs to the program alone.
    server.close().await.expect("closes");
    assert!(!shared.is_closed());
    let other = stranger.connect(shared.addr(), OTHER_ALPN).await;
    other.expect("the other protocol goes on");
    stranger.close().await;
    client.close().await.expect("closes");
    router.shutdown().await.expect("shuts down");
}

#[tokio::test]
async fn a_routers_shutdown_lets_exchanges_end() {
    let (client, shared) = (transport().await, endpoint(&[]).await);
    let (server, protocol) = builder().mount(shared.clone());
    let router = Router::builder(shared.clone())
        .accept(ALPN, protocol)
        .spawn();
    let (entered, inside) = tokio::sync::watch::channel(false);
    let (open, gate) = tokio::sync::watch::channel(false);
    let service = service_fn(move |_, request| {
        let (entered, mut gate) = (entered.clone(), gate.clone());
        async move {
            let frames = collect_frames(request).await.expect("a whole request");
            entered.send_replace(true);
            gate.wait_for(|open| *open).await.expect("opened");
            frames_of(frames)
        }
    });
    server.start_server(service).await.expect("starts");
    let address = server_address(&server).await;
    let asking = ask(&client, &address, "slow");
    let stopping = async {
        inside
            .clone()
            .wait_for(|inside| *inside)
            .await
            .expect("entered");
        // `join` polls the shutdown first; it has nothing to wait for but the exchange.
        let opening = async {
            while server.is_server_running() {
                tokio::task::yield_now().await;
            }
            open.send_replace(true);
        };
        tokio::join!(router.shutdown(), opening)
            .0
            .expect("shuts down");
    };
    let (answer, ()) = tokio::join!(asking, stopping);
    assert_eq!(answer.expect("answers"), ["slow"]);
    client.close().await.expect("closes");
}

#[tokio::test]
async fn a_given_endpoint_stays_open() {
    let (client, given) = (transport().await, endpoint(&[OTHER_ALPN]).await);
    let server = IrohTransport::from_endpoint(given.clone());
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    server.close().await.expect("closes");
    assert!(!given.is_closed());

    // An endpoint that the program closed is closed for the transport as well.
    let server = IrohTransport::from_endpoint(given.clone());
    given.close().await;
    let error = server.start_server(echo()).await.expect_err("closed");
    assert_eq!(error.kind(), TransportErrorKind::Closed);
    client.close().await.expect("closes");
}

/// Counts connections and gives them to the transport.
#[derive(Debug)]
struct Counting {
    inner: EideticaProtocol,
    connections: Arc<AtomicUsize>,
}

impl ProtocolHandler for Counting {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.inner.accept(connection).await
    }

    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

#[tokio::test]
async fn exchanges_share_one_connection_until_it_dies() {
    let (client, shared) = (transport().await, endpoint(&[]).await);
    let (server, inner) = builder().mount(shared.clone());
    let connections = Arc::new(AtomicUsize::new(0));
    let counting = Counting {
        inner,
        connections: connections.clone(),
    };
    let router = Router::builder(shared).accept(ALPN, counting).spawn();
    server.start_server(echo()).await.expect("starts");
    let address = server_address(&server).await;
    // Those that begin at once dial once.
    let at_once = (0..10).map(|_| ask(&client, &address, "at once"));
    for answer in join_all(at_once).await {
        assert_eq!(answer.expect("answers"), ["at once"]);
    }
    for _ in 0..5 {
        ask(&client, &address, "in turn").await.expect("answers");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    server.stop_server().await.expect("stops");
    server.start_server(echo()).await.expect("starts");
    ask(&client, &address, "again").await.expect("answers");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    client.close().await.expect("closes");
    router.shutdown().await.expect("shuts down");
}

/// The client may find out only within the exchange that its connection was closed. It is begun
/// again, and the service never sees it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_two_exchanges_goes_unnoticed() {
    const RESTARTS: usize = 30;
    let (client, server) = (transport().await, transport().await);
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..RESTARTS {
        let asked = asked.clone();
        let service = service_fn(move |_, request| {
            asked.fetch_add(1, Ordering::SeqCst);
            async { request }
        });
        server.start_server(service).await.expect("starts");
        let address = server_address(&server).await;
        let answer = ask(&client, &address, "hello").await.expect("answers");
        assert_eq!(answer, ["hello"]);
        server.stop_server().await.expect("stops");
    }
    assert_eq!(asked.load(Ordering::SeqCst), RESTARTS);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}

#[tokio::test]
async fn a_service_that_panics_breaks_its_own_exchange_only() {
    let (client, server) = (transport().await, transport().await);
    let service = service_fn(|_, request| async {
        let frames = collect_frames(request).await.expect("a whole request");
        assert_ne!(frames, ["panic"], "as the test wants it");
        let first = stream::iter([Ok("first".into())]);
        let then = stream::poll_fn(|_| panic!("as the test wants it"));
        match frames == ["panic later"] {
            true => first.chain(then).boxed(),
            false => first.boxed(),
        }
    });
    server.start_server(service).await.expect("starts");
    let address = server_address(&server).await;
    for question in ["panic", "panic later"] {
        let error = ask(&client, &address, question).await.expect_err("breaks");
        assert_eq!(error.kind(), TransportErrorKind::ConnectionLost, "{error}");
    }
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["first"]);
    client.close().await.expect("closes");
    server.close().await.expect("closes");
}
