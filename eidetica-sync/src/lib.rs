//! Keeps Eidetica trees in sync between peers.
//!
//! A [`Node`] has a [`store`], a key, and any number of transports. It creates trees, appends
//! entries, and syncs its copies with peers: once ([`Node::sync`], [`Node::join`]) or continuously
//! ([`Node::follow`]). A background engine runs all syncs concurrently, so that a slow peer delays no
//! other. Several transports work at once under a [`TransportManager`]; an address goes to the first
//! transport that can handle it.
//!
//! The crate [`proto`] decides what to say to a peer, and [`dag`] what an entry is and who may write
//! it. This crate reads, writes, sends and waits.
//!
//! The features `http` and `iroh` add transports, `tls` adds HTTPS, `mdns` adds local discovery,
//! `redb` adds the durable store `store::RedbStore` and the `Device`, which keeps it in a folder together with
//! the key, `postgres` adds `store::PostgresStore`, which several
//! servers share, `metrics` counts and measures, and `cli` adds the `eidetica` program with all of them. Without features, a node uses [`store::MemoryStore`] and any implementation of [`proto::SyncTransport`].
//!
//! ```
//! use eidetica_sync::dag::{AccessChange, Role, Subject};
//! use eidetica_sync::store::MemoryStore;
//! use eidetica_sync::{Node, generate_key};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let node = Node::builder(MemoryStore::new(), generate_key()).start();
//! let readers = vec![AccessChange::grant(Subject::Anyone, Role::Read)];
//! let tree = node.create_tree("notes", readers).await?;
//! let first = node.append(tree, "hello").await?;
//! assert_eq!(node.tips(tree).await?, [first]);
//! node.shutdown().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
#[cfg(feature = "redb")]
mod device;
mod engine;
mod event;
mod membership;
#[cfg(feature = "metrics")]
pub mod metrics;
mod news;
mod node;
mod platform;
mod server;
pub mod store;
mod transport;

pub use eidetica_dag as dag;
pub use eidetica_proto as proto;
#[cfg(feature = "http")]
pub use eidetica_transport_http as http;
#[cfg(feature = "iroh")]
pub use eidetica_transport_iroh as iroh;

pub use client::error::SyncError;
pub use client::peer::Peer;
#[cfg(feature = "redb")]
pub use device::{Device, DeviceError, DeviceFolder, Exposure, WAIT_DEFAULT};
pub use eidetica_proto::joining::JoinRequest;
pub use engine::follows::{FollowOptions, RememberedFollow};
pub use event::{Event, Events, Origin, Transfer};
pub use membership::InviteInfo;
pub use node::{
    Follow, FollowStatus, InviteTerms, JoinOptions, Joined, Log, Node, NodeBuilder, Repaired,
    RunningSync, SubscribeFrom, Subscription, Tree, TreeError, TreeInfo,
};
#[cfg(feature = "test-utils")]
pub use platform::inline::InlineBlocking;
pub use platform::random::generate_key;
pub use store::writer::Revocation;
pub use transport::manager::TransportManager;

/// The examples of the README, compiled and run.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../../README.md")]
struct Readme;
