//! The node: what a program holds.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eidetica_dag::{
    AccessChange, Arrival, Body, Entry, EntryId, Genesis, PARENTS_MAX, PublicKey, SecretKey,
    SignedEntry, TreeId, VerifiedEntry, tip_ids, walk,
};
use eidetica_proto::transport::Service;
use eidetica_proto::{
    Address, Progress, Report, Standing, SyncOptions, SyncTransport, Ticket, TransportError,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::blocking;
use crate::clock::wall_clock_ms;
use crate::engine::{Engine, Operation, QUEUE_MAX};
use crate::error::{SyncError, TreeError};
use crate::event::{Events, Origin, Publisher, Subscription};
use crate::manager::TransportManager;
use crate::random::Random;
use crate::serve::{Server, tree_name};
use crate::store::{Snapshot, Store, StoreError};

/// A node: a store, a key, transports, and the engine that keeps trees equal with peers.
///
/// It is a handle. Clones are the same node; the engine runs until [`Node::shutdown`] or until the
/// last clone is dropped. It must be made and used within a tokio runtime.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    key: SecretKey,
    manager: Arc<TransportManager>,
    service: Arc<dyn Service>,
    publisher: Publisher,
    random: Random,
    /// Held while an entry is written here, so that each is written on top of the last.
    writing: Arc<Mutex<()>>,
    queue: Mutex<Option<mpsc::Sender<Operation>>>,
    engine: Mutex<Option<JoinHandle<()>>>,
}

/// Makes a [`Node`].
pub struct NodeBuilder {
    store: Arc<dyn Store>,
    key: SecretKey,
    seed: [u8; 32],
    manager: TransportManager,
}

impl NodeBuilder {
    /// Adds a transport behind those that are there. An address goes to the first that can handle
    /// it. Several of one kind may be there, under different names.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn transport(
        mut self,
        name: impl Into<String>,
        transport: impl SyncTransport,
    ) -> Result<Self, TransportError> {
        self.manager.register(name, Arc::new(transport))?;
        Ok(self)
    }

    /// Starts the engine. Nothing listens until [`Node::accept_connections`].
    pub fn start(self) -> Node {
        let Self {
            store,
            key,
            seed,
            manager,
        } = self;
        let manager = Arc::new(manager);
        let publisher = Publisher::new();
        let random = Random::new(seed);
        let service = Arc::new(Server {
            store: store.clone(),
            key: key.public(),
            manager: Arc::downgrade(&manager),
            publisher: publisher.clone(),
        });
        let engine = Engine {
            store: store.clone(),
            manager: manager.clone(),
            publisher: publisher.clone(),
            random: random.clone(),
        };
        let (queue, operations) = mpsc::channel(QUEUE_MAX);
        let engine = tokio::spawn(engine.run(operations, publisher.events()));
        Node(Arc::new(Inner {
            store,
            key,
            manager,
            service,
            publisher,
            random,
            writing: Arc::default(),
            queue: Mutex::new(Some(queue)),
            engine: Mutex::new(Some(engine)),
        }))
    }
}

/// Whom to sync with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its key, if it is known. A transport that proves keys refuses anybody else.
    pub key: Option<PublicKey>,
    /// Where it may be, in the order of trying.
    pub addresses: Vec<Address>,
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        Self {
            key: None,
            addresses: vec![address],
        }
    }
}

impl From<&Ticket> for Peer {
    fn from(ticket: &Ticket) -> Self {
        Self {
            key: ticket.peer,
            addresses: ticket.addresses.clone(),
        }
    }
}

/// One tree in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeInfo {
    /// The tree.
    pub tree: TreeId,
    /// The name that its root gives it.
    pub name: String,
    /// How many entries are stored.
    pub entries: u32,
    /// Its tips, ascending.
    pub tips: Vec<EntryId>,
}

impl Node {
    /// Begins to make a node that keeps its trees in `store` and is known by `key`. `seed`, 32
    /// random bytes, determines every random choice of the node.
    pub fn builder(store: impl Store, key: SecretKey, seed: [u8; 32]) -> NodeBuilder {
        Self::builder_with(Arc::new(store), key, seed)
    }

    /// Begins to make a node on a store that something else uses as well.
    pub fn builder_with(store: Arc<dyn Store>, key: SecretKey, seed: [u8; 32]) -> NodeBuilder {
        NodeBuilder {
            store,
            key,
            seed,
            manager: TransportManager::new(),
        }
    }

