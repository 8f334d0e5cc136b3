//! Trees without signatures: the shape alone, for walks over long histories.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use crate::access::{AccessId, AccessKey, AccessState, Ledger};
use crate::arrival::Arrival;
use crate::id::EntryId;
use crate::set::ArrivalSet;
use crate::testing::random::Random;
use crate::view::{DagView, LANDMARK_INTERVAL, Node, is_checkpoint};

/// A [`DagView`] with made-up ids and without entries. Making one takes a microsecond for each
/// entry, a hundred times less than signing.
#[derive(Debug, Clone, Default)]
pub struct Skeleton {
    nodes: Vec<Node>,
    numbers: HashMap<EntryId, Arrival>,
    tips: std::collections::BTreeSet<Arrival>,
    checkpoints: BTreeMap<u32, Vec<Arrival>>,
    landmarks: BTreeMap<u32, Vec<EntryId>>,
}

impl Skeleton {
    /// Makes the tree in which entry `i` has the parents `parents[i]`. Roots beyond the first have
    /// the first one as their parent. The id of an entry depends on its number only.
    pub fn new(parents: &[Vec<u32>]) -> Self {
        let mut skeleton = Self::default();
        for (number, parents) in parents.iter().enumerate() {
            let mut random = Random::new(number as u64);
            let mut id = [0; 32];
            for word in id.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next_u64().to_le_bytes());
            }
            let joined = super::shapes::joined(number, parents);
            let parents = joined.iter().copied().map(Arrival).collect();
            skeleton.push(EntryId::from_bytes(id), parents);
        }
        skeleton
    }

    /// Makes what another store has that received these entries, in this order. Parents must be
    /// there before their children.
    pub fn replica(&self, order: impl IntoIterator<Item = Arrival>) -> Self {
        let mut replica = Self::default();
        for at in order {
            let node = &self.nodes[at.index()];
            let parents = node.parents.iter();
            let parents = parents.map(|parent| replica.numbers[&self.nodes[parent.index()].id]);
            let parents = parents.collect();
            replica.push(node.id, parents);
        }
        replica
    }

    /// Makes what another store has that received exactly these entries, which must be closed under
    /// ancestors.
    pub fn part(&self, set: &ArrivalSet) -> Self {
        self.replica(set.iter())
    }

    fn push(&mut self, id: EntryId, mut parents: Vec<Arrival>) {
        let at = Arrival(self.nodes.len() as u32);
        parents.sort_unstable();
        let height = |parent: &Arrival| self.nodes[parent.index()].height + 1;
        let height = parents.iter().map(height).max().unwrap_or(0);
        for parent in &parents {
            self.tips.remove(parent);
        }
        self.tips.insert(at);
        self.numbers.insert(id, at);
        if height.is_multiple_of(LANDMARK_INTERVAL) {
            self.landmarks.entry(height).or_default().push(id);
        }
        self.nodes.push(Node {
            id,
            parents,
            height,
            access: AccessId(0),
        });
        let last = self.checkpoints.last_key_value();
        let last = last.map_or(0, |(stored, _)| *stored);
        if is_checkpoint(self.entry_count(), last, self.tips.len() as u32) {
            let tips = self.tips.iter().copied().collect();
            self.checkpoints.insert(self.entry_count(), tips);
        }
    }
}

impl DagView for Skeleton {
    type Error = Infallible;

    fn entry_count(&self) -> u32 {
        self.nodes.len() as u32
    }

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, Infallible> {
        Ok(self.tips.range(from..).take(limit).copied().collect())
    }

    fn tip_count(&self) -> u32 {
        self.tips.len() as u32
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, Infallible> {
        Ok(self.tips.contains(&at))
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, Infallible> {
        Ok(self.numbers.get(id).copied())
    }

    fn node(&self, at: Arrival) -> Result<Node, Infallible> {
        Ok(self.nodes[at.index()].clone())
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
        1
    }

    fn access(&self, _: AccessId) -> Result<AccessState, Infallible> {
        Ok(AccessState::default())
    }

    fn find_access(&self, _: &AccessKey) -> Result<Option<AccessId>, Infallible> {
        Ok(None)
    }

    fn ledger(&self) -> Result<Arc<Ledger>, Infallible> {
        Ok(Arc::default())
    }
}
