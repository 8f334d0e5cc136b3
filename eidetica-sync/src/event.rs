//! The events of a node, for programs.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use eidetica_dag::{EntryId, PublicKey, Role, TreeId};
use eidetica_proto::{Address, Report};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::client::error::SyncError;

/// How many events are kept for a slow listener before it misses the oldest.
const EVENTS_KEPT: usize = 1_024;

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Entries were stored.
    Stored {
        /// The tree.
        tree: TreeId,
        /// Their arrival numbers.
        arrivals: Range<u32>,
        /// Where they came from.
        origin: Origin,
    },
    /// Entries came whose author has lost the role for them, by a removal that they did not know of.
    /// They are valid on every replica; [`Log::contested_by`](crate::Log::contested_by) tells which they
    /// are, so that a person can decide what they are worth.
    Contested {
        /// The tree.
        tree: TreeId,
        /// Who wrote them.
        author: PublicKey,
        /// The removal.
        removal: EntryId,
        /// How many came at once.
        entries: u32,
    },
    /// A peer asks to join a tree, and an admin has to decide.
    JoinRequested {
        /// The tree, which need not be in the store.
        tree: TreeId,
        /// The peer's key, which it has proved.
        key: PublicKey,
        /// The requested role.
        role: Role,
    },
    /// A sync has started.
    SyncStarted {
        /// The number of the sync, unique within this node.
        sync: u64,
        /// The tree.
        tree: TreeId,
        /// The peer.
        peer: PublicKey,
        /// The addresses to try, most promising first.
        addresses: Vec<Address>,
    },
    /// A sync has ended.
    SyncEnded {
        /// The number in its [`Event::SyncStarted`].
        sync: u64,
        /// The tree.
        tree: TreeId,
        /// The peer.
        peer: PublicKey,
        /// The result.
        result: Result<Report, Arc<SyncError>>,
    },
    /// The state of a followed tree at a peer has changed; [`Node::status`](crate::Node::status)
    /// tells what it is.
    StatusChanged {
        /// The peer.
        peer: PublicKey,
        /// The tree, or `None` for all trees that are followed there.
        tree: Option<TreeId>,
    },
    /// A secret key is in use on two machines at once, such as by a copied store: this node's own, or
    /// that of a peer. Entries of both carry one name, and access cannot tell them apart. Reported
    /// again if it is still so after an hour without a sign of it.
    DuplicateKey {
        /// The key.
        key: PublicKey,
    },
    /// The listener was too slow and has missed this many events.
    Lagged(u64),
}

/// Where entries came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// They were written by this node.
    Local,
    /// A peer brought them.
    Peer {
        /// The peer's key, which it has proved.
        key: PublicKey,
        /// How they came.
        how: Transfer,
        /// The address at which this node asked, or where the peer's connection came from.
        at: String,
    },
    /// They came by way of another server on the same store.
    Server,
    /// A caller without a key pushed them.
    Caller {
        /// Where its connection came from.
        at: String,
    },
}

impl Origin {
    /// Returns the peer that brought the entries, if it is known.
    pub fn peer(&self) -> Option<PublicKey> {
        match self {
            Self::Peer { key, .. } => Some(*key),
            Self::Local | Self::Server | Self::Caller { .. } => None,
        }
    }

    /// Returns the name that metrics have for it.
    #[cfg(feature = "metrics")]
    fn label(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer { how, .. } => match how {
                Transfer::Pulled => "pulled",
                Transfer::Pushed => "pushed",
                Transfer::Watched => "watched",
            },
            Self::Server => "server",
            Self::Caller { .. } => "caller",
        }
    }
}

/// How entries came from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// This node asked for them.
    Pulled,
    /// The peer sent them by itself.
    Pushed,
    /// They came in a watch.
    Watched,
}

