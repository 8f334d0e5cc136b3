//! Histories that two peers share, and what each of them wrote on top of that.

use eidetica_dag::testing::Random;

use crate::World;

/// Entries of the bases that are lines, and of their braids.
const LINE_ENTRIES: u32 = 20_000;

/// Most entries that are signed for the writers of one scene: signing takes most of a run.
const WRITTEN_ENTRIES_MAX: u32 = 80_000;

/// Most ways of going on that a scene has.
const WRITERS_MAX: u32 = 40;

/// How far the ends of a window's pairs lie apart, in entries.
pub const WINDOWS: [u32; 4] = [50, 500, 2_000, 10_000];

/// The case of a thousand tips all of which differ. The client cannot know that, and a first
/// request which provides for it would be several times as large as one that finds twenty of a
/// thousand: so here a second round trip is the better choice.
pub const ALL_OF_MANY_FORKED: &str = "all of many chains forked";

/// Which pairs of replicas are drawn from a history.
pub struct Scene {
    /// What it is a case of; targets hold for all scenes of one name together.
    pub name: String,
    /// What distinguishes it from others of its name.
    pub variant: String,
    pub pairs: Pairs,
}

/// How a pair of replicas is drawn: as the heads of what each of the two has.
pub enum Pairs {
    /// Two different writers of a random group: each wrote something else on the same base.
    Writers(Vec<Vec<Heads>>),
    /// Up to two heads each, among so many entries before a random end point.
    Window(u32),
}

/// Entries that are, with all their ancestors, what a replica has.
pub type Heads = Vec<u32>;

impl Pairs {
    /// Draws the heads of a client and of a server.
    pub fn draw(&self, world: &World, random: &mut Random) -> [Heads; 2] {
        match self {
            Self::Writers(groups) => {
                let group = &groups[random.below(groups.len() as u32) as usize];
                let count = group.len() as u32;
                let client = random.below(count);
                let server = (client + 1 + random.below(count - 1)) % count;
                [client, server].map(|writer| group[writer as usize].clone())
            }
            Self::Window(window) => {
                let len = world.entries.len() as u32;
                let window = (*window).min(len - 1);
                let end = window + random.below(len - window);
                [0, 1].map(|_| {
                    let count = 1 + random.below(2);
                    (0..count).map(|_| end - random.below(window)).collect()
                })
            }
        }
    }
}

/// A history in the making: the parents of each entry.
struct History {
    parents: Vec<Vec<u32>>,
    /// How many entries were there before the replicas diverged.
    base: usize,
}

impl History {
    fn with_root() -> Self {
        Self {
            parents: vec![vec![]],
            base: 1,
        }
    }

    /// Ends what all writers share.
    fn diverge(&mut self) {
        self.base = self.parents.len();
    }

    fn add(&mut self, mut parents: Vec<u32>) -> u32 {
        parents.sort_unstable();
        parents.dedup();
        self.parents.push(parents);
        self.parents.len() as u32 - 1
    }

    /// Adds `count` entries, each on the one before, and returns the last.
    fn chain(&mut self, from: u32, count: u32) -> u32 {
        (0..count).fold(from, |tip, _| self.add(vec![tip]))
    }
}

/// What a recipe makes: a history, and the heads of what its writers have, in groups.
type Made = (History, Vec<Vec<Heads>>);

/// A built-in history: its name, its variant, and how it is made.
pub struct Recipe(pub &'static str, pub &'static str, fn(&mut Random) -> Made);

/// Every built-in history but the real one.
pub const RECIPES: &[Recipe] = &[
    Recipe("linear", "both wrote 10", |random| linear(random, 10)),
    Recipe("linear", "both wrote 100", |random| linear(random, 100)),
    Recipe("linear", "both wrote 1,000", |random| linear(random, 1_000)),
    Recipe("linear", "both wrote 10,000", |random| {
        linear(random, 10_000)
    }),
    Recipe("wide", "1,000 chains, 10 longer on each side", wide),
    Recipe("every chain forked", "100 chains", |random| {
        all_forked(random, 100)
    }),
    Recipe(ALL_OF_MANY_FORKED, "1,000 chains", |random| {
        all_forked(random, 1_000)
    }),
    Recipe("braid", "3 strands", braid),
    Recipe("criss-cross", "2 branches", criss_cross),
    Recipe("old branches forked", "3 open branches", old_branches),
];

impl Recipe {
    /// Makes the history, signed, and draws from it.
    pub fn scene(&self, random: &mut Random) -> (World, Scene) {
        let (history, writers) = (self.2)(random);
        let (name, variant) = (self.0.to_owned(), self.1.to_owned());
        let pairs = Pairs::Writers(writers);
        (
            World::sign(history.parents, history.base),
            Scene {
                name,
                variant,
                pairs,
            },
        )
    }
}

/// Returns the scenes of a history that was given: one for each window.
pub fn windows(name: &str) -> impl Iterator<Item = Scene> + '_ {
    WINDOWS.iter().map(move |window| Scene {
        name: name.to_owned(),
        variant: format!("window {window}"),
        pairs: Pairs::Window(*window),
    })
}

/// How many writers there can be who write so many entries each.
fn writers(entries_each: u32) -> u32 {
    (WRITTEN_ENTRIES_MAX / entries_each).clamp(2, WRITERS_MAX)
}

