//! The asking side: one connection for each peer, one stream for each exchange.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eidetica_proto::{FrameStream, Response, TransportError, TransportErrorKind};
use futures::stream::{self, StreamExt};
use iroh::endpoint::{Connection, ConnectionError};
use iroh::{Endpoint, EndpointAddr, EndpointId};
use tokio::time::timeout;

use crate::ALPN;
use crate::address::key_of;
use crate::error::{self, CLOSE_LEAVING};
use crate::limits::{ATTEMPTS_MAX, Deadlines, WINDOW_BYTES};
use crate::stream::{FrameReader, FrameWriter, Outgoing, SendStopped};

/// One peer's connection, or none. The lock is held while dialling, so that exchanges begun
/// together share one connection.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// The asking side of a transport.
///
/// The pool holds no task: what keeps a connection alive, and closes it when the peer has left, is
/// the endpoint. A connection that nobody uses is closed by the side that accepted it.
#[derive(Debug, Default)]
pub(crate) struct Client {
    slots: Mutex<BTreeMap<EndpointId, Slot>>,
    closed: Arc<AtomicBool>,
}

/// An exchange that did not come to an answer.
struct Failure {
    error: TransportError,
    /// The whole request, if the peer certainly did not look at what it got of it.
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
            let connection = self.connection(endpoint, peer, deadlines).await?;
            match self.begin(&connection, request, deadlines).await {
                Ok(response) => return Ok(response),
                Err(failure) => match failure.request {
                    Some(whole) if attempt < ATTEMPTS_MAX => request = whole,
                    _ => return Err(failure.error),
                },
            }
            attempt += 1;
        }
    }

    /// Returns the peer's connection, and makes one if there is none that lives.
    async fn connection(
        &self,
        endpoint: &Endpoint,
        peer: &EndpointAddr,
        deadlines: Deadlines,
    ) -> Result<Connection, TransportError> {
        let slot = self.slot(peer.id);
        let connect = async {
            let mut held = slot.lock().await;
            if let Some(connection) = held.as_ref().filter(|held| is_alive(held)) {
                return Ok(connection.clone());
            }
            let connected = endpoint.connect(peer.clone(), ALPN).await;
            // The peer's key needs no check here. The dialled id is in the TLS server name, iroh's
            // verifier takes exactly that raw public key, and the handshake's signature proves that
            // the peer holds its secret half: with any other key there is no connection.
            let connection = connected.map_err(error::of_connect)?;
            connection.set_receive_window(WINDOW_BYTES.into());
            *held = Some(connection.clone());
            Ok(connection)
        };
        timeout(deadlines.connect, connect).await.map_err(|_| {
            let id = peer.id.fmt_short();
            TransportError::timed_out(format!(
                "{id} did not answer within {:?}: it is off, or the address is old",
                deadlines.connect
            ))
        })?
    }

    /// Returns the peer's slot, and forgets those of peers that have left.
    fn slot(&self, id: EndpointId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(held) => Arc::strong_count(slot) > 1 || held.as_ref().is_some_and(is_alive),
            Err(_) => true,
        });
        slots.entry(id).or_default().clone()
    }

    /// Opens a stream, sends the request and waits until the answer begins.
    async fn begin(
        &self,
        connection: &Connection,
        request: FrameStream,
        deadlines: Deadlines,
    ) -> Result<Response, Failure> {
        let (send, recv) = match timeout(deadlines.idle, connection.open_bi()).await {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => {
                let error = error::of_connection(error);
                let lost = error.kind() == TransportErrorKind::ConnectionLost;
                let request = lost.then_some(request);
                return Err(Failure { error, request });
            }
            Err(_) => {
                let text = "the peer allows no further exchange on this connection: \
                            wait until one under way has ended";
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
            closed: self.closed.clone(),
        };
        let first = match exchange.next_frame().await {
            Ok(first) => first,
            Err(error) => {
                let whole = has_left(&error).then(|| exchange.outgoing.into_frames());
                return Err(Failure {
                    error,
                    request: whole.flatten(),
                });
            }
        };
        let peer = Some(key_of(connection.remote_id()));
        let frames: FrameStream = match first {
            None => Box::pin(stream::empty()),
            Some(first) => Box::pin(stream::iter([Ok(first)]).chain(exchange.into_stream())),
        };
        Ok(Response { peer, frames })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes every connection. Exchanges under way end with an error.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in std::mem::take(&mut *slots).into_values() {
            // A slot that is locked is being dialled; its connection closes with the endpoint, or
            // when the exchange that dials it ends.
            if let Ok(mut held) = slot.try_lock()
                && let Some(connection) = held.take()
            {
                connection.close(CLOSE_LEAVING, b"closed");
            }
        }
    }
}

fn is_alive(connection: &Connection) -> bool {
    connection.close_reason().is_none()
}

/// Tells whether the cause is that the peer closed the connection with the promise that it looked
/// at nothing which it did not answer.
fn has_left(error: &TransportError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == CLOSE_LEAVING
    )
}

/// One exchange. Dropping it resets what is not finished of the request, and tells the peer to stop
/// answering.
///
/// It runs while somebody waits for an answer's frame, and only then: there is no task, so nothing
/// can be left running, and whoever stops reading stops the sending too.
struct Exchange {
    outgoing: Outgoing,
    /// Whether there may be more of the request to send.
    sending: bool,
    incoming: FrameReader,
    deadlines: Deadlines,
    /// Whether the transport was closed here.
    closed: Arc<AtomicBool>,
}

impl Exchange {
    /// Returns the next frame of the answer, or `None` at its clean end.
    async fn next_frame(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.advance().await.map_err(|error| {
            // An endpoint that closes tells its connections various reasons.
            let lost = error.kind() == TransportErrorKind::ConnectionLost;
            match lost && self.closed.load(Ordering::Acquire) {
                true => error::of_closed().with_source(error),
                false => error,
            }
        })
    }

    /// Goes on sending until a frame of the answer is there, or its end.
    async fn advance(&mut self) -> Result<Option<Bytes>, TransportError> {
        let idle = self.deadlines.idle;
        while self.sending {
            // The answer has no deadline as long as the request moves: each wait in sending it has
            // its own. A peer that answers early is heard before anything more is sent.
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
