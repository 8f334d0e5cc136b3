//! Streams of frames on both ends of an exchange: entries packed as they are read, and unpacked as
//! they arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use eidetica_dag::TreeId;
use eidetica_proto::message::Part;
use eidetica_proto::{FrameStream, Outgoing, PeerFault, Received, TransportError, WireError};
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

/// One frame alone.
pub(crate) fn single_frame(frame: Bytes) -> FrameStream {
    Box::pin(stream::once(async { Ok(frame) }))
}

/// A header, and the entries behind it.
pub(crate) fn with_entries(
    header: Bytes,
    snapshot: Snapshot,
    entries: Box<Outgoing>,
    meter: Arc<Meter>,
) -> FrameStream {
    Box::pin(stream::once(async { Ok(header) }).chain(outgoing(snapshot, entries, meter)))
}

/// What is sent and where it is read.
struct Source {
    snapshot: Snapshot,
    entries: Box<Outgoing>,
}

/// The frames of `entries`, the next one being packed while the last one is on its way.
pub(crate) fn outgoing(
    snapshot: Snapshot,
    entries: Box<Outgoing>,
    meter: Arc<Meter>,
) -> impl Stream<Item = Result<Bytes, TransportError>> + Send {
    let prepare = |mut source: Source| {
        tokio::task::spawn_blocking(move || {
            let frame = source.entries.poll_frame(&*source.snapshot);
            (source, frame)
        })
    };
    let first = Some(prepare(Source { snapshot, entries }));
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
                    // The other side is told that it is not its fault, and no more.
                    tracing::error!(%error, "the store failed while entries were sent");
                    Some((Ok(Part::Failed(WireError::internal()).encode()), None))
                }
            }
        }
    })
}

/// A part that arrived: how many bytes it had, and what was in it.
pub(crate) type Arrived = Result<(Result<Received, PeerFault>, usize), TransportError>;

/// The parts of a message of `tree`, unpacked in order, several at a time.
pub(crate) fn incoming(
    tree: TreeId,
    frames: FrameStream,
) -> impl Stream<Item = Arrived> + Send + Unpin {
    let unpack = move |frame: Result<Bytes, TransportError>| async move {
        let frame = frame?;
        let bytes = frame.len();
        Ok((
            blocking::run(move || Received::from_frame(tree, &frame)).await,
            bytes,
        ))
    };
    Box::pin(frames.map(unpack).buffered(UNPACKING_MAX))
}
