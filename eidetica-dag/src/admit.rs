//! Which entries may be stored, and what a store has to write for them.
//!
//! [`admit`] is the only way into a tree, for entries written here and for entries that arrive. It
//! is pure: it looks at a view and says what to write. A store calls it inside the transaction that
//! carries the answer out.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::access::{AccessChange, AccessId, AccessState, Role};
use crate::arrival::Arrival;
use crate::entry::Body;
use crate::id::{EntryId, IdHashing, IdMap, TreeId};
use crate::key::PublicKey;
use crate::signed::SignedEntry;
use crate::verify::{VerifiedEntry, verify_batch};
use crate::view::{CHECKPOINT_INTERVAL, EntryView, Node};

/// The broken rule of an entry that will never be stored in this tree, by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rule {
    /// It belongs to another tree.
    #[error("it belongs to another tree")]
    OtherTree,
    /// It is a root, and not the one that names the tree.
    #[error("a tree has one root")]
    SecondRoot,
    /// Its height is not one more than its highest parent's.
    #[error("its height is {claimed}, by its parents it is {actual}")]
    LyingHeight {
        /// What the entry says.
        claimed: u32,
        /// What its parents say.
        actual: u32,
    },
    /// Its author had not the role for it in the entry's own causal past.
    #[error("its author {author} has not the role {needed:?} there")]
    NotAllowed {
        /// The author.
        author: PublicKey,
        /// The role that the entry needs.
        needed: Role,
    },
    /// Its signature is not its author's, and no entry that proves it could be stored with it.
    #[error("its signature is not its author's, and no entry that proves it came with it")]
    Unproven,
    /// The tree has as many entries as can be numbered.
    #[error("the tree is full")]
    TreeFull,
}

/// An entry that was refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {id} is refused: {rule}")]
pub struct Refusal {
    /// The entry.
    pub id: EntryId,
    /// The rule that it breaks.
    pub rule: Rule,
}

/// What a store has to write, all of it or nothing.
#[derive(Debug)]
pub struct Changes {
    /// The number of the first entry.
    pub first: Arrival,
    /// The entries in the order of their numbers.
    pub entries: Vec<(Node, SignedEntry)>,
    /// Access states to put behind those that there are.
    pub access: Vec<Arc<AccessState>>,
    /// Every tip of the tree after the change, ascending.
    pub tips: Vec<Arrival>,
    /// Checkpoints that the change passes: their index, and the tips at that moment.
    pub checkpoints: Vec<(u32, Vec<Arrival>)>,
}

/// The judgement on a batch.
#[derive(Debug)]
pub struct Admission {
    /// What to write.
    pub changes: Changes,
    /// What became of the batch, once that is written.
    pub outcome: AppendOutcome,
}

/// What became of a batch.
#[derive(Debug)]
pub struct AppendOutcome {
    /// The numbers of the entries that are stored by it.
    pub stored: Range<u32>,
    /// How many entries were stored already.
    pub duplicates: usize,
    /// Entries whose parents are neither stored nor earlier in the batch, in the order given.
    pub waiting: Vec<VerifiedEntry>,
    /// The parents that `waiting` lacks and that do not wait themselves, ascending.
    pub missing: Vec<EntryId>,
    /// The first entry that breaks a rule. What came behind it in the batch was not looked at.
    pub refused: Option<Refusal>,
}

