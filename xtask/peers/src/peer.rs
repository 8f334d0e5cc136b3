//! What all contestants have in common.

use std::time::{Duration, Instant};

use crate::workload::Pair;

/// What it cost A to get everything that B has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Times that A spoke and waited for B's answer.
    pub round_trips: u64,
    /// Bytes both ways, those of the entries themselves left out.
    pub negotiation_bytes: u64,
    /// Entries that A was sent and had.
    pub redundant: u64,
    /// Time on the wall for both sides together; setting up the replicas is left out.
    pub elapsed: Duration,
}

/// A protocol, or several ways to use one.
pub trait Peer {
    /// The names of the ways.
    fn names(&self) -> &'static [&'static str];

    /// Lets A fetch from B in each of the ways, and checks that nothing is missing afterwards.
    fn fetch(&self, pair: &Pair) -> Result<Vec<Cost>, String>;
}

/// Returns the moment from which a time is taken.
#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this program is for"
)]
pub fn start() -> Instant {
    Instant::now()
}
