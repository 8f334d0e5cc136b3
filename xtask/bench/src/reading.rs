//! How fast a program reads a large tree.

use std::sync::Arc;

use eidetica_sync::http::HttpTransport;
use eidetica_sync::proto::receiver::APPEND_BYTES_TARGET;
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use eidetica_sync::{Node, SubscribeFrom};
use futures::StreamExt;
use xtask_support::figures::quantile_ms;
use xtask_support::report::{Report, Table, Target, decimals, grouped};
use xtask_support::{failed, now};

use crate::history::{History, Shape, Text};
use crate::nodes::{key, runtime, start_with};

/// What a program reads of a large tree: all of it, in both orders, and what is new
#[derive(clap::Args)]
pub struct Options {
    /// Entries of the tree
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Repetitions of the short questions
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

/// Entries that are new since a program has looked.
const NEW: usize = 10;

/// Measures both stores.
pub fn run(options: &Options) -> Result<Report, String> {
    let headings = &[
        "store",
        "entries",
        "subscription, entries/s",
        "log, first entry ms",
        "log, entries/s",
        "10 new: median ms",
    ];
    let mut report = Report {
        tables: vec![Table::new("reading a tree", headings)],
        targets: vec![
            Target::new("a subscription from the start of at least 300,000 entries/s on redb"),
            Target::new("the first entry of the log of a million within 200 ms on redb"),
            Target::new("what came after a frontier within 1 ms on redb"),
        ],
    };
    let shape = Shape {
        entries: options.entries,
        payload_bytes: 200,
    };
    let history = History::sign(shape);
    let folder = tempfile::tempdir().map_err(failed)?;
    let redb = RedbStore::open(folder.path().join("store")).map_err(failed)?;
    let stores: [(&str, Arc<dyn Store>); 2] = [
        ("memory", Arc::new(MemoryStore::new())),
        ("redb", Arc::new(redb)),
    ];
    for (name, store) in stores {
        for step in history.steps(APPEND_BYTES_TARGET) {
            store.append(history.tree, step.to_vec()).map_err(failed)?;
        }
        let read = runtime()?.block_on(async {
            let node = start_with(store, key("reader"), HttpTransport::builder().build())?;
            measure(&node, &history, options.rounds).await
        })?;
        if name == "redb" {
            let [subscription, first, new] = &mut report.targets[..] else {
                return Err("three targets".to_owned());
            };
            subscription.check(read.subscribed_per_s >= 300_000.0, || {
                grouped(read.subscribed_per_s as u64)
            });
            first.check(read.first_ms <= 200.0, || decimals(read.first_ms, 1));
            new.check(read.new_ms <= 1.0, || decimals(read.new_ms, 2));
        }
        report.tables[0].push(vec![
            name.into(),
            grouped(options.entries as u64),
            grouped(read.subscribed_per_s as u64),
            decimals(read.first_ms, 1),
            grouped(read.log_per_s as u64),
            decimals(read.new_ms, 2),
        ]);
    }
    Ok(report)
}

struct Measured {
    subscribed_per_s: f64,
    first_ms: f64,
    log_per_s: f64,
    new_ms: f64,
}

async fn measure(node: &Node, history: &History, rounds: usize) -> Result<Measured, String> {
    let (tree, count) = (history.tree, history.entries.len());
    let before = now();
    let entries = node
        .subscribe(tree, SubscribeFrom::Start)
        .await
        .map_err(failed)?;
    let mut entries = entries.take(count);
    while let Some(entry) = entries.next().await {
        entry.map_err(failed)?;
    }
    let subscribed = before.elapsed();

    let mut firsts = Vec::new();
    for _ in 0..rounds.clamp(1, 5) {
        let before = now();
        let mut log = node.log(tree).await.map_err(failed)?;
        log.next().ok_or("an empty log")?.map_err(failed)?;
        firsts.push(before.elapsed());
    }
    let before = now();
    for entry in node.log(tree).await.map_err(failed)? {
        entry.map_err(failed)?;
    }
    let logged = before.elapsed();

    let mut text = Text::new();
    let mut news = Vec::new();
    for _ in 0..rounds {
        let known = node.tips(tree).await.map_err(failed)?;
        let lines = (0..NEW).map(|_| text.line(200)).collect();
        node.append_all(tree, lines).await.map_err(failed)?;
        let before = now();
        let new = node.entries_since(tree, known).await.map_err(failed)?;
        if new.count() != NEW {
            return Err("other entries are new than were written".to_owned());
        }
        news.push(before.elapsed());
    }
    Ok(Measured {
        subscribed_per_s: count as f64 / subscribed.as_secs_f64(),
        first_ms: quantile_ms(&firsts, 0.5),
        log_per_s: count as f64 / logged.as_secs_f64(),
        new_ms: quantile_ms(&news, 0.5),
    })
}
