//! Ends long-lived answers when the server stops.

use eidetica_proto::{FrameStream, TransportError};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits::STOP_QUIET;

/// Passes on `frames`. Once the server stops, an answer that has begun and then gives nothing for
/// [`STOP_QUIET`] is cut: it waits for news, and could do so for hours.
pub(crate) fn cut_when_quiet(frames: FrameStream, stopping: watch::Receiver<bool>) -> FrameStream {
    let state = (frames, stopping, false);
    stream::unfold(state, |(mut frames, mut stopping, begun)| async move {
        let quiet = async {
            // An error means that the server is gone.
            let _ = stopping.wait_for(|stopping| *stopping).await;
            sleep(STOP_QUIET).await;
        };
        let item = tokio::select! {
            biased;
            item = frames.next() => item?,
            () = quiet, if begun => {
                Err(TransportError::connection_lost("the server stopped"))
            }
        };
        Some((item, (frames, stopping, true)))
    })
    .boxed()
}
