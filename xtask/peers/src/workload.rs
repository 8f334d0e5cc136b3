//! What is to be synced: histories, and what each of two replicas has of them.

use std::cell::LazyCell;
use std::rc::Rc;

use eidetica_dag::testing::{self, Random};
use eidetica_dag::{MemoryDag, VerifiedEntry};

/// Fewest and most entries of a generated history before the replicas diverge.
const HISTORY_ENTRIES: std::ops::Range<u32> = 20_000..50_000;

/// The shape of everything that anybody has, parents before children.
#[derive(Default)]
pub struct World {
    /// The parents of each entry; only the first has none.
    pub parents: Vec<Vec<u32>>,
    /// When each entry was written. Two replicas that diverge write at the same time.
    pub clock: Vec<u32>,
    now: u32,
}

impl World {
    fn add(&mut self, parents: Vec<u32>) -> u32 {
        self.parents.push(parents);
        self.clock.push(self.now);
        self.now += 1;
        self.parents.len() as u32 - 1
    }

    /// Adds `count` entries on top of each other and returns the last.
    fn chain(&mut self, from: u32, count: u32) -> u32 {
        (0..count).fold(from, |tip, _| self.add(vec![tip]))
    }

    fn rooted() -> Self {
        let mut world = Self::default();
        world.add(vec![]);
        world
    }

    fn closure(&self, heads: &[u32]) -> Vec<bool> {
        let mut marks = vec![false; self.parents.len()];
        heads.iter().for_each(|head| marks[*head as usize] = true);
        for at in (0..marks.len()).rev() {
            if marks[at] {
                for parent in &self.parents[at] {
                    marks[*parent as usize] = true;
                }
            }
        }
        marks
    }
}

/// One of the two replicas.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that asks.
    A,
    /// The one that answers.
    B,
}

/// Two replicas that have diverged.
pub struct Pair {
    pub world: Rc<World>,
    /// The entries of the world, signed.
    pub entries: Rc<Vec<VerifiedEntry>>,
    a: Vec<bool>,
    b: Vec<bool>,
}

impl Pair {
    fn new(world: World, a: &[u32], b: &[u32]) -> Self {
        let entries = Rc::new(testing::build(&world.parents));
        Self::of(Rc::new(world), entries, a, b)
    }

    fn of(world: Rc<World>, entries: Rc<Vec<VerifiedEntry>>, a: &[u32], b: &[u32]) -> Self {
        let (a, b) = (world.closure(a), world.closure(b));
        Self {
            world,
            entries,
            a,
            b,
        }
    }

    fn has(&self, side: Side, entry: u32) -> bool {
        match side {
            Side::A => self.a[entry as usize],
            Side::B => self.b[entry as usize],
        }
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        0..self.a.len() as u32
    }

    /// Returns how many entries A lacks.
    pub fn missing(&self) -> u64 {
        let lacks = |entry: &u32| self.has(Side::B, *entry) && !self.has(Side::A, *entry);
        self.all().filter(lacks).count() as u64
    }

    /// Returns what both have.
    pub fn shared(&self) -> Vec<u32> {
        let both = |entry: &u32| self.has(Side::A, *entry) && self.has(Side::B, *entry);
        self.all().filter(both).collect()
    }

    /// Returns a replica's entries in the order in which they came: what both have first.
    pub fn order(&self, side: Side) -> Vec<u32> {
        let alone = |entry: &u32| {
            self.has(side, *entry) && !(self.a[*entry as usize] && self.b[*entry as usize])
        };
        let mut order = self.shared();
        order.extend(self.all().filter(alone));
        order
    }

    /// Returns those among `entries` that are no parent of another among them.
    pub fn tips_of(&self, entries: &[u32]) -> Vec<u32> {
        let mut is_parent = vec![false; self.a.len()];
        for entry in entries {
            for parent in &self.world.parents[*entry as usize] {
                is_parent[*parent as usize] = true;
            }
        }
        let tips = entries.iter().copied();
        tips.filter(|entry| !is_parent[*entry as usize]).collect()
    }

    /// Makes a replica of our own kind.
    pub fn dag(&self, side: Side) -> MemoryDag {
        let order = self.order(side);
        let entries = order
            .iter()
            .map(|entry| self.entries[*entry as usize].clone());
        testing::dag_of(entries.collect())
    }
}

