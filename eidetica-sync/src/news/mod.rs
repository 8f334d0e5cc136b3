//! What is stored reaches every part that must know: the engine, the watches of peers, and programs.
//!
//! A writer calls [`News::stored`] after a durable append. It neither waits nor fails, and nothing
//! that it tells is lost:
//!
//! * [`Board`] keeps one slot for each tree until the engine takes it, however late that is;
//! * [`Watchers`] marks the tree for each watch that has it, at the cost of those watches alone;
//! * [`Origins`] remembers which peer brought what, so that no peer is sent back what it brought;
//! * programs hear of it by [`Event::Stored`](crate::Event::Stored), which a slow listener may miss.
//!
//! Servers report peers that make contact here as well.
#![allow(
    dead_code,
    reason = "the answering side uses what the asking side does not"
)]

mod board;
mod inbound;
mod watchers;

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use eidetica_dag::{PublicKey, Role, TreeId};
use eidetica_proto::origins::Origins;

pub(crate) use self::board::{Board, Facts};
pub(crate) use self::inbound::{InboundWatch, InboundWatches};
pub(crate) use self::watchers::WatchNews;
use self::watchers::Watchers;
use crate::event::{Origin, Publisher};

/// Where news are told. Clones are the same place.
#[derive(Clone)]
pub(crate) struct News(Arc<Shared>);

struct Shared {
    publisher: Publisher,
    origins: RwLock<Origins>,
    board: Arc<Board>,
    watchers: Watchers,
    inbound: InboundWatches,
}

impl News {
    pub(crate) fn new(publisher: Publisher) -> Self {
        let board = Arc::<Board>::default();
        Self(Arc::new(Shared {
            publisher,
            origins: RwLock::default(),
            inbound: InboundWatches::new(board.clone()),
            board,
            watchers: Watchers::default(),
        }))
    }

    /// Tells that entries of a tree are durable and visible in new snapshots.
    pub(crate) fn stored(&self, tree: TreeId, arrivals: Range<u32>, origin: Origin) {
        if arrivals.is_empty() {
            return;
        }
        let brought_by = origin.peer();
        if let Some(peer) = brought_by {
            let origins = &self.0.origins;
            let mut origins = origins.write().unwrap_or_else(PoisonError::into_inner);
            origins.handle_stored(tree, arrivals.clone(), peer);
        }
        self.0.board.stored(tree, arrivals.clone(), brought_by);
        self.0.watchers.mark(tree);
        self.0.publisher.stored(tree, arrivals, origin);
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
