//! One hub, and many clients in another process that watch it.

use std::process::Command;
use std::time::Duration;

use eidetica_dag::{Body, TreeId};
use eidetica_sync::proto::Address;
use eidetica_sync::{Node, SubscribeFrom};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use xtask_support::figures::quantile_ms;
use xtask_support::process::{Running, Supervisor, memory_kib};
use xtask_support::report::{Report, Table, Target, decimals, grouped, mib};
use xtask_support::{failed, now};

use super::counted::Counts;
use super::{WAIT_MAX, in_memory, open_tree, rest, sync};
use crate::nodes::runtime;

/// Writes a second at which all must keep up.
const WRITES_A_SECOND: u64 = 50;

/// Most memory of the hub: so much, and for each watcher.
const MEMORY_BYTES: u64 = 64 << 20;
const WATCHER_BYTES: u64 = 64 << 10;

/// Clients that watch a hub, for the benchmark of live copies.
#[derive(clap::Args)]
pub struct Watchers {
    count: usize,
    tree: TreeId,
    hub: Address,
}

pub async fn run(count: usize, seconds: u64) -> Result<Report, String> {
    let supervisor = Supervisor::start("live", false)?;
    let counts = Counts::default();
    let hub = in_memory("hub").await?;
    let address = counts.listen(&hub).await?;
    let tree = open_tree(&hub).await?;
    let idle = memory_kib("self", "VmRSS:").unwrap_or_default();
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args([
        "watchers",
        &count.to_string(),
        &tree.to_string(),
        address.as_str(),
    ]);
    let mut watchers = Running::start(
        &supervisor,
        "the watchers".into(),
        &mut command,
        "watchers.log",
        None,
    )?;

    let writes = WRITES_A_SECOND * seconds;
    let mut measured = Vec::new();
    for (name, order, written) in [
        ("by hand", "sync 1", 1),
        ("one write", "watch 1", 1),
        ("50 writes a second", "watch", writes),
    ] {
        let order = if written > 1 {
            format!("watch {written}")
        } else {
            order.into()
        };
        line(&mut watchers, &order).await?;
        rest(&counts).await;
        counts.take();
        write(&hub, tree, written).await?;
        let answer = line(&mut watchers, "done").await?;
        rest(&counts).await;
        measured.push((name, written, answer, counts.take()));
    }
    let used = memory_kib("self", "VmHWM:").unwrap_or_default();
    let bytes = used.saturating_sub(idle) << 10;
    watchers.close_input();
    watchers.finish(60)?.success()?;
    hub.shutdown().await.map_err(failed)?;

    let headings = &[
        "what",
        "median ms",
        "p99 ms",
        "last ms",
        "entries sent",
        "needed",
        "asked",
    ];
    let mut table = Table::new(
        "a hub in memory over HTTP, from a write until the watchers have it",
        headings,
    );
    let mut targets = [
        "one write: p99 of 400 ms",
        "50 writes a second: all keep up, p99 of 1 s",
        "no entry is sent twice to a watcher",
        "the hub takes 64 MiB and 64 KiB for each watcher",
    ]
    .map(Target::new);
    for (name, written, answer, cost) in measured {
        let needed = written * count as u64;
        targets[2].check(cost.entries == needed, || {
            format!("{name}: {} of {needed}", cost.entries)
        });
        let figures =
            ["median_ms", "p99_ms", "last_ms"].map(|it| answer[it].as_f64().unwrap_or(f64::MAX));
        let (target, most) = if written > 1 {
            (1, 1_000.0)
        } else {
            (0, 400.0)
        };
        targets[target].check(name == "by hand" || figures[1] <= most, || {
            format!("{count}: {:.0} ms", figures[1])
        });
        let figures = figures.map(|it| decimals(it, 1));
        table.push(
            [
                vec![format!("{name}, {count}")],
                figures.into(),
                vec![grouped(cost.entries), grouped(needed), cost.kinds()],
            ]
            .concat(),
        );
    }
    let share = MEMORY_BYTES + WATCHER_BYTES * count as u64;
    targets[3].check(bytes <= share, || {
        format!("{} of {} MiB", mib(bytes), mib(share))
    });
    let mut memory = Table::new(
        "memory of the hub over what it had without watchers",
        &["watchers", "peak MiB", "KiB a watcher"],
    );
    memory.push(vec![
        grouped(count as u64),
        mib(bytes),
        decimals(bytes as f64 / 1024.0 / count as f64, 1),
    ]);
    Ok(Report {
        tables: vec![table, memory],
        targets: targets.into(),
    })
}

