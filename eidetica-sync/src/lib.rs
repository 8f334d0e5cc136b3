//! Keeps Eidetica trees equal between peers.

mod blocking;
mod clock;
mod drive;
mod engine;
pub mod error;
pub mod event;
pub mod manager;
pub mod node;
mod random;
mod serve;
pub mod store;
mod storing;
mod wire;

pub use eidetica_dag as dag;
pub use eidetica_proto as proto;
#[cfg(feature = "http")]
pub use eidetica_transport_http as http;
#[cfg(feature = "iroh")]
pub use eidetica_transport_iroh as iroh;

pub use error::{SyncError, TreeError};
pub use event::{Event, Events, Origin, Subscription};
pub use manager::TransportManager;
pub use node::{Log, Node, NodeBuilder, Peer, RunningSync, SubscribeFrom, TreeInfo};
