//! Trees without content: ids and parents only, so that a hundred thousand entries cost nothing.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use eidetica_dag::{
    AccessId, AccessKey, AccessState, Arrival, DagView, EntryId, LANDMARK_INTERVAL, Ledger, Node,
    is_checkpoint,
};
use sha2::{Digest, Sha256};

/// A small seeded generator (SplitMix64, Steele and others, 2014).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Every entry that anybody has, parents before children.
#[derive(Debug, Default)]
pub(crate) struct World {
    parents: Vec<Vec<usize>>,
    heights: Vec<u32>,
    ids: Vec<EntryId>,
    index: HashMap<EntryId, usize>,
}

impl World {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Adds an entry and returns its number in the world.
    pub(crate) fn add(&mut self, parents: &[usize]) -> usize {
        let at = self.len();
        let height = parents.iter().map(|parent| self.heights[*parent] + 1).max();
        let id = EntryId::from_bytes(Sha256::digest((at as u64).to_le_bytes()).into());
        self.parents.push(parents.to_vec());
        self.heights.push(height.unwrap_or(0));
        self.ids.push(id);
        self.index.insert(id, at);
        at
    }

    /// Adds `count` entries, each the only child of the one before, and returns the last.
    pub(crate) fn chain(&mut self, from: usize, count: usize) -> usize {
        (0..count).fold(from, |tip, _| self.add(&[tip]))
    }

    /// Marks `heads` and their ancestors.
    pub(crate) fn closure(&self, heads: &[usize]) -> Vec<bool> {
        let mut marks = vec![false; self.len()];
        heads.iter().for_each(|head| marks[*head] = true);
        for at in (0..self.len()).rev() {
            if marks[at] {
                self.parents[at]
                    .iter()
                    .for_each(|parent| marks[*parent] = true);
            }
        }
        marks
    }
}

/// What one peer has of the world, in the order in which it came.
pub(crate) struct Replica<'w> {
    world: &'w World,
    order: Vec<usize>,
    numbers: Vec<Option<Arrival>>,
    tips: Vec<Arrival>,
    checkpoints: BTreeMap<u32, Vec<Arrival>>,
    landmarks: BTreeMap<u32, Vec<EntryId>>,
    /// How many nodes were read.
    pub(crate) visits: Cell<usize>,
}

impl<'w> Replica<'w> {
    /// Makes the replica that received these entries in this order, parents first.
    pub(crate) fn new(world: &'w World, order: Vec<usize>) -> Self {
        let mut replica = Self {
            world,
            numbers: vec![None; world.len()],
            order: Vec::new(),
            tips: Vec::new(),
            checkpoints: BTreeMap::new(),
            landmarks: BTreeMap::new(),
            visits: Cell::new(0),
        };
        for entry in order {
            replica.receive(entry);
        }
        replica
    }

    fn receive(&mut self, entry: usize) {
        let at = Arrival(self.order.len() as u32);
        let parents = self.parents(entry);
        self.tips.retain(|tip| !parents.contains(tip));
        self.tips.push(at);
        self.numbers[entry] = Some(at);
        self.order.push(entry);
        let height = self.world.heights[entry];
        if height.is_multiple_of(LANDMARK_INTERVAL) {
            let at_height = self.landmarks.entry(height).or_default();
            at_height.push(self.world.ids[entry]);
        }
        let last = self.checkpoints.last_key_value().map_or(0, |it| *it.0);
        if is_checkpoint(self.entry_count(), last, self.tips.len() as u32) {
            let tips = self.tips.clone();
            self.checkpoints.insert(self.entry_count(), tips);
        }
    }

    fn parents(&self, entry: usize) -> Vec<Arrival> {
        let numbers = self.world.parents[entry].iter().map(|p| self.numbers[*p]);
        let mut parents: Vec<Arrival> = numbers.map(|at| at.expect("parents first")).collect();
        parents.sort_unstable();
        parents
    }

    /// Returns the entry's number in the world.
    pub(crate) fn world_number(&self, at: Arrival) -> usize {
        self.order[at.index()]
    }

    pub(crate) fn has(&self, entry: usize) -> bool {
        self.numbers[entry].is_some()
    }
}

impl DagView for Replica<'_> {
    type Error = Infallible;

    fn entry_count(&self) -> u32 {
        self.order.len() as u32
    }

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, Infallible> {
        Ok(self
            .tips
            .iter()
            .filter(|tip| **tip >= from)
            .take(limit)
            .copied()
            .collect())
    }

    fn tip_count(&self) -> u32 {
        self.tips.len() as u32
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, Infallible> {
        Ok(self.tips.contains(&at))
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, Infallible> {
        let entry = self.world.index.get(id);
        Ok(entry.and_then(|entry| self.numbers[*entry]))
    }

    fn node(&self, at: Arrival) -> Result<Node, Infallible> {
        self.visits.set(self.visits.get() + 1);
        let entry = self.world_number(at);
        Ok(Node {
            id: self.world.ids[entry],
            parents: self.parents(entry),
            height: self.world.heights[entry],
            access: AccessId(0),
        })
    }

    fn last_checkpoint(&self, stored: u32) -> Result<Option<u32>, Infallible> {
        let last = self.checkpoints.range(..=stored).next_back();
        Ok(last.map(|(stored, _)| *stored))
    }

    fn checkpoint(&self, stored: u32) -> Result<Vec<Arrival>, Infallible> {
        Ok(self.checkpoints[&stored].clone())
    }

    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, Infallible> {
        let at_height = self.landmarks.get(&height).map_or(&[][..], Vec::as_slice);
        Ok(at_height.iter().take(limit).copied().collect())
    }

    fn access_count(&self) -> u32 {
        0
    }

    fn access(&self, _: AccessId) -> Result<AccessState, Infallible> {
        unreachable!("a filter does not ask who may do what")
    }

    fn find_access(&self, _: &AccessKey) -> Result<Option<AccessId>, Infallible> {
        unreachable!("a filter does not ask who may do what")
    }

    fn ledger(&self) -> Result<Arc<Ledger>, Infallible> {
        unreachable!("a filter does not ask who may do what")
    }
}
