//! Streams of frames on both ends of an exchange: entries packed as they are read, and unpacked as
//! they arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eidetica_dag::TreeId;
use eidetica_proto::message::Part;
use eidetica_proto::{
    EntrySelection, FrameStream, Outgoing, PeerFault, Received, TransportError, WireError,
};
use futures::{Stream, StreamExt, stream};

use crate::platform::blocking;
use crate::store::Snapshot;

/// How many batches are unpacked at a time: one for each core of a small machine. Each holds a few
/// times a batch in memory.
const UNPACKING_MAX: usize = 2;

/// Counts what a stream of frames has carried.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    fn add(&self, entries: usize, bytes: usize) {
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the entries and the bytes.
    pub(crate) fn read(&self) -> (u64, u64) {
        (
            self.entries.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// Returns a message of one frame.
pub(crate) fn single_frame(frame: Bytes) -> FrameStream {
    Box::pin(stream::once(async { Ok(frame) }))
}

/// A header and the entries that follow it, of which the frames can be made any number of times.
pub(crate) struct OutgoingMessage {
    pub(crate) header: Bytes,
    /// The entries, and where they are read.
    pub(crate) entries: Option<(EntrySelection, Snapshot)>,
}

impl OutgoingMessage {
    /// Makes a message that is a header alone.
    pub(crate) fn header_only(header: Bytes) -> Self {
        Self {
            header,
            entries: None,
        }
    }

    /// Makes all frames, and counts those with entries.
    pub(crate) fn frames(&self) -> (FrameStream, Arc<Meter>) {
        self.frames_after(vec![self.header.clone()])
    }

    /// Makes the frames of the entries, to follow `first`, which contains the header.
    pub(crate) fn frames_after(&self, first: Vec<Bytes>) -> (FrameStream, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        let first = stream::iter(first.into_iter().map(Ok));
        let frames: FrameStream = match &self.entries {
            None => Box::pin(first),
            Some((entries, snapshot)) => {
                let source = Source {
                    snapshot: snapshot.clone(),
                    entries: entries.outgoing(),
                };
                Box::pin(first.chain(outgoing(source, meter.clone())))
            }
        };
        (frames, meter)
    }
}

/// What is sent and where it is read.
struct Source {
    snapshot: Snapshot,
    entries: Outgoing,
}

/// Gives the frames of the entries; the next one is packed while the last one is on its way.
fn outgoing(
    source: Source,
    meter: Arc<Meter>,
) -> impl Stream<Item = Result<Bytes, TransportError>> + Send {
    let prepare = |mut source: Source| {
        tokio::task::spawn_blocking(move || {
            let frame = source.entries.poll_frame(&*source.snapshot);
            (source, frame)
        })
    };
    let first = Some(prepare(source));
    stream::unfold(first, move |prepared| {
        let meter = meter.clone();
        async move {
            let (source, frame) = blocking::join(prepared?).await;
            match frame {
                Ok(Some((frame, entries))) => {
                    meter.add(entries, frame.len());
                    Some((Ok(frame), Some(prepare(source))))
                }
                Ok(None) => None,
                Err(error) => {
                    // The other side learns that it is not at fault, and no more.
                    tracing::error!(%error, "the store failed while entries were sent");
                    Some((Ok(Part::Failed(WireError::internal()).encode()), None))
                }
            }
        }
    })
}

/// A part that arrived, unpacked, and how many bytes its frame had.
pub(crate) type Arrived<P> = Result<(Result<P, PeerFault>, usize), TransportError>;

/// Unpacks the parts of a message of `tree`, in order, several at a time.
pub(crate) fn incoming(
    tree: TreeId,
    frames: FrameStream,
) -> impl Stream<Item = Arrived<Received>> + Send + Unpin {
    let unpack = move |frame: Result<Bytes, TransportError>| async move {
        let frame = frame?;
        let bytes = frame.len();
        let part = blocking::run(move || Received::from_frame(tree, &frame)).await;
        Ok((part, bytes))
    };
    Box::pin(frames.map(unpack).buffered(UNPACKING_MAX))
}
