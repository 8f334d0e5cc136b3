//! The phases of a server that stops, and the end of its long-lived answers.

use eidetica_proto::{FrameStream, TransportError};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits::STOP_QUIET;

/// What a server's connections do.
///
/// ```text
/// Serving ──stop──▶ Draining ──grace over──▶ Cut
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The server accepts exchanges.
    Serving,
    /// Exchanges in progress may end; no other is accepted.
    Draining,
    /// Everything in progress ends at once.
    Cut,
}

/// Passes on `frames`. Once the server stops, an answer that has begun and then gives nothing for
/// [`STOP_QUIET`] is cut: it waits for news, and could do so for hours.
pub(crate) fn cut_when_quiet(frames: FrameStream, phase: watch::Receiver<Phase>) -> FrameStream {
    let state = (frames, phase, false);
    let frames = stream::unfold(state, |(mut frames, mut phase, begun)| async move {
        let quiet = async {
            // An error means that the server is gone.
            let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
            sleep(STOP_QUIET).await;
        };
        let item = tokio::select! {
            biased;
            item = frames.next() => item?,
            () = quiet, if begun => {
                Err(TransportError::connection_lost("the server stopped"))
            }
        };
        Some((item, (frames, phase, true)))
    });
    frames.boxed()
}
