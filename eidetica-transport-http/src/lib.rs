//! Carries Eidetica frames over HTTP.
//!
//! An exchange is one `POST /eidetica/v2/exchange`. Its body is the frames of the request, the body
//! of the answer is the frames of the answer. Both are streamed, so that a slow reader slows the
//! other side down and no side holds a whole body. The path contains the version of the protocol.
//!
//! A body is the frames, each after its length, and then the **end mark**: four bytes `ff`, a
//! length that no frame has. HTTP's own end of a body is not trusted, because a body that was cut
//! can look complete: through a proxy that speaks HTTP/1.0 to the server, and after an HTTP/2 reset
//! without error. So a body without its mark is a lost connection.
//!
//! An answer may live for ever: each whole frame restores the caller's patience, each frame is sent
//! as soon as it exists, and headers tell proxies not to hold it back.
//!
//! The server speaks HTTP/1.1 and HTTP/2 (by prior knowledge) on one port. If it is given a
//! [`JsonApi`], it also answers `GET` requests of people and scripts below `/eidetica/v2/`.
//!
//! # Secrecy
//!
//! Addresses are `http:host:port`, and with the feature `tls` also `https:host:port`. A path may
//! follow, for servers below a path of a proxy.
//!
//! **Over `http`, anyone on the path reads everything**: the signatures of entries and requests
//! prove who speaks, they hide nothing. Use `https` or iroh, unless all that is sent is public or
//! the network is trusted. A server speaks TLS with a certificate that an authority has signed, or
//! with its own, which its clients then need (`ServerTls`, `ClientTls`); or a proxy speaks TLS for
//! it. TLS proves the server's name to the client. This transport does not prove the keys of peers,
//! over `https` no more than over `http`.
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
mod date;
mod drain;
mod error;
mod hosts;
mod json;
mod json_api;
pub mod limits;
mod options;
mod places;
mod pool;
mod quota;
mod reader;
mod routes;
mod server;
mod serving;
mod settings;
mod stopping;
mod sync;
mod tasks;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub use address::address_of_url;
pub use builder::HttpTransportBuilder;
pub use json_api::{JsonApi, JsonApiError};
pub use options::{Deadlines, HttpVersion};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, ServerTls, TlsError};
pub use transport::HttpTransport;
