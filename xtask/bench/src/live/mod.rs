//! How fast copies become equal by themselves, and what that costs, beside syncs by hand between
//! the same nodes in the same run.

mod counted;
mod faults;
mod hub;
mod latency;
mod line;
mod many;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use eidetica_dag::{AccessChange, Role, Subject, TreeId};
use eidetica_sync::Node;
use eidetica_sync::proto::Address;
use eidetica_sync::store::MemoryStore;
use futures::StreamExt;
use xtask_support::report::Report;
use xtask_support::{failed, now};

use crate::nodes::{Transport, runtime, start};
use counted::Counts;
pub use hub::{Watchers, obey};

/// Copies that stay equal by themselves: latency, exchanges and bytes
#[derive(clap::Args)]
pub struct Options {
    /// Only these rows
    #[arg(long, value_delimiter = ',', default_values = ["latency", "line", "hub", "many", "away", "writers", "faults"])]
    row: Vec<Row>,
    /// Small sizes, to see whether everything works
    #[arg(long)]
    quick: bool,
    /// Clients that watch the hub; 200, or 20 if quick
    #[arg(long)]
    watchers: Option<usize>,
    /// Trees that two nodes share; 2000, or 100 if quick
    #[arg(long)]
    trees: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    Latency,
    Line,
    Hub,
    Many,
    Away,
    Writers,
    Faults,
}

/// How long anything may take before the benchmark gives up.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Measures the chosen rows. Each is printed as soon as it is measured.
pub fn run(options: &Options) -> Result<Report, String> {
    let size = |asked: Option<usize>, whole, quick| {
        asked.unwrap_or(if options.quick { quick } else { whole })
    };
    let quick = options.quick;
    let mut targets = Vec::new();
    for row in &options.row {
        let rows = async {
            match row {
                Row::Latency => latency::run(if quick { 20 } else { 300 }).await,
                Row::Line => line::run(if quick { &[6] } else { &[20] }).await,
                Row::Hub => {
                    hub::run(size(options.watchers, 200, 20), if quick { 2 } else { 10 }).await
                }
                Row::Many => many::run(size(options.trees, 2_000, 100), quick).await,
                Row::Away => faults::away(Duration::from_secs(if quick { 5 } else { 60 })).await,
                Row::Writers => writers::run(if quick { 50 } else { 1_000 }).await,
                Row::Faults => faults::peers(if quick { 20 } else { 100 }).await,
            }
        };
        let report = runtime()?.block_on(rows)?;
        for table in &report.tables {
            println!("{table}");
        }
        targets.extend(report.targets);
    }
    let tables = Vec::new();
    Ok(Report { tables, targets })
}

/// Waits until no exchange has begun for a while.
async fn rest(counts: &Counts) {
    loop {
        let before = counts.begun();
        tokio::time::sleep(Duration::from_millis(400)).await;
        if counts.begun() == before {
            return;
        }
    }
}

/// Starts a node with a store in memory that speaks HTTP.
async fn in_memory(name: &str) -> Result<Node, String> {
    start(name, Arc::new(MemoryStore::new()), Transport::Http).await
}

/// Creates a tree that anyone may write to.
async fn open_tree(node: &Node) -> Result<TreeId, String> {
    let anyone = AccessChange::grant(Subject::Anyone, Role::Write);
    node.create_tree("live", vec![anyone]).await.map_err(failed)
}

/// Syncs by hand.
async fn sync(node: &Node, tree: TreeId, address: &Address) -> Result<(), String> {
    node.sync(tree, address.clone())
        .await
        .map(drop)
        .map_err(failed)
}

fn entries(node: &Node, tree: TreeId) -> Result<u32, String> {
    Ok(node.store().snapshot(tree).map_err(failed)?.entry_count())
}

/// Waits until a node has so many entries of a tree. Returns how long that took.
async fn until(node: &Node, tree: TreeId, count: u32) -> Result<Duration, String> {
    let (began, mut events) = (now(), node.events());
    while entries(node, tree)? < count {
        match tokio::time::timeout(WAIT_MAX, events.next()).await {
            Ok(Some(_)) => {}
            _ => {
                return Err(format!(
                    "{} of {count} entries arrived",
                    entries(node, tree)?
                ));
            }
        }
    }
    Ok(began.elapsed())
}

/// Waits until every node has so many entries of a tree.
async fn until_all(nodes: &[Node], tree: TreeId, count: u32) -> Result<Duration, String> {
    let began = now();
    for node in nodes {
        until(node, tree, count).await?;
    }
    Ok(began.elapsed())
}
