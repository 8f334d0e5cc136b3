//! Faults that a test injects into a [`MemoryNetwork`](super::MemoryNetwork).

use crate::address::Address;

/// What goes wrong with one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The exchange is refused, as if no server listened.
    Refuse,
    /// The peer has no room: the exchange is refused as busy.
    Busy,
    /// The exchange vanishes: the service never sees it, and no answer arrives.
    Stall,
    /// The connection is lost after this many frames of the request.
    CutRequest {
        /// How many frames the service still receives.
        after_frames: usize,
    },
    /// The connection is lost after this many frames of the answer.
    CutResponse {
        /// How many frames the caller still receives.
        after_frames: usize,
    },
    /// The answer stalls after this many of its frames.
    StallResponse {
        /// How many frames the caller still receives.
        after_frames: usize,
    },
}

/// An exchange that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeInfo {
    /// How many exchanges began on this network before it.
    pub number: u64,
    /// The name of the transport that begins it.
    pub from: String,
    /// Its destination.
    pub to: Address,
}
