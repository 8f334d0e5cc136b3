//! Answers that live for hours: they report news, and a heartbeat when there is none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use futures::stream::{self, StreamExt};

use super::Fixture;
use super::stage::{Once, ask, close, numbered, pair, read_to_error, serve, signal, silence};
use crate::address::Address;
use crate::testing::{collect_frames, echo, frames_of, service_fn};
use crate::transport::{FrameStream, Service, SyncTransport, TransportErrorKind};

/// How many long-lived answers one client has at a time: more than one connection carries where a
/// connection carries several.
const LONG_LIVED: u32 = 40;

/// Longest silence that a long-lived answer has between two frames.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// A service that answers `watch` with a frame, then with whatever the test sends, and returns all
/// other requests.
fn watchable(news: mpsc::Receiver<Bytes>) -> Arc<dyn Service> {
    let news = Once::new(news);
    service_fn(move |_, request| {
        let news = news.clone();
        async move {
            let frames = collect_frames(request).await.expect("a whole request");
            match &frames[..] {
                [ask] if ask == "watch" => {
                    let news = news.take().map(Ok);
                    frames_of(["begun"]).chain(news).boxed()
                }
                _ => frames_of(frames),
            }
        }
    })
}

/// Begins an answer, and reads its first frame.
async fn watch<T: SyncTransport>(client: &T, address: &Address) -> FrameStream {
    let request = frames_of(["watch"]);
    let mut response = client.exchange(address, request).await.expect("answers");
    let first = response.frames.next().await.expect("a frame");
    assert_eq!(first.expect("arrives"), "begun");
    response.frames
}

/// A frame arrives whole without anything after it, again and again, and other exchanges go on.
pub async fn each_frame_arrives_at_once<F: Fixture>(fixture: &F) {
    let (mut news, service) = mpsc::channel(0);
    let (client, server, address) = pair(fixture, watchable(service)).await;
    let mut frames = watch(&client, &address).await;
    for number in 0..50 {
        // The last one is larger than any buffer on the way.
        let bytes = if number == 49 { 1 << 20 } else { 4 + number };
        let frame = numbered(number as u32, bytes);
        news.try_send(frame.clone()).expect("the last was taken");
        let arrived = frames.next().await.expect("goes on").expect("arrives");
        assert!(arrived == frame, "frame {number}");
        if number % 10 == 0 {
            let answer = ask(&client, &address, "other").await.expect("answers");
            assert_eq!(answer, ["other"]);
        }
    }
    drop(news);
    assert!(frames.next().await.is_none(), "a clean end");
    close([client, server]).await;
}

