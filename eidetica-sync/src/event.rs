//! What happens in a node, for the programs that use it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eidetica_dag::{Arrival, PublicKey, Role, SignedEntry, TreeId};
use eidetica_proto::{Address, Report};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::client::error::SyncError;
use crate::platform::blocking;
use crate::store::{Store, StoreError};

/// How many events a listener may lag behind before it misses some.
const EVENTS_KEPT: usize = 1_024;

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Entries are stored.
    Stored {
        /// The tree.
        tree: TreeId,
        /// Their numbers.
        arrivals: Range<u32>,
        /// Where they come from.
        origin: Origin,
    },
    /// Somebody asks to join a tree, and an admin has to decide.
    JoinRequested {
        /// The tree. It need not be here.
        tree: TreeId,
        /// Who asks; it has proved this key.
        key: PublicKey,
        /// The role that it wants.
        role: Role,
    },
    /// A sync has begun. Its [`Event::SyncEnded`] follows, whatever happens.
    SyncStarted {
        /// Numbers the syncs of this node.
        sync: u64,
        /// The tree.
        tree: TreeId,
        /// The addresses that are tried, in this order.
        addresses: Vec<Address>,
    },
    /// A sync has ended.
    SyncEnded {
        /// The number that its [`Event::SyncStarted`] had.
        sync: u64,
        /// The tree.
        tree: TreeId,
        /// How it went.
        result: Result<Report, Arc<SyncError>>,
    },
}

/// Where entries come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// They were written here.
    Local,
    /// They were fetched from a peer.
    Pulled(Address),
    /// A peer sent them; where its packets came from.
    Pushed(String),
}

/// Tells events to whoever listens.
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

    /// Tells an event. It does not matter whether anybody listens.
    fn tell(&self, event: Event) {
        let _nobody_listens = self.sender.send(event);
    }

    pub(crate) fn stored(&self, tree: TreeId, arrivals: Range<u32>, origin: Origin) {
        if !arrivals.is_empty() {
            self.tell(Event::Stored {
                tree,
                arrivals,
                origin,
            });
        }
    }

    pub(crate) fn join_requested(&self, tree: TreeId, key: PublicKey, role: Role) {
        self.tell(Event::JoinRequested { tree, key, role });
    }

    /// Tells that a sync begins, and returns its number.
    pub(crate) fn sync_started(&self, tree: TreeId, addresses: Vec<Address>) -> u64 {
        let sync = self.syncs.fetch_add(1, Ordering::Relaxed);
        self.tell(Event::SyncStarted {
            sync,
            tree,
            addresses,
        });
        sync
    }

    pub(crate) fn sync_ended(
        &self,
        sync: u64,
        tree: TreeId,
        result: Result<Report, Arc<SyncError>>,
    ) {
        self.tell(Event::SyncEnded { sync, tree, result });
    }

    pub(crate) fn events(&self) -> Events {
        Events {
            receiver: self.sender.subscribe(),
        }
    }
}

/// The events of a node, from the moment of asking.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// Waits for the next event. A listener that lags far behind misses the oldest ones. `None`
    /// when the node is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener is too slow and has missed events");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Waits until entries of a tree may have been stored. `false` when the node is gone.
    async fn stored(&mut self, wanted: TreeId) -> bool {
        loop {
            match self.receiver.recv().await {
                Ok(Event::Stored { tree, .. }) if tree == wanted => return true,
                Ok(_) => {}
                // It may have been among those that were missed.
                Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}

/// The entries of one tree as they are stored, none left out, each after its parents.
///
/// It remembers how far it has come and reads from the store, so that it can be as slow as it
/// likes.
pub struct Subscription {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tree: TreeId,
    pub(crate) next: u32,
    pub(crate) events: Events,
}

impl Subscription {
    /// Waits for the next entry. `None` when the node is gone and every entry has been given.
    ///
    /// # Errors
    /// Those of the store. Asking again tries again.
    pub async fn next(&mut self) -> Result<Option<SignedEntry>, StoreError> {
        loop {
            let (store, tree, at) = (self.store.clone(), self.tree, self.next);
            let entry = blocking::run(move || {
                let snapshot = store.snapshot(tree)?;
                let stored = at < snapshot.entry_count();
                stored.then(|| snapshot.entry(Arrival(at))).transpose()
            });
            if let Some(entry) = entry.await? {
                self.next += 1;
                return Ok(Some(entry));
            }
            if !self.events.stored(self.tree).await {
                return Ok(None);
            }
        }
    }
}
