//! Eidetica's own machines over a link in memory: real frames, counted with their prefixes.

use eidetica_proto::SyncOptions;
use eidetica_replicas::sync;

use crate::pair::{Cost, Pair, Peer};

/// With the filter in the first request.
pub struct Ours;

impl Peer for Ours {
    fn names(&self) -> &'static [&'static str] {
        &["eidetica"]
    }

    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String> {
        let seed = pair.world.entries[pair.orders[1].len() - 1]
            .get()
            .id()
            .prefix();
        let options = SyncOptions {
            push: false,
            ..SyncOptions::default()
        };
        let heads = [&pair.heads[0][..], &pair.heads[1]];
        let exchange = sync(pair.world, heads, options, seed.to_le_bytes())?;
        Ok(vec![Cost {
            round_trips: exchange.round_trips.into(),
            bytes: exchange.request_bytes.iter().sum::<u64>() + exchange.response_bytes,
            redundant: exchange.redundant,
        }])
    }
}
