//! No side has to hold more than a bounded amount, and no exchange waits for the slowest.

use std::collections::BTreeSet;

use futures::channel::oneshot;
use futures::future::join;
use futures::stream::StreamExt;

use super::Fixture;
use super::stage::{Once, close, endless, numbered, pair, serve, signal};
use crate::testing::{collect_frames, echo, frames_of, service_fn};
use crate::transport::{FrameStream, SyncTransport};

/// Length of each frame in the cases about backpressure.
const FRAME_BYTES: usize = 64 << 10;

/// Most frames that may be under way to a consumer that does not read: 32 MiB. The buffers of the
/// system for one loopback connection take up to 10 MiB, those of a transport a few more.
const FRAMES_UNDER_WAY_MAX: u32 = 512;

/// How many other exchanges end while one is stalled: enough for a producer that is not stopped
/// to run away, which would otherwise need a clock to notice.
const OTHER_EXCHANGES: usize = 50;

/// Reads that many frames, which must be the next in order.
async fn read_in_order(frames: &mut FrameStream, from: u32, count: u32) {
    for number in from..from + count {
        let frame = frames.next().await.expect("endless").expect("arrives");
        assert_eq!(frame[..4], number.to_le_bytes(), "the next frame in order");
        assert_eq!(frame.len(), FRAME_BYTES);
    }
}

/// A service that does not read stops the caller from sending; other exchanges go on; and when it
/// reads again, nothing is lost.
pub async fn a_service_that_stops_reading_stops_the_caller<F: Fixture>(fixture: &F) {
    let (entered, inside) = signal();
    let (open, gate) = oneshot::channel::<()>();
    let gate = Once::new(gate);
    let service = service_fn(move |_, mut request| {
        let (entered, gate) = (entered.clone(), gate.clone());
        async move {
            let first = request.next().await.expect("a frame").expect("arrives");
            if first == "other" {
                return frames_of(["answer"]);
            }
            entered.fire();
            gate.take().await.expect("opened");
            read_in_order(&mut request, 1, 2 * FRAMES_UNDER_WAY_MAX).await;
            frames_of(["enough"])
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    let (request, produced) = endless(FRAME_BYTES);
    let stalled = async {
        let response = client.exchange(&address, request).await.expect("answers");
        let answer = collect_frames(response.frames).await.expect("ends well");
        assert_eq!(answer, ["enough"]);
    };
    let others = async {
        inside.await.expect("the service is entered");
        for _ in 0..OTHER_EXCHANGES {
            let request = frames_of(["other"]);
            let response = client.exchange(&address, request).await.expect("answers");
            collect_frames(response.frames).await.expect("ends well");
        }
        let under_way = produced.get();
        assert!(under_way <= FRAMES_UNDER_WAY_MAX, "{under_way} frames");
        open.send(()).expect("the service waits");
    };
    join(stalled, others).await;
    close([client, server]).await;
}

/// A caller that does not read stops the service from producing; other exchanges go on; and when
/// it reads again, nothing is lost.
pub async fn a_caller_that_stops_reading_stops_the_service<F: Fixture>(fixture: &F) {
    let (frames, produced) = endless(FRAME_BYTES);
    let frames = Once::new(frames);
    let service = service_fn(move |_, request| {
        let frames = frames.clone();
        async move {
            match &collect_frames(request).await.expect("a whole request")[..] {
                [ask] if ask == "endless" => frames.take(),
                _ => frames_of(["answer"]),
            }
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    let request = frames_of(["endless"]);
    let mut response = client.exchange(&address, request).await.expect("answers");
    read_in_order(&mut response.frames, 0, 1).await;
    for _ in 0..OTHER_EXCHANGES {
        let request = frames_of(["other"]);
        let response = client.exchange(&address, request).await.expect("answers");
        collect_frames(response.frames).await.expect("ends well");
    }
    let under_way = produced.get();
    assert!(under_way <= FRAMES_UNDER_WAY_MAX, "{under_way} frames");
    read_in_order(&mut response.frames, 1, 2 * FRAMES_UNDER_WAY_MAX).await;
    drop(response);
    close([client, server]).await;
}

/// A service may answer, and end, without reading a request that never ends.
pub async fn an_early_answer_reaches_a_caller_that_still_sends<F: Fixture>(fixture: &F) {
    const ANSWER_FRAMES: u32 = 40;
    let service = service_fn(|_, request| async {
        drop(request);
        frames_of((0..ANSWER_FRAMES).map(|number| numbered(number, FRAME_BYTES)))
    });
    let (client, server, address) = pair(fixture, service).await;
    // More than once: whether the answer or the connection's end is noticed first may be luck.
    for _ in 0..10 {
        let (request, _) = endless(FRAME_BYTES);
        let mut response = client.exchange(&address, request).await.expect("answers");
        read_in_order(&mut response.frames, 0, ANSWER_FRAMES).await;
        assert!(response.frames.next().await.is_none(), "ends well");
    }
    close([client, server]).await;
}

/// Exchanges one after the other share connections.
///
/// A connection may come back to its pool a moment after the answer's end, so that the exchange
/// right after it opens another one; but then two are there for those that follow.
pub async fn connections_are_reused<F: Fixture>(fixture: &F) {
    const EXCHANGES: usize = 20;
    const CONNECTIONS_MAX: usize = 5;
    let service = service_fn(|caller, request| async move {
        collect_frames(request).await.expect("a whole request");
        frames_of([caller.remote])
    });
    let (client, server, address) = pair(fixture, service).await;
    let mut remotes = BTreeSet::new();
    for _ in 0..EXCHANGES {
        let request = frames_of(["who am I?"]);
        let response = client.exchange(&address, request).await.expect("answers");
        let answer = collect_frames(response.frames).await.expect("ends well");
        assert_eq!(answer.len(), 1);
        assert!(!answer[0].is_empty(), "the caller's address is known");
        remotes.extend(answer);
    }
    assert!(remotes.len() <= CONNECTIONS_MAX, "seen as {remotes:?}");
    server.stop_server().await.expect("stops");
    // What is left of the old connection must not be in the way of another one.
    let address = serve(&server, echo()).await;
    let request = frames_of(["again"]);
    let response = client.exchange(&address, request).await.expect("answers");
    assert_eq!(
        collect_frames(response.frames).await.expect("ends"),
        ["again"]
    );
    close([client, server]).await;
}
