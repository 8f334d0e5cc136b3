//! The asking side.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use eidetica_proto::{
    Address, FrameStream, PROTOCOL_VERSION, Response, TransportError, TransportErrorKind,
};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::address::Scheme;
use crate::body::{FRAMES_MEDIA_TYPE, OutgoingBody, Sending};
use crate::builder::{Deadlines, HttpTransportBuilder, HttpVersion};
use crate::clock::Refill;
use crate::limits::{
    ANSWER_WINDOW_BYTES, EXCHANGES_PER_CONNECTION_MAX, PING_INTERVAL, POOL_IDLE_CONNECTIONS_MAX,
    POOL_IDLE_TIMEOUT, REFUSAL_TEXT_BYTES_MAX,
};
use crate::reader::FrameReader;
use crate::tasks::{Tasks, TasksExecutor};
#[cfg(feature = "tls")]
use crate::tls::Connector;
use crate::{address, error};

#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// The connections to servers, and what runs on them.
pub(crate) struct Client {
    pool: Pool<Connector, OutgoingBody>,
    tasks: Arc<Tasks>,
    deadlines: Deadlines,
    closed: Arc<AtomicBool>,
    /// Tells those that wait for an answer that the client was closed.
    closing: watch::Sender<bool>,
}

impl Client {
    pub(crate) fn new(settings: &HttpTransportBuilder) -> Self {
        let (version, deadlines) = (settings.version, settings.deadlines);
        let tasks = Tasks::new();
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(deadlines.connect));
        connector.set_nodelay(true);
        #[cfg(feature = "tls")]
        let connector = Connector::new(
            connector,
            settings.client_tls.clone(),
            version,
            deadlines.connect,
        );
        let mut pool = Pool::builder(TasksExecutor(Arc::downgrade(&tasks)));
        pool.timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT.min(deadlines.idle / 2))
            .pool_max_idle_per_host(POOL_IDLE_CONNECTIONS_MAX)
            .http2_only(version == HttpVersion::Http2)
            // Until the server says how many it takes.
            .http2_initial_max_send_streams(EXCHANGES_PER_CONNECTION_MAX as usize)
            .http2_initial_stream_window_size(ANSWER_WINDOW_BYTES)
            // One exchange that is not read must leave room for all others.
            .http2_initial_connection_window_size(
                ANSWER_WINDOW_BYTES * EXCHANGES_PER_CONNECTION_MAX,
            )
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_INTERVAL);
        Self {
            pool: pool.build(connector),
            tasks,
            deadlines,
            closed: Arc::default(),
            closing: watch::Sender::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.send_replace(true);
        self.tasks.shut_down().await;
    }

    pub(crate) async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        let (scheme, authority) = address::parse(address)?;
        let mut closing = self.closing.subscribe();
        let sending = CancelOnDrop(Arc::default());
        sending.0.clock.handed_over();
        let body = OutgoingBody::frames(request, Arc::clone(&sending.0), None);
        let answer = self.pool.request(post(scheme, &authority, body)?);
        let answer = tokio::select! {
            biased;
            _ = closing.wait_for(|closed| *closed) => return Err(error::closed()),
            answer = answer => answer,
            () = self.nothing_happens(&sending.0) => {
                let text = format!("{address} neither took the request nor answered in time");
                return Err(TransportError::timed_out(text));
            }
        };
        let answer = answer.map_err(|failed| {
            if let Some(own) = sending.0.failure() {
                return own;
            }
            if self.is_closed() {
                return error::closed();
            }
            match failed.is_connect() {
                true => error::connect(address, failed),
                false => error::exchange(address, failed),
            }
        })?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK || !is_frames(&head.headers) {
            return Err(self
                .refusal(address, head.status, &head.headers, body)
                .await);
        }
        let frames = AnswerFrames {
            reader: Some(FrameReader::new(body, self.deadlines, Refill::ByFrames)),
            sending,
            closed: Arc::clone(&self.closed),
        };
        Ok(Response {
            peer: None,
            frames: frames.boxed(),
        })
    }

    /// Returns when it has been the peer's turn for too long.
    async fn nothing_happens(&self, sending: &Sending) {
        loop {
            let now = Instant::now();
            // While this side has nothing to send, the peer cannot be late.
            let since = sending.clock.waiting_since().unwrap_or(now);
            let deadline = since + self.deadlines.idle;
            if deadline <= now {
                return;
            }
            sleep_until(deadline).await;
        }
    }

    /// Says what an answer without frames means.
    async fn refusal(
        &self,
        address: &Address,
        status: StatusCode,
        headers: &HeaderMap,
        body: Incoming,
    ) -> TransportError {
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let text = format!("{address} has no room for another exchange, try later");
            return TransportError::new(TransportErrorKind::Busy, text);
        }
        let media_type = headers
            .get(CONTENT_TYPE)
            .map_or("no", |value| value.to_str().unwrap_or("an unreadable"));
        let body = Limited::new(body, REFUSAL_TEXT_BYTES_MAX).collect();
        let text = match timeout(self.deadlines.connect, body).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            // It goes on too long, or breaks off: what it says matters to nobody.
            Ok(Err(_)) | Err(_) => String::new(),
        };
        let why = format!("it answers {status} with {media_type} content {text:?}");
        error::mismatch(address, &why)
    }
}

fn post(
    scheme: Scheme,
    authority: &Authority,
    body: OutgoingBody,
) -> Result<Request<OutgoingBody>, TransportError> {
    let uri = format!(
        "{}://{authority}/eidetica/v{PROTOCOL_VERSION}/exchange",
        scheme.as_str()
    );
    Request::post(uri)
        .header(CONTENT_TYPE, FRAMES_MEDIA_TYPE)
        .body(body)
        .map_err(|error| {
            let text = format!("{authority} cannot stand in a URL");
            TransportError::new(TransportErrorKind::UnusableAddress, text).with_source(error)
        })
}

/// Tells whether a body claims to be frames.
pub(crate) fn is_frames(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    media_type == Some(FRAMES_MEDIA_TYPE.as_bytes())
}

/// Stops sending a request that nobody waits for.
struct CancelOnDrop(Arc<Sending>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The frames of an answer. The request is sent as long as they are read.
struct AnswerFrames {
    reader: Option<FrameReader>,
    sending: CancelOnDrop,
    closed: Arc<AtomicBool>,
}

impl Stream for AnswerFrames {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(reader) = &mut this.reader else {
            return Poll::Ready(None);
        };
        let Poll::Ready(item) = reader.poll_next_unpin(context) else {
            return Poll::Pending;
        };
        if matches!(item, Some(Ok(_))) {
            return Poll::Ready(item);
        }
        this.reader = None;
        this.sending.0.cancel();
        let Some(Err(lost)) = item else {
            return Poll::Ready(None);
        };
        // The connection may have been lost because of something on this side.
        let failed = match this.sending.0.failure() {
            Some(own) => own,
            None if this.closed.load(Ordering::Acquire) => error::closed(),
            None => lost,
        };
        Poll::Ready(Some(Err(failed)))
    }
}
