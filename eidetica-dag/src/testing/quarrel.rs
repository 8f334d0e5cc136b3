//! Histories of changes of access alone, without signatures: for tests of the rule by the thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::access::{AccessChange, AccessState, Ledger, Role, Subject};
use crate::arrival::Arrival;
use crate::id::EntryId;
use crate::key::PublicKey;
use crate::testing::random::Random;
use crate::testing::seniority::{Change, resolve};

/// A history in which numbered keys change each other's access; the first, zero, is the author of
/// the root. Each entry is judged by the implementation and by the slow rule, and they must agree.
#[derive(Debug, Clone)]
pub struct Quarrel {
    entries: Vec<Entry>,
    ledger: Arc<Ledger>,
    random: Random,
}

#[derive(Debug, Clone)]
struct Entry {
    id: EntryId,
    author: u32,
    parents: Vec<usize>,
    height: u32,
    changes: Vec<AccessChange>,
    /// The entries that it follows, and itself.
    closure: BTreeSet<usize>,
    after: AccessState,
}

/// Returns a key that depends only on its number. Nothing is signed with it.
pub fn bare_key(number: u32) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// Returns a key as a subject.
pub fn bare_subject(number: u32) -> Subject {
    Subject::Key(bare_key(number))
}

/// Sets the role of a numbered key.
pub fn set(number: u32, role: Option<Role>) -> AccessChange {
    AccessChange {
        subject: bare_subject(number),
        role,
    }
}