/// Judges a batch against a tree, which may be empty.
///
/// Entries are taken in the order given. Those whose parents are there are numbered, those whose
/// parents are missing wait, and at the first that breaks a rule it stops. Where an entry is numbered
/// and the one that proves it is not, its own signature is checked.
///
/// # Errors
/// Those of the view.
pub fn admit<V: EntryView + ?Sized>(
    view: &V,
    tree: TreeId,
    batch: Vec<VerifiedEntry>,
) -> Result<Admission, V::Error> {
    let mut admission = admit_unchecked(view, tree, batch)?;
    let outcome = &admission.outcome;
    // Usually everything is stored, so every proof is stored with what it proves.
    if outcome.refused.is_none() && outcome.waiting.is_empty() {
        return Ok(admission);
    }
    let numbered = &admission.changes.entries;
    let numbered: Vec<SignedEntry> = numbered.iter().map(|(_, entry)| entry.clone()).collect();
    let checked = verify_batch(numbered);
    if let Some(forged) = checked.forged() {
        admission = admit_unchecked(view, tree, checked.verified)?;
        let rule = Rule::Unproven;
        let id = forged.id;
        admission.outcome.refused = Some(Refusal { id, rule });
    }
    Ok(admission)
}

/// Judges a batch, all of which is proven as long as none of it is left out.
fn admit_unchecked<V: EntryView + ?Sized>(
    view: &V,
    tree: TreeId,
    batch: Vec<VerifiedEntry>,
) -> Result<Admission, V::Error> {
    let mut admitter = Admitter::new(view, tree, batch.len())?;
    let mut duplicates = 0;
    let mut waiting = Vec::new();
    let mut refused = None;
    for entry in batch {
        match admitter.judge(entry.get())? {
            Verdict::Duplicate => duplicates += 1,
            Verdict::Waits => waiting.push(entry),
            Verdict::Numbered(node, state) => admitter.number(node, state, entry.into_inner()),
            Verdict::Refused(rule) => {
                refused = Some(Refusal {
                    id: entry.get().id(),
                    rule,
                });
                break;
            }
        }
    }
    let missing = admitter.missing(&waiting)?;
    let changes = admitter.finish();
    let stored = changes.first.0..changes.first.0 + changes.entries.len() as u32;
    let outcome = AppendOutcome {
        stored,
        duplicates,
        waiting,
        missing,
        refused,
    };
    Ok(Admission { changes, outcome })
}

enum Verdict {
    Duplicate,
    Waits,
    Numbered(Node, Option<AccessState>),
    Refused(Rule),
}

struct Admitter<'v, V: EntryView + ?Sized> {
    view: &'v V,
    tree: TreeId,
    first: u32,
    tips: BTreeSet<Arrival>,
    numbers: IdMap<Arrival>,
    entries: Vec<(Node, SignedEntry)>,
    access: Vec<Arc<AccessState>>,
    checkpoints: Vec<(u32, Vec<Arrival>)>,
}

