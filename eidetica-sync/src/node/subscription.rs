//! The entries of a tree as they arrive.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use eidetica_dag::{Arrival, EntryId, SignedEntry, TreeId};
use eidetica_proto::{Cursor, LogId};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::Node;
use super::error::TreeError;
use crate::event::Events;
use crate::platform::blocking;
use crate::store::{Snapshot, Store, StoreError};

/// Most entries that are read ahead: enough that the way to a blocking thread and back costs little
/// for each.
const READ_ENTRIES_MAX: u32 = 1_024;

/// A read ahead ends with the entry that exceeds this many encoded bytes, so that large entries take
/// little memory.
const READ_BYTES_MAX: usize = 256 << 10;

/// Where a [`Subscription`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeFrom {
    /// At the root.
    Start,
    /// After the last stored entry.
    Now,
    /// Where an earlier subscription was, perhaps before a restart: see [`Subscription::cursor`].
    After(Cursor),
}

/// The entries of one tree in the order of arrival: each of them once, parents before children. A
/// stream that ends when the node is gone and all entries were returned.
///
/// It holds a position and reads from the store, many entries at a time, so a slow reader misses
/// nothing. An item is an error if the store fails; the next item is another attempt.
///
/// ```
/// use eidetica_sync::store::MemoryStore;
/// use eidetica_sync::{Node, SubscribeFrom, generate_key};
/// use futures::StreamExt;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let node = Node::builder(MemoryStore::new(), generate_key()).start();
/// let tree = node.create_tree("notes", vec![]).await?;
/// let mut entries = node.subscribe(tree, SubscribeFrom::Start).await?;
/// let root = entries.next().await.expect("the node is there")?;
/// assert_eq!(root.id(), tree.root());
/// // Later, or in another run of the program.
/// let cursor = entries.cursor();
/// let mut entries = node.subscribe(tree, SubscribeFrom::After(cursor)).await?;
/// let hello = node.append(tree, "hello").await?;
/// assert_eq!(entries.next().await.expect("the node is there")?.id(), hello);
/// # node.shutdown().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct Subscription {
    /// What was read ahead.
    ready: vec::IntoIter<SignedEntry>,
    reads: BoxStream<'static, Result<Vec<SignedEntry>, StoreError>>,
    log: LogId,
    /// How many entries are before the next one, and the last of them.
    given: u32,
    last: Option<EntryId>,
}

impl Node {
    /// Returns the entries of a tree as they arrive, from its root, from now on, or from where an
    /// earlier subscription was.
    ///
    /// The tree need not be here yet: its entries follow once it is.
    ///
    /// # Errors
    /// Returns [`TreeError::OtherLog`] if a cursor is not of this store's tree as it is, or an error
    /// if the store fails.
    pub async fn subscribe(
        &self,
        tree: TreeId,
        from: SubscribeFrom,
    ) -> Result<Subscription, TreeError> {
        // Before the first read, so that no arrival is between them.
        let events = self.events();
        let store = self.0.store.clone();
        let found = blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            let given = match from {
                SubscribeFrom::Start => 0,
                SubscribeFrom::Now => snapshot.entry_count(),
                SubscribeFrom::After(cursor) => {
                    let position = cursor.position(store.log_id(), &*snapshot)?;
                    position.ok_or(TreeError::OtherLog(tree))?
                }
            };
            let last = given.checked_sub(1).map(Arrival);
            let last = last.map(|at| snapshot.node(at)).transpose()?;
            Ok::<_, TreeError>((given, last.map(|node| node.id)))
        });
        let (given, last) = found.await?;
        let reader = Reader {
            store: self.0.store.clone(),
            tree,
            next: given,
            events,
        };
        Ok(Subscription {
            ready: Vec::new().into_iter(),
            reads: stream::unfold(reader, Reader::step).fuse().boxed(),
            log: self.0.store.log_id(),
            given,
            last,
        })
    }
}

impl Subscription {
    /// Returns the place after the last entry that the stream has returned, for
    /// [`SubscribeFrom::After`]. It is valid for this store alone; its bytes may be kept.
    pub fn cursor(&self) -> Cursor {
        match &self.last {
            Some(last) => Cursor::after(self.log, self.given, last),
            None => Cursor::start(self.log),
        }
    }
}

impl Stream for Subscription {
    type Item = Result<SignedEntry, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.ready.next() {
                self.given += 1;
                self.last = Some(entry.id());
                return Poll::Ready(Some(Ok(entry)));
            }
            match std::task::ready!(self.reads.poll_next_unpin(context)) {
                Some(Ok(entries)) => self.ready = entries.into_iter(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

/// Reads ahead.
struct Reader {
    store: Arc<dyn Store>,
    tree: TreeId,
    next: u32,
    events: Events,
}

impl Reader {
    /// Reads what comes next, as soon as there is something. `None`: the node is gone.
    async fn step(mut self) -> Option<(Result<Vec<SignedEntry>, StoreError>, Self)> {
        loop {
            let (store, tree, from) = (self.store.clone(), self.tree, self.next);
            match blocking::run(move || read(&store.snapshot(tree)?, from)).await {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    self.next += entries.len() as u32;
                    return Some((Ok(entries), self));
                }
                Err(error) => return Some((Err(error), self)),
            }
            if !self.events.stored(self.tree).await {
                return None;
            }
        }
    }
}

/// Reads entries from an arrival on. An error after some entries is left to the next read.
fn read(snapshot: &Snapshot, from: u32) -> Result<Vec<SignedEntry>, StoreError> {
    let end = snapshot
        .entry_count()
        .min(from.saturating_add(READ_ENTRIES_MAX));
    let mut entries = Vec::with_capacity(end.saturating_sub(from) as usize);
    let mut bytes = 0;
    for at in (from..end).map(Arrival) {
        match snapshot.entry(at) {
            Ok(entry) => {
                bytes += entry.encoded().len();
                entries.push(entry);
            }
            Err(error) if entries.is_empty() => return Err(error),
            Err(_) => break,
        }
        if bytes >= READ_BYTES_MAX {
            break;
        }
    }
    Ok(entries)
}
