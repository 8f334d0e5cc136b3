//! Eidetica's own machines over a link in memory: real frames, counted with their prefixes.

use eidetica_proto::SyncOptions;
use eidetica_replicas::sync;

use crate::pair::{Cost, Pair, Peer};

/// With the filter in the first request, and with the tips alone as the periodic check does.
pub struct Ours;

impl Peer for Ours {
    fn names(&self) -> &'static [&'static str] {
        &["eidetica", "eidetica, tips first"]
    }

    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String> {
        let seed = pair.world.entries[pair.orders[1].len() - 1]
            .get()
            .id()
            .prefix();
        let pull = |filter_at_once| {
            let options = SyncOptions {
                push: false,
                filter_at_once,
            };
            let heads = [&pair.heads[0][..], &pair.heads[1]];
            let exchange = sync(pair.world, heads, options, seed.to_le_bytes())?;
            Ok(Cost {
                round_trips: exchange.round_trips.into(),
                bytes: exchange.request_bytes.iter().sum::<u64>() + exchange.response_bytes,
                redundant: exchange.redundant,
            })
        };
        [true, false].into_iter().map(pull).collect()
    }
}
