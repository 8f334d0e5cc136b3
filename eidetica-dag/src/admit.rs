//! Which entries may be stored, and what a store has to write for them.
//!
//! [`admit`] is the only way into a tree, for entries written here and for entries that arrive. It
//! is pure: it looks at a view and says what to write. A store calls it inside the transaction that
//! carries the answer out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::access::{AccessChange, AccessId, AccessKey, AccessState, Ledger, Role};
use crate::arrival::Arrival;
use crate::entry::Body;
use crate::id::{EntryId, IdHashing, IdMap, TreeId};
use crate::key::PublicKey;
use crate::signed::SignedEntry;
use crate::verify::{VerifiedEntry, verify_batch};
use crate::view::{EntryView, Node, is_checkpoint};

/// The rule that an entry breaks; no replica ever stores it in this tree.
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
    /// Its author lacked the role for it in the entry's own causal past.
    #[error("its author {author} lacks the role {needed:?} there")]
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
    /// Access states to add after the existing ones, with their names.
    pub access: Vec<(AccessKey, AccessState)>,
    /// The number of the first entry of `ledger` that is to be added.
    pub ledger_first: u32,
    /// The ledger after the change.
    pub ledger: Arc<Ledger>,
    /// The entries among these that are tips, ascending.
    pub tips_added: Vec<Arrival>,
    /// The stored tips that are none any longer, ascending.
    pub tips_removed: Vec<Arrival>,
    /// How many tips there are after the change.
    pub tip_count: u32,
    /// Checkpoints that the change passes: how many entries there are at each, and the tips then.
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
    /// The first entry that breaks a rule. What came after it in the batch was not looked at.
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
            Verdict::Numbered(node, after) => admitter.number(node, after, entry.into_inner())?,
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

/// What an entry does to access.
enum AccessAfter {
    /// A state that is known holds after it, the one that its node has.
    Known,
    /// It joins states to one that is added under the number that its node has.
    Joined(AccessState),
    /// It changes this state.
    Changed(AccessState),
}

enum Verdict {
    Duplicate,
    Waits,
    Numbered(Node, AccessAfter),
    Refused(Rule),
}

struct Admitter<'v, V: EntryView + ?Sized> {
    view: &'v V,
    tree: TreeId,
    first: u32,
    tips_added: BTreeSet<Arrival>,
    tips_removed: BTreeSet<Arrival>,
    tip_count: u32,
    last_checkpoint: u32,
    numbers: IdMap<Arrival>,
    entries: Vec<(Node, SignedEntry)>,
    access: Vec<(AccessKey, AccessState)>,
    access_ids: BTreeMap<AccessKey, AccessId>,
    ledger_first: u32,
    ledger: Arc<Ledger>,
    checkpoints: Vec<(u32, Vec<Arrival>)>,
}