/// Publishes events to all listeners.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    sender: broadcast::Sender<Event>,
    syncs: Arc<AtomicU64>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(EVENTS_KEPT),
            syncs: Arc::default(),
        }
    }

    /// Publishes an event, with or without listeners.
    fn publish(&self, event: Event) {
        let _without_listeners = self.sender.send(event);
    }

    pub(crate) fn stored(&self, tree: TreeId, arrivals: Range<u32>, origin: Origin) {
        if !arrivals.is_empty() {
            #[cfg(feature = "metrics")]
            crate::metrics::stored(arrivals.len(), origin.label());
            self.publish(Event::Stored {
                tree,
                arrivals,
                origin,
            });
        }
    }

    pub(crate) fn contested(
        &self,
        tree: TreeId,
        author: PublicKey,
        removal: EntryId,
        entries: u32,
    ) {
        self.publish(Event::Contested {
            tree,
            author,
            removal,
            entries,
        });
    }

    pub(crate) fn join_requested(&self, tree: TreeId, key: PublicKey, role: Role) {
        self.publish(Event::JoinRequested { tree, key, role });
    }

    pub(crate) fn duplicate_key(&self, key: PublicKey) {
        self.publish(Event::DuplicateKey { key });
    }

    pub(crate) fn status_changed(&self, peer: PublicKey, tree: Option<TreeId>) {
        self.publish(Event::StatusChanged { peer, tree });
    }

    /// Publishes the start of a sync. Its end is published by the returned value, at the latest when
    /// it is dropped.
    pub(crate) fn sync_started(
        &self,
        tree: TreeId,
        peer: PublicKey,
        addresses: Vec<Address>,
    ) -> StartedSync {
        let sync = self.syncs.fetch_add(1, Ordering::Relaxed);
        self.publish(Event::SyncStarted {
            sync,
            tree,
            peer,
            addresses,
        });
        StartedSync {
            publisher: self.clone(),
            sync,
            tree,
            peer,
            has_ended: false,
        }
    }

    pub(crate) fn events(&self) -> Events {
        Events::new(self.sender.subscribe())
    }
}

/// A sync whose start was published.
pub(crate) struct StartedSync {
    publisher: Publisher,
    sync: u64,
    tree: TreeId,
    peer: PublicKey,
    has_ended: bool,
}

impl StartedSync {
    /// Publishes the end.
    pub(crate) fn end(mut self, result: Result<Report, Arc<SyncError>>) {
        self.publish(result);
    }

    fn publish(&mut self, result: Result<Report, Arc<SyncError>>) {
        self.has_ended = true;
        self.publisher.publish(Event::SyncEnded {
            sync: self.sync,
            tree: self.tree,
            peer: self.peer,
            result,
        });
    }
}

impl Drop for StartedSync {
    fn drop(&mut self) {
        if !self.has_ended {
            self.publish(Err(SyncError::Closed.into()));
        }
    }
}

/// The events of a node from the moment of subscription: a stream that ends when the node is gone.
///
/// A listener that is too slow misses the oldest events, and gets [`Event::Lagged`] in their place.
///
/// ```
/// use eidetica_sync::store::MemoryStore;
/// use eidetica_sync::{Event, Node, generate_key};
/// use futures::StreamExt;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let node = Node::builder(MemoryStore::new(), generate_key()).start();
/// let mut events = node.events();
/// let tree = node.create_tree("notes", vec![]).await?;
/// let event = events.next().await;
/// assert!(matches!(event, Some(Event::Stored { tree: of, .. }) if of == tree));
/// # node.shutdown().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct Events(BoxStream<'static, Event>);

impl Events {
    fn new(receiver: broadcast::Receiver<Event>) -> Self {
        let next = |mut receiver: broadcast::Receiver<Event>| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(missed)) => Event::Lagged(missed),
                Err(RecvError::Closed) => return None,
            };
            Some((event, receiver))
        };
        Self(stream::unfold(receiver, next).fuse().boxed())
    }

    /// Waits until entries of a tree may have been stored. Returns `false` when the node is gone.
    pub(crate) async fn stored(&mut self, wanted: TreeId) -> bool {
        loop {
            match self.next().await {
                Some(Event::Stored { tree, .. }) if tree == wanted => return true,
                // The missed events may include one of this tree.
                Some(Event::Lagged(_)) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
