//! Carries Eidetica's frames over iroh: QUIC between peers that are named by their keys, through
//! NATs, with relays where nothing else gets through.
//!
//! The node's Ed25519 key is the endpoint's key, so every connection proves both ends: a service
//! sees the caller's key in [`Caller::key`], and the asking side finds the peer's in
//! [`Response::peer`]. An address is `iroh:<endpoint ticket>`, which says where the endpoint is, or
//! `iroh:<endpoint id>`, which leaves that to address lookup.
//!
//! One exchange is one bidirectional QUIC stream of length-prefixed frames; the exchanges with one
//! peer share one connection. A stream that was finished has a clean end, one that was reset or
//! whose connection broke has not, and the two are never confused. Backpressure is QUIC's: frames
//! are pulled from their source as fast as the other side takes them. Dropping an answer tells the
//! peer to stop. The protocol's version is in the ALPN, [`ALPN`], so peers of another version are
//! told apart in the handshake.
//!
//! A connection that is closed in good order closes with a promise: whatever was not answered on it
//! was not looked at. So an exchange that meets a server on its way out is begun again on another
//! connection, and is never carried out twice.
//!
//! Programs that run an iroh endpoint already pass it to [`IrohTransport::from_endpoint`], or, if
//! they speak other protocols on it, mount ours on their router: [`IrohTransportBuilder::mount`].
//! Nowhere else does this crate's interface hold types of iroh.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use eidetica_proto::transport::{InspectError, Inspection, Question};
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
//!
//!     async fn inspect(&self, _question: Question) -> Result<Inspection, InspectError> {
//!         Err(InspectError::NotFound)
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
mod builder;
mod client;
mod error;
mod limits;
mod mount;
mod server;
mod stream;
mod transport;

pub use address::KIND;
pub use builder::{IrohTransportBuilder, Relays};
pub use limits::{CONNECT_TIMEOUT, IDLE_TIMEOUT, STALL_TIMEOUT, STOP_GRACE};
pub use mount::EideticaProtocol;
pub use transport::IrohTransport;

/// The protocol and its version, as QUIC's handshake negotiates them.
pub const ALPN: &[u8] = ALPN_TEXT.as_bytes();

const ALPN_TEXT: &str = "eidetica/2";

// The version stands in the text above because a constant cannot be formatted.
const _: () = assert!(eidetica_proto::PROTOCOL_VERSION == 2);
