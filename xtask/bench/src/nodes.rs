//! Nodes to measure, on a chosen store and transport.

use std::path::Path;
use std::sync::Arc;

use eidetica_dag::SecretKey;
use eidetica_proto::testing::MemoryNetwork;
use eidetica_sync::Node;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::iroh::{IrohTransport, Relays};
use eidetica_sync::proto::{Address, SyncTransport};
use eidetica_sync::store::{MemoryStore, RedbStore, Store};

use clap::ValueEnum;
use xtask_support::failed;

/// Where a node keeps its trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    Memory,
    Redb,
}

impl StoreKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
        }
    }

    /// Opens a store; the durable one in `file`.
    pub fn open(self, file: &Path) -> Result<Arc<dyn Store>, String> {
        match self {
            Self::Memory => Ok(Arc::new(MemoryStore::new())),
            Self::Redb => Ok(Arc::new(RedbStore::open(file).map_err(failed)?)),
        }
    }
}

/// How nodes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TransportKind {
    Memory,
    Http,
    Iroh,
}

impl TransportKind {
    /// Those between processes.
    pub const NETWORK: [Self; 2] = [Self::Http, Self::Iroh];

    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Http => "http",
            Self::Iroh => "iroh",
        }
    }
}

/// Returns the runtime that programs usually have.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(failed)
}

/// Starts a node. The name makes its key and, on a network in memory, its address.
pub async fn start(
    name: &str,
    store: Arc<dyn Store>,
    transport: TransportKind,
    network: &MemoryNetwork,
) -> Result<Node, String> {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    let key = SecretKey::from_bytes(&seed);
    match transport {
        TransportKind::Memory => {
            let transport = network.transport(name).key(key.public()).build();
            start_with(store, key, transport)
        }
        TransportKind::Http => {
            let transport = HttpTransport::builder().bind(([127, 0, 0, 1], 0).into());
            start_with(store, key, transport.build())
        }
        TransportKind::Iroh => {
            let builder = IrohTransport::builder()
                .secret_key(key.clone())
                .relays(Relays::Disabled)
                .address_lookup(false)
                .bind_addr(([127, 0, 0, 1], 0).into());
            start_with(store, key, builder.bind().await.map_err(failed)?)
        }
    }
}

fn start_with(
    store: Arc<dyn Store>,
    key: SecretKey,
    transport: impl SyncTransport,
) -> Result<Node, String> {
    let builder = Node::builder_with(store, key);
    Ok(builder.transport("net", transport).map_err(failed)?.start())
}

/// Lets a node listen, and returns its address.
pub async fn listen(node: &Node) -> Result<Address, String> {
    node.accept_connections().await.map_err(failed)?;
    let mut addresses = node.get_all_server_addresses_async().await;
    match addresses.is_empty() {
        false => Ok(addresses.remove(0).1),
        true => Err(failed("the server has no address")),
    }
}
