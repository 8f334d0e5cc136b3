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

/// A message to send, and the source that it is read from.
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

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key, shapes::sign_on_top};
    use eidetica_dag::{Arrival, ArrivalSet, Body};
    use eidetica_proto::tips::EndTips;

    use super::*;
    use crate::store::{MemoryStore, Store};

    async fn all(frames: FrameStream) -> Vec<Bytes> {
        let frames: Vec<_> = frames.collect().await;
        frames
            .into_iter()
            .map(|frame| frame.expect("nothing fails"))
            .collect()
    }

    /// A request that was refused after some of it was sent is sent again whole.
    #[tokio::test]
    async fn frames_can_be_made_again_from_the_first_one() {
        let drawn = draw("A");
        let tree = drawn.tree();
        let mut chain = drawn.entries(&["A"]);
        // More than fits into one batch.
        for n in 0..20 {
            let last = &chain[chain.len() - 1..];
            let body = Body::Data(vec![n; 32 << 10].into());
            chain.push(sign_on_top(Some(tree), last, &key(0), 0, body));
        }
        let count = chain.len() as u32;
        let store = MemoryStore::new();
        store.append(tree, chain).expect("genuine entries");
        let snapshot = store.snapshot(tree).expect("a snapshot");
        let mut entries = ArrivalSet::new();
        (0..count).for_each(|n| {
            entries.insert(Arrival(n));
        });
        let message = OutgoingMessage {
            header: Bytes::from_static(b"header"),
            entries: Some((
                EntrySelection::new(entries, EndTips::Untold, eidetica_proto::Cursor::NONE),
                snapshot,
            )),
        };

        let (mut begun, sent) = message.frames();
        for _ in 0..2 {
            begun.next().await.expect("a frame").expect("nothing fails");
        }
        assert!((1..u64::from(count)).contains(&sent.read().0));
        let (frames, sent) = message.frames();
        let frames = all(frames).await;
        assert!(frames.len() > 3, "{} frames", frames.len());
        assert_eq!(frames[0], "header");
        let bytes = frames[1..].iter().map(|frame| frame.len() as u64).sum();
        assert_eq!(sent.read(), (count.into(), bytes));

        let (again, _) = message.frames_after(vec!["proof".into(), "header".into()]);
        let again = all(again).await;
        assert_eq!(again[0], "proof");
        assert_eq!(again[1..], frames);
    }
}
