//! The coordinator against a simulated world, in virtual time.

mod awaited;
mod exchange;
mod fair;
mod faults;
mod lanes;
mod random;
mod scale;
mod sim;

use eidetica_dag::{EntryId, TreeId};

use super::*;

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
