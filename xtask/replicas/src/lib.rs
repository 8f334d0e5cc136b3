//! Replicas that diverged on histories of every shape, and syncs between them in memory.
//!
//! The benchmark of negotiation measures them, and the comparison with other protocols, which is a
//! workspace of its own.

pub mod shapes;
mod sync;
mod world;

pub use sync::{Exchange, sync};
pub use world::World;
