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
use hyper::header::CONTENT_TYPE;
use hyper::http::response::Parts;
use hyper::{Request, StatusCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::address::Target;
use crate::body::{FRAMES_MEDIA_TYPE, OutgoingBody, Sending, is_frames};
use crate::clock::Refill;
use crate::limits::REFUSAL_TEXT_BYTES_MAX;
use crate::options::Deadlines;
use crate::pool::{Place, Pools};
use crate::reader::FrameReader;
use crate::settings::Settings;
use crate::tasks::Tasks;
use crate::{address, error};

/// The connections to servers, and what runs on them.
pub(crate) struct Client {
    pools: Pools,
    tasks: Arc<Tasks>,
    deadlines: Deadlines,
    closed: Arc<AtomicBool>,
    /// Wakes the exchanges that wait for an answer when the client is closed.
    closing: watch::Sender<bool>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Self {
        let tasks = Tasks::new();
        Self {
            pools: Pools::new(settings, &tasks),
            tasks,
            deadlines: settings.deadlines,
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
        let target = address::parse(address)?;
        let mut closing = self.closing.subscribe();
        let sending = CancelOnDrop(Arc::default());
        sending.0.clock.handed_over();
        let body = OutgoingBody::frames(request, Arc::clone(&sending.0), None);
        let request = post(&target, body)?;
        let (pool, place) = self.pools.take(&target.authority);
        let answer = pool.request(request);
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
            return Err(self.refusal(address, &head, body).await);
        }
        let frames = AnswerFrames {
            reader: Some(FrameReader::new(body, self.deadlines, Refill::ByFrames)),
            sending,
            closed: Arc::clone(&self.closed),
            _place: place,
        };
        Ok(Response {
            peer: None,
            frames: frames.boxed(),
        })
    }

    /// Waits until it has been the peer's turn for too long.
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

    /// Returns the error that an answer without frames means.
    async fn refusal(&self, address: &Address, head: &Parts, body: Incoming) -> TransportError {
        let body = Limited::new(body, REFUSAL_TEXT_BYTES_MAX).collect();
        let text = match timeout(self.deadlines.connect, body).await {
            Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            // It is too long, or was cut: the status has to do.
            Ok(Err(_)) | Err(_) => String::new(),
        };
        error::refusal(address, head, &text)
    }
}

fn post(target: &Target, body: OutgoingBody) -> Result<Request<OutgoingBody>, TransportError> {
    let Target {
        scheme,
        authority,
        prefix,
    } = target;
    let uri = format!(
        "{}://{authority}{prefix}/eidetica/v{PROTOCOL_VERSION}/exchange",
        scheme.as_str()
    );
    Request::post(uri)
        .header(CONTENT_TYPE, FRAMES_MEDIA_TYPE)
        .body(body)
        .map_err(|error| {
            let text = format!("{authority}{prefix} cannot be part of a URL");
            TransportError::new(TransportErrorKind::UnusableAddress, text).with_source(error)
        })
}

/// Stops sending a request when its exchange is dropped.
struct CancelOnDrop(Arc<Sending>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The frames of an answer. Dropping them stops the request.
struct AnswerFrames {
    reader: Option<FrameReader>,
    sending: CancelOnDrop,
    closed: Arc<AtomicBool>,
    _place: Place,
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
