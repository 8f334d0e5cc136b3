//! Faults that a test injects into a [`MemoryNetwork`](super::MemoryNetwork).

use crate::address::Address;

/// What goes wrong with one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The exchange is refused, as if nobody listened.
    Refuse,
    /// The peer has no room: the exchange is refused as busy.
    Busy,
    /// The exchange vanishes: the service never hears of it, and no answer comes.
    Stall,
    /// The connection breaks when this many frames of the request have passed.
    CutRequest {
        /// How many frames the service still gets.
        after_frames: usize,
    },
    /// The connection breaks when this many frames of the answer have passed.
    CutResponse {
        /// How many frames the caller still gets.
        after_frames: usize,
    },
    /// The answer stops to come when this many of its frames have passed.
    StallResponse {
        /// How many frames the caller still gets.
        after_frames: usize,
    },
}

/// What a hook is told of an exchange before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeInfo {
    /// How many exchanges began on this network before this one.
    pub number: u64,
    /// The name of the transport that begins it.
    pub from: String,
    /// Where it goes.
    pub to: Address,
}
