//! Every entry of two replicas, signed once, and the part of them that one replica has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::testing::{build, dag_of};
use eidetica_dag::{
    AccessId, AccessKey, AccessState, AppendOutcome, Arrival, DagView, EntryId, EntryView,
    LANDMARK_INTERVAL, Ledger, Node, SignedEntry, TreeId, VerifiedEntry, admit, is_checkpoint,
};

/// The signed entries of one history.
pub struct World {
    tree: TreeId,
    pub entries: Vec<VerifiedEntry>,
    /// As places in `entries`. The root alone has none.
    pub parents: Vec<Vec<u32>>,
    /// When each entry was written. Replicas that diverge write at the same time.
    pub clock: Vec<u32>,
    places: HashMap<EntryId, u32>,
    /// The one access state there is: everyone may write.
    access: AccessState,
}

impl World {
    /// Signs a history: entry `i` has the parents `parents[i]`, which have lower numbers. Roots
    /// beyond the first get the first one as their parent. The first `base` entries were written one
    /// after the other, and the others as soon as their parents were there.
    pub fn sign(mut parents: Vec<Vec<u32>>, base: usize) -> Self {
        for parents in parents.iter_mut().skip(1) {
            if parents.is_empty() {
                parents.push(0);
            }
        }
        let mut clock: Vec<u32> = (0..base as u32).collect();
        for parents in &parents[base..] {
            let last = parents
                .iter()
                .map(|parent| clock[*parent as usize])
                .max()
                .unwrap_or(0);
            clock.push(last.max(base as u32 - 1) + 1);
        }
        let entries = build(&parents);
        let Ok(access) = dag_of(vec![entries[0].clone()]).access(AccessId(0));
        let ids = entries.iter().map(|entry| entry.get().id());
        Self {
            tree: entries[0].get().tree(),
            places: ids.zip(0..).collect(),
            entries,
            parents,
            clock,
            access,
        }
    }

    /// Returns the number of entries.
    #[expect(clippy::len_without_is_empty, reason = "it has a root")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Marks some entries and all their ancestors.
    pub fn closure(&self, heads: &[u32]) -> Vec<bool> {
        let mut marks = vec![false; self.len()];
        for head in heads {
            marks[*head as usize] = true;
        }
        let top = heads.iter().max().map_or(0, |head| *head as usize + 1);
        for at in (0..top).rev() {
            if marks[at] {
                for parent in &self.parents[at] {
                    marks[*parent as usize] = true;
                }
            }
        }
        marks
    }
}

/// What one peer has of a world, in the order in which it came.
///
/// It shares the entries with the world, so that thousands of replicas of long histories cost
/// nothing; what the protocol and [`admit()`] see of it is what a store would show them.
pub struct Replica<'w> {
    world: &'w World,
    /// The place of each entry in the world.
    order: Vec<u32>,
    numbers: Vec<Option<Arrival>>,
    tips: BTreeSet<Arrival>,
    checkpoints: BTreeMap<u32, Vec<Arrival>>,
    landmarks: BTreeMap<u32, Vec<EntryId>>,
}

impl<'w> Replica<'w> {
    /// Makes the replica that received the marked entries, which are closed under ancestors, in the
    /// order of the world.
    pub fn new(world: &'w World, marks: &[bool]) -> Self {
        let mut replica = Self {
            world,
            order: Vec::new(),
            numbers: vec![None; world.len()],
            tips: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
            landmarks: BTreeMap::new(),
        };
        for place in (0..world.len()).filter(|place| marks[*place]) {
            replica.receive(place);
        }
        replica
    }

    pub fn tree(&self) -> TreeId {
        self.world.tree
    }

    /// Stores what can be stored of a batch.
    pub fn append(&mut self, batch: Vec<VerifiedEntry>) -> AppendOutcome {
        let Ok(admission) = admit(self, self.world.tree, batch);
        for (node, _) in &admission.changes.entries {
            self.receive(self.world.places[&node.id] as usize);
        }
        admission.outcome
    }

    fn receive(&mut self, place: usize) {
        let at = Arrival(self.entry_count());
        for parent in self.parents(place) {
            self.tips.remove(&parent);
        }
        self.tips.insert(at);
        self.numbers[place] = Some(at);
        self.order.push(place as u32);
        let entry = self.world.entries[place].get();
        let height = entry.entry().height;
        if height.is_multiple_of(LANDMARK_INTERVAL) {
            self.landmarks.entry(height).or_default().push(entry.id());
        }
        let last = self.checkpoints.last_key_value().map_or(0, |it| *it.0);
        if is_checkpoint(self.entry_count(), last, self.tips.len() as u32) {
            let tips = self.tips.iter().copied().collect();
            self.checkpoints.insert(self.entry_count(), tips);
        }
    }

    fn parents(&self, place: usize) -> Vec<Arrival> {
        let parents = self.world.parents[place].iter();
        let mut numbers: Vec<Arrival> = parents
            .map(|parent| self.numbers[*parent as usize].expect("parents come first"))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn signed(&self, at: Arrival) -> &SignedEntry {
        self.world.entries[self.order[at.index()] as usize].get()
    }

    /// Returns for each entry of the world whether it is here.
    pub fn marks(&self) -> Vec<bool> {
        self.numbers.iter().map(Option::is_some).collect()
    }
}

impl DagView for Replica<'_> {
    type Error = Infallible;

    fn entry_count(&self) -> u32 {
        self.order.len() as u32
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
        let place = self.world.places.get(id);
        Ok(place.and_then(|place| self.numbers[*place as usize]))
    }

    fn node(&self, at: Arrival) -> Result<Node, Infallible> {
        let entry = self.signed(at);
        Ok(Node {
            id: entry.id(),
            parents: self.parents(self.order[at.index()] as usize),
            height: entry.entry().height,
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
        1
    }

    fn access(&self, _: AccessId) -> Result<AccessState, Infallible> {
        Ok(self.world.access.clone())
    }

    fn find_access(&self, _: &AccessKey) -> Result<Option<AccessId>, Infallible> {
        Ok(None)
    }

    fn ledger(&self) -> Result<Arc<Ledger>, Infallible> {
        Ok(self.world.access.ledger().clone())
    }
}

impl EntryView for Replica<'_> {
    fn entry(&self, at: Arrival) -> Result<SignedEntry, Infallible> {
        Ok(self.signed(at).clone())
    }

    fn encoded(&self, at: Arrival) -> Result<Bytes, Infallible> {
        Ok(self.signed(at).encoded().clone())
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::Shape;

    use super::*;

    #[test]
    fn a_replica_shows_what_a_store_of_the_same_entries_shows() {
        let world = World::sign(Shape::Braided.parents(2_000, 1), 2_000);
        let marks = world.closure(&[1_500, 1_700]);
        let replica = Replica::new(&world, &marks);
        let entries = world.entries.iter().zip(&marks);
        let entries = entries.filter(|(_, marked)| **marked);
        let dag = dag_of(entries.map(|(entry, _)| entry.clone()).collect());

        assert_eq!(replica.entry_count(), dag.entry_count());
        assert_eq!(replica.tips(), dag.tips());
        assert_eq!(replica.checkpoint(1_024), dag.checkpoint(1_024));
        assert_eq!(replica.landmarks(64, 9), dag.landmarks(64, 9));
        assert_eq!(replica.access_count(), dag.access_count());
        for at in (0..dag.entry_count()).map(Arrival) {
            assert_eq!(replica.node(at), dag.node(at));
            assert_eq!(replica.encoded(at), dag.encoded(at));
        }
    }
}
