//! Carries Eidetica frames over HTTP.
//!
//! An exchange is one `POST /eidetica/v2/exchange`. Its body is the request's frames, the body of
//! the answer is the answer's frames; both are streamed, so that whoever reads slowly slows the
//! other side down and nobody holds a whole body. The version of the protocol stands in the path.
//!
//! A body is the frames, each with its length before it, and then the **end mark**: four bytes
//! `ff`, a length that no frame has. HTTP's own end of a body is not believed, because a body that
//! was cut can look complete: behind a proxy that speaks HTTP/1.0 to the server, and after an
//! HTTP/2 reset without error. So a body without its mark is a lost connection.
//!
//! The server speaks HTTP/1.1 and HTTP/2 (by prior knowledge) on one port, and answers a few
//! read-only questions in JSON for people and scripts:
//!
//! ```text
//! GET /eidetica/v2/health
//! GET /eidetica/v2/trees
//! GET /eidetica/v2/trees/<tree>/tips
//! GET /eidetica/v2/trees/<tree>/entries/<entry>
//! ```
//!
//! # Secrecy
//!
//! Addresses are `http:host:port`, and with the feature `tls` also `https:host:port`.
//!
//! **Over `http`, whoever listens on the way reads everything**: the signatures of entries and
//! requests prove who speaks, they hide nothing. Use `https`, or iroh, unless all that is sent is
//! public or the network is trusted. A server speaks TLS with a certificate that an authority has
//! signed, or with one that it makes itself and whose clients are given it (`ServerTls`,
//! `ClientTls`); or a proxy before it does. TLS proves the server's name to the client; keys of
//! peers are not proven by this transport, over `https` no more than over `http`.
//!
//! Every wait has a deadline ([`Deadlines`]) and everything that can pile up has a limit
//! ([`limits`]). All tasks belong to the transport: none outlives
//! [`stop_server`](eidetica_proto::SyncTransport::stop_server) and
//! [`close`](eidetica_proto::SyncTransport::close), or the value itself.
//!
//! ```
//! use eidetica_proto::testing::{collect_frames, echo, frames_of};
//! use eidetica_proto::SyncTransport;
//! use eidetica_transport_http::HttpTransport;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let server = HttpTransport::builder().bind("127.0.0.1:0".parse()?).build();
//! server.start_server(echo()).await?;
//! let address = &server.server_addresses().await[0];
//!
//! let client = HttpTransport::builder().build();
//! let response = client.exchange(address, frames_of(["hello"])).await?;
//! assert_eq!(collect_frames(response.frames).await?, ["hello"]);
//!
//! client.close().await?;
//! server.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod body;
mod builder;
mod client;
mod clock;
mod connection;
mod drain;
mod error;
mod json;
pub mod limits;
mod reader;
mod routes;
mod server;
mod tasks;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub use builder::{Deadlines, HttpTransportBuilder, HttpVersion};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls, TlsError};
pub use transport::HttpTransport;
