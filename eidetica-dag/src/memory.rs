//! A tree in memory: the reference that every other view is compared with.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use crate::access::{AccessId, AccessKey, AccessState, KeptState, Ledger};
use crate::admit::{AppendOutcome, Changes, admit};
use crate::arrival::Arrival;
use crate::encoding::EncodedEntry;
use crate::id::{EntryId, IdMap, TreeId};
use crate::shared_set::SharedSet;
use crate::signed::SignedEntry;
use crate::verify::VerifiedEntry;
use crate::view::{DagView, EntryView, LANDMARK_INTERVAL, Node};

/// One tree, held in memory.
///
/// Entries are only ever added, and nothing about a stored entry changes, so a reader that remembers a
/// count of entries and the tips of that moment has a consistent picture of it: see
/// [`MemoryDag::prefix`].
#[derive(Debug, Clone)]
pub struct MemoryDag {
    tree: TreeId,
    nodes: Vec<Node>,
    /// The encodings: for each append one allocation.
    appended: Vec<Bytes>,
    /// Where each entry's encoding is.
    places: Vec<Place>,
    numbers: IdMap<Arrival>,
    tips: SharedSet,
    checkpoints: BTreeMap<u32, Vec<Arrival>>,
    landmarks: BTreeMap<u32, Vec<Arrival>>,
    access: Vec<KeptState>,
    access_ids: BTreeMap<AccessKey, AccessId>,
    ledger: Arc<Ledger>,
}

/// The place of an entry's encoding.
#[derive(Debug, Clone, Copy)]
struct Place {
    append: u32,
    start: usize,
    end: usize,
}

/// What a [`MemoryDag`] was when it had a certain number of entries.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// How many entries it had.
    pub entry_count: u32,
    /// The numbers of its tips.
    pub tips: SharedSet,
    /// How many access states it had.
    pub access_count: u32,
    /// What its ledger was.
    pub ledger: Arc<Ledger>,
}

impl MemoryDag {
    /// Makes the tree of this name, without any entry: not even its root.
    pub fn new(tree: TreeId) -> Self {
        Self {
            tree,
            nodes: Vec::new(),
            appended: Vec::new(),
            places: Vec::new(),
            numbers: IdMap::default(),
            tips: SharedSet::new(),
            checkpoints: BTreeMap::new(),
            landmarks: BTreeMap::new(),
            access: Vec::new(),
            access_ids: BTreeMap::new(),
            ledger: Arc::default(),
        }
    }

    /// Returns the tree's name.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Stores what can be stored of a batch, and says what became of the rest.
    pub fn append(&mut self, batch: Vec<VerifiedEntry>) -> AppendOutcome {
        let Ok(admission) = admit(self, self.tree, batch);
        self.apply(admission.changes);
        admission.outcome
    }

    /// Carries out what [`admit`] said, on the view that it was said of.
    pub fn apply(&mut self, changes: Changes) {
        debug_assert_eq!(
            changes.first.0,
            self.entry_count(),
            "changes are of this moment"
        );
        // One allocation for all, for one for each would cost more than it holds. They are copied,
        // because what came together with them and is not stored must not stay in memory.
        let bytes = changes
            .entries
            .iter()
            .map(|(_, entry)| entry.encoded().len());
        let mut encoded = Vec::with_capacity(bytes.sum());
        let append = self.appended.len() as u32;
        for (node, entry) in changes.entries {
            let at = Arrival(self.entry_count());
            if node.height.is_multiple_of(LANDMARK_INTERVAL) {
                self.landmarks.entry(node.height).or_default().push(at);
            }
            self.numbers.insert(node.id, at);
            self.nodes.push(node);
            let start = encoded.len();
            encoded.extend_from_slice(entry.encoded());
            let end = encoded.len();
            self.places.push(Place { append, start, end });
        }
        self.appended.push(encoded.into());
        for (key, state) in changes.access {
            let id = AccessId(self.access.len() as u32);
            self.access_ids.insert(key, id);
            self.access.push(state.keep());
        }
        self.ledger = changes.ledger;
        for tip in changes.tips_removed {
            self.tips.remove(tip.0);
        }
        for tip in changes.tips_added {
            self.tips.insert(tip.0);
        }
        self.checkpoints.extend(changes.checkpoints);
    }

    /// Returns what to remember of this moment.
    pub fn prefix(&self) -> Prefix {
        Prefix {
            entry_count: self.entry_count(),
            tips: self.tips.clone(),
            access_count: self.access.len() as u32,
            ledger: self.ledger.clone(),
        }
    }
}

impl DagView for MemoryDag {
    type Error = Infallible;

    fn entry_count(&self) -> u32 {
        self.nodes.len() as u32
    }

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, Infallible> {
        Ok(self
            .tips
            .iter_from(from.0)
            .take(limit)
            .map(Arrival)
            .collect())
    }

    fn tip_count(&self) -> u32 {
        self.tips.len() as u32
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, Infallible> {
        Ok(self.tips.contains(at.0))
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, Infallible> {
        Ok(self.numbers.get(id).copied())
    }

    fn node(&self, at: Arrival) -> Result<Node, Infallible> {
        Ok(self.nodes[at.index()].clone())
    }

    fn visit_heights(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(Arrival, u32),
    ) -> Result<(), Infallible> {
        for at in numbers.map(Arrival) {
            visit(at, self.nodes[at.index()].height);
        }
        Ok(())
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
        Ok(at_height
            .iter()
            .take(limit)
            .map(|at| self.nodes[at.index()].id)
            .collect())
    }

    fn access_count(&self) -> u32 {
        self.access.len() as u32
    }

    fn access(&self, id: AccessId) -> Result<AccessState, Infallible> {
        let kept = &self.access[id.0 as usize];
        Ok(AccessState::of_kept(&self.ledger, kept, &[]))
    }

    fn find_access(&self, key: &AccessKey) -> Result<Option<AccessId>, Infallible> {
        Ok(self.access_ids.get(key).copied())
    }

    fn ledger(&self) -> Result<Arc<Ledger>, Infallible> {
        Ok(self.ledger.clone())
    }
}

impl EntryView for MemoryDag {
    fn entry(&self, at: Arrival) -> Result<SignedEntry, Infallible> {
        let decoded = SignedEntry::decode_stored(self.nodes[at.index()].id, self.encoded(at)?);
        Ok(decoded.expect("these are the bytes of an entry"))
    }

    fn encoded(&self, at: Arrival) -> Result<Bytes, Infallible> {
        let place = self.places[at.index()];
        Ok(self.appended[place.append as usize].slice(place.start..place.end))
    }

    fn visit_encoded(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(EntryId, EncodedEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        for at in numbers.map(|number| number as usize) {
            let Place { append, start, end } = self.places[at];
            let encoded = &self.appended[append as usize][start..end];
            let entry = EncodedEntry::parse(encoded).expect("these are the bytes of an entry");
            if visit(self.nodes[at].id, entry).is_break() {
                break;
            }
        }
        Ok(())
    }
}