/// A way to make pairs.
pub struct Workload {
    pub name: String,
    make: Box<dyn Fn(&mut Random) -> Pair>,
}

impl Workload {
    fn new(name: impl Into<String>, make: impl Fn(&mut Random) -> Pair + 'static) -> Self {
        let (name, make) = (name.into(), Box::new(make));
        Self { name, make }
    }

    /// Makes the pair that belongs to these numbers.
    pub fn pair(&self, seed: u64, number: u64) -> Pair {
        let mut random = Random::new(seed);
        let start = random.next_u64();
        (self.make)(&mut Random::new(start.wrapping_add(number)))
    }
}

/// Returns every workload whose name contains `only`.
pub fn all(only: &str) -> Vec<Workload> {
    let mut workloads: Vec<Workload> = [10, 100, 1_000, 10_000]
        .map(|each| {
            let name = format!("line, both wrote {each}");
            Workload::new(name, move |random| line(random, each))
        })
        .into();
    // Signed when the first pair needs it, then kept.
    let history = Rc::new(LazyCell::new(history));
    workloads.extend([50, 500, 2_000, 10_000].map(|window| {
        let history = history.clone();
        let name = format!("real history, window of {window}");
        Workload::new(name, move |random| in_window(&history, random, window))
    }));
    workloads.push(Workload::new("1,000 chains, all forked", all_forked));
    workloads.push(Workload::new("old branch forked", old_branch));
    workloads.push(Workload::new("equal", |random| line(random, 0)));
    workloads.retain(|workload| workload.name.contains(only));
    workloads
}

/// Both wrote `each` entries on a line.
fn line(random: &mut Random, each: u32) -> Pair {
    let mut world = World::rooted();
    let entries = HISTORY_ENTRIES.start + random.below(HISTORY_ENTRIES.end - HISTORY_ENTRIES.start);
    let base = world.chain(0, entries);
    let fork = world.now;
    let a = world.chain(base, each);
    world.now = fork;
    let b = world.chain(base, each);
    Pair::new(world, &[a], &[b])
}

/// A thousand chains of up to 60 entries, on every one of which both wrote up to three.
fn all_forked(random: &mut Random) -> Pair {
    let mut world = World::rooted();
    let tips: Vec<u32> = (0..1_000)
        .map(|_| world.chain(0, 1 + random.below(60)))
        .collect();
    let fork = world.now;
    let [a, b] = [0, 1].map(|_| {
        world.now = fork;
        let write = |tip: &u32| world.chain(*tip, 1 + random.below(3));
        tips.iter().map(write).collect::<Vec<u32>>()
    });
    Pair::new(world, &a, &b)
}

/// A line with three open old branches; both wrote five entries on one of them.
fn old_branch(random: &mut Random) -> Pair {
    const LINE_ENTRIES: u32 = 20_000;
    let mut world = World::rooted();
    let mut tips = vec![world.chain(0, LINE_ENTRIES)];
    for _ in 0..3 {
        let (from, entries) = (random.below(15_000), 1 + random.below(30));
        // They were written when the line was there.
        world.now = from + 1;
        tips.push(world.chain(from, entries));
    }
    let branch = 1 + random.below(3) as usize;
    let [a, b] = [0, 1].map(|_| {
        world.now = LINE_ENTRIES + 1;
        let mut tips = tips.clone();
        tips[branch] = world.chain(tips[branch], 5);
        tips
    });
    Pair::new(world, &a, &b)
}

type History = (Rc<World>, Rc<Vec<VerifiedEntry>>);

fn history() -> History {
    let mut world = World::default();
    for (number, mut parents) in testing::git_history().into_iter().enumerate() {
        if number > 0 && parents.is_empty() {
            parents.push(0);
        }
        world.add(parents);
    }
    let entries = testing::build(&world.parents);
    (Rc::new(world), Rc::new(entries))
}

/// Each has one or two heads among the `window` entries before a random one.
fn in_window(history: &History, random: &mut Random, window: u32) -> Pair {
    let (world, entries) = history.clone();
    let end = window + random.below(world.parents.len() as u32 - window);
    let mut heads = || -> Vec<u32> {
        let count = 1 + random.below(2);
        (0..count).map(|_| end - random.below(window)).collect()
    };
    let (a, b) = (heads(), heads());
    Pair::of(world, entries, &a, &b)
}