/// Many long-lived answers leave room for short exchanges, and stay alive beside them.
pub async fn long_lived_answers_leave_room_for_others<F: Fixture>(fixture: &F) {
    let (open, gate) = oneshot::channel::<()>();
    let gate = futures::FutureExt::shared(gate);
    let service = service_fn(move |_, request| {
        let gate = gate.clone();
        async move {
            let frames = collect_frames(request).await.expect("a whole request");
            if frames != ["watch"] {
                return frames_of(frames);
            }
            let later = async move {
                gate.await.expect("opened");
                Ok(Bytes::from("news"))
            };
            frames_of(["begun"]).chain(stream::once(later)).boxed()
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    let mut answers = Vec::new();
    for _ in 0..LONG_LIVED {
        answers.push(watch(&client, &address).await);
    }
    for _ in 0..20 {
        let answer = ask(&client, &address, "other").await.expect("has room");
        assert_eq!(answer, ["other"]);
    }
    open.send(()).expect("all wait");
    for frames in answers {
        assert_eq!(collect_frames(frames).await.expect("ends well"), ["news"]);
    }
    close([client, server]).await;
}

/// A stop cuts an answer that waits for news at once, long before the grace time is over. The caller
/// sees a cut, and the service's stream is gone.
pub async fn a_stop_does_not_wait_for_news<F: Fixture>(fixture: &F) {
    let (dropped, mut gone) = signal();
    let service = service_fn(move |_, _| {
        let answer = frames_of(["begun"]).chain(silence()).boxed();
        let answer = dropped.clone().on_drop(answer);
        async { answer }
    });
    let (client, server, address) = pair(fixture, service).await;
    let frames = watch(&client, &address).await;
    // The grace time of a usual transport is 5 s.
    let patience = fixture.pause(Duration::from_secs(3));
    let stopping = Box::pin(async {
        let (stopped, cut) = futures::join!(server.stop_server(), read_to_error(frames));
        stopped.expect("stops");
        cut
    });
    match select(stopping, patience).await {
        Either::Left(((count, error), _)) => {
            let cut = (0, TransportErrorKind::ConnectionLost);
            assert_eq!((count, error.kind()), cut, "{error}");
        }
        Either::Right(_) => panic!("the stop waits for an answer that waits for news"),
    }
    assert_eq!(gone.try_recv(), Ok(Some(())), "the answer was dropped");
    let address = serve(&server, echo()).await;
    let answer = ask(&client, &address, "again").await.expect("answers");
    assert_eq!(answer, ["again"]);
    close([client, server]).await;
}

/// An exchange that is dropped before its answer begins is gone at the service, and leaves the next
/// one undisturbed.
pub async fn an_exchange_dropped_before_its_answer_leaves_nothing<F: Fixture>(fixture: &F) {
    let (entered, inside) = signal();
    let (dropped, gone) = signal();
    let service = service_fn(move |_, request| {
        let (entered, dropped) = (entered.clone(), dropped.clone());
        async move {
            let frames = collect_frames(request).await.expect("a whole request");
            if frames != ["slow"] {
                return frames_of(frames);
            }
            let guard = dropped.on_drop(silence());
            entered.fire();
            futures::future::pending::<()>().await;
            guard
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    {
        let exchange = client.exchange(&address, frames_of(["slow"]));
        let left = select(exchange, inside).await;
        assert!(matches!(left, Either::Right(_)), "there is no answer");
    }
    let answer = ask(&client, &address, "next").await.expect("answers");
    assert_eq!(answer, ["next"]);
    gone.await.expect("the service's work was dropped");
    close([client, server]).await;
}

/// An answer lives as long as a heartbeat comes every 15 s, and its silence is noticed within 40 s.
///
/// It takes longer than any deadline, so it needs a virtual clock: `advance` moves the clock that the
/// transport's deadlines run on. It is therefore not part of the macro's list.
pub async fn heartbeats_keep_an_answer_alive<F: Fixture, A: Future<Output = ()>>(
    fixture: &F,
    beats: u32,
    advance: impl Fn(Duration) -> A,
) {
    const STEP: Duration = Duration::from_secs(1);
    const NOTICED_WITHIN: Duration = Duration::from_secs(40);
    let (mut news, service) = mpsc::channel(0);
    let (client, server, address) = pair(fixture, watchable(service)).await;
    let mut frames = watch(&client, &address).await;
    for number in 0..beats {
        let mut waited = Duration::ZERO;
        while waited < HEARTBEAT {
            advance(STEP).await;
            waited += STEP;
        }
        news.try_send(numbered(number, 4)).expect("taken");
        let beat = frames.next().await.expect("goes on").expect("arrives");
        assert_eq!(beat, numbered(number, 4));
    }
    let silent = std::cell::Cell::new(Duration::ZERO);
    let time = async {
        while silent.get() <= NOTICED_WITHIN {
            advance(STEP).await;
            silent.set(silent.get() + STEP);
        }
    };
    let noticed = Box::pin(read_to_error(frames));
    match select(noticed, Box::pin(time)).await {
        Either::Left(((count, error), _)) => {
            let late = (0, TransportErrorKind::TimedOut);
            assert_eq!((count, error.kind()), late, "{error}");
            assert!(silent.get() > HEARTBEAT, "after {:?}", silent.get());
        }
        Either::Right(_) => panic!("nothing noticed the silence"),
    }
    drop(news);
    close([client, server]).await;
}
