//! How long a sync takes over a warm connection.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_sync::Node;
use eidetica_sync::proto::receiver::APPEND_BYTES_TARGET;
use eidetica_sync::proto::{Address, SyncOptions, SyncOutcome};
use eidetica_sync::store::{RedbStore, Store};
use xtask_support::figures::quantile_ms;
use xtask_support::report::{Report, Table, Target, decimals, grouped};
use xtask_support::{failed, now};

use crate::history::{History, Shape, Text};
use crate::nodes::{Transport, listen, runtime, start};

/// Syncs over a warm connection: nothing new, one entry, both wrote ten
#[derive(clap::Args)]
pub struct Options {
    /// Entries of the tree
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    entries: Vec<usize>,
    /// The transports
    #[arg(long, default_values = ["http", "iroh"])]
    via: Vec<Transport>,
    /// Syncs of each kind
    #[arg(long, default_value_t = 200)]
    rounds: usize,
}

/// Syncs that are not counted, so that connections are open and caches are filled.
const WARM_UP_ROUNDS: usize = 5;

/// Most bytes that a sync of equal trees takes in either direction.
const NO_OP_BYTES_MAX: u64 = 120;

/// What the client and the server write before a sync.
const KINDS: [(&str, [usize; 2]); 3] = [
    ("in sync", [0, 0]),
    ("one new entry", [0, 1]),
    ("both wrote 10", [10, 10]),
];

/// Measures every size over every transport.
pub fn run(options: &Options) -> Result<Report, String> {
    let headings = &[
        "over",
        "entries",
        "sync",
        "median ms",
        "p99 ms",
        "bytes, one way",
    ];
    let mut table = Table::new("syncs over a warm connection, durable stores", headings);
    let mut small = Target::new("120 bytes in either direction if the trees are in sync");
    for &entries in &options.entries {
        let shape = Shape {
            entries,
            payload_bytes: 200,
        };
        let history = History::sign(shape);
        for &transport in &options.via {
            let measured = runtime()?.block_on(measure(&history, transport, options.rounds))?;
            for ((kind, written), (walls, bytes)) in KINDS.into_iter().zip(measured) {
                let is_small = written != [0, 0] || bytes <= NO_OP_BYTES_MAX;
                small.check(is_small, || {
                    format!("{}, {entries}: {bytes}", transport.name())
                });
                table.push(vec![
                    transport.name().into(),
                    grouped(entries as u64),
                    kind.into(),
                    decimals(quantile_ms(&walls, 0.5), 2),
                    decimals(quantile_ms(&walls, 0.99), 2),
                    grouped(bytes),
                ]);
            }
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: vec![small],
    })
}

/// Returns for each kind how long its syncs took, and the most bytes in one direction.
async fn measure(
    history: &History,
    transport: Transport,
    rounds: usize,
) -> Result<Vec<(Vec<Duration>, u64)>, String> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let mut nodes = Vec::new();
    for name in ["client", "server"] {
        let store = RedbStore::open(folder.path().join(name)).map_err(failed)?;
        for step in history.steps(APPEND_BYTES_TARGET) {
            store.append(history.tree, step.to_vec()).map_err(failed)?;
        }
        nodes.push(start(name, Arc::new(store), transport).await?);
    }
    let address = listen(&nodes[1]).await?;
    let mut text = Text::new();
    let mut all = Vec::new();
    for (_, written) in KINDS {
        let (mut walls, mut bytes_max) = (Vec::new(), 0);
        for round in 0..WARM_UP_ROUNDS + rounds {
            for (node, count) in nodes.iter().zip(written) {
                let lines = (0..count).map(|_| text.line(200)).collect();
                node.append_all(history.tree, lines).await.map_err(failed)?;
            }
            // Where nothing is new, the node only asks whether there is: with its tips.
            let filter_at_once = written != [0, 0];
            let (wall, bytes) = sync(&nodes[0], history.tree, &address, filter_at_once).await?;
            if round >= WARM_UP_ROUNDS {
                walls.push(wall);
                bytes_max = bytes_max.max(bytes);
            }
        }
        all.push((walls, bytes_max));
    }
    for node in nodes {
        node.shutdown().await.map_err(failed)?;
    }
    Ok(all)
}

async fn sync(
    client: &Node,
    tree: TreeId,
    server: &Address,
    filter_at_once: bool,
) -> Result<(Duration, u64), String> {
    let options = SyncOptions {
        filter_at_once,
        ..SyncOptions::default()
    };
    let before = now();
    let begun = client
        .begin_sync(tree, server.clone(), options)
        .await
        .map_err(failed)?;
    let report = begun.finish().await.map_err(failed)?;
    let wall = before.elapsed();
    if report.outcome != SyncOutcome::Equal {
        return Err(format!("a sync ended with {:?}", report.outcome));
    }
    let stats = report.stats;
    let sent = stats.request_bytes + stats.sent_bytes;
    Ok((wall, sent.max(stats.response_bytes + stats.received_bytes)))
}
