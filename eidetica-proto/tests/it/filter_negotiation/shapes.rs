//! Trees of many shapes, and what two peers have of them.

use crate::filter_negotiation::world::{Rng, World};

/// A world and what each of two peers has: these entries and their ancestors.
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) a: Vec<usize>,
    pub(crate) b: Vec<usize>,
}

/// Both wrote `each` entries on a line of up to 20,000.
pub(crate) fn line(rng: &mut Rng, each: usize) -> Pair {
    let mut world = World::default();
    let root = world.add(&[]);
    let length = rng.below(20_000);
    let base = world.chain(root, length);
    let (a, b) = (world.chain(base, each), world.chain(base, each));
    Pair {
        world,
        a: vec![a],
        b: vec![b],
    }
}

/// A thousand chains; each peer wrote 100 entries on ten of them.
pub(crate) fn wide(rng: &mut Rng) -> Pair {
    let (mut world, tips) = chains(rng, 1_000, 60);
    let (mut a, mut b) = (tips.clone(), tips);
    for tips in [&mut a, &mut b] {
        for _ in 0..10 {
            let chain = rng.below(tips.len());
            tips[chain] = world.chain(tips[chain], 100);
        }
    }
    Pair { world, a, b }
}

/// Chains on every one of which both peers wrote up to three entries.
pub(crate) fn all_forked(rng: &mut Rng, count: usize) -> Pair {
    let (mut world, tips) = chains(rng, count, 60);
    let mut write = |tip: &usize| {
        let entries = 1 + rng.below(3);
        world.chain(*tip, entries)
    };
    let a = tips.iter().map(&mut write).collect();
    let b = tips.iter().map(&mut write).collect();
    Pair { world, a, b }
}

/// Makes chains of up to `length` entries on one root.
fn chains(rng: &mut Rng, count: usize, length: usize) -> (World, Vec<usize>) {
    let mut world = World::default();
    let root = world.add(&[]);
    let mut chain = |_| {
        let entries = 1 + rng.below(length);
        world.chain(root, entries)
    };
    let tips = (0..count).map(&mut chain).collect();
    (world, tips)
}

/// Three strands, each entry naming the last of its own strand and of the next one; both peers
/// went on braiding.
pub(crate) fn braid(rng: &mut Rng) -> Pair {
    let mut world = World::default();
    let root = world.add(&[]);
    let rows = 1_000 + rng.below(2_000);
    let base = braided(&mut world, [root; 3], rows);
    let (a_rows, b_rows) = (1 + rng.below(40), 1 + rng.below(40));
    let a = braided(&mut world, base, a_rows).to_vec();
    let b = braided(&mut world, base, b_rows).to_vec();
    Pair { world, a, b }
}

fn braided(world: &mut World, mut strands: [usize; 3], rows: usize) -> [usize; 3] {
    for row in 0..rows {
        let (own, next) = (row % 3, (row + 1) % 3);
        let mut parents = vec![strands[own], strands[next]];
        parents.dedup();
        strands[own] = world.add(&parents);
    }
    strands
}

/// Two branches that merge each other again and again; both peers went on with both.
pub(crate) fn criss_cross(rng: &mut Rng) -> Pair {
    let mut world = World::default();
    let root = world.add(&[]);
    let base = [world.add(&[root]), world.add(&[root])];
    let rounds = 500 + rng.below(2_000);
    let base = crossed(&mut world, rng, base, rounds);
    let (a_rounds, b_rounds) = (1 + rng.below(30), 1 + rng.below(30));
    let a = crossed(&mut world, rng, base, a_rounds).to_vec();
    let b = crossed(&mut world, rng, base, b_rounds).to_vec();
    Pair { world, a, b }
}

fn crossed(world: &mut World, rng: &mut Rng, mut tips: [usize; 2], rounds: usize) -> [usize; 2] {
    for _ in 0..rounds {
        let lengths = [rng.below(3), rng.below(3)];
        let grown = [0, 1].map(|side| world.chain(tips[side], lengths[side]));
        tips = [world.add(&grown), world.add(&grown)];
    }
    tips
}

