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

use crate::platform::blocking::{self, OwnTask};
use crate::store::{Snapshot, Store, StoreError};
use crate::transport::packing::{Ahead, Packing};

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
    pub(crate) entries: Option<(EntrySelection, EntrySource)>,
}

/// The tree from which entries are read, one snapshot for each batch.
///
/// A stored entry never changes, so any later snapshot has it. One that is held as long as a reader
/// likes would keep the store from reusing space.
#[derive(Clone)]
pub(crate) struct EntrySource {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tree: TreeId,
}

impl EntrySource {
    /// Takes a snapshot. Blocks.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.store.snapshot(self.tree)
    }
}

impl OutgoingMessage {
    /// Makes a message that is a header alone.
    pub(crate) fn header_only(header: Bytes) -> Self {
        Self {
            header,
            entries: None,
        }
    }

    /// Makes all frames, packed in turn with those of other answers.
    pub(crate) fn answer(&self, packing: Packing) -> FrameStream {
        self.make(vec![self.header.clone()], packing).0
    }

    /// Makes the frames of the entries, to follow `first`, which contains the header. Counts those with
    /// entries.
    pub(crate) fn frames_after(&self, first: Vec<Bytes>) -> (FrameStream, Arc<Meter>) {
        self.make(first, Packing::Alone)
    }

    fn make(&self, first: Vec<Bytes>, packing: Packing) -> (FrameStream, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        let first = stream::iter(first.into_iter().map(Ok));
        let frames: FrameStream = match &self.entries {
            None => Box::pin(first),
            Some((entries, source)) => {
                let begun = entries.outgoing();
                let sending = Sending {
                    source: source.clone(),
                    entries: match &packing {
                        Packing::Alone => begun,
                        Packing::InTurn(..) => begun.growing(),
                    },
                };
                Box::pin(first.chain(outgoing(sending, meter.clone(), packing)))
            }
        };
        (frames, meter)
    }
}

/// Entries that are being sent, and the source that they are read from.
struct Sending {
    source: EntrySource,
    entries: Outgoing,
}

impl Sending {
    /// Packs the next frame.
    async fn pack(mut self, packing: Packing) -> Packed {
        let pack = move || {
            let frame = self.poll_frame();
            (self, frame)
        };
        packing.run(pack).await
    }

    /// Packs the next frame. Blocks.
    fn poll_frame(&mut self) -> Result<Option<(Bytes, usize)>, StoreError> {
        self.entries.poll_frame(&*self.source.snapshot()?)
    }
}

/// A frame after it was packed, and what to go on with.
type Packed = (Sending, Result<Option<(Bytes, usize)>, StoreError>);

/// Gives the frames of the entries. Nothing is packed before the transport has found room for what comes
/// first, so that an answer which its reader does not take costs no memory. From then on, the next frame
/// is packed while the last one is on its way, as far as `packing` allows.
fn outgoing(
    sending: Sending,
    meter: Arc<Meter>,
    packing: Packing,
) -> impl Stream<Item = Result<Bytes, TransportError>> + Send {
    stream::unfold(Some(Next::Begin(sending)), move |next| {
        let (meter, packing) = (meter.clone(), packing.clone());
        async move {
            let (packed, ahead) = match next? {
                Next::Begin(sending) => {
                    // A transport asks for as much as it can have before it looks for room; it gets
                    // nothing now, and what it has so far goes out first.
                    tokio::task::yield_now().await;
                    (sending.pack(packing.clone()).await, packing.ahead())
                }
                Next::At(sending) => (sending.pack(packing.clone()).await, packing.ahead()),
                Next::Packing(packed, ahead) => (packed.await, Some(ahead)),
            };
            let (mut sending, frame) = packed;
            match frame {
                Ok(Some((frame, entries))) => {
                    meter.add(entries, frame.len());
                    let next = match ahead {
                        Some(ahead) => Next::Packing(blocking::task(sending.pack(packing)), ahead),
                        None => {
                            sending.entries.release();
                            Next::At(sending)
                        }
                    };
                    Some((Ok(frame), Some(next)))
                }
                Ok(None) => None,
                Err(error) => {
                    // The other side learns that it is not at fault, and no more.
                    tracing::error!(%error, "the store failed while entries were sent");
                    let told = match error {
                        StoreError::Damaged { .. } => WireError::damaged(),
                        _ => WireError::internal(),
                    };
                    Some((Ok(Part::Failed(told).encode()), None))
                }
            }
        }
    })
}

