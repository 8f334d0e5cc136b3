//! Replicas that diverged on histories of every shape, and syncs between them in memory.
//!
//! The benchmarks of negotiation measure them, and the comparison with other protocols, which is a
//! workspace of its own.

pub mod clock;
pub mod link;
pub mod shapes;
pub mod world;
