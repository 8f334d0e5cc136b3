//! What goes in at one end comes out at the other.

use bytes::Bytes;
use futures::channel::oneshot;
use futures::future::{FutureExt, join_all};
use futures::stream::{self, StreamExt};

use super::Fixture;
use super::stage::{Count, Once, ask, close, kind_of, numbered, pair, read_to_error};
use crate::frame::FRAME_BYTES_MAX;
use crate::testing::{collect_frames, echo, frames_of, service_fn};
use crate::transport::{SyncTransport, TransportErrorKind};

/// One frame goes, and one comes back.
pub async fn one_frame_each_way<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let answer = ask(&client, &address, "hello").await.expect("answers");
    assert_eq!(answer, ["hello"]);
    close([client, server]).await;
}

/// No frame at all is a request, and an answer.
pub async fn an_empty_request_and_an_empty_answer<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let none = frames_of(Vec::<Bytes>::new());
    let response = client.exchange(&address, none).await.expect("answers");
    let answer = collect_frames(response.frames).await;
    assert_eq!(answer.expect("ends well"), Vec::<Bytes>::new());
    close([client, server]).await;
}

/// Frames of many lengths arrive whole and in order, both ways.
pub async fn many_frames_keep_their_order<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let frames: Vec<_> = (0..1000)
        .map(|n| numbered(n, 4 + (n as usize * 7919) % 5000))
        .collect();
    let request = frames_of(frames.clone());
    let response = client.exchange(&address, request).await.expect("answers");
    let answer = collect_frames(response.frames).await.expect("ends well");
    assert!(answer == frames, "{} frames came back", answer.len());
    close([client, server]).await;
}

/// A frame without bytes is a frame.
pub async fn empty_frames_are_frames<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let frames = ["", "a", "", ""];
    let request = frames_of(frames);
    let response = client.exchange(&address, request).await.expect("answers");
    assert_eq!(collect_frames(response.frames).await.expect("ends"), frames);
    close([client, server]).await;
}

/// A frame of [`FRAME_BYTES_MAX`] passes both ways.
pub async fn the_largest_frame_passes<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let frame = numbered(7, FRAME_BYTES_MAX);
    let request = frames_of([frame.clone()]);
    let response = client.exchange(&address, request).await.expect("answers");
    let answer = collect_frames(response.frames).await.expect("ends well");
    assert!(answer == [frame], "{} frames came back", answer.len());
    close([client, server]).await;
}

/// A frame that is too large is not sent, and the error says why.
pub async fn an_oversize_frame_of_a_request_is_refused<F: Fixture>(fixture: &F) {
    let (client, server, address) = pair(fixture, echo()).await;
    let request = frames_of([numbered(7, FRAME_BYTES_MAX + 1)]);
    let failed = client.exchange(&address, request).await;
    assert_eq!(kind_of(failed), TransportErrorKind::FrameTooLarge);
    let answer = ask(&client, &address, "after it").await.expect("answers");
    assert_eq!(answer, ["after it"], "other exchanges go on");
    close([client, server]).await;
}

/// A service that makes a frame that is too large breaks its answer off.
pub async fn an_oversize_frame_of_an_answer_never_looks_complete<F: Fixture>(fixture: &F) {
    let service =
        service_fn(|_, _| async { frames_of([numbered(0, 4), numbered(1, FRAME_BYTES_MAX + 1)]) });
    let (client, server, address) = pair(fixture, service).await;
    let request = frames_of(["ask"]);
    // Whether the answer begins before it breaks off is up to the transport.
    if let Ok(response) = client.exchange(&address, request).await {
        let (count, _) = read_to_error(response.frames).await;
        assert!(count <= 1, "{count} frames");
    }
    close([client, server]).await;
}

/// Ten exchanges over one transport are under way at the same time.
pub async fn ten_exchanges_at_once<F: Fixture>(fixture: &F) {
    const EXCHANGES: u32 = 10;
    let entered = Count::default();
    let (open, gate) = oneshot::channel::<()>();
    let (open, gate) = (Once::new(open), gate.shared());
    // No request is answered before all have arrived.
    let service = service_fn(move |_, request| {
        let (entered, open, gate) = (entered.clone(), open.clone(), gate.clone());
        async move {
            let frames = collect_frames(request).await.expect("a whole request");
            if entered.next() + 1 == EXCHANGES {
                open.take().send(()).expect("all wait");
            }
            gate.await.expect("opened");
            frames_of(frames)
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    let exchanges = (0..EXCHANGES).map(|number| {
        let (client, address) = (&client, &address);
        async move {
            let request = frames_of([numbered(number, 100)]);
            let response = client.exchange(address, request).await.expect("answers");
            let answer = collect_frames(response.frames).await.expect("ends well");
            assert_eq!(answer, [numbered(number, 100)]);
        }
    });
    join_all(exchanges).await;
    close([client, server]).await;
}

/// The caller gets the first frames of an answer whose last ones do not exist yet.
pub async fn the_answer_begins_before_its_end_is_known<F: Fixture>(fixture: &F) {
    let (open, gate) = oneshot::channel::<()>();
    let gate = Once::new(gate);
    let service = service_fn(move |_, _| {
        let gate = gate.take();
        async move {
            let last = async move {
                gate.await.expect("the caller has read the first frame");
                Ok(Bytes::from("last"))
            };
            frames_of(["first"]).chain(stream::once(last)).boxed()
        }
    });
    let (client, server, address) = pair(fixture, service).await;
    let request = frames_of(["ask"]);
    let mut response = client.exchange(&address, request).await.expect("answers");
    let first = response.frames.next().await.expect("a frame");
    assert_eq!(first.expect("arrives"), "first");
    open.send(()).expect("the service waits");
    assert_eq!(
        collect_frames(response.frames).await.expect("ends"),
        ["last"]
    );
    close([client, server]).await;
}