    /// Returns the key by which others know this node.
    pub fn key(&self) -> PublicKey {
        self.0.key.public()
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Returns the transports.
    pub fn transports(&self) -> &TransportManager {
        &self.0.manager
    }

    /// Starts the servers of all transports; see [`TransportManager::accept_connections`].
    ///
    /// # Errors
    /// That of the first server that does not start.
    pub async fn accept_connections(&self) -> Result<(), TransportError> {
        self.0.manager.accept_connections(&self.0.service).await
    }

    /// Returns what answers peers, for a program that mounts it on a server of its own.
    pub fn service(&self) -> Arc<dyn Service> {
        self.0.service.clone()
    }

    /// Lists where all servers listen, each with the name of its transport.
    pub async fn get_all_server_addresses_async(&self) -> Vec<(String, Address)> {
        self.0.manager.get_all_server_addresses_async().await
    }

    /// Returns a ticket that leads others to a tree on this node.
    pub async fn ticket(&self, tree: TreeId) -> Ticket {
        let addresses = self.get_all_server_addresses_async().await;
        let addresses = addresses.into_iter().map(|(_, address)| address).collect();
        Ticket {
            tree,
            peer: Some(self.key()),
            addresses,
            invite: None,
        }
    }

    /// Creates a tree of which this node is admin. `access` says what others may do from the start.
    ///
    /// # Errors
    /// If the name or the list is too long, or the store fails.
    pub async fn create_tree(
        &self,
        name: impl Into<String>,
        access: Vec<AccessChange>,
    ) -> Result<TreeId, TreeError> {
        let genesis = Genesis {
            nonce: self.0.random.bytes(),
            name: name.into(),
            access,
        };
        let root = Entry {
            tree: None,
            parents: Vec::new(),
            height: 0,
            timestamp_ms: wall_clock_ms(),
            author: self.key(),
            body: Body::Genesis(genesis),
        };
        let root = VerifiedEntry::sign(root, &self.0.key)?;
        let tree = root.get().tree();
        self.write(tree, move |_, _| Ok(vec![root])).await?;
        Ok(tree)
    }

    /// Writes an entry with `data` on top of all tips, and returns its id.
    ///
    /// # Errors
    /// If the entry is too large, this node may not write to the tree, or the store fails.
    pub async fn append(&self, tree: TreeId, data: impl Into<Bytes>) -> Result<EntryId, TreeError> {
        let ids = self.append_all(tree, vec![data.into()]).await?;
        ids.last().copied().ok_or(TreeError::NoSuchTree(tree))
    }

    /// Writes one entry for each of `data`, each on top of the one before, in one step, and returns
    /// their ids.
    ///
    /// # Errors
    /// As [`Node::append`]; nothing is stored then.
    pub async fn append_all(
        &self,
        tree: TreeId,
        data: Vec<Bytes>,
    ) -> Result<Vec<EntryId>, TreeError> {
        let bodies = data.into_iter().map(Body::Data).collect();
        self.append_bodies(tree, bodies).await
    }

    /// Changes what others may do with the tree from here on.
    ///
    /// # Errors
    /// As [`Node::append`]; this node must be admin of the tree.
    pub async fn change_access(
        &self,
        tree: TreeId,
        changes: Vec<AccessChange>,
    ) -> Result<EntryId, TreeError> {
        let ids = self
            .append_bodies(tree, vec![Body::Access(changes)])
            .await?;
        ids.last().copied().ok_or(TreeError::NoSuchTree(tree))
    }

    async fn append_bodies(
        &self,
        tree: TreeId,
        bodies: Vec<Body>,
    ) -> Result<Vec<EntryId>, TreeError> {
        let key = self.0.key.clone();
        let timestamp_ms = wall_clock_ms();
        let stored = self.write(tree, move |snapshot, tree| {
            if snapshot.entry_count() == 0 {
                return Err(TreeError::NoSuchTree(tree));
            }
            let mut entries: Vec<VerifiedEntry> = Vec::with_capacity(bodies.len());
            for body in bodies {
                let (parents, height) = match entries.last() {
                    Some(last) => (vec![last.get().id()], last.get().entry().height + 1),
                    None => above_tips(snapshot)?,
                };
                let author = key.public();
                let tree = Some(tree);
                let entry = Entry {
                    tree,
                    parents,
                    height,
                    timestamp_ms,
                    author,
                    body,
                };
                entries.push(VerifiedEntry::sign(entry, &key)?);
            }
            Ok(entries)
        });
        stored.await
    }

    /// Stores entries that were signed elsewhere or by hand, parents before children, and returns
    /// their ids.
    ///
    /// # Errors
    /// If one is refused or lacks a parent, or the store fails. What stands before it is stored.
    pub async fn insert(
        &self,
        tree: TreeId,
        entries: Vec<VerifiedEntry>,
    ) -> Result<Vec<EntryId>, TreeError> {
        self.write(tree, move |_, _| Ok(entries)).await
    }

    async fn write(
        &self,
        tree: TreeId,
        make: impl FnOnce(&Snapshot, TreeId) -> Result<Vec<VerifiedEntry>, TreeError> + Send + 'static,
    ) -> Result<Vec<EntryId>, TreeError> {
        let (store, writing) = (self.0.store.clone(), self.0.writing.clone());
        let publisher = self.0.publisher.clone();
        blocking::run(move || {
            let _one_at_a_time = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = make(&store.snapshot(tree)?, tree)?;
            let ids: Vec<EntryId> = entries.iter().map(|entry| entry.get().id()).collect();
            let outcome = store.append(tree, entries)?;
            publisher.stored(tree, outcome.stored.clone(), Origin::Local);
            match (outcome.refused, outcome.missing.first()) {
                (Some(refusal), _) => Err(TreeError::Refused(refusal)),
                (None, Some(missing)) => Err(TreeError::MissingParent(*missing)),
                (None, None) => Ok(ids),
            }
        })
        .await
    }

    /// Lists the trees in the store, ascending by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn trees(&self) -> Result<Vec<TreeInfo>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let info = |tree| {
                let snapshot = store.snapshot(tree)?;
                let (name, tips) = (tree_name(&snapshot)?, tip_ids(&*snapshot)?);
                Ok(TreeInfo {
                    tree,
                    name,
                    entries: snapshot.entry_count(),
                    tips,
                })
            };
            store.trees()?.into_iter().map(info).collect()
        })
        .await
    }

    /// Returns the tips of a tree, ascending; none if it is not here.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tips(&self, tree: TreeId) -> Result<Vec<EntryId>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || tip_ids(&*store.snapshot(tree)?)).await
    }

    /// Returns one entry, or `None` if it is not here.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn entry(
        &self,
        tree: TreeId,
        id: EntryId,
    ) -> Result<Option<SignedEntry>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            snapshot
                .arrival(&id)?
                .map(|at| snapshot.entry(at))
                .transpose()
        })
        .await
    }

    /// Returns the entries of a tree in the order that is the same on every replica: by height,
    /// then by id. The order of all entries is made at once, at 40 bytes each; the entries are read
    /// one by one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn log(&self, tree: TreeId) -> Result<Log, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            let all = eidetica_dag::ArrivalSet::all_below(snapshot.entry_count());
            let order = walk::topological(&*snapshot, &all)?.into_iter();
            Ok(Log { snapshot, order })
        })
        .await
    }

    /// Makes a tree equal with a peer: fetches what is lacking here, then sends what is lacking
    /// there. The addresses are tried in order.
    ///
    /// # Errors
    /// Why it did not come to its end. What was stored until then stays.
    pub async fn sync(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
    ) -> Result<Report, Arc<SyncError>> {
        self.begin_sync(tree, peer, SyncOptions::default())
            .await?
            .finish()
            .await
    }

    /// Joins the tree of a ticket, or syncs it if it is here.
    ///
    /// # Errors
    /// As [`Node::sync`].
    pub async fn join(&self, ticket: &Ticket) -> Result<Report, Arc<SyncError>> {
        self.sync(ticket.tree, ticket).await
    }

    /// Queues a sync and returns as soon as it is queued. It runs whether or not anybody waits for
    /// it.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
    pub async fn begin_sync(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
        options: SyncOptions,
    ) -> Result<RunningSync, Arc<SyncError>> {
        let (progress, seen) = watch::channel(Progress::default());
        let (reply, result) = oneshot::channel();
        let peer = peer.into();
        self.queue(Operation::Sync {
            tree,
            peer,
            options,
            progress,
            reply,
        })
        .await?;
        Ok(RunningSync {
            progress: seen,
            result,
        })
    }

    /// Keeps a tree equal with a peer from here on: syncs at once, whenever something changes here,
    /// and now and then to find what was lost. Failures are tried again after ever longer waits, for
    /// ever. Several peers may be followed; what comes from one is passed on to the others.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
    pub async fn follow(&self, tree: TreeId, peer: impl Into<Peer>) -> Result<(), Arc<SyncError>> {
        self.queue(Operation::Follow {
            tree,
            peer: peer.into(),
        })
        .await
    }

    /// Stops to keep a tree equal with a peer. A sync under way goes on to its end.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
    pub async fn unfollow(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
    ) -> Result<(), Arc<SyncError>> {
        self.queue(Operation::Unfollow {
            tree,
            peer: peer.into(),
        })
        .await
    }

    /// Lists how it stands with each peer and tree that is followed. Times are milliseconds since
    /// the node was started.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
    pub async fn standings(&self) -> Result<Vec<(Peer, TreeId, Standing)>, Arc<SyncError>> {
        let (reply, standings) = oneshot::channel();
        self.queue(Operation::Standings { reply }).await?;
        standings.await.map_err(|_| SyncError::Closed.into())
    }

    async fn queue(&self, operation: Operation) -> Result<(), Arc<SyncError>> {
        let queue = self
            .0
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let queue = queue.ok_or(SyncError::Closed)?;
        queue
            .send(operation)
            .await
            .map_err(|_| SyncError::Closed.into())
    }

    /// Listens to what happens in the node.
    pub fn events(&self) -> Events {
        self.0.publisher.events()
    }

    /// Gives the entries of a tree as they are stored, beginning with those that are stored
    /// already, or with the next one to come.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn subscribe(
        &self,
        tree: TreeId,
        from: SubscribeFrom,
    ) -> Result<Subscription, StoreError> {
        let events = self.events();
        let store = self.0.store.clone();
        let next = match from {
            SubscribeFrom::Start => 0,
            SubscribeFrom::Now => {
                let store = store.clone();
                blocking::run(move || Ok(store.snapshot(tree)?.entry_count())).await?
            }
        };
        Ok(Subscription {
            store,
            tree,
            next,
            events,
        })
    }

    /// Stops the engine, the servers and all connections. When it returns, nothing of the node is
    /// left running. What is stored stays; syncs under way end with [`SyncError::Closed`].
    ///
    /// # Errors
    /// That of the first transport which does not close; everything else is stopped nevertheless.
    pub async fn shutdown(&self) -> Result<(), TransportError> {
        self.0
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let engine = self
            .0
            .engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(engine) = engine {
            blocking::join(engine).await;
        }
        self.0.manager.close().await
    }
}

