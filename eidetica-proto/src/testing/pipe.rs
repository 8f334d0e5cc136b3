//! One exchange in memory: both streams, their codec, and the means to cut it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::future::poll_fn;
use futures::stream::Stream;

use crate::frame::{FrameDecoder, encode_frame};
use crate::transport::{FrameStream, TransportError, TransportErrorKind};

/// What a [`MemoryTransport`](super::MemoryTransport) waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The next frame of an answer.
    Answer,
    /// The end of the exchanges under way, when the server stops.
    Grace,
}

/// Makes a future that ends when the deadline for this wait has passed.
pub type Timer = Arc<dyn Fn(Wait) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Takes the lock also if a test failed while it was held: the other tests' failures would only
/// hide the first.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exchanges in progress at one end, which can be awaited and cut.
#[derive(Default)]
pub(super) struct Registry {
    state: Mutex<RegistryState>,
}

#[derive(Default)]
struct RegistryState {
    links: BTreeMap<u64, Arc<Link>>,
    waiting: Vec<Waker>,
    cut: Option<TransportErrorKind>,
}

impl Registry {
    /// Adds an exchange. If the others have been cut, so is this one.
    pub(super) fn add(&self, number: u64, link: Arc<Link>) {
        let cut = {
            let mut state = lock(&self.state);
            state.links.insert(number, Arc::clone(&link));
            state.cut
        };
        if let Some(kind) = cut {
            link.cut(kind);
        }
    }

