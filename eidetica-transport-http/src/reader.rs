//! Incoming bodies: pieces, put together to frames.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use eidetica_proto::TransportError;
use eidetica_proto::frame::FrameDecoder;
use futures::Stream;
use hyper::body::{Body, Incoming};

use crate::body::END_MARK;
use crate::clock::{ReceiveClock, Refill};
use crate::drain::Drain;
use crate::limits::FRAME_FREE_BYTES;
use crate::options::Deadlines;
use crate::quota::Share;

/// Reads the frames of a body.
pub(crate) struct FrameReader {
    body: Option<Incoming>,
    decoder: FrameDecoder,
    clock: ReceiveClock,
    refill: Refill,
    /// Whether a frame was read.
    begun: bool,
    /// Whether the end mark was seen.
    complete: bool,
    /// The memory for the part of a frame that has arrived.
    memory: Option<Share>,
    /// Takes the unread rest of the body.
    drain: Option<Arc<Drain>>,
}

impl FrameReader {
    pub(crate) fn new(body: Incoming, deadlines: Deadlines, refill: Refill) -> Self {
        Self {
            body: Some(body),
            decoder: FrameDecoder::new(),
            clock: ReceiveClock::new(deadlines, refill),
            refill,
            begun: false,
            complete: false,
            memory: None,
            drain: None,
        }
    }

    /// Leaves the unread rest of the body to `drain`, instead of dropping it.
    pub(crate) fn leaving_rest_to(mut self, drain: Arc<Drain>) -> Self {
        self.drain = Some(drain);
        self
    }

    /// Counts the memory for frames that are not whole in `memory`.
    pub(crate) fn within(mut self, memory: Share) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Returns whether the other side has begun something that it has at hand. Only callers owe
    /// bytes: the rest of an answer may not exist yet.
    fn is_owed(&self) -> bool {
        let within = !self.begun || self.complete || self.decoder.buffered_bytes() > 0;
        within && self.refill == Refill::ByBytes
    }

    fn count_memory(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.set(match self.decoder.buffered_bytes() > FRAME_FREE_BYTES {
                true => self.decoder.capacity_bytes(),
                false => 0,
            });
        }
    }

    fn next_frame(&mut self) -> Option<Result<Bytes, TransportError>> {
        match self.decoder.poll_frame() {
            Ok(frame) => frame.map(Ok),
            Err(error) if error.claimed_bytes == u32::from_le_bytes(END_MARK) as usize => {
                self.complete = true;
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn fail(&mut self, error: TransportError) -> Poll<Option<Result<Bytes, TransportError>>> {
        self.body = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for FrameReader {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.body.is_some() {
            if !this.complete {
                match this.next_frame() {
                    Some(Ok(frame)) => {
                        this.begun = true;
                        this.clock.framed();
                        this.count_memory();
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(Err(error)) => return this.fail(error),
                    None if this.complete => continue,
                    None => {}
                }
            }
            if let Some(memory) = &mut this.memory
                && this.decoder.buffered_bytes() > FRAME_FREE_BYTES
                && memory.poll_room(context).is_pending()
            {
                // This is not the caller's fault, so no clock runs.
                return Poll::Pending;
            }
            let owed = this.is_owed();
            this.clock.within_frame(owed);
            let Some(body) = &mut this.body else {
                break;
            };
            let piece = Pin::new(body).poll_frame(context);
            // After the mark, only HTTP's own end is awaited, so that the connection can be reused.
            // Anything else changes nothing about the frames.
            if this.complete {
                match piece {
                    Poll::Pending if this.clock.poll_deadline(context).is_pending() => {
                        return Poll::Pending;
                    }
                    _ => this.body = None,
                }
                continue;
            }
            match piece {
                Poll::Ready(Some(Ok(piece))) => {
                    if let Some(bytes) = piece.data_ref() {
                        this.clock.received(bytes.len());
                        this.decoder.feed(bytes);
                        this.count_memory();
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let text = "the connection was lost in the middle of a body";
                    return this.fail(TransportError::connection_lost(text).with_source(error));
                }
                Poll::Ready(None) => {
                    let text = "the body ended without its end mark: it was cut";
                    return this.fail(TransportError::connection_lost(text));
                }
                Poll::Pending => match this.clock.poll_deadline(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        let text = "the other side sent too little for too long";
                        return this.fail(TransportError::timed_out(text));
                    }
                },
            }
        }
        Poll::Ready(None)
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        if let (Some(body), Some(drain)) = (self.body.take(), &self.drain) {
            drain.leave(body);
        }
    }
}
