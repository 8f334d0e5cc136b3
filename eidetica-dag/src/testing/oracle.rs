//! Slow and obvious answers on sets of ids, to hold the fast ones against.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::{Role, Subject};
use crate::admit::changes_of;
use crate::arrival::Arrival;
use crate::id::EntryId;
use crate::testing::seniority;
use crate::view::{DagView, EntryView};

/// Every entry with the set of its ancestors, itself included. It grows with the square of the
/// tree: for hundreds of entries, not for thousands.
#[derive(Debug, Clone)]
pub struct Oracle {
    parents: BTreeMap<EntryId, Vec<EntryId>>,
    heights: BTreeMap<EntryId, u32>,
    ancestors: BTreeMap<EntryId, BTreeSet<EntryId>>,
}

impl Oracle {
    /// Reads a whole tree. Only ids and parents are believed.
    ///
    /// # Panics
    /// If the view cannot be read.
    pub fn of<V: DagView + ?Sized>(view: &V) -> Self {
        let node = |at: Arrival| view.node(at).expect("a test's view can be read");
        let mut oracle = Self {
            parents: BTreeMap::new(),
            heights: BTreeMap::new(),
            ancestors: BTreeMap::new(),
        };
        for at in (0..view.entry_count()).map(Arrival) {
            let id = node(at).id;
            let parents: Vec<EntryId> =
                node(at).parents.into_iter().map(|at| node(at).id).collect();
            let mut ancestors = BTreeSet::from([id]);
            for parent in &parents {
                ancestors.extend(&oracle.ancestors[parent]);
            }
            let height = parents
                .iter()
                .map(|parent| oracle.heights[parent] + 1)
                .max();
            oracle.heights.insert(id, height.unwrap_or(0));
            oracle.ancestors.insert(id, ancestors);
            oracle.parents.insert(id, parents);
        }
        oracle
    }

    /// Returns all ids.
    pub fn all(&self) -> BTreeSet<EntryId> {
        self.parents.keys().copied().collect()
    }

    /// Returns the longest way from an entry to the root.
    pub fn height(&self, id: &EntryId) -> u32 {
        self.heights[id]
    }

    /// Returns entries and their ancestors. Ids that are not here add nothing.
    pub fn ancestors<'i>(&self, of: impl IntoIterator<Item = &'i EntryId>) -> BTreeSet<EntryId> {
        let sets = of.into_iter().filter_map(|id| self.ancestors.get(id));
        sets.flatten().copied().collect()
    }

    /// Returns what a peer lacks that has the entries `known` and their ancestors.
    pub fn difference<'i>(
        &self,
        known: impl IntoIterator<Item = &'i EntryId>,
    ) -> BTreeSet<EntryId> {
        &self.all() - &self.ancestors(known)
    }

    /// Tells whether one entry is another or one of its ancestors.
    pub fn is_ancestor(&self, ancestor: &EntryId, descendant: &EntryId) -> bool {
        self.ancestors[descendant].contains(ancestor)
    }

    /// Returns the common ancestors that are not ancestors of other common ones.
    pub fn merge_base(&self, a: &EntryId, b: &EntryId) -> BTreeSet<EntryId> {
        let common = &self.ancestors[a] & &self.ancestors[b];
        let below_another = |id: &&EntryId| {
            common
                .iter()
                .any(|other| other != *id && self.is_ancestor(id, other))
        };
        common
            .iter()
            .filter(|id| !below_another(id))
            .copied()
            .collect()
    }

    /// Returns the entries that have no children.
    pub fn tips(&self) -> BTreeSet<EntryId> {
        let parents: BTreeSet<EntryId> = self.parents.values().flatten().copied().collect();
        &self.all() - &parents
    }

    /// Lists a set by height, then by id.
    pub fn topological(&self, set: &BTreeSet<EntryId>) -> Vec<EntryId> {
        let mut keyed: Vec<(u32, EntryId)> = set.iter().map(|id| (self.heights[id], *id)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns the roles in the causal past of an entry on top of `parents`, by the slow rule.
    ///
    /// # Panics
    /// If the view cannot be read or is another tree's.
    pub fn access<V: EntryView + ?Sized>(
        &self,
        view: &V,
        parents: &[EntryId],
    ) -> BTreeMap<Subject, Role> {
        let mut founder = None;
        let mut changes: Vec<seniority::Change> = Vec::new();
        for id in self.topological(&self.ancestors(parents)) {
            let at = view.arrival(&id).expect("a test's view can be read");
            let at = at.expect("the oracle was made of this view");
            let entry = view.entry(at).expect("a test's view can be read");
            let said = entry.entry();
            let author = Subject::Key(said.author);
            founder = founder.or(Some(author));
            let is_past = |other: &seniority::Change| self.ancestors[&id].contains(&other.id);
            let past = (0..changes.len()).filter(|other| is_past(&changes[*other]));
            let mut past: BTreeSet<usize> = past.collect();
            for (index, change) in (0..).zip(changes_of(&said.body)) {
                let place = changes.len();
                changes.push(seniority::Change {
                    author,
                    subject: change.subject,
                    role: change.role,
                    height: said.height,
                    id,
                    index,
                    past: past.clone(),
                });
                past.insert(place);
            }
        }
        founder.map_or_else(BTreeMap::new, |founder| {
            seniority::resolve(founder, &changes).roles()
        })
    }
}
