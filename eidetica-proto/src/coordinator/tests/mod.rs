//! The coordinator against a simulated world, in virtual time.

mod awaited;
mod ends;
mod exchange;
mod fair;
mod faults;
mod lanes;
mod random;
mod scale;
mod sim;
mod swaps;

use eidetica_dag::{EntryId, TreeId};

use super::*;
use sim::Sim;

const PULL: FollowOptions = FollowOptions {
    pull: true,
    push: false,
    give: false,
};

/// Returns a world in which these trees are shared with these peers, and settled.
fn shared(numbers: std::ops::Range<u32>, trees: std::ops::Range<u32>) -> Sim {
    let mut sim = Sim::new(Options::default(), 1);
    sim.with_peers(numbers, trees);
    sim.run_for(2_000);
    sim
}

fn tree(number: u32) -> TreeId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    TreeId::from_root(EntryId::from_bytes(bytes))
}

fn peer(number: u32) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PeerId::from_bytes(bytes)
}
