//! Frames on a QUIC stream.
//!
//! A QUIC stream ends in one of two ways: its sender finishes it, or it is reset. Only the first is
//! a clean end here. The QUIC implementation finishes a stream whose handle is dropped, so
//! [`FrameWriter`] resets it unless [`FrameWriter::finish`] was called: a sender that is cancelled,
//! fails or panics never looks complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use eidetica_proto::frame::{FrameDecoder, frame_prefix};
use eidetica_proto::{FrameStream, TransportError};
use futures::StreamExt;
use futures::stream::{self, Fuse};
use iroh::endpoint::{Connection, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use crate::error::{self, RESET_ABANDONED};
use crate::limits::{
    FRAME_FREE_BYTES, PROGRESS_BYTES_PER_SECOND, READ_BYTES_MAX, REPLAY_BYTES_MAX, WINDOW_BYTES,
    YIELDS_MAX,
};
use crate::quota::Share;

/// The time that a frame has left.
struct Patience {
    full: Duration,
    left: Duration,
}

impl Patience {
    fn new(full: Duration) -> Self {
        Self { full, left: full }
    }

    /// Records that this many bytes moved after this wait.
    fn moved(&mut self, bytes: usize, waited: Duration) {
        let left = self.left.saturating_sub(waited);
        self.left = self.full.min(left + earned(bytes));
    }
}

/// What a server does about callers that stall.
pub(crate) struct Watch {
    /// Its window grows once a whole frame has arrived.
    pub(crate) connection: Connection,
    pub(crate) timeout: Duration,
    /// Set when a caller has stalled.
    pub(crate) stalled: Arc<AtomicBool>,
    /// The memory for the part of a frame that has arrived.
    pub(crate) memory: Share,
}

impl Watch {
    /// Counts the memory for the frame in progress.
    fn count(&mut self, decoder: &FrameDecoder) {
        self.memory
            .set(match decoder.buffered_bytes() > FRAME_FREE_BYTES {
                true => decoder.capacity_bytes(),
                false => 0,
            });
    }

    /// Yields to other tasks while there is too little memory for more of a large frame.
    async fn room(&self, decoder: &FrameDecoder) {
        if decoder.buffered_bytes() <= FRAME_FREE_BYTES {
            return;
        }
        for _ in 0..YIELDS_MAX {
            if self.memory.has_room() {
                return;
            }
            yield_now().await;
        }
    }
}

/// Returns how much time a piece of a frame adds to its deadline.
fn earned(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Duration::from_secs(bytes.into()) / PROGRESS_BYTES_PER_SECOND
}

/// Reads frames from a stream. Dropping it before the end tells the sender to stop.
pub(crate) struct FrameReader {
    recv: RecvStream,
    decoder: FrameDecoder,
    /// Whether a frame was read.
    begun: bool,
    watch: Option<Watch>,
}

impl FrameReader {
    pub(crate) fn new(recv: RecvStream) -> Self {
        Self {
            recv,
            decoder: FrameDecoder::new(),
            begun: false,
            watch: None,
        }
    }

    /// Watches for stalls, in addition to the wait for each frame.
    pub(crate) fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Returns the next frame, or `None` at a clean end. `patience` bounds the wait for it, not the
    /// time between two calls. It is cancel safe.
    pub(crate) async fn next_frame(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<Option<Bytes>, TransportError> {
        let mut patience = patience.map(Patience::new);
        let mut stall = self
            .watch
            .as_ref()
            .map(|watch| Patience::new(watch.timeout));
        loop {
            let frame = self.decoder.poll_frame()?;
            let within = !self.begun || self.decoder.buffered_bytes() > 0;
            if let Some(watch) = &mut self.watch
                && frame.is_some()
            {
                watch.count(&self.decoder);
                if !self.begun {
                    watch.connection.set_receive_window(WINDOW_BYTES.into());
                }
            }
            if let Some(frame) = frame {
                self.begun = true;
                return Ok(Some(frame));
            }
            if let Some(watch) = &self.watch {
                watch.room(&self.decoder).await;
            }
            let read = self.recv.read_chunk(READ_BYTES_MAX);
            let owed = stall.as_mut().filter(|_| within);
            let mut clocks: Vec<&mut Patience> =
                patience.as_mut().into_iter().chain(owed).collect();
            let piece = match clocks.iter().map(|clock| clock.left).min() {
                None => read.await,
                Some(left) => {
                    let began = Instant::now();
                    let Ok(piece) = timeout(left, read).await else {
                        if let Some(watch) = self.watch.as_ref().filter(|_| within) {
                            watch.stalled.store(true, Ordering::Release);
                        }
                        let text = "the peer fell silent before its last frame";
                        return Err(TransportError::timed_out(text));
                    };
                    if let Ok(Some(bytes)) = &piece {
                        let waited = began.elapsed();
                        clocks
                            .iter_mut()
                            .for_each(|clock| clock.moved(bytes.len(), waited));
                    }
                    piece
                }
            };
            match piece.map_err(error::of_read)? {
                Some(bytes) => {
                    self.decoder.feed(&bytes);
                    if let Some(watch) = &mut self.watch {
                        watch.count(&self.decoder);
                    }
                }
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// Returns the frames as a stream that waits at most `patience` for each.
    pub(crate) fn into_stream(self, patience: Duration) -> FrameStream {
        Box::pin(stream::try_unfold(self, move |mut reader| async move {
            let frame = reader.next_frame(Some(patience)).await?;
            Ok(frame.map(|frame| (frame, reader)))
        }))
    }
}

/// Writes frames to a stream. Dropping it before [`FrameWriter::finish`] resets the stream.
pub(crate) struct FrameWriter {
    send: SendStream,
    /// The prefix and the frame in progress.
    pieces: [Bytes; 2],
    /// The length of that frame: any part of it takes as much memory as the whole.
    frame_bytes: usize,
    /// The number of pieces written.
    written: usize,
    finished: bool,
    /// The memory for the frame in progress. A client counts nothing: it makes few requests.
    untaken: Option<Share>,
}

impl FrameWriter {
    pub(crate) fn new(send: SendStream) -> Self {
        Self {
            send,
            pieces: [Bytes::new(), Bytes::new()],
            frame_bytes: 0,
            written: 2,
            finished: false,
            untaken: None,
        }
    }

    /// Counts the memory for the frame in progress in `untaken`.
    pub(crate) fn counted(mut self, untaken: Share) -> Self {
        self.untaken = Some(untaken);
        self
    }

    /// Counts the frame in progress. That it moves is progress.
    fn count(&mut self) {
        if let Some(untaken) = &mut self.untaken {
            let is_held = self.written < self.pieces.len() && self.frame_bytes > FRAME_FREE_BYTES;
            untaken.set(if is_held { self.frame_bytes } else { 0 });
        }
    }

    /// Sets the next frame to write. The frame before it must be written.
    fn load(&mut self, frame: Bytes) -> Result<(), TransportError> {
        debug_assert_eq!(self.written, self.pieces.len());
        let prefix = Bytes::copy_from_slice(&frame_prefix(&frame)?);
        self.frame_bytes = frame.len();
        // No piece is empty, so that every write moves something.
        (self.pieces, self.written) = if frame.is_empty() {
            ([frame, prefix], 1)
        } else {
            ([prefix, frame], 0)
        };
        Ok(())
    }

    /// Writes the rest of the frame in progress. It is cancel safe.
    async fn flush(&mut self, patience: Duration) -> Result<(), SendStopped> {
        let mut patience = Patience::new(patience);
        while self.written < self.pieces.len() {
            self.count();
            let mut rest = &mut self.pieces[self.written..];
            let began = Instant::now();
            let write = timeout(patience.left, self.send.write_many_chunks(&mut rest));
            let bytes = match write.await {
                Err(_) => {
                    let text = "the peer does not read: it is stuck or very slow";
                    return Err(TransportError::timed_out(text).into());
                }
                Ok(Err(WriteError::Stopped(_))) => return Err(SendStopped::ByPeer),
                Ok(Err(error)) => return Err(error::of_write(error).into()),
                Ok(Ok(bytes)) => bytes,
            };
            let left = rest.len();
            self.written = self.pieces.len() - left;
            patience.moved(bytes, began.elapsed());
        }
        self.count();
        Ok(())
    }

    /// Marks the end of the frames. Buffered frames are still sent.
    fn finish(&mut self) {
        // An error means that the stream was stopped or lost, so its end does not matter.
        let _ = self.send.finish();
        self.finished = true;
    }

    /// Waits until the peer has received all of a finished stream (`None`), or stops it.
    pub(crate) fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + use<> {
        self.send.stopped()
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if !self.finished {
            // An error means that the stream was stopped or lost: it has no clean end anyway.
            let _ = self.send.reset(RESET_ABANDONED);
        }
    }
}

/// Why sending ended.
pub(crate) enum SendStopped {
    /// The peer stopped the stream. On the asking side that is not an error: the answer has
    /// arrived, or will.
    ByPeer,
    /// The source of the frames failed, the connection was lost, or the peer is stuck.
    ByError(TransportError),
}

impl From<TransportError> for SendStopped {
    fn from(error: TransportError) -> Self {
        Self::ByError(error)
    }
}

/// Moves frames from their source to a stream, no faster than the stream accepts them.
pub(crate) struct Outgoing {
    writer: FrameWriter,
    frames: Fuse<FrameStream>,
    replay: Replay,
}

/// The frames taken from the source, kept to send them again on another connection.
enum Replay {
    /// These are all.
    Kept { frames: Vec<Bytes>, bytes: usize },
    /// More was taken than is worth keeping, or the answer has begun.
    Gone,
}

impl Replay {
    fn push(&mut self, frame: &Bytes) {
        let Self::Kept { frames, bytes } = self else {
            return;
        };
        *bytes += frame.len();
        match *bytes <= REPLAY_BYTES_MAX {
            true => frames.push(frame.clone()),
            false => *self = Self::Gone,
        }
    }
}

impl Outgoing {
    pub(crate) fn new(writer: FrameWriter, frames: FrameStream) -> Self {
        Self {
            writer,
            frames: frames.fuse(),
            replay: Replay::Kept {
                frames: Vec::new(),
                bytes: 0,
            },
        }
    }

    /// Sends every frame and finishes the stream. It is cancel safe: the next call goes on.
    ///
    /// `patience` bounds each wait for the peer, `source_patience` each wait for the source.
    pub(crate) async fn run(
        &mut self,
        patience: Duration,
        source_patience: Option<Duration>,
    ) -> Result<(), SendStopped> {
        loop {
            self.writer.flush(patience).await?;
            let next = self.frames.next();
            let frame = match source_patience {
                None => next.await,
                Some(patience) => timeout(patience, next).await.map_err(|_| {
                    TransportError::timed_out("the next frame to send was not ready in time")
                })?,
            };
            let Some(frame) = frame.transpose()? else {
                self.writer.finish();
                return Ok(());
            };
            self.replay.push(&frame);
            self.writer.load(frame)?;
        }
    }

    /// Resets the stream if it was not finished, and returns all frames, sent or not, unless some
    /// are gone.
    pub(crate) fn into_frames(self) -> Option<FrameStream> {
        match self.replay {
            Replay::Kept { frames, .. } => {
                let taken = stream::iter(frames.into_iter().map(Ok));
                Some(Box::pin(taken.chain(self.frames)))
            }
            Replay::Gone => None,
        }
    }

    /// Frees the frames that were kept to be sent again.
    pub(crate) fn forget_sent(&mut self) {
        self.replay = Replay::Gone;
    }
}
