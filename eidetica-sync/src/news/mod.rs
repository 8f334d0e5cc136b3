//! What is stored reaches every part that must know: the engine, the watches of peers, and programs.
//!
//! Each append is announced with [`News::begin_append`], and its end is reported with
//! [`Appending::stored`]. A report neither waits nor fails, and none is lost:
//!
//! * [`Board`] keeps one slot for each tree until the engine takes it, however late that is;
//! * [`Watchers`] marks the tree for each watch that has it, at the cost of those watches alone;
//! * [`Origins`] remembers which peer brought what, so that no peer is sent back what it brought;
//! * programs hear of it by [`Event::Stored`](crate::Event::Stored), which a slow listener may miss.
//!
//! Servers report peers that make contact here as well.

mod board;
mod inbound;
mod watchers;

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use eidetica_dag::{PublicKey, Role, TreeId};
use eidetica_proto::origins::{Arrived, Origins};

pub(crate) use self::board::{Board, Facts};
pub(crate) use self::inbound::{InboundWatch, InboundWatches};
pub(crate) use self::watchers::WatchNews;
use self::watchers::Watchers;
use crate::event::{Origin, Publisher};
use crate::store::{Store, StoreError};

/// Where news are told. Clones are the same place.
#[derive(Clone)]
pub(crate) struct News(Arc<Shared>);

/// An append that is under way. Dropping it tells that it has failed.
pub(crate) struct Appending {
    news: News,
    tree: TreeId,
    is_told: bool,
}

struct Shared {
    publisher: Publisher,
    origins: RwLock<Origins>,
    board: Arc<Board>,
    watchers: Watchers,
    inbound: InboundWatches,
    /// Hears of each tree of which entries were stored.
    told: Box<dyn Fn(TreeId) + Send + Sync>,
}

impl News {
    #[cfg(test)]
    pub(crate) fn new(publisher: Publisher) -> Self {
        Self::telling(publisher, |_| ())
    }

    /// Makes a place that also tells `told` of each tree of which entries were stored.
    pub(crate) fn telling(
        publisher: Publisher,
        told: impl Fn(TreeId) + Send + Sync + 'static,
    ) -> Self {
        let board = Arc::<Board>::default();
        Self(Arc::new(Shared {
            publisher,
            origins: RwLock::default(),
            inbound: InboundWatches::new(board.clone()),
            board,
            watchers: Watchers::default(),
            told: Box::new(told),
        }))
    }

    /// Announces an append to a tree. Until its end is reported, nothing that arrives after it began is
    /// passed on: entries are visible in snapshots before it can be noted which peer brought them.
    ///
    /// # Errors
    /// Those of the store. The append is not to be made then.
    pub(crate) fn begin_append(
        &self,
        store: &dyn Store,
        tree: TreeId,
    ) -> Result<Appending, StoreError> {
        // The store is not asked under the lock, for it may be far away. If another append begins and ends
        // meanwhile, less counts as noted than is, until this append ends.
        let mut arrived = None;
        loop {
            let mut origins = self.origins_mut();
            if origins.is_appending(tree) || arrived.is_some() {
                origins.handle_append(tree, arrived.unwrap_or(0));
                break;
            }
            drop(origins);
            // No append is under way, so the origin of everything that is stored is noted.
            arrived = Some(store.snapshot(tree)?.entry_count());
        }
        Ok(Appending {
            news: self.clone(),
            tree,
            is_told: false,
        })
    }

    /// Tells that an append has ended, and what it stored.
    fn append_ended(&self, tree: TreeId, stored: Option<Arrived>) {
        let mut origins = self.origins_mut();
        // Under the lock, so that the engine hears of arrivals in order: it takes all before the
        // last that it heard of for known.
        for (arrivals, brought_by) in origins.handle_append_ended(tree, stored) {
            self.0.board.stored(tree, arrivals, brought_by);
        }
        drop(origins);
        (self.0.told)(tree);
        self.0.watchers.mark(tree);
    }

    /// Takes what arrived by way of other servers, if the store is shared with any.
    ///
    /// The engine does not hear of it: the server that stored an entry pushes it to the peers that are
    /// followed, or each server would.
    pub(crate) fn listen_to(&self, store: &dyn Store) {
        let Some(shared) = store.shared() else { return };
        let place = Arc::downgrade(&self.0);
        shared.listen(Arc::new(move |tree, arrivals| {
            let Some(shared) = place.upgrade() else {
                return false;
            };
            News(shared).stored_elsewhere(tree, arrivals);
            true
        }));
    }

    fn stored_elsewhere(&self, tree: TreeId, arrivals: Range<u32>) {
        let mut origins = self.origins_mut();
        for (arrivals, brought_by) in origins.handle_stored_elsewhere(tree, arrivals.clone()) {
            if brought_by.is_some() {
                self.0.board.stored(tree, arrivals, brought_by);
            }
        }
        drop(origins);
        (self.0.told)(tree);
        self.0.watchers.mark(tree);
        self.0.publisher.stored(tree, arrivals, Origin::Server);
    }

    fn origins_mut(&self) -> RwLockWriteGuard<'_, Origins> {
        let origins = &self.0.origins;
        origins.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that a peer asks to join a tree.
    pub(crate) fn join_requested(&self, tree: TreeId, key: PublicKey, role: Role) {
        self.0.publisher.join_requested(tree, key, role);
    }

    /// Returns which peer brought what. Nothing can be stored while the guard is held, so hold it
    /// for one batch at most.
    pub(crate) fn origins(&self) -> RwLockReadGuard<'_, Origins> {
        let origins = &self.0.origins;
        origins.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these trees marked for a watch whenever entries of them are stored, from here on.
    /// Dropping the handle ends that.
    pub(crate) fn register_watch(&self, trees: Arc<[TreeId]>) -> WatchNews {
        self.0.watchers.register(trees)
    }

    /// Returns the watches that peers hold on this node, and what else peers tell by making contact.
    pub(crate) fn inbound(&self) -> &InboundWatches {
        &self.0.inbound
    }

    /// Returns where the engine takes facts.
    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    /// Returns where programs hear of events.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.0.publisher
    }
}

impl Appending {
    /// Tells that these entries of the tree are durable and visible in new snapshots.
    pub(crate) fn stored(mut self, arrivals: Range<u32>, origin: Origin) {
        self.is_told = true;
        let stored = (!arrivals.is_empty()).then(|| (arrivals.clone(), origin.peer()));
        let is_news = stored.is_some();
        self.news.append_ended(self.tree, stored);
        if is_news {
            let publisher = &self.news.0.publisher;
            publisher.stored(self.tree, arrivals, origin);
        }
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        if !self.is_told {
            self.news.append_ended(self.tree, None);
        }
    }
}