/// Where a [`Subscription`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// At the root.
    Start,
    /// Behind the last entry that is stored.
    Now,
}

/// A sync that is queued or under way.
#[derive(Debug)]
pub struct RunningSync {
    progress: watch::Receiver<Progress>,
    result: oneshot::Receiver<Result<Report, Arc<SyncError>>>,
}

impl RunningSync {
    /// Returns how far it has come; the receiver sees every change.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why it did not come to its end.
    pub async fn finish(self) -> Result<Report, Arc<SyncError>> {
        self.result
            .await
            .unwrap_or_else(|_| Err(SyncError::Closed.into()))
    }
}

/// The entries of a tree in the order that is the same on every replica. Reading blocks.
pub struct Log {
    snapshot: Snapshot,
    order: std::vec::IntoIter<Arrival>,
}

impl Iterator for Log {
    type Item = Result<SignedEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.order.next().map(|at| self.snapshot.entry(at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.order.size_hint()
    }
}

impl ExactSizeIterator for Log {}

/// Returns the parents and the height of an entry on top of all tips. Of more tips than an entry
/// can have parents, it takes the oldest; the entry after that takes the next.
fn above_tips(snapshot: &Snapshot) -> Result<(Vec<EntryId>, u32), TreeError> {
    let mut parents = Vec::new();
    let mut highest = 0;
    for tip in snapshot.tips()?.into_iter().take(PARENTS_MAX) {
        let node = snapshot.node(tip)?;
        highest = highest.max(node.height);
        parents.push(node.id);
    }
    parents.sort_unstable();
    Ok((parents, highest + 1))
}
