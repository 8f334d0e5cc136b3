//! Puts a node together from its parts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eidetica_dag::SecretKey;
use eidetica_proto::coordinator::Options;
use eidetica_proto::{BackoffPolicy, SyncTransport, TransportError};
use tokio::sync::mpsc;

use super::{Inner, Node};
use crate::client::book::Book;
use crate::client::dialer::Dialer;
use crate::client::peer_client::PeerClient;
use crate::engine::shared::{Following, Settings, Shared};
use crate::engine::{Engine, QUEUE_MAX};
use crate::event::Publisher;
use crate::membership::Membership;
use crate::membership::readers::ReaderIndex;
use crate::membership::records::Records;
use crate::news::News;
use crate::platform::clock::WallClock;
use crate::platform::random::Random;
use crate::server::grants::Grants;
use crate::server::push::PushAcceptor;
use crate::server::push_limit::PushLimit;
use crate::server::request_auth::RequestAuth;
use crate::server::service::Server;
use crate::server::watch::WatchAnswerer;
use crate::server::work_limit::WorkLimit;
use crate::store::Store;
use crate::store::writer::Writer;
use crate::transport::manager::TransportManager;

/// Builds a [`Node`]; see [`Node::builder`].
pub struct NodeBuilder {
    store: Arc<dyn Store>,
    key: SecretKey,
    random: Random,
    clock: WallClock,
    manager: TransportManager,
    options: Options,
    following: Following,
    readers: Arc<ReaderIndex>,
    reads: Arc<WorkLimit>,
}

impl NodeBuilder {
    /// Adds a transport. An address goes to the first transport that can handle it.
    ///
    /// Several transports of one kind are allowed, under different names.
    ///
    /// # Errors
    /// Returns an error if the name is taken.
    pub fn transport(
        mut self,
        name: impl Into<String>,
        transport: impl SyncTransport,
    ) -> Result<Self, TransportError> {
        #[cfg(feature = "http")]
        if let Some(http) = crate::server::json_api::http_of(&transport) {
            http.set_json_api(Arc::new(crate::server::json_api::StoreApi {
                store: self.store.clone(),
                key: self.key.public(),
                readers: self.readers.clone(),
                reads: self.reads.clone(),
            }));
        }
        self.manager.register(name, Arc::new(transport))?;
        Ok(self)
    }

    /// Sets the time between two comparisons with each followed peer, a minute by default. News travel
    /// at once; a comparison finds what was lost on the way.
    pub fn check_interval(mut self, interval: Duration) -> Self {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.options.check_interval_ms = interval_ms.max(1);
        self
    }

    /// Follows also the peers that exchange a tree with this node by themselves, once it is known where
    /// they can be reached, and remembers them. Without it, a node follows those that it was asked to
    /// follow.
    pub fn follow_callers(mut self) -> Self {
        self.following = Following::CallersToo;
        self
    }

    /// Follows nothing, for a node that carries out one task: [`Node::follow_with`] only remembers,
    /// and the node does not tell the peers it knows when it starts to serve.
    pub fn without_following(mut self) -> Self {
        self.following = Following::Nothing;
        self
    }

    /// Sets how long an unreachable peer is left alone after each failure.
    pub fn backoff(mut self, policy: BackoffPolicy) -> Self {
        self.options.backoff = policy;
        self
    }

    /// Sets how many exchanges run at a time, with all peers together and with one peer.
    pub fn parallelism(mut self, in_all: usize, with_one_peer: usize) -> Self {
        self.options.exchanges_max = in_all;
        self.options.exchanges_per_peer_max = with_one_peer;
        self
    }

    /// Draws every random choice of the node from `seed`, so that a test can be repeated.
    ///
    /// Only for tests: a seed that is used again repeats the epoch of request proofs, and a server
    /// would then accept requests that were recorded before it restarted.
    #[cfg(feature = "test-utils")]
    pub fn with_seed(mut self, seed: [u8; 32]) -> Self {
        self.random = Random::with_seed(seed);
        self
    }

