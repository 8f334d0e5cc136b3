//! What tests share: a link between two replicas without any I/O, a network in memory, and the
//! rules that every transport passes.

pub mod conformance;
mod fault;
pub mod fuzz;
mod link;
mod memory;
mod pipe;
mod streams;
mod transcript;

pub use fault::{ExchangeInfo, Fault};
pub use link::{Broken, Link, Run, Way};
pub use memory::{MemoryNetwork, MemoryTransport, MemoryTransportBuilder};
pub use pipe::{Timer, Wait};
pub use streams::{collect_frames, echo, frames_of, service_fn};

#[cfg(test)]
mod tests;
