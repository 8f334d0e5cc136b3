//! Outgoing bodies: frames, cut into pieces.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use eidetica_proto::frame::{FRAME_PREFIX_BYTES, frame_prefix};
use eidetica_proto::{FrameStream, TransportError};
use futures::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderMap};

use crate::clock::SendClock;
use crate::limits::{PIECE_BYTES, UNTAKEN_FREE_BYTES};
use crate::quota::Share;
use crate::sync::lock;

/// Follows the last frame of a body, in place of the next frame's length. No frame is that long.
pub(crate) const END_MARK: [u8; FRAME_PREFIX_BYTES] = u32::MAX.to_le_bytes();

/// The media type of a body of frames.
pub(crate) const FRAMES_MEDIA_TYPE: &str = "application/vnd.eidetica.frames";

/// Returns whether a body claims to be frames.
pub(crate) fn is_frames(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    media_type == Some(FRAMES_MEDIA_TYPE.as_bytes())
}

/// Frames up to this length are copied together into one piece; longer ones are not copied.
const COPIED_BYTES_MAX: usize = 8 << 10;

/// A body was cut, so the connection is torn down. The reason is in [`Sending::failure`].
#[derive(Debug, thiserror::Error)]
#[error("the body was cut")]
pub(crate) struct BodyCut;

/// What the sender of a body keeps while the connection has the body.
#[derive(Default)]
pub(crate) struct Sending {
    pub(crate) clock: SendClock,
    failure: Mutex<Option<TransportError>>,
    cancelled: AtomicBool,
    waker: AtomicWaker,
}

impl Sending {
    /// Takes the error that the stream of frames ended with, if any.
    pub(crate) fn failure(&self) -> Option<TransportError> {
        lock(&self.failure).take()
    }

    /// Cuts the body, wherever it is.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// An outgoing body.
pub(crate) struct OutgoingBody {
    frames: Option<FrameStream>,
    /// Copied bytes that were not handed over.
    copied: BytesMut,
    /// The rest of a long frame, whose prefix is in `copied`.
    long: Bytes,
    /// The length of the frame of which a part was handed over or is in `long`: as much memory as any
    /// part of it takes.
    long_bytes: usize,
    cut: bool,
    sending: Arc<Sending>,
    /// The memory for what was not taken. A client counts nothing: it makes few requests.
    untaken: Option<Share>,
    /// Lives as long as the body.
    _guard: Option<Box<dyn Send>>,
}

impl OutgoingBody {
    /// Makes a body of frames.
    pub(crate) fn frames(
        frames: FrameStream,
        sending: Arc<Sending>,
        guard: Option<Box<dyn Send>>,
    ) -> Self {
        Self {
            frames: Some(frames),
            copied: BytesMut::new(),
            long: Bytes::new(),
            long_bytes: 0,
            cut: false,
            sending,
            untaken: None,
            _guard: guard,
        }
    }

    /// Makes a body of text, without frames.
    pub(crate) fn text(text: Vec<u8>, sending: Arc<Sending>, guard: Box<dyn Send>) -> Self {
        Self {
            frames: None,
            copied: BytesMut::new(),
            long_bytes: text.len(),
            long: text.into(),
            cut: false,
            sending,
            untaken: None,
            _guard: Some(guard),
        }
    }

    /// Counts the memory for what is not taken in `untaken`.
    pub(crate) fn counted(mut self, untaken: Share) -> Self {
        self.untaken = Some(untaken);
        self
    }

    /// Counts what this and the connection hold now. That the connection asks for more is progress.
    fn count(&mut self) {
        if let Some(untaken) = &mut self.untaken {
            let held = self.copied.len() + self.long_bytes;
            untaken.set(if held > UNTAKEN_FREE_BYTES { held } else { 0 });
        }
    }

    fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.long.is_empty()
    }

    /// Takes the next piece to hand over.
    fn take_piece(&mut self) -> Option<Bytes> {
        let piece = match self.copied.is_empty() {
            false => self.copied.split().freeze(),
            true => self.long.split_to(self.long.len().min(PIECE_BYTES)),
        };
        (!piece.is_empty()).then_some(piece)
    }

    fn add(&mut self, frame: Bytes) -> Result<(), TransportError> {
        self.copied.put_slice(&frame_prefix(&frame)?);
        match frame.len() <= COPIED_BYTES_MAX {
            true => self.copied.put_slice(&frame),
            false => {
                self.long_bytes = frame.len();
                self.long = frame;
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: TransportError) {
        self.frames = None;
        self.cut = true;
        lock(&self.sending.failure).get_or_insert(error);
    }

    /// Gathers frames until a piece is full, no frame is ready, or the frames end. It never waits for
    /// more once something is gathered.
    fn gather(&mut self, context: &mut Context<'_>) {
        while self.long.is_empty() && self.copied.len() < PIECE_BYTES {
            let Some(frames) = &mut self.frames else {
                return;
            };
            match frames.as_mut().poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Err(error) = self.add(frame) {
                        self.fail(error);
                    }
                }
                Poll::Ready(Some(Err(error))) => self.fail(error),
                Poll::Ready(None) => {
                    self.frames = None;
                    self.copied.put_slice(&END_MARK);
                }
            }
        }
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let this = &mut *self;
        this.sending.waker.register(context.waker());
        if this.sending.cancelled.load(Ordering::Acquire) {
            this.frames = None;
            return Poll::Ready(Some(Err(BodyCut)));
        }
        if this.long.is_empty() {
            // The connection has sent what was handed over.
            this.long_bytes = 0;
        }
        this.gather(context);
        this.count();
        if let Some(piece) = this.take_piece() {
            this.sending.clock.handed_over();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if this.cut {
            return Poll::Ready(Some(Err(BodyCut)));
        }
        if this.frames.is_some() {
            this.sending.clock.producing();
            return Poll::Pending;
        }
        this.sending.clock.handed_over();
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_none() && self.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        // Known only for text, which is all there from the start.
        match self.frames.is_none() && !self.cut {
            true => SizeHint::with_exact((self.copied.len() + self.long.len()) as u64),
            false => SizeHint::default(),
        }
    }
}
