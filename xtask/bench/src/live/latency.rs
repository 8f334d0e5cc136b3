//! From an append on one node until a subscriber on another has it.

use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::proto::Address;
use eidetica_sync::store::{MemoryStore, RedbStore, Store};
use eidetica_sync::{Node, SubscribeFrom};
use futures::StreamExt;
use xtask_support::figures::quantile_ms;
use xtask_support::report::{Report, Table, Target, decimals};
use xtask_support::{failed, now};

use super::counted::Counts;
use super::{WAIT_MAX, open_tree, rest, sync};
use crate::history::Text;
use crate::nodes::{Transport, start};

/// Who writes and who follows. The client accepts no connections unless both follow.
const WAYS: [&str; 3] = ["server to client", "client to server", "both follow"];

/// Pause between two writes, so that what each costs is seen.
const PAUSE: Duration = Duration::from_millis(5);

pub async fn run(writes: usize) -> Result<Report, String> {
    let headings = &[
        "store",
        "over",
        "way",
        "median ms",
        "p99 ms",
        "limit ms",
        "by hand median",
        "by hand p99",
        "exchanges a write",
        "bytes a write",
        "by hand",
        "copies sent",
        "asked",
    ];
    let mut table = Table::new("from an append until a subscriber has it", headings);
    let targets = [
        "durable: median within 1.5 × (two durable appends and half an exchange)",
        "durable: p99 of 20 ms",
        "in memory: median of 1 ms",
        "one exchange and 700 bytes for each write, each entry sent once",
    ];
    let mut targets = targets.map(Target::new);
    for is_durable in [true, false] {
        for via in [Transport::Http, Transport::Iroh] {
            for way in WAYS {
                let row = measure(is_durable, via, way, writes, &mut targets).await?;
                table.push(row);
            }
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: targets.into(),
    })
}

async fn measure(
    is_durable: bool,
    via: Transport,
    way: &str,
    writes: usize,
    targets: &mut [Target; 4],
) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let counts = Counts::default();
    let store = |name: &str| -> Result<Arc<dyn Store>, String> {
        Ok(match is_durable {
            true => Arc::new(RedbStore::open(folder.path().join(name)).map_err(failed)?),
            false => Arc::new(MemoryStore::new()),
        })
    };
    let server = start("server", store("server")?, via).await?;
    let client = start("client", store("client")?, via).await?;
    let address = counts.listen(&server).await?;
    let tree = open_tree(&server).await?;
    sync(&client, tree, &address).await?;
    let (writer, reader) = match way {
        "client to server" => (&client, &server),
        _ => (&server, &client),
    };

    let mut text = Text::new();
    let (alone, mut appends, mut exchanges, mut by_hand) =
        (open_tree(writer).await?, vec![], vec![], vec![]);
    counts.take();
    for _ in 0..writes {
        let began = now();
        writer.append(tree, text.line(200)).await.map_err(failed)?;
        sync(&client, tree, &address).await?;
        by_hand.push(began.elapsed());
    }
    let hand_cost = counts.take();
    for _ in 0..writes {
        let began = now();
        sync(&client, tree, &address).await?;
        exchanges.push(began.elapsed());
    }

    follow(&client, &server, tree, address).await?;
    if way == "both follow" {
        let back = counts.listen(&client).await?;
        follow(&server, &client, tree, back).await?;
    }
    rest(&counts).await;
    let mut live = Vec::new();
    let mut arriving = reader
        .subscribe(tree, SubscribeFrom::Now)
        .await
        .map_err(failed)?;
    counts.take();
    for _ in 0..writes {
        let began = now();
        let id = writer.append(tree, text.line(200)).await.map_err(failed)?;
        let next = tokio::time::timeout(WAIT_MAX, arriving.next());
        let next = next.await.map_err(failed)?.transpose().map_err(failed)?;
        live.push(began.elapsed());
        // Beside each write, for the disk's speed varies.
        let began = now();
        writer.append(alone, text.line(200)).await.map_err(failed)?;
        appends.push(began.elapsed());
        if next.is_none_or(|entry| entry.id() != id) {
            return Err("another entry arrived than was written".into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let cost = counts.take();
    for node in [&client, &server] {
        node.shutdown().await.map_err(failed)?;
    }

    let limit = 1.5 * (2.0 * quantile_ms(&appends, 0.5) + quantile_ms(&exchanges, 0.5) / 2.0);
    let (median, p99) = (quantile_ms(&live, 0.5), quantile_ms(&live, 0.99));
    let each = |count: u64| count as f64 / writes as f64;
    let place = format!("{}, {way}", via.name());
    if is_durable {
        targets[0].check(median <= limit, || {
            format!("{place}: {median:.2} of {limit:.2} ms")
        });
        targets[1].check(p99 <= 20.0, || format!("{place}: {p99:.1} ms"));
    } else {
        targets[2].check(median <= 1.0, || format!("{place}: {median:.2} ms"));
    }
    let is_cheap =
        each(cost.begun()) <= 1.02 && each(cost.bytes) <= 700.0 && cost.entries == writes as u64;
    targets[3].check(is_cheap, || {
        format!(
            "{place}: {:.2}, {:.0} bytes, {} of {writes} entries",
            each(cost.begun()),
            each(cost.bytes),
            cost.entries
        )
    });
    Ok(vec![
        if is_durable { "redb" } else { "memory" }.into(),
        via.name().into(),
        way.into(),
        decimals(median, 2),
        decimals(p99, 2),
        decimals(limit, 2),
        decimals(quantile_ms(&by_hand, 0.5), 2),
        decimals(quantile_ms(&by_hand, 0.99), 2),
        decimals(each(cost.begun()), 2),
        decimals(each(cost.bytes), 0),
        format!(
            "{:.1}; {:.0} bytes",
            each(hand_cost.begun()),
            each(hand_cost.bytes)
        ),
        decimals(each(cost.entries), 2),
        cost.kinds(),
    ])
}

/// Lets a node follow another one, and waits until both are known to be equal.
pub async fn follow(
    node: &Node,
    peer: &Node,
    tree: eidetica_dag::TreeId,
    at: Address,
) -> Result<(), String> {
    node.follow(tree, at).await.map_err(failed)?;
    node.synced_with(tree, peer.key(), WAIT_MAX)
        .await
        .map_err(failed)
}
