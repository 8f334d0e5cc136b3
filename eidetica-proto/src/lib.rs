//! The sans-IO protocol that makes two copies of an Eidetica tree equal.

pub mod address;
pub mod answer;
pub mod backoff;
pub mod batch;
pub mod error;
pub mod filter;
pub mod frame;
mod intake;
pub mod message;
mod outgoing;
pub mod schedule;
pub mod session;
#[cfg(any(test, feature = "test-utils"))]
pub mod testing;
pub mod ticket;
pub mod transport;

pub use eidetica_dag;

pub use address::{Address, AddressError};
pub use backoff::{Backoff, BackoffPolicy};
pub use error::{ErrorCode, PeerFault, WireError};
pub use filter::{Filter, FilterBudget, FilterError, FilterMatcher};
pub use intake::{Received, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX};
pub use outgoing::Outgoing;
pub use schedule::{Cause, Schedule, Standing};
pub use session::{Ending, Progress, Report, Stats, Step, SyncFault, SyncOptions, SyncSession};
pub use ticket::{InviteSecret, Ticket, TicketError};
pub use transport::{
    Caller, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

/// The protocol version spoken here. It stands in iroh's ALPN and in HTTP's path.
pub const PROTOCOL_VERSION: u16 = 1;
