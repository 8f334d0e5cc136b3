//! What tests of transports and of their users share: a network in memory, and the rules that
//! every transport passes.

pub mod conformance;
mod fault;
mod memory;
mod pipe;
mod streams;

pub use fault::{ExchangeInfo, Fault};
pub use memory::{MemoryNetwork, MemoryTransport, MemoryTransportBuilder, Timer, Wait};
pub use streams::{collect_frames, echo, frames_of, service_fn};

#[cfg(test)]
mod tests;