impl<'v, V: EntryView + ?Sized> Admitter<'v, V> {
    fn new(view: &'v V, tree: TreeId, batch_len: usize) -> Result<Self, V::Error> {
        Ok(Self {
            view,
            tree,
            first: view.entry_count(),
            tips: view.tips()?.into_iter().collect(),
            numbers: IdMap::with_capacity_and_hasher(batch_len, IdHashing::default()),
            entries: Vec::with_capacity(batch_len),
            access: Vec::new(),
            checkpoints: Vec::new(),
        })
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, V::Error> {
        match self.numbers.get(id) {
            Some(at) => Ok(Some(*at)),
            None => self.view.arrival(id),
        }
    }

    fn pending(&self, at: Arrival) -> Option<&(Node, SignedEntry)> {
        self.entries.get((at.0.checked_sub(self.first)?) as usize)
    }

    fn height_and_access(&self, at: Arrival) -> Result<(u32, AccessId), V::Error> {
        match self.pending(at) {
            Some((node, _)) => Ok((node.height, node.access)),
            None => self.view.node(at).map(|node| (node.height, node.access)),
        }
    }

    fn access_count(&self) -> u32 {
        self.view.access_count() + self.access.len() as u32
    }

    fn access(&self, id: AccessId) -> Result<Arc<AccessState>, V::Error> {
        match id.0.checked_sub(self.view.access_count()) {
            Some(index) => Ok(self.access[index as usize].clone()),
            None => self.view.access(id),
        }
    }

    fn judge(&self, entry: &SignedEntry) -> Result<Verdict, V::Error> {
        if entry.tree() != self.tree {
            let rule = match entry.entry().body {
                Body::Genesis(_) => Rule::SecondRoot,
                Body::Data(_) | Body::Access(_) | Body::Extension { .. } => Rule::OtherTree,
            };
            return Ok(Verdict::Refused(rule));
        }
        if self.arrival(&entry.id())?.is_some() {
            return Ok(Verdict::Duplicate);
        }
        let at = self.first + self.entries.len() as u32;
        if at == u32::MAX {
            return Ok(Verdict::Refused(Rule::TreeFull));
        }
        let said = entry.entry();
        if let Body::Genesis(genesis) = &said.body {
            // Its id is the tree's, so it is the root: a tree that has it already was a duplicate.
            let mut state = AccessState::of_root(said.author);
            state.apply(Arrival(at), &genesis.access);
            let node = Node {
                id: entry.id(),
                parents: Vec::new(),
                height: 0,
                access: AccessId(self.access_count()),
            };
            return Ok(Verdict::Numbered(node, Some(state)));
        }

        let mut parents = Vec::with_capacity(said.parents.len());
        let mut highest = 0;
        let mut states = Vec::with_capacity(1);
        for parent in &said.parents {
            let Some(parent) = self.arrival(parent)? else {
                return Ok(Verdict::Waits);
            };
            let (height, access) = self.height_and_access(parent)?;
            highest = highest.max(height);
            if !states.contains(&access) {
                states.push(access);
            }
            parents.push(parent);
        }
        parents.sort_unstable();
        let actual = highest.saturating_add(1);
        if said.height != actual {
            return Ok(Verdict::Refused(Rule::LyingHeight {
                claimed: said.height,
                actual,
            }));
        }

        // The usual case: all parents agree on the state, which is then the state after this entry.
        let (before, mut before_id) = match states.as_slice() {
            [one] => (self.access(*one)?, Some(*one)),
            _ => {
                let joined = join(&states, |id| self.access(id), |at| self.change(at))?;
                let known = self.find_access(&joined)?;
                (Arc::new(joined), known)
            }
        };
        let needed = role_needed(&said.body);
        if !before.allows(Some(&said.author), needed) {
            return Ok(Verdict::Refused(Rule::NotAllowed {
                author: said.author,
                needed,
            }));
        }
        let mut state = None;
        if let Body::Access(changes) = &said.body {
            // Every other change is an ancestor, so this one is last in the order of heights.
            let mut after = AccessState::clone(&before);
            after.apply(Arrival(at), changes);
            state = Some(after);
            before_id = None;
        } else if before_id.is_none() {
            state = Some(Arc::unwrap_or_clone(before));
        }
        let access = before_id.unwrap_or(AccessId(self.access_count()));
        Ok(Verdict::Numbered(
            Node {
                id: entry.id(),
                parents,
                height: actual,
                access,
            },
            state,
        ))
    }

    fn number(&mut self, node: Node, state: Option<AccessState>, entry: SignedEntry) {
        let at = Arrival(self.first + self.entries.len() as u32);
        for parent in &node.parents {
            self.tips.remove(parent);
        }
        self.tips.insert(at);
        self.numbers.insert(node.id, at);
        self.access.extend(state.map(Arc::new));
        self.entries.push((node, entry));
        let stored = at.0 + 1;
        if stored.is_multiple_of(CHECKPOINT_INTERVAL) {
            let tips = self.tips.iter().copied().collect();
            self.checkpoints.push((stored / CHECKPOINT_INTERVAL, tips));
        }
    }

    /// Returns the height, the id and the changes of the entry with this number.
    fn change(&self, at: Arrival) -> Result<Change, V::Error> {
        match self.pending(at) {
            Some((node, entry)) => Ok(Change::of(node, entry)),
            None => stored_change(self.view, at),
        }
    }

    /// Finds a state with the same changes. There are few states, and this is asked only where
    /// branches with different states are merged.
    fn find_access(&self, wanted: &AccessState) -> Result<Option<AccessId>, V::Error> {
        for id in (0..self.access_count()).rev().map(AccessId) {
            if self.access(id)?.changed_by == wanted.changed_by {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn missing(&self, waiting: &[VerifiedEntry]) -> Result<Vec<EntryId>, V::Error> {
        let waits: BTreeSet<EntryId> = waiting.iter().map(|entry| entry.get().id()).collect();
        let mut missing = BTreeSet::new();
        for parent in waiting
            .iter()
            .flat_map(|entry| &entry.get().entry().parents)
        {
            if !waits.contains(parent) && self.arrival(parent)?.is_none() {
                missing.insert(*parent);
            }
        }
        Ok(missing.into_iter().collect())
    }

    fn finish(self) -> Changes {
        Changes {
            first: Arrival(self.first),
            entries: self.entries,
            access: self.access,
            tips: self.tips.into_iter().collect(),
            checkpoints: self.checkpoints,
        }
    }
}

/// Returns the role that an author needs for an entry with this body, a root's excepted.
pub(crate) fn role_needed(body: &Body) -> Role {
    match body {
        Body::Access(_) => Role::Admin,
        Body::Data(_) | Body::Extension { .. } | Body::Genesis(_) => Role::Write,
    }
}

/// Returns the changes of access that an entry with this body makes.
pub(crate) fn changes_of(body: &Body) -> &[AccessChange] {
    match body {
        Body::Access(changes) => changes,
        Body::Genesis(genesis) => &genesis.access,
        Body::Data(_) | Body::Extension { .. } => &[],
    }
}

/// One entry's changes of access, with what orders it.
pub(crate) struct Change {
    height: u32,
    id: EntryId,
    author: PublicKey,
    changes: Vec<AccessChange>,
}

impl Change {
    pub(crate) fn of(node: &Node, entry: &SignedEntry) -> Self {
        let changes = changes_of(&entry.entry().body).to_vec();
        Self {
            height: node.height,
            id: node.id,
            author: entry.entry().author,
            changes,
        }
    }
}

fn stored_change<V: EntryView + ?Sized>(view: &V, at: Arrival) -> Result<Change, V::Error> {
    Ok(Change::of(&view.node(at)?, &view.entry(at)?))
}

/// Joins the states of several branches: all their changes, replayed in the order of (height, id).
pub(crate) fn join<E>(
    states: &[AccessId],
    access: impl Fn(AccessId) -> Result<Arc<AccessState>, E>,
    change: impl Fn(Arrival) -> Result<Change, E>,
) -> Result<AccessState, E> {
    let mut by = BTreeSet::new();
    for state in states {
        by.extend(access(*state)?.changed_by.iter().copied());
    }
    let mut changes = by
        .into_iter()
        .map(|at| Ok((at, change(at)?)))
        .collect::<Result<Vec<_>, E>>()?;
    changes.sort_unstable_by_key(|(_, change)| (change.height, change.id));
    let root = &changes
        .first()
        .expect("every state begins with the root's")
        .1;
    let mut joined = AccessState::of_root(root.author);
    for (at, change) in &changes {
        joined.apply(*at, &change.changes);
    }
    Ok(joined)
}

/// Joins stored states; an empty list, that of an empty tree, allows nobody anything.
pub(crate) fn joined_access<V: EntryView + ?Sized>(
    view: &V,
    mut states: Vec<AccessId>,
) -> Result<AccessState, V::Error> {
    states.sort_unstable();
    states.dedup();
    match states.as_slice() {
        [] => Ok(AccessState::default()),
        [one] => Ok(AccessState::clone(&*view.access(*one)?)),
        _ => join(&states, |id| view.access(id), |at| stored_change(view, at)),
    }
}
