//! Two replicas that have diverged on a history, and what it costs one of them to catch up.

use eidetica_replicas::World;

/// Two replicas: A asks, and B answers.
pub struct Pair<'w> {
    pub world: &'w World,
    /// The heads of A and of B.
    pub heads: [Vec<u32>; 2],
    /// The entries of A and of B in the order in which they came: what both have first.
    pub orders: [Vec<u32>; 2],
    /// What both have.
    pub shared: Vec<u32>,
    /// How many entries A lacks.
    pub missing: u64,
}

/// A protocol, or several ways to use one.
pub trait Peer {
    /// The names of the ways.
    fn names(&self) -> &'static [&'static str];

    /// Lets A fetch from B in each of the ways, and checks that nothing is missing afterwards.
    fn fetch(&self, pair: &Pair<'_>) -> Result<Vec<Cost>, String>;
}

/// What it cost A to get everything that B has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Times that A spoke and waited for B's answer.
    pub round_trips: u64,
    /// Bytes both ways, those of the entries themselves left out.
    pub bytes: u64,
    /// Entries that A was sent and had.
    pub redundant: u64,
}

impl<'w> Pair<'w> {
    pub fn new(world: &'w World, heads: [Vec<u32>; 2]) -> Self {
        let marks = [&heads[0], &heads[1]].map(|heads| world.closure(heads));
        let numbers = |wanted: &dyn Fn(usize) -> bool| -> Vec<u32> {
            (0..world.entries.len())
                .filter(|at| wanted(*at))
                .map(|at| at as u32)
                .collect()
        };
        let shared = numbers(&|at| marks[0][at] && marks[1][at]);
        let alone = [0, 1].map(|side| numbers(&|at| marks[side][at] && !marks[1 - side][at]));
        let missing = alone[1].len() as u64;
        let orders = alone.map(|alone| [&shared[..], &alone].concat());
        Self {
            world,
            heads,
            orders,
            shared,
            missing,
        }
    }

    /// Returns those among `entries` that are no parent of another among them.
    pub fn tips_of(&self, entries: &[u32]) -> Vec<u32> {
        let mut is_tip = vec![true; self.world.entries.len()];
        for parent in entries
            .iter()
            .flat_map(|entry| &self.world.parents[*entry as usize])
        {
            is_tip[*parent as usize] = false;
        }
        entries
            .iter()
            .copied()
            .filter(|entry| is_tip[*entry as usize])
            .collect()
    }
}