    fn remove(&self, number: u64) {
        let waiting = {
            let mut state = lock(&self.state);
            state.links.remove(&number);
            if !state.links.is_empty() {
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until no exchange is in progress.
    pub(super) async fn idle(&self) {
        poll_fn(|context| {
            let mut state = lock(&self.state);
            if state.links.is_empty() {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends every exchange whose answer has begun and waits for news, or will.
    pub(super) fn cut_quiet(&self) {
        let links: Vec<_> = lock(&self.state).links.values().cloned().collect();
        for link in links {
            let waits_for_news = {
                let mut state = lock(&link.state);
                state.stopping = true;
                state.waits_for_news
            };
            if waits_for_news {
                link.cut(TransportErrorKind::ConnectionLost);
            }
        }
    }

    /// Ends every exchange in progress. The service's futures and streams are dropped when this
    /// returns.
    pub(super) fn cut(&self, kind: TransportErrorKind) {
        let links: Vec<_> = {
            let mut state = lock(&self.state);
            state.cut.get_or_insert(kind);
            state.links.values().cloned().collect()
        };
        for link in links {
            link.cut(kind);
        }
    }
}

/// What both ends of an exchange share.
#[derive(Default)]
pub(super) struct Link {
    state: Mutex<LinkState>,
    /// Why the request failed at the caller's end.
    request_error: Mutex<Option<TransportError>>,
    /// How many frames of the request have passed.
    request_frames: AtomicU64,
}

#[derive(Default)]
struct LinkState {
    /// What the service does, from its start to the end of its answer.
    answer: Option<FrameStream>,
    cut: Option<TransportErrorKind>,
    waker: Option<Waker>,
    /// Whether the answer has begun, and the service had nothing more when it was asked last.
    waits_for_news: bool,
    /// Whether the server stops, so that no answer may wait for news.
    stopping: bool,
}

impl Link {
    pub(super) fn begin(&self, answer: FrameStream) {
        lock(&self.state).answer = Some(answer);
    }

    fn cut(&self, kind: TransportErrorKind) {
        let (answer, waker) = {
            let mut state = lock(&self.state);
            state.cut.get_or_insert(kind);
            (state.answer.take(), state.waker.take())
        };
        drop(answer);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Sends a frame through the codec of real transports.
    fn code(decoder: &mut FrameDecoder, frame: &Bytes) -> Result<Bytes, TransportError> {
        decoder.feed(&encode_frame(frame)?);
        let frame = decoder.poll_frame()?;
        Ok(frame.expect("a whole frame was fed"))
    }
}

/// The request as the service sees it.
pub(super) struct RequestEnd {
    pub(super) link: Arc<Link>,
    pub(super) request: Option<FrameStream>,
    pub(super) decoder: FrameDecoder,
    /// How many more frames pass before the connection is lost, if it is.
    pub(super) cut_after_frames: Option<usize>,
}

impl RequestEnd {
    fn fail(&mut self, error: TransportError) -> Poll<Option<Result<Bytes, TransportError>>> {
        self.request = None;
        *lock(&self.link.request_error) = Some(error);
        let seen = TransportError::connection_lost("the caller left before the end of its request");
        Poll::Ready(Some(Err(seen)))
    }
}

impl Stream for RequestEnd {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(request) = &mut this.request else {
            return Poll::Ready(None);
        };
        if this.cut_after_frames == Some(0) {
            return this.fail(TransportError::connection_lost(
                "the connection was lost within the request",
            ));
        }
        match request.as_mut().poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.request = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => this.fail(error),
            Poll::Ready(Some(Ok(frame))) => match Link::code(&mut this.decoder, &frame) {
                Err(error) => this.fail(error),
                Ok(frame) => {
                    this.link.request_frames.fetch_add(1, Ordering::Relaxed);
                    this.cut_after_frames = this.cut_after_frames.map(|left| left - 1);
                    Poll::Ready(Some(Ok(frame)))
                }
            },
        }
    }
}

/// The answer as the caller sees it. Dropping it ends the exchange at both ends.
pub(super) struct ResponseEnd {
    pub(super) number: u64,
    pub(super) link: Arc<Link>,
    pub(super) registries: [Arc<Registry>; 2],
    pub(super) decoder: FrameDecoder,
    pub(super) timer: Option<Timer>,
    pub(super) waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pub(super) request_frames_seen: u64,
    pub(super) cut_after_frames: Option<usize>,
    pub(super) stall_after_frames: Option<usize>,
    /// Whether a frame has passed.
    pub(super) begun: bool,
    pub(super) ended: bool,
}

impl ResponseEnd {
    fn end(&mut self) {
        self.ended = true;
        self.link.cut(TransportErrorKind::ConnectionLost);
        for registry in &self.registries {
            registry.remove(self.number);
        }
    }

    fn fail(&mut self, error: TransportError) -> Poll<Option<Result<Bytes, TransportError>>> {
        self.end();
        Poll::Ready(Some(Err(error)))
    }

    /// Polls the service's answer. `Ready(Err)` if the exchange was cut.
    fn poll_answer(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Result<Bytes, TransportError>>, TransportErrorKind>> {
        let mut state = lock(&self.link.state);
        if let Some(kind) = state.cut {
            return Poll::Ready(Err(kind));
        }
        state.waker = Some(context.waker().clone());
        if self.stall_after_frames == Some(0) {
            return Poll::Pending;
        }
        let polled = match &mut state.answer {
            Some(answer) => answer.as_mut().poll_next(context),
            None => Poll::Pending,
        };
        state.waits_for_news = self.begun && polled.is_pending();
        if state.waits_for_news && state.stopping {
            let answer = state.answer.take();
            drop(state);
            drop(answer);
            return Poll::Ready(Err(TransportErrorKind::ConnectionLost));
        }
        polled.map(Ok)
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let request_frames = self.link.request_frames.load(Ordering::Relaxed);
        if request_frames != self.request_frames_seen {
            self.request_frames_seen = request_frames;
            self.waiting = None;
        }
        let Some(timer) = &self.timer else {
            return Poll::Pending;
        };
        let waiting = self.waiting.get_or_insert_with(|| timer(Wait::Answer));
        waiting.as_mut().poll(context)
    }
}

impl Stream for ResponseEnd {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if this.cut_after_frames == Some(0) {
            return this.fail(TransportError::connection_lost(
                "the connection was lost within the answer",
            ));
        }
        let answered = this.poll_answer(context);
        let request_error = lock(&this.link.request_error).take();
        if let Some(error) = request_error {
            return this.fail(error);
        }
        match answered {
            Poll::Ready(Err(TransportErrorKind::Closed)) => this.fail(closed()),
            Poll::Ready(Err(kind)) => {
                this.fail(TransportError::new(kind, "the connection was closed"))
            }
            Poll::Ready(Ok(None)) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Ready(Ok(Some(frame))) => {
                this.waiting = None;
                this.begun = true;
                match frame.and_then(|frame| Link::code(&mut this.decoder, &frame)) {
                    Ok(frame) => {
                        let less = |left: Option<usize>| left.map(|left| left.saturating_sub(1));
                        this.cut_after_frames = less(this.cut_after_frames);
                        this.stall_after_frames = less(this.stall_after_frames);
                        Poll::Ready(Some(Ok(frame)))
                    }
                    // Over a real network the caller sees only that the answer was cut.
                    Err(error) => this.fail(
                        TransportError::connection_lost("the peer cut its answer")
                            .with_source(error),
                    ),
                }
            }
            Poll::Pending => match this.poll_deadline(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => this.fail(TransportError::timed_out("the peer did not answer")),
            },
        }
    }
}

impl Drop for ResponseEnd {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

/// Returns the error of every call on a closed transport.
pub(super) fn closed() -> TransportError {
    TransportError::new(TransportErrorKind::Closed, "this transport is closed")
}
