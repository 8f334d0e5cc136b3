//! The network: a transport in memory with delays, partitions, cuts, hung and lying nodes.

mod replay;
mod state;
mod transport;
mod ways;
mod witness;

pub use state::Network;
pub use transport::SimTransport;