/// Appends entries that carry the moment when they were written, in nanoseconds of the system's
/// monotonic clock, which all processes share.
async fn write(hub: &Node, tree: TreeId, count: u64) -> Result<(), String> {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / WRITES_A_SECOND));
    for _ in 0..count {
        ticks.tick().await;
        hub.append(tree, clock_ns().to_le_bytes().to_vec())
            .await
            .map_err(failed)?;
    }
    Ok(())
}

fn clock_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Gives an order and waits for its answer, without keeping the hub's threads from working.
async fn line(watchers: &mut Running, order: &str) -> Result<Value, String> {
    watchers.send(order)?;
    let line = tokio::task::block_in_place(|| watchers.line(now() + WAIT_MAX))?;
    serde_json::from_str(&line.ok_or("the watchers failed")?).map_err(failed)
}

/// Obeys orders until the input ends: what to do at the next write, and `done` to wait for it.
pub fn obey(options: &Watchers) -> Result<(), String> {
    runtime()?.block_on(async {
        let Watchers { count, tree, hub } = options;
        let mut nodes = Vec::new();
        for at in 0..*count {
            let node = in_memory(&format!("watcher {at}")).await?;
            sync(&node, *tree, hub).await?;
            nodes.push(node);
        }
        let (mut waiting, mut syncs) = (JoinSet::new(), false);
        let mut orders = BufReader::new(tokio::io::stdin()).lines();
        while let Some(order) = orders.next_line().await.map_err(failed)? {
            if order == "done" {
                for node in nodes.iter().filter(|_| syncs) {
                    let (node, tree, hub) = (node.clone(), *tree, hub.clone());
                    drop(tokio::spawn(async move { sync(&node, tree, &hub).await }));
                }
                println!("{}", answer(std::mem::take(&mut waiting)).await?);
                continue;
            }
            let (what, writes) = order.split_once(' ').ok_or("an order has no number")?;
            let writes = writes.parse().map_err(failed)?;
            syncs = what == "sync";
            if !syncs {
                for node in &nodes {
                    node.follow(*tree, hub.clone()).await.map_err(failed)?;
                }
                for node in &nodes {
                    for it in node.status() {
                        node.synced_with(*tree, it.peer, WAIT_MAX)
                            .await
                            .map_err(failed)?;
                    }
                }
            }
            for node in &nodes {
                let arriving = node
                    .subscribe(*tree, SubscribeFrom::Now)
                    .await
                    .map_err(failed)?;
                waiting.spawn(receive(arriving, writes));
            }
            println!("{{}}");
        }
        Ok(())
    })
}

/// Returns how long after it was written each of so many entries arrived.
async fn receive(
    mut arriving: eidetica_sync::Subscription,
    writes: usize,
) -> Result<Vec<Duration>, String> {
    let mut walls = Vec::new();
    while walls.len() < writes {
        let next = tokio::time::timeout(WAIT_MAX, arriving.next());
        let entry = next
            .await
            .map_err(failed)?
            .ok_or("a node is gone")?
            .map_err(failed)?;
        let Body::Data(data) = &entry.entry().body else {
            continue;
        };
        let written = u64::from_le_bytes(data[..].try_into().map_err(failed)?);
        walls.push(Duration::from_nanos(clock_ns().saturating_sub(written)));
    }
    Ok(walls)
}

async fn answer(waiting: JoinSet<Result<Vec<Duration>, String>>) -> Result<Value, String> {
    let all = waiting
        .join_all()
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let [median, p99, last] = [0.5, 0.99, 1.0].map(|share| quantile_ms(&all, share));
    Ok(json!({ "median_ms": median, "p99_ms": p99, "last_ms": last }))
}
