//! What a service did not read of a request.
//!
//! An HTTP/1.1 server that closes a connection on which unread bytes wait makes the system throw
//! away what the caller has not received yet (RFC 9112, section 9.6). So the rest of a request is
//! read and thrown away, also for a while after its answer. It helps in another way: only who
//! reads notices that the caller has gone.

use std::sync::Weak;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits::{LINGER, LINGER_BYTES, LINGER_PAUSE};
use crate::tasks::Tasks;

/// Takes care of the unread rest of one request.
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

    /// Takes a body that nobody reads any further.
    pub(crate) fn leave(&self, body: Incoming) {
        if body.is_end_stream() {
            return;
        }
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.spawn(throw_away(body, self.answered.subscribe()));
        }
    }

    /// Notes that the answer is over.
    pub(crate) fn answered(&self) {
        self.answered.send_replace(true);
    }
}

/// Reads a body until it ends, or until [`LINGER`] after the answer.
async fn throw_away(mut body: Incoming, mut answered: watch::Receiver<bool>) {
    let long_over = async {
        // Without a sender the exchange is over, too.
        let _ = answered.wait_for(|answered| *answered).await;
        sleep(LINGER).await;
    };
    let read = async {
        let mut bytes_read = 0;
        while let Some(Ok(piece)) = body.frame().await {
            bytes_read += piece.data_ref().map_or(0, |bytes| bytes.len());
            if bytes_read > LINGER_BYTES {
                // The caller is slowed down to what costs nothing here.
                sleep(LINGER_PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = long_over => {}
        () = read => {}
    }
}
