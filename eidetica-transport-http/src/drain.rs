//! Reads and discards the part of a request that its service did not read.
//!
//! When an HTTP/1.1 server closes a connection with unread bytes, the system discards what the
//! caller has not received yet (RFC 9112, section 9.6). So the rest of a request is read and
//! discarded, for a while after its answer too. Besides, only a server that reads notices that the
//! caller has left.

use std::sync::Weak;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits::{LINGER, LINGER_BYTES, LINGER_PAUSE};
use crate::tasks::Tasks;

/// Discards the unread rest of one request.
pub(crate) struct Drain {
    answered: watch::Sender<bool>,
    tasks: Weak<Tasks>,
}

impl Drain {
    pub(crate) fn new(tasks: Weak<Tasks>) -> Self {
        Self {
            answered: watch::Sender::new(false),
            tasks,
        }
    }

    /// Takes a body that is not read any further.
    pub(crate) fn leave(&self, body: Incoming) {
        if body.is_end_stream() {
            return;
        }
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.spawn(discard(body, self.answered.subscribe()));
        }
    }

    /// Records that the answer has ended.
    pub(crate) fn answered(&self) {
        self.answered.send_replace(true);
    }
}

/// Reads a body until it ends, or until [`LINGER`] after the answer.
async fn discard(mut body: Incoming, mut answered: watch::Receiver<bool>) {
    let answered_for_long = async {
        // An error means that the exchange has ended too.
        let _ = answered.wait_for(|answered| *answered).await;
        sleep(LINGER).await;
    };
    let read = async {
        let mut bytes_read = 0;
        while let Some(Ok(piece)) = body.frame().await {
            bytes_read += piece.data_ref().map_or(0, |bytes| bytes.len());
            if bytes_read > LINGER_BYTES {
                // Slows the caller down to a rate that costs nothing here.
                sleep(LINGER_PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = answered_for_long => {}
        () = read => {}
    }
}
