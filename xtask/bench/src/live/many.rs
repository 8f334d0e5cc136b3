//! Many trees that two nodes share.

use std::time::Duration;

use eidetica_sync::Node;
use eidetica_sync::http::HttpTransport;
use eidetica_sync::store::MemoryStore;
use xtask_support::figures::{milliseconds, quantile_ms};
use xtask_support::report::{Report, Table, Target, decimals, grouped};
use xtask_support::{failed, now};

use super::counted::Counts;
use super::{WAIT_MAX, entries, open_tree, rest, sync, until};
use crate::nodes::key;

/// The idle time in intervals of a check. Exchanges a minute are those of one interval.
const INTERVALS: u32 = 10;

/// Writes to one tree.
const WRITES: usize = 50;

pub async fn run(count: usize, quick: bool) -> Result<Report, String> {
    let mut targets = [
        "idle: at most 4 exchanges a minute",
        "a write to one of many is across within 1.5 × that with one tree",
        "a write to each: 10 s, none refused",
    ]
    .map(Target::new);
    let headings = &[
        "trees",
        "first sync s",
        "asked",
        "idle, exchanges a minute",
        "one write, median ms",
        "p99 ms",
        "a write to each s",
        "asked",
        "by hand s",
    ];
    let mut table = Table::new(
        "two nodes that follow each other, in memory, over HTTP",
        headings,
    );
    let mut alone = 0.0;
    for count in [1, count] {
        let counts = Counts::default();
        let check_interval = Duration::from_secs(if quick { 1 } else { 6 });
        let start = |name| {
            let transport = HttpTransport::builder()
                .bind(([127, 0, 0, 1], 0).into())
                .build();
            let builder =
                Node::builder(MemoryStore::new(), key(name)).check_interval(check_interval);
            Ok::<_, String>(builder.transport("net", transport).map_err(failed)?.start())
        };
        let (a, b) = (start("a")?, start("b")?);
        let (at_a, at_b) = (counts.listen(&a).await?, counts.listen(&b).await?);
        let mut trees = Vec::new();
        for _ in 0..count {
            trees.push(open_tree(&a).await?);
        }
        counts.take();
        let began = now();
        for tree in &trees {
            b.follow(*tree, at_a.clone()).await.map_err(failed)?;
            a.follow(*tree, at_b.clone()).await.map_err(failed)?;
        }
        for tree in &trees {
            until(&b, *tree, 1).await?;
        }
        let first = began.elapsed();
        let first_cost = counts.take();
        for (node, peer) in [(&a, &b), (&b, &a)] {
            for tree in &trees {
                node.synced_with(*tree, peer.key(), WAIT_MAX)
                    .await
                    .map_err(failed)?;
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        counts.take();
        tokio::time::sleep(check_interval * INTERVALS).await;
        let idle = counts.take();
        let a_minute = idle.begun() as f64 / f64::from(INTERVALS);
        targets[0].check(a_minute <= 4.0, || {
            format!("{count} trees: {a_minute:.1}: {}", idle.kinds())
        });

        let mut walls = Vec::new();
        for round in 0..WRITES {
            let tree = trees[round * 7 % count];
            let began = now();
            a.append(tree, "one").await.map_err(failed)?;
            until(&b, tree, entries(&a, tree)?).await?;
            walls.push(began.elapsed());
        }
        let one = quantile_ms(&walls, 0.5);
        if count == 1 {
            alone = one;
        }
        targets[1].check(one <= alone * 1.5, || {
            format!("{one:.2} of {:.2} ms", alone * 1.5)
        });

        counts.take();
        let began = now();
        for tree in &trees {
            a.append(*tree, "each").await.map_err(failed)?;
        }
        for tree in &trees {
            until(&b, *tree, entries(&a, *tree)?).await?;
        }
        let each = began.elapsed();
        rest(&counts).await;
        let cost = counts.take();
        targets[2].check(
            each <= Duration::from_secs(10) && !cost.has_refusals(),
            || {
                format!(
                    "{count} trees: {:.0} ms, {}",
                    milliseconds(each),
                    cost.kinds()
                )
            },
        );
        targets[2].check(cost.entries == count as u64, || {
            format!("{} entries were sent", cost.entries)
        });
        for tree in &trees {
            b.unfollow(*tree, a.key()).await.map_err(failed)?;
            a.unfollow(*tree, b.key()).await.map_err(failed)?;
        }
        let began = now();
        for tree in &trees {
            a.append(*tree, "by hand").await.map_err(failed)?;
        }
        for tree in &trees {
            sync(&b, *tree, &at_a).await?;
        }
        let by_hand = began.elapsed();
        table.push(vec![
            grouped(count as u64),
            decimals(first.as_secs_f64(), 2),
            first_cost.kinds(),
            format!("{a_minute:.1}: {}", idle.kinds()),
            decimals(one, 2),
            decimals(quantile_ms(&walls, 0.99), 2),
            decimals(each.as_secs_f64(), 2),
            cost.kinds(),
            decimals(by_hand.as_secs_f64(), 2),
        ]);
        for node in [&a, &b] {
            node.shutdown().await.map_err(failed)?;
        }
    }
    Ok(Report {
        tables: vec![table],
        targets: targets.into(),
    })
}
