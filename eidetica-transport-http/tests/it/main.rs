//! The transport over real sockets on the loopback interface.

mod conformance;
mod limits;
mod long_lived;
mod server;
mod stage;
mod statuses;
#[cfg(feature = "tls")]
mod tls;
