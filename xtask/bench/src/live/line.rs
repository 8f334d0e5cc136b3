//! Chains and rings of nodes that each know only their neighbours.

use std::time::Duration;

use eidetica_dag::TreeId;
use eidetica_dag::testing::Random;
use eidetica_sync::Node;
use eidetica_sync::proto::Address;
use xtask_support::figures::{milliseconds, quantile_ms};
use xtask_support::report::{Report, Table, Target, decimals};
use xtask_support::{failed, now};

use super::counted::Counts;
use super::{entries, in_memory, open_tree, rest, sync, until, until_all};

/// Writes from random nodes, as fast as they are stored.
const WRITES: u32 = 100;

/// Single writes at the first node.
const ROUNDS: usize = 10;

/// What a line of nodes took.
struct Measured {
    new_tree: Duration,
    one: Vec<Duration>,
    by_hand: Vec<Duration>,
    many: Duration,
    /// How often each node was sent each entry: at one write, and at many.
    copies: [f64; 2],
    kinds: String,
}

pub async fn run(sizes: &[usize]) -> Result<Report, String> {
    let headings = &[
        "nodes",
        "new tree ms",
        "one write, median ms",
        "p99 ms",
        "by hand, one after another",
        "100 writes ms",
        "copies, one",
        "copies, 100",
        "asked during 100",
    ];
    let mut table = Table::new(
        "chains and rings over HTTP, in memory, until all are equal",
        headings,
    );
    let mut targets = [
        "a chain of three: one write within 2.5 × one hop",
        "one write, and a new tree: within 1.5 × hops × one hop",
        "each node is sent each entry at most twice",
    ]
    .map(Target::new);
    let mut lines = vec![(2, false), (3, false)];
    lines.extend(
        sizes
            .iter()
            .flat_map(|size| [(*size, false), (*size, true)]),
    );
    let mut hop = (0.0, 0.0);
    for (size, is_ring) in lines {
        let it = measure(size, is_ring).await?;
        let name = format!("{} of {size}", if is_ring { "ring" } else { "chain" });
        let (one, new_tree) = (quantile_ms(&it.one, 0.5), milliseconds(it.new_tree));
        if size == 2 {
            hop = (one, new_tree);
        }
        let hops = if is_ring { size / 2 } else { size - 1 } as f64;
        let most = |hop: f64| {
            if size == 3 {
                2.5 * hop
            } else {
                1.5 * hops * hop
            }
        };
        targets[usize::from(size != 3)].check(one <= most(hop.0), || {
            format!("{name}: {one:.1} of {:.1} ms", most(hop.0))
        });
        targets[1].check(new_tree <= most(hop.1), || {
            format!("{name}, new tree: {new_tree:.0} of {:.0} ms", most(hop.1))
        });
        targets[2].check(it.copies.iter().all(|copies| *copies <= 2.0), || {
            format!("{name}: {:?}", it.copies)
        });
        table.push(vec![
            name,
            decimals(new_tree, 1),
            decimals(one, 2),
            decimals(quantile_ms(&it.one, 0.99), 2),
            decimals(quantile_ms(&it.by_hand, 0.5), 2),
            decimals(milliseconds(it.many), 1),
            decimals(it.copies[0], 2),
            decimals(it.copies[1], 2),
            it.kinds,
        ]);
    }
    Ok(Report {
        tables: vec![table],
        targets: targets.into(),
    })
}

async fn measure(size: usize, is_ring: bool) -> Result<Measured, String> {
    let counts = Counts::default();
    let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
    for at in 0..size {
        let node = in_memory(&format!("node {at}")).await?;
        addresses.push(counts.listen(&node).await?);
        nodes.push(node);
    }
    let by_hand = by_hand(&nodes, &addresses).await?;

    // The last one follows first, so that each finds that its neighbour lacks the tree.
    let tree = open_tree(&nodes[0]).await?;
    let began = now();
    for at in (1..size).rev() {
        nodes[at]
            .follow(tree, addresses[at - 1].clone())
            .await
            .map_err(failed)?;
    }
    if is_ring {
        nodes[0]
            .follow(tree, addresses[size - 1].clone())
            .await
            .map_err(failed)?;
    }
    until_all(&nodes, tree, 1).await?;
    let new_tree = began.elapsed();
    rest(&counts).await;

    counts.take();
    let mut one = Vec::new();
    for round in 0..ROUNDS {
        let began = now();
        nodes[0].append(tree, "one").await.map_err(failed)?;
        until_all(&nodes, tree, round as u32 + 2).await?;
        one.push(began.elapsed());
    }
    rest(&counts).await;
    let copies_of = |sent: u64, written: usize| sent as f64 / (written * (size - 1)) as f64;
    let copies_one = copies_of(counts.take().entries, ROUNDS);

    let mut random = Random::new(3);
    let began = now();
    for _ in 0..WRITES {
        let node = &nodes[random.below(size as u32) as usize];
        node.append(tree, "many").await.map_err(failed)?;
    }
    let count = ROUNDS as u32 + 1 + WRITES;
    until_all(&nodes, tree, count).await?;
    let many = began.elapsed();
    rest(&counts).await;
    let cost = counts.take();
    for node in &nodes {
        if entries(node, tree)? != count {
            return Err("a node has entries that no node wrote".into());
        }
        node.shutdown().await.map_err(failed)?;
    }
    let copies = [copies_one, copies_of(cost.entries, WRITES as usize)];
    let kinds = format!(
        "{}; {} of {} entries pushed",
        cost.kinds(),
        cost.pushed,
        cost.entries
    );
    Ok(Measured {
        new_tree,
        one,
        by_hand,
        many,
        copies,
        kinds,
    })
}

/// One write, then each node syncs with its neighbour, one after another.
async fn by_hand(nodes: &[Node], addresses: &[Address]) -> Result<Vec<Duration>, String> {
    let tree: TreeId = open_tree(&nodes[0]).await?;
    let mut walls = Vec::new();
    for round in 0..ROUNDS {
        let began = now();
        nodes[0].append(tree, "one").await.map_err(failed)?;
        for (node, address) in nodes[1..].iter().zip(addresses) {
            sync(node, tree, address).await?;
        }
        until(&nodes[nodes.len() - 1], tree, round as u32 + 2).await?;
        walls.push(began.elapsed());
    }
    Ok(walls)
}
