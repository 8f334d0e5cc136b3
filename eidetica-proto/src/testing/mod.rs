//! What tests share: links between two replicas without any I/O, a network in memory, and the
//! rules that every transport passes.

pub mod conformance;
mod fault;
pub mod fuzz;
mod link;
mod memory;
mod pipe;
mod streams;
mod transcript;
mod watch_link;

pub use fault::{ExchangeInfo, Fault};
pub use link::{Broken, LINK_LOG, Link, Run, Way};
pub use memory::{MemoryNetwork, MemoryTransport, MemoryTransportBuilder};
pub use pipe::{Timer, Wait};
pub use streams::{collect_frames, echo, frames_of, service_fn};
pub use watch_link::{MemoryTrees, WatchLink};

#[cfg(test)]
mod tests;
