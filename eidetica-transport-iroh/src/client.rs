//! The asking side: one stream for each exchange.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use eidetica_proto::{FrameStream, Response, TransportError, TransportErrorKind};
use futures::stream::{self, StreamExt};
use iroh::endpoint::{Connection, ConnectionError};
use iroh::{Endpoint, EndpointAddr};
use tokio::time::{sleep, timeout};

use crate::address::key_of;
use crate::error::{self, CLOSE_LEAVING};
use crate::limits::{ATTEMPTS_MAX, Deadlines, SILENCE_TOLERATED};
use crate::pool::{Place, Pool};
use crate::stream::{FrameReader, FrameWriter, Outgoing, SendStopped};

/// The asking side of a transport.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pool: Pool,
}

/// An exchange that did not come to an answer.
struct Failure {
    error: TransportError,
    /// The whole request, if it may be sent again.
    request: Option<FrameStream>,
}

impl Client {
    /// Sends `request` and waits until the answer begins.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        peer: &EndpointAddr,
        mut request: FrameStream,
        deadlines: Deadlines,
    ) -> Result<Response, TransportError> {
        let mut attempt = 1;
        loop {
            let place = self.pool.place(endpoint, peer, deadlines).await?;
            match self.begin(endpoint, peer, place, request, deadlines).await {
                Ok(response) => return Ok(response),
                Err(failure) => match failure.request {
                    Some(whole) if attempt < ATTEMPTS_MAX => request = whole,
                    _ => return Err(failure.error),
                },
            }
            attempt += 1;
        }
    }

    /// Opens a stream, sends the request and waits until the answer begins.
    async fn begin(
        &self,
        endpoint: &Endpoint,
        peer: &EndpointAddr,
        place: Place,
        request: FrameStream,
        deadlines: Deadlines,
    ) -> Result<Response, Failure> {
        let connection = place.connection.clone();
        let reused = place.reused;
        let received = datagrams_received(&connection);
        let (send, recv) = match timeout(deadlines.idle, connection.open_bi()).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => {
                let error = error::of_connection(error);
                let lost = error.kind() == TransportErrorKind::ConnectionLost;
                let request = lost.then_some(request);
                return Err(Failure { error, request });
            }
            Err(_) => {
                let text = "too many concurrent exchanges with the peer; retry later";
                return Err(Failure {
                    error: TransportError::new(TransportErrorKind::Busy, text),
                    request: None,
                });
            }
        };
        let mut exchange = Exchange {
            outgoing: Outgoing::new(FrameWriter::new(send), request),
            sending: true,
            incoming: FrameReader::new(recv),
            deadlines,
            closed: self.pool.closed(),
            _place: place,
        };
        let is_silent = || datagrams_received(&connection) == received;
        let replaced = async {
            sleep(SILENCE_TOLERATED).await;
            if !is_silent() {
                return std::future::pending().await;
            }
            // A live peer acknowledges within that time. It may have restarted without a word.
            self.pool.forget(peer.id, &connection);
            self.pool.place(endpoint, peer, deadlines).await
        };
        let first = tokio::select! {
            biased;
            first = exchange.next_frame() => Some(first),
            // The place is taken again by the next attempt; here it is only proof of life.
            replaced = replaced, if reused => match replaced {
                Ok(_place) if is_silent() => None,
                Err(error) if is_silent() => return Err(Failure { error, request: None }),
                // The connection is alive after all.
                Ok(_) | Err(_) => Some(exchange.next_frame().await),
            },
        };
        let first = match first {
            Some(Ok(first)) => first,
            Some(Err(error)) => {
                let whole = has_left(&error).then(|| exchange.outgoing.into_frames());
                return Err(Failure {
                    error,
                    request: whole.flatten(),
                });
            }
            None => {
                let text = "the peer has forgotten the connection: it was restarted";
                return Err(Failure {
                    error: TransportError::connection_lost(text),
                    request: exchange.outgoing.into_frames(),
                });
            }
        };
        exchange.outgoing.forget_sent();
        let peer = Some(key_of(connection.remote_id()));
        let frames: FrameStream = match first {
            None => Box::pin(stream::empty()),
            Some(first) => Box::pin(stream::iter([Ok(first)]).chain(exchange.into_stream())),
        };
        Ok(Response { peer, frames })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Closes every connection. Exchanges in progress end with an error.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

/// Returns how many packets of the peer arrived on the connection.
fn datagrams_received(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

/// Returns whether the peer closed the connection with the promise that it did not look at anything
/// that it did not answer.
fn has_left(error: &TransportError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == CLOSE_LEAVING
    )
}

/// One exchange. Dropping it resets an unfinished request, and tells the peer to stop answering.
///
/// It runs only while a caller waits for a frame of the answer. There is no task, so nothing can be
/// left running, and a caller that stops reading stops the sending too.
struct Exchange {
    outgoing: Outgoing,
    /// Whether there may be more of the request to send.
    sending: bool,
    incoming: FrameReader,
    deadlines: Deadlines,
    /// Whether the transport was closed here.
    closed: Arc<AtomicBool>,
    _place: Place,
}

impl Exchange {
    /// Returns the next frame of the answer, or `None` at its clean end.
    async fn next_frame(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.advance().await.map_err(|error| {
            // An endpoint that closes gives its connections various reasons.
            let lost = error.kind() == TransportErrorKind::ConnectionLost;
            match lost && self.closed.load(Ordering::Acquire) {
                true => error::of_closed().with_source(error),
                false => error,
            }
        })
    }

    /// Sends until a frame of the answer arrives, or its end.
    async fn advance(&mut self) -> Result<Option<Bytes>, TransportError> {
        let idle = self.deadlines.idle;
        while self.sending {
            // The answer has no deadline while the request makes progress: each wait in sending has
            // its own. An early answer is read before anything more is sent.
            tokio::select! {
                biased;
                frame = self.incoming.next_frame(None) => return frame,
                sent = self.outgoing.run(idle, Some(idle)) => match sent {
                    Ok(()) | Err(SendStopped::ByPeer) => self.sending = false,
                    Err(SendStopped::ByError(error)) => return Err(error),
                }
            }
        }
        self.incoming.next_frame(Some(idle)).await
    }

    fn into_stream(self) -> FrameStream {
        Box::pin(stream::try_unfold(self, |mut exchange| async move {
            let frame = exchange.next_frame().await?;
            Ok(frame.map(|frame| (frame, exchange)))
        }))
    }
}
