//! Carries Eidetica frames over iroh: QUIC between peers that are named by their keys, through NATs,
//! with relays where nothing else works.
//!
//! The node's Ed25519 key is the endpoint's key, so every connection proves both ends: the service
//! gets the caller's key in [`Caller::key`], and the asking side the peer's in [`Response::peer`].
//! An address is `iroh:<endpoint ticket>`, which contains the endpoint's addresses, or
//! `iroh:<endpoint id>`, which leaves them to address lookup.
//!
//! One exchange is one bidirectional QUIC stream of length-prefixed frames; the exchanges with one
//! peer share a connection. A finished stream has a clean end; a stream that was reset, or whose
//! connection was lost, does not, and the two are never confused. Backpressure is QUIC's: frames are
//! pulled from their source as fast as the other side accepts them. Dropping an answer tells the
//! peer to stop. [`ALPN`] contains the version of the protocol, so peers of another version are
//! recognised in the handshake.
//!
//! A connection that is closed in good order closes with a promise: the peer did not look at
//! anything that it did not answer. So an exchange that meets a server which stops is sent again on
//! another connection. A reused connection on which a request gets no sign of life is replaced too;
//! only then, if the network delivered the request and lost every acknowledgement, may the peer
//! carry it out twice.
//!
//! Peers that cannot reach each other directly use a relay server, which sees only encrypted packets:
//! iroh's public ones, the program's own, or none, as [`Relays`] says. With the feature `mdns`, peers
//! on the local network find each other without addresses:
//! [`SyncTransport::discovered`](eidetica_proto::SyncTransport::discovered).
//!
//! Programs that already run an iroh endpoint pass it to [`IrohTransport::from_endpoint`], or, if
//! they speak other protocols on it, mount this one on their router with
//! [`IrohTransportBuilder::mount`]. Nothing else in this crate's interface contains types of iroh.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use eidetica_proto::{Caller, FrameStream, Service, SyncTransport};
//! use eidetica_transport_iroh::{IrohTransport, Relays};
//! use futures::{StreamExt, stream};
//!
//! /// Sends every frame back.
//! struct Echo;
//!
//! #[async_trait]
//! impl Service for Echo {
//!     async fn exchange(&self, _caller: Caller, request: FrameStream) -> FrameStream {
//!         request
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let local = || {
//!     let loopback = ([127, 0, 0, 1], 0).into();
//!     let builder = IrohTransport::builder().relays(Relays::Disabled).address_lookup(false);
//!     builder.bind_addr(loopback).bind()
//! };
//! let (server, client) = (local().await?, local().await?);
//! server.start_server(Arc::new(Echo)).await?;
//! let address = server.server_addresses().await.remove(0);
//!
//! let request = stream::iter([Ok(Bytes::from_static(b"hello"))]);
//! let mut answer = client.exchange(&address, Box::pin(request)).await?;
//! assert_eq!(answer.peer, Some(server.public_key()));
//! assert_eq!(answer.frames.next().await.transpose()?.as_deref(), Some(&b"hello"[..]));
//! assert!(answer.frames.next().await.is_none());
//!
//! client.close().await?;
//! server.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Caller::key`]: eidetica_proto::Caller::key
//! [`Response::peer`]: eidetica_proto::Response::peer

mod address;
mod alpn;
mod builder;
mod client;
#[cfg(feature = "mdns")]
mod discovery;
#[cfg(not(feature = "mdns"))]
#[path = "discovery/absent.rs"]
mod discovery;
mod error;
mod limits;
mod mount;
mod pool;
mod quota;
mod server;
mod stopping;
mod stream;
mod transport;

pub use address::KIND;
pub use alpn::ALPN;
pub use builder::{IrohTransportBuilder, Relays};
pub use limits::{CONNECT_TIMEOUT, IDLE_TIMEOUT, STALL_TIMEOUT, STOP_GRACE};
pub use mount::EideticaProtocol;
pub use transport::IrohTransport;
