//! The sans-IO protocol that makes two copies of an Eidetica tree equal.

pub mod address;
pub mod frame;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
pub mod transport;

pub use eidetica_dag;

pub use address::{Address, AddressError};
pub use transport::{
    Caller, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

/// The protocol version spoken here. It stands in iroh's ALPN and in HTTP's path.
pub const PROTOCOL_VERSION: u16 = 1;
