//! The node: what a program holds. A [`Node`] hands each call to the module that carries it out, and
//! is put together by its [`NodeBuilder`].

use std::sync::{Arc, Mutex, PoisonError};

use eidetica_dag::{PublicKey, SecretKey, TreeId};
use eidetica_proto::transport::Service;
use eidetica_proto::{Address, Ticket, TransportError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::by_hand::ByHand;
use crate::engine::shared::Shared;
use crate::event::Events;
use crate::membership::Membership;
use crate::news::News;
use crate::platform::blocking;
use crate::platform::random::Random;
use crate::store::writer::Writer;
use crate::store::{Store, StoreError};
use crate::transport::manager::TransportManager;

mod builder;
pub(crate) mod error;
mod follow;
mod giving;
mod joining;
mod peers;
mod read;
mod repair;
mod subscription;
mod sync;
mod tree;
mod write;

pub use builder::NodeBuilder;
pub use error::TreeError;
pub use follow::{Follow, FollowStatus};
pub use joining::{InviteTerms, JoinOptions, Joined};
pub use read::{Log, TreeInfo};
pub use repair::Repaired;
pub use subscription::{SubscribeFrom, Subscription};
pub use sync::RunningSync;
pub use tree::Tree;

/// A node: a store, a key, transports, and the engine that keeps trees in sync with peers.
///
/// A node is a cheap handle; clones share one engine, which runs until [`Node::shutdown`] or until
/// the last clone is dropped. It must be built and used within a tokio runtime.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    key: SecretKey,
    manager: Arc<TransportManager>,
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    news: News,
    random: Random,
    writer: Arc<Writer>,
    membership: Arc<Membership>,
    queue: Mutex<Option<mpsc::Sender<ByHand>>>,
    engine: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// Returns the public key that identifies this node to others.
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
    /// Returns the error of the first server that does not start.
    pub async fn accept_connections(&self) -> Result<(), TransportError> {
        self.0.manager.accept_connections(&self.0.service).await?;
        // Peers learn where this node can be reached.
        (self.0.shared).input(|core, now_ms| {
            core.coordinator.handle_addresses_changed();
            core.coordinator.handle_network_changed(now_ms);
        });
        self.0.shared.serving.notify_one();
        Ok(())
    }

    /// Returns the service that answers peers, for programs that mount it on their own server.
    pub fn service(&self) -> Arc<dyn Service> {
        self.0.service.clone()
    }

    /// Returns the addresses of all servers, each with the name of its transport.
    pub async fn get_all_server_addresses_async(&self) -> Vec<(String, Address)> {
        self.0.manager.get_all_server_addresses_async().await
    }

    /// Returns a ticket with which others find a tree on this node. It grants no access.
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

    /// Forgets the key that was pinned to an address.
    ///
    /// Over transports that prove no keys, the first peer that answers at an address is trusted from
    /// then on. After this call, that is the next peer that answers.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn forget_address(&self, address: &Address) -> Result<(), StoreError> {
        self.0.shared.dialer.forget(address).await
    }

    /// Subscribes to the events of the node.
    pub fn events(&self) -> Events {
        self.0.news.publisher().events()
    }

    /// Stops the engine, the servers and all connections, and waits until they have ended.
    ///
    /// Running syncs end with [`SyncError::Closed`](crate::SyncError::Closed); what they have stored
    /// stays.
    ///
    /// # Errors
    /// Returns the error of the first transport that fails to close; everything else is stopped
    /// nevertheless.
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
