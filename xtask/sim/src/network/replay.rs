//! Requests that arrive once more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eidetica_proto::Caller;
use eidetica_proto::message::{Reply, Request, RequestHeader, ResponseHeader};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::state::{Listener, Network};
use super::ways::IDLE;

/// Most frames of a request that are kept to come once more.
pub(super) const REPLAYED_FRAMES_MAX: usize = 16;

fn is_greeting(header: &Bytes) -> bool {
    let header = RequestHeader::decode(header);
    matches!(
        header,
        Ok(RequestHeader {
            request: Request::Hello(_),
            ..
        })
    )
}

/// Lets a request arrive once more, some time later.
pub(super) async fn replay(
    network: Network,
    listener: Listener,
    caller: Caller,
    mut kept: mpsc::Receiver<Bytes>,
    was_served: Arc<AtomicBool>,
) {
    let mut frames = Vec::new();
    while let Some(frame) = kept.recv().await {
        if frames.len() == REPLAYED_FRAMES_MAX {
            return;
        }
        frames.push(Ok(frame));
    }
    let later = network.with_random(|random| random.below(20_000));
    sleep(Duration::from_millis(u64::from(later))).await;
    // A greeting needs no proof, and may be answered as often as it comes.
    let needs_proof = !matches!(frames.get(1), Some(Ok(header)) if is_greeting(header));
    let request = stream::iter(frames).boxed();
    let mut answer = listener.service.exchange(caller.clone(), request).await;
    let mut first = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = answer.next().await {
            if first.len() < 2 {
                first.push(frame);
            }
        }
    };
    // A watch would go on for ever.
    let _ = timeout(IDLE, read).await;
    if caller.key.is_none() && needs_proof && was_served.load(Ordering::Relaxed) {
        let holds = match first.iter().any(is_served) {
            false => Ok(()),
            true => Err(format!("it is answered at node {}", listener.host)),
        };
        let rule = "a signed request is served once";
        network.record.check(rule, holds);
    }
}

/// Tells whether a frame at the beginning of an answer is a header that refuses nothing.
pub(super) fn is_served(frame: &Bytes) -> bool {
    let header = ResponseHeader::decode(frame);
    matches!(header, Ok(ResponseHeader { reply: Ok(reply), .. })
        if !matches!(reply, Reply::Unknown(_)))
}
