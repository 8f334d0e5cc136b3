//! The sans-IO protocol that makes two copies of an Eidetica tree equal.

pub mod address;
pub mod backoff;
pub mod filter;
pub mod frame;
pub mod ticket;
pub mod transport;

pub use address::{Address, AddressError};
pub use backoff::{Backoff, BackoffPolicy};
pub use filter::{Filter, FilterBudget, FilterError, FilterMatcher};
pub use ticket::{InviteSecret, Ticket, TicketError};
pub use transport::{
    Caller, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

/// The protocol version spoken here. It stands in iroh's ALPN and in HTTP's path.
pub const PROTOCOL_VERSION: u16 = 1;
