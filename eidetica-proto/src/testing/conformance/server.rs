//! How a server starts, stops and closes.

use futures::channel::oneshot;
use futures::future::join;
use futures::stream::StreamExt;

use super::Fixture;
use super::stage::{Once, ask, close, kind_of, pair, read_to_error, serve, signal, silence};
use crate::testing::{collect_frames, echo, frames_of, service_fn};
use crate::transport::{SyncTransport, TransportErrorKind};

/// A server that runs is not started again, and is not disturbed by the attempt.
pub async fn starting_twice_is_refused<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let other = service_fn(|_, _| async { frames_of(["the other service"]) });
    let error = server.start_server(other).await.expect_err("runs already");
    assert_eq!(error.kind(), TransportErrorKind::AlreadyRunning);
    assert!(server.is_server_running());
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    close([client, server]).await;
}

/// An address that another server has is refused by name, and the other is not disturbed.
pub async fn a_taken_address_is_refused<F: Fixture>(fixture: &F) {
    let (client, first, address) = pair(fixture, echo()).await;
    let error = match fixture.transport_at(&address).await {
        Err(error) => error,
        Ok(second) => {
            let error = second.start_server(echo()).await.expect_err("taken");
            assert!(!second.is_server_running());
            close([second]).await;
            error
        }
    };
    assert_eq!(error.kind(), TransportErrorKind::AddressInUse, "{error}");
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    close([client, first]).await;
}

/// A server that was stopped starts again, with another service.
pub async fn a_stopped_server_starts_again<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    server.stop_server().await.expect("stops");
    assert!(!server.is_server_running());
    let other = service_fn(|_, _| async { frames_of(["the other service"]) });
    let address = serve(&server, other).await;
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["the other service"]);
    close([client, server]).await;
}

/// A server that does not run can be stopped, as often as one likes.
pub async fn stopping_what_does_not_run_does_nothing<F: Fixture>(fixture: &F) {
    let server = fixture.transport().await;
    server.stop_server().await.expect("does nothing");
    serve(&server, echo()).await;
    server.stop_server().await.expect("stops");
    server.stop_server().await.expect("does nothing");
    close([server]).await;
}

/// A stop waits for the exchanges under way, and takes no further ones.
pub async fn a_stop_lets_exchanges_end<F: Fixture>(fixture: &F) {
    let (entered, inside) = signal();
    let (open, gate) = oneshot::channel::<()>();
    let gate = Once::new(gate);
    let service = service_fn(move |_, request| {
        let (entered, gate) = (entered.clone(), gate.clone());
        async move {
            entered.fire();
            gate.take().await.expect("opened");
            frames_of(collect_frames(request).await.expect("a whole request"))
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    let under_way = async { ask(&client, &address, "slow").await.expect("answers") };
    let stop = async {
        inside.await.expect("the service is entered");
        // `join` polls the stop first, so it has begun when the gate opens.
        let opening = async { open.send(()).expect("the service waits") };
        let (stopped, ()) = join(server.stop_server(), opening).await;
        stopped.expect("stops");
        assert!(!server.is_server_running());
    };
    let (answer, ()) = join(under_way, stop).await;
    assert_eq!(answer, ["slow"]);
    close([client, server]).await;
}

/// A stop cuts an exchange that outlasts the grace: an error for the caller, and nothing is left
/// of it at the server.
pub async fn a_stop_cuts_what_does_not_end<F: Fixture>(fixture: &F) {
    let (dropped, mut gone) = signal();
    let service = service_fn(move |_, _| {
        let answer = frames_of(["first"]).chain(silence()).boxed();
        let answer = dropped.clone().on_drop(answer);
        async { answer }
    });
    let server = fixture.hasty_transport().await;
    let address = serve(&server, service).await;
    let client = fixture.transport().await;
    let request = frames_of(["ask"]);
    let mut response = client.exchange(&address, request).await.expect("begins");
    let first = response.frames.next().await.expect("a frame");
    assert_eq!(first.expect("arrives"), "first");
    server.stop_server().await.expect("stops");
    let left = gone.try_recv().expect("fires before the stop returns");
    assert_eq!(left, Some(()), "the answer was dropped");
    let (count, error) = read_to_error(response.frames).await;
    assert_eq!(
        (count, error.kind()),
        (0, TransportErrorKind::ConnectionLost)
    );
    close([client, server]).await;
}

/// After a close each call says so, and closing again does nothing.
pub async fn a_closed_transport_says_so<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    ask(&client, &address, "hello").await.expect("answers");
    client.close().await.expect("closes");
    server.close().await.expect("closes");
    for transport in [&client, &server] {
        assert!(!transport.is_server_running());
        assert_eq!(transport.server_addresses().await, []);
        let failed = transport.exchange(&address, frames_of(["ask"])).await;
        assert_eq!(kind_of(failed), TransportErrorKind::Closed);
        let failed = transport.start_server(echo()).await.expect_err("closed");
        assert_eq!(failed.kind(), TransportErrorKind::Closed);
        transport.stop_server().await.expect("does nothing");
        transport.close().await.expect("does nothing");
    }
}

/// Closing the caller's transport ends its exchanges with an error, and never with an end.
pub async fn closing_cuts_what_is_under_way<F: Fixture>(fixture: &F) {
    let service = service_fn(|_, _| async { frames_of(["first"]).chain(silence()).boxed() });
    let (server, client) = (fixture.hasty_transport().await, fixture.transport().await);
    let address = serve(&server, service).await;
    let request = frames_of(["ask"]);
    let mut response = client.exchange(&address, request).await.expect("begins");
    let first = response.frames.next().await.expect("a frame");
    assert_eq!(first.expect("arrives"), "first");
    client.close().await.expect("closes");
    let (count, error) = read_to_error(response.frames).await;
    assert_eq!((count, error.kind()), (0, TransportErrorKind::Closed));
    close([server]).await;
}