impl<'v, V: EntryView + ?Sized> Admitter<'v, V> {
    fn new(view: &'v V, tree: TreeId, batch_len: usize) -> Result<Self, V::Error> {
        let ledger = view.ledger()?;
        Ok(Self {
            view,
            tree,
            first: view.entry_count(),
            tips_added: BTreeSet::new(),
            tips_removed: BTreeSet::new(),
            tip_count: view.tip_count(),
            last_checkpoint: view.last_checkpoint(view.entry_count())?.unwrap_or(0),
            numbers: IdMap::with_capacity_and_hasher(batch_len, IdHashing::default()),
            entries: Vec::with_capacity(batch_len),
            access: Vec::new(),
            access_ids: BTreeMap::new(),
            ledger_first: ledger.len(),
            ledger,
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

    fn access(&self, id: AccessId) -> Result<AccessState, V::Error> {
        match id.0.checked_sub(self.view.access_count()) {
            Some(index) => Ok(self.access[index as usize].1.clone()),
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
        if matches!(said.body, Body::Genesis(_)) {
            // Its id is the tree's, so it is the root: a tree that has it already was a duplicate.
            let node = Node {
                id: entry.id(),
                parents: Vec::new(),
                height: 0,
                access: AccessId(self.access_count()),
            };
            let nothing = AccessAfter::Changed(AccessState::default());
            return Ok(Verdict::Numbered(node, nothing));
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

        let (before, known) = self.before(&states)?;
        let needed = role_needed(&said.body);
        if !before.allows(Some(&said.author), needed) {
            return Ok(Verdict::Refused(Rule::NotAllowed {
                author: said.author,
                needed,
            }));
        }
        let is_change = matches!(said.body, Body::Access(_));
        let (access, after) = match known {
            _ if is_change => (None, AccessAfter::Changed(before)),
            Some(known) => (Some(known), AccessAfter::Known),
            None => (None, AccessAfter::Joined(before)),
        };
        let node = Node {
            id: entry.id(),
            parents,
            height: actual,
            access: access.unwrap_or(AccessId(self.access_count())),
        };
        Ok(Verdict::Numbered(node, after))
    }

    /// Joins the states of an entry's parents, and returns the number of the join if there is such a
    /// state.
    fn before(&self, parents: &[AccessId]) -> Result<(AccessState, Option<AccessId>), V::Error> {
        // The usual case: all parents agree on the state, which is then the state after this entry.
        if let [one] = parents {
            return Ok((self.access(*one)?, Some(*one)));
        }
        let states = parents
            .iter()
            .map(|id| self.access(*id))
            .collect::<Result<Vec<_>, _>>()?;
        let largest = states.iter().max_by_key(|state| state.change_count());
        if let Some(largest) = largest
            && states.iter().all(|state| largest.contains(state))
        {
            let known = states.iter().position(|state| state == largest);
            return Ok((largest.clone(), known.map(|index| parents[index])));
        }
        let key = AccessKey::of(&AccessState::joined_heads(&states));
        let known = match self.access_ids.get(&key) {
            Some(known) => Some(*known),
            None => self.view.find_access(&key)?,
        };
        match known {
            Some(known) => Ok((self.access(known)?, Some(known))),
            None => Ok((AccessState::join(&self.ledger, &states), None)),
        }
    }

    fn number(
        &mut self,
        node: Node,
        after: AccessAfter,
        entry: SignedEntry,
    ) -> Result<(), V::Error> {
        let at = Arrival(self.first + self.entries.len() as u32);
        let added = match after {
            AccessAfter::Known => None,
            AccessAfter::Joined(state) => Some(state),
            AccessAfter::Changed(before) => {
                let said = entry.entry();
                let what = (at, node.id, node.height, said.author);
                Some(self.ledger.push(&before, what, changes_of(&said.body)))
            }
        };
        if let Some(state) = added {
            let key = state.key();
            self.access_ids.insert(key, node.access);
            self.access.push((key, state));
        }
        for parent in &node.parents {
            self.take_tip(*parent)?;
        }
        self.tips_added.insert(at);
        self.tip_count += 1;
        self.numbers.insert(node.id, at);
        self.entries.push((node, entry));
        let stored = at.0 + 1;
        if is_checkpoint(stored, self.last_checkpoint, self.tip_count) {
            // As many entries have arrived as there are tips, so this costs little for each of them.
            let mut tips = self.view.tips()?;
            tips.retain(|tip| !self.tips_removed.contains(tip));
            tips.extend(&self.tips_added);
            self.checkpoints.push((stored, tips));
            self.last_checkpoint = stored;
        }
        Ok(())
    }

    /// Notes that an entry has a child.
    fn take_tip(&mut self, at: Arrival) -> Result<(), V::Error> {
        let was_tip = if at.0 >= self.first {
            self.tips_added.remove(&at)
        } else {
            self.view.is_tip(at)? && self.tips_removed.insert(at)
        };
        self.tip_count -= u32::from(was_tip);
        Ok(())
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
            ledger_first: self.ledger_first,
            ledger: self.ledger,
            tips_added: self.tips_added.into_iter().collect(),
            tips_removed: self.tips_removed.into_iter().collect(),
            tip_count: self.tip_count,
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