/// A long line with three open old branches; both peers wrote five entries on one of them.
pub(crate) fn old_branches(rng: &mut Rng) -> Pair {
    let mut world = World::default();
    let root = world.add(&[]);
    let mut line = vec![root];
    for _ in 0..20_000 {
        line.push(world.chain(line[line.len() - 1], 1));
    }
    let mut tips = vec![line[20_000]];
    for _ in 0..3 {
        let (from, length) = (rng.below(15_000), 1 + rng.below(30));
        tips.push(world.chain(line[from], length));
    }
    let (mut a, mut b) = (tips.clone(), tips);
    let branch = 1 + rng.below(3);
    a[branch] = world.chain(a[branch], 5);
    b[branch] = world.chain(b[branch], 5);
    Pair { world, a, b }
}

/// A line of 5,000 with `count` unmerged chains; both peers wrote on the line and on
/// three of the chains.
pub(crate) fn stale_chains(rng: &mut Rng, count: usize) -> Pair {
    let mut world = World::default();
    let root = world.add(&[]);
    let mut line = vec![root];
    for _ in 0..5_000 {
        line.push(world.chain(line[line.len() - 1], 1));
    }
    let mut tips = vec![line[5_000]];
    for _ in 0..count {
        let (from, length) = (rng.below(5_000), 1 + rng.below(50));
        tips.push(world.chain(line[from], length));
    }
    let (mut a, mut b) = (tips.clone(), tips);
    for tips in [&mut a, &mut b] {
        tips[0] = world.chain(tips[0], 20);
        for _ in 0..3 {
            let chain = 1 + rng.below(count);
            tips[chain] = world.chain(tips[chain], 5);
        }
    }
    Pair { world, a, b }
}

/// Eight devices that each write on their own chain and merge all of them now and then.
pub(crate) fn eight_devices(rng: &mut Rng) -> Pair {
    let mut world = World::default();
    let root = world.add(&[]);
    let rounds = 20 + rng.below(200);
    let base = merged(&mut world, rng, root, rounds);
    let (a_rounds, b_rounds) = (rng.below(10), rng.below(10));
    let a_base = merged(&mut world, rng, base, a_rounds);
    let b_base = merged(&mut world, rng, base, b_rounds);
    let a = spread(&mut world, rng, a_base);
    let b = spread(&mut world, rng, b_base);
    Pair { world, a, b }
}

fn merged(world: &mut World, rng: &mut Rng, mut tip: usize, rounds: usize) -> usize {
    for _ in 0..rounds {
        let tips = spread(world, rng, tip);
        tip = world.add(&tips);
    }
    tip
}

fn spread(world: &mut World, rng: &mut Rng, from: usize) -> Vec<usize> {
    let mut device = |_| {
        let entries = 1 + rng.below(10);
        world.chain(from, entries)
    };
    (0..8).map(&mut device).collect()
}

/// Reads a history: for each entry a line with the distances back to its parents. Later roots get
/// the first one as their parent.
pub(crate) fn history(text: &str) -> World {
    let mut world = World::default();
    for line in text.lines() {
        let at = world.len();
        let distances = line.split_whitespace().map(|d| d.parse::<usize>());
        let mut parents: Vec<usize> = distances.map(|d| at - d.expect("a number")).collect();
        if parents.is_empty() && at > 0 {
            parents.push(0);
        }
        world.add(&parents);
    }
    world
}

/// Chooses up to two heads for each peer among the `window` entries before a random one.
pub(crate) fn heads_in_window(
    world: &World,
    rng: &mut Rng,
    window: usize,
) -> (Vec<usize>, Vec<usize>) {
    let end = window + 1 + rng.below(world.len() - window - 1);
    let mut heads = || {
        let count = 1 + rng.below(2);
        (0..count).map(|_| end - rng.below(window)).collect()
    };
    (heads(), heads())
}
