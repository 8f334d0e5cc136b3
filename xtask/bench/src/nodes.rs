//! Nodes to measure, on a chosen store and transport.

use std::sync::Arc;

use clap::ValueEnum;
use eidetica_dag::SecretKey;
use eidetica_sync::Node;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::iroh::{IrohTransport, Relays};
use eidetica_sync::proto::{Address, SyncTransport};
use eidetica_sync::store::Store;
use xtask_support::failed;

/// How nodes of different processes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Http,
    Iroh,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Iroh => "iroh",
        }
    }
}

/// Returns the runtime that programs usually have.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(failed)
}

/// Returns the key that belongs to a name of up to 32 bytes.
pub fn key(name: &str) -> SecretKey {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    SecretKey::from_bytes(&seed)
}

/// Starts a node with the key of its name.
pub async fn start(
    name: &str,
    store: Arc<dyn Store>,
    transport: Transport,
) -> Result<Node, String> {
    let key = key(name);
    match transport {
        Transport::Http => {
            let transport = HttpTransport::builder().bind(([127, 0, 0, 1], 0).into());
            start_with(store, key, transport.build())
        }
        Transport::Iroh => {
            let builder = IrohTransport::builder()
                .secret_key(key.clone())
                .relays(Relays::Disabled)
                .address_lookup(false)
                .bind_addr(([127, 0, 0, 1], 0).into());
            start_with(store, key, builder.bind().await.map_err(failed)?)
        }
    }
}

/// Starts a node with a transport of the caller's.
pub fn start_with(
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
    let address = node
        .get_all_server_addresses_async()
        .await
        .into_iter()
        .next();
    Ok(address.ok_or("the server has no address")?.1)
}