    /// Reads the wall clock by calling `now_ms`, which returns the milliseconds since 1970, so that a
    /// test can set it.
    #[cfg(feature = "test-utils")]
    pub fn with_wall_clock(mut self, now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = WallClock::from_fn(now_ms);
        self
    }

    /// Starts the node. It accepts no connections until [`Node::accept_connections`].
    ///
    /// # Panics
    /// If it is called outside a tokio runtime.
    pub fn start(self) -> Node {
        let Self {
            store,
            key,
            random,
            clock,
            manager,
            options,
            following,
            readers,
            reads,
        } = self;
        let manager = Arc::new(manager);
        let marked = readers.clone();
        let news = News::telling(Publisher::new(), move |tree| marked.mark(tree));
        let writer = Writer::new(store.clone(), key.clone(), clock.clone(), news.clone());
        let writer = Arc::new(writer);
        let membership = Membership::new(store.clone(), writer.clone(), news.clone());
        let membership = Arc::new(membership);
        let records = Records::new(store.clone(), key.clone(), clock.clone(), news.clone());
        let records = Arc::new(records);
        // If the store cannot be reached now, the first request finds the epoch out.
        let epoch = match store.shared().map(|shared| shared.epoch()) {
            Some(Ok(epoch)) => epoch,
            Some(Err(_)) | None => random.bytes(),
        };
        news.listen_to(&*store);
        let service = Arc::new(Server {
            store: store.clone(),
            auth: Arc::new(RequestAuth::new(key.clone(), epoch, &clock, store.clone())),
            manager: Arc::downgrade(&manager),
            membership: membership.clone(),
            records: records.clone(),
            news: news.clone(),
            readers,
            joins: WorkLimit::joins(),
            questions: WorkLimit::questions(),
            reads: reads.clone(),
            answers: Arc::default(),
            watches: WatchAnswerer::new(store.clone(), news.clone()),
            pushes: PushAcceptor {
                grants: Grants::new(store.clone()),
                store: store.clone(),
                news: news.clone(),
                limit: PushLimit::default(),
                reads,
            },
        });
        let client = PeerClient::new(key.clone(), random.clone(), clock.clone(), store.clone());
        let book = Arc::new(Book::open(store.clone(), clock.clone()));
        let dialer = Dialer::new(Arc::new(client), manager.clone(), book);
        let shared = Shared::new(
            store.clone(),
            dialer,
            news.clone(),
            records,
            random.clone(),
            Settings {
                options,
                following,
                key: key.public(),
                epoch,
                clock,
            },
        );
        let shared = Arc::new(shared);
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let engine = tokio::spawn(Engine::new(shared.clone()).run(jobs));
        Node(Arc::new(Inner {
            store,
            key,
            manager,
            shared,
            service,
            news,
            random,
            writer,
            membership,
            queue: Mutex::new(Some(queue)),
            engine: Mutex::new(Some(engine)),
        }))
    }
}

impl Node {
    /// Returns a builder for a node that keeps its trees in `store` and is known by `key`.
    ///
    /// # Panics
    /// If the operating system has no random bytes.
    pub fn builder(store: impl Store, key: SecretKey) -> NodeBuilder {
        Self::builder_with(Arc::new(store), key)
    }

    /// Returns a builder for a node on a store that is shared.
    ///
    /// # Panics
    /// If the operating system has no random bytes.
    pub fn builder_with(store: Arc<dyn Store>, key: SecretKey) -> NodeBuilder {
        NodeBuilder {
            readers: Arc::new(ReaderIndex::new(store.clone())),
            reads: Arc::new(WorkLimit::reads()),
            store,
            key,
            random: Random::from_os(),
            clock: WallClock::default(),
            manager: TransportManager::new(),
            options: Options::default(),
            following: Following::Remembered,
        }
    }
}
