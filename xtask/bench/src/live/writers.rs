//! Many writers on several nodes at once.

use eidetica_dag::TreeId;
use eidetica_sync::Node;
use futures::future::try_join_all;
use xtask_support::report::{Report, Table, Target, decimals, grouped};
use xtask_support::{failed, now};

use super::counted::Counts;
use super::{entries, in_memory, open_tree, rest, until_all};

const NODES: usize = 5;
const WRITERS: usize = 10;

/// Lets ten writers on five nodes, each of which follows the others, append `each` entries at once.
pub async fn run(each: usize) -> Result<Report, String> {
    let headings = &[
        "entries",
        "written s",
        "all equal after s",
        "copies",
        "tips",
        "tips after one more",
        "asked",
    ];
    let mut table = Table::new(
        "ten writers on five nodes that follow each other, over HTTP, in memory",
        headings,
    );
    let mut targets = [
        "each needed entry travels at most 1.5 times",
        "one tip after one more append",
    ]
    .map(Target::new);
    let counts = Counts::default();
    let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
    for at in 0..NODES {
        let node = in_memory(&format!("node {at}")).await?;
        addresses.push(counts.listen(&node).await?);
        nodes.push(node);
    }
    let tree = open_tree(&nodes[0]).await?;
    for (at, node) in nodes.iter().enumerate() {
        for (other, address) in addresses.iter().enumerate() {
            if other != at {
                node.follow(tree, address.clone()).await.map_err(failed)?;
            }
        }
    }
    until_all(&nodes, tree, 1).await?;
    rest(&counts).await;

    counts.take();
    let began = now();
    try_join_all((0..WRITERS).map(|writer| write(&nodes[writer % NODES], tree, each))).await?;
    let written = began.elapsed();
    let count = 1 + WRITERS * each;
    until_all(&nodes, tree, count as u32).await?;
    let equal = began.elapsed();
    rest(&counts).await;
    let cost = counts.take();
    let needed = WRITERS * each * (NODES - 1);
    let copies = cost.entries as f64 / needed as f64;
    targets[0].check(copies <= 1.5, || format!("{copies:.2} times"));

    let tips = tips(&nodes[0], tree).await?;
    nodes[0].append(tree, "one more").await.map_err(failed)?;
    until_all(&nodes, tree, count as u32 + 1).await?;
    let mut after = 0;
    for node in &nodes {
        after = after.max(self::tips(node, tree).await?);
        if entries(node, tree)? != count as u32 + 1 {
            return Err("a node has entries that no node wrote".into());
        }
    }
    targets[1].check(after == 1, || format!("{after} tips"));
    table.push(vec![
        grouped(count as u64 - 1),
        decimals(written.as_secs_f64(), 2),
        decimals(equal.as_secs_f64(), 2),
        decimals(copies, 2),
        grouped(tips as u64),
        grouped(after as u64),
        cost.kinds(),
    ]);
    for node in &nodes {
        node.shutdown().await.map_err(failed)?;
    }
    Ok(Report {
        tables: vec![table],
        targets: targets.into(),
    })
}

async fn write(node: &Node, tree: TreeId, count: usize) -> Result<(), String> {
    for _ in 0..count {
        node.append(tree, "many").await.map_err(failed)?;
    }
    Ok(())
}

async fn tips(node: &Node, tree: TreeId) -> Result<usize, String> {
    Ok(node.tips(tree).await.map_err(failed)?.len())
}