/// A line on which both went on from the same entry.
fn linear(random: &mut Random, each: u32) -> Made {
    let mut history = History::with_root();
    history.chain(0, LINE_ENTRIES);
    history.diverge();
    let groups = writers(each) / 2;
    let mut group = |_| {
        let base = random.below(LINE_ENTRIES + 1);
        (0..2).map(|_| vec![history.chain(base, each)]).collect()
    };
    let groups = (0..groups.max(1)).map(&mut group).collect();
    (history, groups)
}

/// Chains of up to `length` entries on one root; returns their tips.
fn chains(random: &mut Random, count: u32, length: u32) -> (History, Vec<u32>) {
    let mut history = History::with_root();
    let mut chain = |_| history.chain(0, 1 + random.below(length));
    let tips = (0..count).map(&mut chain).collect();
    (history, tips)
}

/// A thousand chains; each writer wrote a hundred entries on ten of them.
fn wide(random: &mut Random) -> Made {
    let (mut history, tips) = chains(random, 1_000, 60);
    history.diverge();
    let mut writer = |_| {
        let mut tips = tips.clone();
        for _ in 0..10 {
            let chain = random.below(1_000) as usize;
            tips[chain] = history.chain(tips[chain], 100);
        }
        tips
    };
    let group = (0..writers(1_000)).map(&mut writer).collect();
    (history, vec![group])
}

/// Chains on every one of which each writer wrote up to three entries.
fn all_forked(random: &mut Random, count: u32) -> Made {
    let (mut history, tips) = chains(random, count, 60);
    history.diverge();
    let mut writer = |_| {
        let grow = |tip: &u32| history.chain(*tip, 1 + random.below(3));
        tips.iter().map(grow).collect()
    };
    let group = (0..writers(2 * count)).map(&mut writer).collect();
    (history, vec![group])
}

/// Three strands, each entry on the last of its own strand and of the next one.
fn braid(random: &mut Random) -> Made {
    fn rows(history: &mut History, mut strands: [u32; 3], rows: u32) -> [u32; 3] {
        for row in 0..rows as usize {
            let (own, next) = (row % 3, (row + 1) % 3);
            strands[own] = history.add(vec![strands[own], strands[next]]);
        }
        strands
    }
    let mut history = History::with_root();
    let base = rows(&mut history, [0; 3], LINE_ENTRIES);
    history.diverge();
    let mut writer = |_| rows(&mut history, base, 1 + random.below(200)).to_vec();
    let group = (0..writers(100)).map(&mut writer).collect();
    (history, vec![group])
}

/// Two branches that merge each other again and again.
fn criss_cross(random: &mut Random) -> Made {
    fn round(history: &mut History, random: &mut Random, tips: [u32; 2]) -> [u32; 2] {
        let grown = tips.map(|tip| history.chain(tip, random.below(3)));
        [0, 1].map(|_| history.add(grown.to_vec()))
    }
    let mut history = History::with_root();
    let base = [0, 1].map(|_| history.add(vec![0]));
    let base = (0..LINE_ENTRIES / 4).fold(base, |tips, _| round(&mut history, random, tips));
    history.diverge();
    let writer = |_| {
        let rounds = 1 + random.below(50);
        (0..rounds)
            .fold(base, |tips, _| round(&mut history, random, tips))
            .to_vec()
    };
    let group = (0..writers(100)).map(writer).collect();
    (history, vec![group])
}

/// A long line with three open branches, each left long ago; all wrote on one of them.
fn old_branches(random: &mut Random) -> Made {
    let mut history = History::with_root();
    let line = history.chain(0, LINE_ENTRIES);
    let branches = [0; 3].map(|_| {
        let from = random.below(3 * LINE_ENTRIES / 4);
        history.chain(from, 1 + random.below(30))
    });
    history.diverge();
    let mut group = |grown: usize| {
        let writer = |_| {
            let mut tips = vec![line];
            tips.extend(branches);
            tips[1 + grown] = history.chain(tips[1 + grown], 5);
            tips
        };
        (0..WRITERS_MAX / 4).map(writer).collect()
    };
    let groups = (0..3).map(&mut group).collect();
    (history, groups)
}

#[cfg(test)]
mod tests {
    use eidetica_proto::SyncOptions;

    use super::*;
    use crate::sync;

    #[test]
    fn writers_share_a_base_and_differ_and_sync() {
        for recipe in [&RECIPES[0], &RECIPES[5], &RECIPES[9]] {
            let mut random = Random::new(7);
            let (world, scene) = recipe.scene(&mut random);
            let [client, server] = scene.pairs.draw(&world, &mut random);
            let marks = [&client, &server].map(|heads| world.closure(heads));
            assert!(marks[0][0] && marks[1][0], "{}", scene.name);
            let heads = [&client[..], &server[..]];
            let exchange = sync(&world, heads, SyncOptions::default(), *b"any seed").unwrap();
            assert!(exchange.missing > 0, "{}: {exchange:?}", scene.name);
            assert_eq!(exchange.request_bytes.len(), exchange.round_trips as usize);
            assert!(
                (1..10_000).contains(&exchange.response_bytes),
                "{}: {exchange:?}",
                scene.name
            );
        }
    }
}
