//! Whatever is cut is an error, at both ends, and ends what belongs to it.

use futures::channel::oneshot;
use futures::future::{FutureExt, join};
use futures::stream::{self, StreamExt};

use super::Fixture;
use super::stage::{
    Once, Seen, ask, close, kind_of, numbered, pair, read_to_error, reports, serve, signal, silence,
};
use crate::testing::{echo, frames_of, service_fn};
use crate::transport::{FrameStream, Service, SyncTransport, TransportError, TransportErrorKind};

async fn watch_request(mut request: FrameStream) -> Seen {
    let mut count = 0;
    while let Some(frame) = request.next().await {
        match frame {
            Ok(_) => count += 1,
            Err(_) => return Err(count),
        }
    }
    Ok(count)
}

/// A service that fires when it has the first frame, and reports how the request ended.
fn reporting() -> (
    std::sync::Arc<dyn Service>,
    oneshot::Receiver<()>,
    futures::channel::mpsc::UnboundedReceiver<Seen>,
) {
    let (entered, inside) = signal();
    let (report, seen) = reports();
    let service = service_fn(move |_, mut request| {
        let (entered, report) = (entered.clone(), Once::new(report.clone()));
        async move {
            let first = request.next().await;
            let first = stream::iter(first);
            entered.fire();
            let seen = watch_request(first.chain(request).boxed()).await;
            // The case may have ended.
            let _ = report.take().unbounded_send(seen);
            frames_of(["read"])
        }
    });
    (service, inside, seen)
}

/// A request that fails at the caller's end gives the caller its own error back, and never looks
/// complete to the service.
pub async fn an_error_of_the_request_comes_back_and_is_no_end<F: Fixture>(fixture: &F) {
    let (service, inside, mut seen) = reporting();
    let (client, server, address) = pair(fixture, service).await;
    let failing = stream::once(async move {
        inside.await.expect("the service is entered");
        let text = "the disk of the caller failed";
        Err(TransportError::new(TransportErrorKind::Local, text))
    });
    let request = frames_of(["one", "two"]).chain(failing).boxed();
    match client.exchange(&address, request).await {
        Ok(_) => panic!("the exchange should have failed"),
        Err(error) => {
            assert_eq!(error.kind(), TransportErrorKind::Local);
            assert_eq!(error.to_string(), "the disk of the caller failed");
        }
    }
    let seen = seen.next().await.expect("reports");
    assert!(matches!(seen, Err(1..=2)), "the service saw {seen:?}");
    close([client, server]).await;
}

/// A caller that goes away within its request cuts it, and it never looks complete.
pub async fn a_dropped_exchange_cuts_its_request<F: Fixture>(fixture: &F) {
    let (service, inside, mut seen) = reporting();
    let (client, server, address) = pair(fixture, service).await;
    let request = frames_of(["one"]).chain(silence()).boxed();
    {
        let exchange = client.exchange(&address, request);
        let gone = futures::future::select(exchange, inside).await;
        assert!(
            matches!(gone, futures::future::Either::Right(_)),
            "no answer"
        );
    }
    // A transport may also end the whole exchange at the service, which then reports nothing.
    let closing = close([client]);
    let (seen, ()) = join(seen.next(), closing.then(|()| close([server]))).await;
    assert!(!matches!(seen, Some(Ok(_))), "the service saw {seen:?}");
}

async fn expect_broken<F: Fixture>(fixture: &F, frames_before: u32) {
    let service = service_fn(move |_, _| async move {
        let error = TransportError::new(TransportErrorKind::Local, "the service failed");
        let frames = (0..frames_before).map(|number| numbered(number, 100));
        frames_of(frames)
            .chain(stream::once(async { Err(error) }))
            .boxed()
    });
    let (client, server, address) = pair(fixture, service).await;
    // Whether the answer begins before it breaks off is up to the transport.
    let error = match client.exchange(&address, frames_of(["ask"])).await {
        Ok(response) => {
            let (count, error) = read_to_error(response.frames).await;
            assert!(count <= frames_before as usize, "{count} frames");
            error
        }
        Err(error) => error,
    };
    assert_eq!(error.kind(), TransportErrorKind::ConnectionLost, "{error}");
    server.stop_server().await.expect("stops");
    let address = serve(&server, echo()).await;
    let answer = ask(&client, &address, "after it").await.expect("answers");
    assert_eq!(answer, ["after it"]);
    close([client, server]).await;
}

/// An answer that the service breaks off is an error for the caller, and never an end.
pub async fn an_answer_that_breaks_off_never_looks_complete<F: Fixture>(fixture: &F) {
    expect_broken(fixture, 3).await;
}

/// The same before the first frame: it is no empty answer.
pub async fn an_answer_that_breaks_off_at_once_never_looks_complete<F: Fixture>(fixture: &F) {
    expect_broken(fixture, 0).await;
}

async fn expect_dropped<F: Fixture>(fixture: &F, rest: FrameStream) {
    let (dropped, gone) = signal();
    let rest = Once::new(rest);
    let service = service_fn(move |_, _| {
        let answer = frames_of(["first"]).chain(rest.take()).boxed();
        let answer = dropped.clone().on_drop(answer);
        async { answer }
    });
    let (client, server, address) = pair(fixture, service).await;
    let request = frames_of(["ask"]);
    let mut response = client.exchange(&address, request).await.expect("answers");
    let first = response.frames.next().await.expect("a frame");
    assert_eq!(first.expect("arrives"), "first");
    drop(response);
    gone.await.expect("fires");
    close([client, server]).await;
}

/// A caller that drops the answer stops the service from making it.
pub async fn a_dropped_answer_ends_the_exchange<F: Fixture>(fixture: &F) {
    let rest = stream::repeat_with(|| Ok(numbered(0, 1000)));
    expect_dropped(fixture, rest.boxed()).await;
}

/// The same while the service has nothing to send.
pub async fn a_dropped_answer_ends_an_exchange_that_says_nothing<F: Fixture>(fixture: &F) {
    expect_dropped(fixture, silence()).await;
}

/// A service that never answers does not hold the caller forever.
pub async fn a_silent_service_times_out<F: Fixture>(fixture: &F) {
    let service = service_fn(|_, _| futures::future::pending());
    let server = fixture.transport().await;
    let address = serve(&server, service).await;
    let client = fixture.hasty_transport().await;
    let failed = client.exchange(&address, frames_of(["ask"])).await;
    assert_eq!(kind_of(failed), TransportErrorKind::TimedOut);
    close([client, server]).await;
}

/// An answer that stalls does not hold the caller forever.
pub async fn an_answer_that_stalls_times_out<F: Fixture>(fixture: &F) {
    let service = service_fn(|_, _| async { frames_of(["first"]).chain(silence()).boxed() });
    let server = fixture.transport().await;
    let address = serve(&server, service).await;
    let client = fixture.hasty_transport().await;
    let request = frames_of(["ask"]);
    let response = client.exchange(&address, request).await.expect("begins");
    let (count, error) = read_to_error(response.frames).await;
    assert_eq!((count, error.kind()), (1, TransportErrorKind::TimedOut));
    close([client, server]).await;
}