/// Where the next frame comes from.
enum Next {
    Begin(Sending),
    At(Sending),
    Packing(OwnTask<Packed>, Ahead),
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
    use std::sync::{Mutex, Weak};

    use eidetica_dag::{Arrival, ArrivalSet, Body, VerifiedEntry};
    use eidetica_proto::tips::EndTips;

    use super::*;
    use crate::store::hooked::HookedStore;
    use crate::store::{MemoryStore, TreeSnapshot};

    async fn all(frames: FrameStream) -> Vec<Bytes> {
        let frames: Vec<_> = frames.collect().await;
        frames
            .into_iter()
            .map(|frame| frame.expect("nothing fails"))
            .collect()
    }

    /// More entries than fit into one batch.
    fn chain() -> (TreeId, Vec<VerifiedEntry>) {
        let drawn = draw("A");
        let tree = drawn.tree();
        let mut chain = drawn.entries(&["A"]);
        for n in 0..20 {
            let last = &chain[chain.len() - 1..];
            let body = Body::Data(vec![n; 32 << 10].into());
            chain.push(sign_on_top(Some(tree), last, &key(0), 0, body));
        }
        (tree, chain)
    }

    /// A request that was refused after some of it was sent is sent again whole.
    #[tokio::test]
    async fn frames_can_be_made_again_from_the_first_one() {
        let (tree, chain) = chain();
        let count = chain.len() as u32;
        let store = MemoryStore::new();
        store.append(tree, chain).expect("genuine entries");
        let mut entries = ArrivalSet::new();
        (0..count).for_each(|n| {
            entries.insert(Arrival(n));
        });
        let message = OutgoingMessage {
            header: Bytes::from_static(b"header"),
            entries: Some((
                EntrySelection::new(entries, EndTips::Untold, eidetica_proto::Cursor::NONE),
                EntrySource {
                    store: Arc::new(store),
                    tree,
                },
            )),
        };

        let (mut begun, sent) = message.frames_after(vec![message.header.clone()]);
        for _ in 0..2 {
            begun.next().await.expect("a frame").expect("nothing fails");
        }
        assert!((1..u64::from(count)).contains(&sent.read().0));
        let (frames, sent) = message.frames_after(vec![message.header.clone()]);
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

    /// A reader that takes its time must not keep a store from reusing space.
    #[tokio::test]
    async fn no_snapshot_is_held_while_a_reader_is_slow() {
        let (tree, chain) = chain();
        let store = MemoryStore::new();
        let count = chain.len() as u32;
        store.append(tree, chain).expect("genuine entries");
        let given = Arc::<Mutex<Vec<Weak<dyn TreeSnapshot>>>>::default();
        let noted = given.clone();
        let store = Arc::new(HookedStore {
            store,
            on_snapshot: Box::new(move |snapshot| {
                noted.lock().unwrap().push(Arc::downgrade(snapshot));
            }),
            ..HookedStore::default()
        });
        let all = ArrivalSet::all_below(count);
        let message = OutgoingMessage {
            header: Bytes::from_static(b"header"),
            entries: Some((
                EntrySelection::new(all, EndTips::Untold, eidetica_proto::Cursor::NONE),
                EntrySource { store, tree },
            )),
        };
        let (mut frames, _) = message.frames_after(vec![message.header.clone()]);
        let is_free = || {
            let given = given.lock().unwrap();
            given.iter().all(|snapshot| snapshot.upgrade().is_none())
        };
        frames
            .next()
            .await
            .expect("a header")
            .expect("nothing fails");
        let taken = given.lock().unwrap().len();
        assert_eq!(taken, 0, "nothing is packed before it is asked for");
        frames
            .next()
            .await
            .expect("a batch")
            .expect("nothing fails");
        // The batch after the one that was taken is packed ahead.
        while !is_free() {
            tokio::task::yield_now().await;
        }
        let taken = given.lock().unwrap().len();
        assert!((1..=2).contains(&taken), "{taken} snapshots for one batch");
        let rest: Vec<_> = frames.collect().await;
        assert!(rest.len() > 1, "a snapshot for each batch");
        assert!(is_free());
    }
}