impl Quarrel {
    /// Begins with a root that makes these changes. Other seeds give entries other ids.
    pub fn new(seed: u64, changes: Vec<AccessChange>) -> Self {
        let mut quarrel = Self {
            entries: Vec::new(),
            ledger: Arc::default(),
            random: Random::new(seed),
        };
        let id = quarrel.some_id();
        quarrel.push(0, &[], changes, &AccessState::default(), id);
        quarrel
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is no entry, which is never so.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entries that no other one follows.
    pub fn heads(&self) -> Vec<usize> {
        let parents: BTreeSet<usize> = self
            .entries
            .iter()
            .flat_map(|it| &it.parents)
            .copied()
            .collect();
        (0..self.len()).filter(|at| !parents.contains(at)).collect()
    }

    /// Returns the roles by the slow rule when these entries are taken together.
    pub fn roles_at(&self, entries: &[usize]) -> BTreeMap<Subject, Role> {
        let changes = self.slow(entries);
        resolve(bare_subject(0), &changes).roles()
    }

    /// Returns the roles by the slow rule when all entries are taken together.
    pub fn roles(&self) -> BTreeMap<Subject, Role> {
        self.roles_at(&self.heads())
    }

    /// Returns the role of a numbered key when all entries are taken together.
    pub fn role(&self, number: u32) -> Option<Role> {
        self.roles().get(&bare_subject(number)).copied()
    }

    /// Tells whether an entry follows another or is it.
    pub fn follows(&self, later: usize, earlier: usize) -> bool {
        self.entries[later].closure.contains(&earlier)
    }

    /// Tells whether a key ever lowered itself.
    pub fn stepped_down(&self, number: u32) -> bool {
        let by_itself = self.entries.iter().filter(|entry| entry.author == number);
        let mut changes = by_itself.flat_map(|entry| &entry.changes);
        changes.any(|it| it.subject == bare_subject(number) && it.role < Some(Role::Admin))
    }

    /// Returns what the implementation says after the ledger was read back from a store.
    ///
    /// # Panics
    /// If the ledger cannot be read back.
    pub fn restored(&self) -> AccessState {
        let entries = (0..self.ledger.len()).filter_map(|at| self.ledger.get(at).cloned());
        let restored = Ledger::restore(entries).expect("it was a ledger");
        Arc::new(restored).current()
    }

    /// Lists the changes of entries and the changes that they follow, for the slow rule.
    fn slow(&self, entries: &[usize]) -> Vec<Change> {
        let closures = entries.iter().flat_map(|at| &self.entries[*at].closure);
        let closure: BTreeSet<usize> = closures.copied().collect();
        let mut changes = Vec::new();
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in closure {
            let entry = &self.entries[at];
            let before = entry.closure.iter().filter(|other| **other != at);
            let mut past: BTreeSet<usize> = before.flat_map(|it| &places[it]).copied().collect();
            places.insert(at, Vec::new());
            for (index, change) in (0..).zip(&entry.changes) {
                let place = changes.len();
                changes.push(Change {
                    author: bare_subject(entry.author),
                    subject: change.subject,
                    role: change.role,
                    height: entry.height,
                    id: entry.id,
                    index,
                    past: past.clone(),
                });
                past.insert(place);
                places.entry(at).or_default().push(place);
            }
        }
        changes
    }

    /// Joins the states after these entries, as the implementation does.
    pub fn state_at(&self, entries: &[usize]) -> AccessState {
        let states: Vec<AccessState> = entries
            .iter()
            .map(|at| self.entries[*at].after.clone())
            .collect();
        AccessState::join(&self.ledger, &states)
    }

    /// Returns the same as [`Self::state_at`] after a store kept it.
    pub fn kept_at(&self, entries: &[usize]) -> AccessState {
        AccessState::of_kept(&self.ledger, &self.state_at(entries).keep(), &[])
    }

    /// Returns what the implementation says when all entries are taken together.
    pub fn current(&self) -> AccessState {
        self.ledger.current()
    }

    /// Adds an entry, if its author is admin there, and returns its index.
    ///
    /// # Panics
    /// If the implementation and the slow rule disagree about the state before the entry.
    pub fn add(
        &mut self,
        author: u32,
        parents: &[usize],
        changes: Vec<AccessChange>,
    ) -> Option<usize> {
        let before = self.state_at(parents);
        let expected = self.roles_at(parents);
        let found: BTreeMap<Subject, Role> = before.roles().collect();
        assert_eq!(
            found, expected,
            "before an entry on {parents:?} of {self:#?}"
        );
        if expected.get(&bare_subject(author)) != Some(&Role::Admin) {
            return None;
        }
        let id = self.some_id();
        Some(self.push(author, parents, changes, &before, id))
    }

    fn some_id(&mut self) -> EntryId {
        let mut id = [0; 32];
        for word in id.chunks_exact_mut(8) {
            word.copy_from_slice(&self.random.next_u64().to_le_bytes());
        }
        EntryId::from_bytes(id)
    }

    fn push(
        &mut self,
        author: u32,
        parents: &[usize],
        changes: Vec<AccessChange>,
        before: &AccessState,
        id: EntryId,
    ) -> usize {
        let at = self.len();
        let heights = parents.iter().map(|it| self.entries[*it].height + 1);
        let height = heights.max().unwrap_or(0);
        let what = (Arrival(at as u32), id, height, bare_key(author));
        let after = self.ledger.push(before, what, &changes);
        let closures = parents.iter().flat_map(|it| &self.entries[*it].closure);
        let closure = closures.copied().chain([at]).collect();
        self.entries.push(Entry {
            id,
            author,
            parents: parents.to_vec(),
            height,
            changes,
            closure,
            after,
        });
        at
    }

    /// Makes what another replica has, which received the entries in another order.
    pub fn shuffled(&self, random: &mut Random) -> Self {
        let mut other = Self {
            entries: Vec::new(),
            ledger: Arc::default(),
            random: random.clone(),
        };
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        while other.len() < self.len() {
            let is_ready = |at: &usize| {
                let parents = &self.entries[*at].parents;
                !places.contains_key(at) && parents.iter().all(|it| places.contains_key(it))
            };
            let ready: Vec<usize> = (0..self.len()).filter(is_ready).collect();
            let at = ready[random.below(ready.len() as u32) as usize];
            let entry = &self.entries[at];
            let parents: Vec<usize> = entry.parents.iter().map(|it| places[it]).collect();
            let before = other.state_at(&parents);
            let changes = entry.changes.clone();
            let place = other.push(entry.author, &parents, changes, &before, entry.id);
            places.insert(at, place);
        }
        other
    }
}
